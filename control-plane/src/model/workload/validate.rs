//! What is checked of a Workload beyond its fields' types: names, duplicates, fields that exclude each
//! other. Each check reports the first mistake that it finds.

use weft_proto::names::{is_label, is_subdomain};

use super::{MOST_ADDRESSES, MOST_PORTS, MOST_UPSTREAMS, StaticPort, WorkloadPort, WorkloadSpec};
use crate::model::{
    crd::Column,
    kinds::Kind,
    metadata::{Metadata, bad_name},
    object::{FieldError, Spec},
};

impl Spec for WorkloadSpec {
    const KIND: Kind = Kind::Workload;
    const COLUMNS: &'static [Column] = &[
        Column {
            name: "Service",
            r#type: "string",
            path: ".spec.service",
            description: "The service that it belongs to.",
        },
        Column {
            name: "Programmed",
            r#type: "string",
            path: r#".status.conditions[?(@.type=="Programmed")].status"#,
            description: "Whether at least one of its instances is ready.",
        },
    ];

    fn validate(&self, _: &Metadata) -> Result<(), FieldError> {
        self.validate_lengths()?;
        self.validate_names()?;
        self.validate_ports()?;
        self.validate_upstreams()?;
        self.validate_readiness()?;
        self.validate_addresses()
    }
}

impl WorkloadSpec {
    fn validate_lengths(&self) -> Result<(), FieldError> {
        let at_addresses = self.addresses.iter().map(|address| address.ports.len()).max();
        for (field, length, most) in [
            ("spec.ports", self.ports.len(), MOST_PORTS),
            ("spec.upstreams", self.upstreams.len(), MOST_UPSTREAMS),
            ("spec.addresses", self.addresses.len(), MOST_ADDRESSES),
            ("spec.addresses[].ports", at_addresses.unwrap_or(0), MOST_PORTS),
        ] {
            if length > most {
                let message = format!("{length} entries are too many: use at most {most}");
                return Err(FieldError::new(field, message));
            }
        }
        Ok(())
    }

    fn validate_names(&self) -> Result<(), FieldError> {
        if let Some(service) = &self.service
            && !is_label(service)
        {
            return Err(bad_name("spec.service", service));
        }
        if let Some(account) = &self.service_account
            && !is_subdomain(account)
        {
            return Err(bad_name("spec.serviceAccount", account));
        }
        if let Some(program) = self.command.first()
            && program.is_empty()
        {
            return Err(FieldError::new("spec.command[0]", "\"\" is no program: name one"));
        }
        let variables = self.env.iter().map(|variable| variable.name.as_str()).enumerate();
        for (index, name) in variables {
            if name.is_empty() || name.contains(['=', '\0']) {
                let message =
                    format!("{name:?} is no variable's name: use letters, digits and '_'");
                return Err(FieldError::new(format!("spec.env[{index}].name"), message));
            }
        }
        Ok(())
    }

    fn validate_ports(&self) -> Result<(), FieldError> {
        if !self.ports.is_empty() && (self.port.is_some() || self.protocol.is_some()) {
            let field = if self.port.is_some() { "spec.port" } else { "spec.protocol" };
            return Err(FieldError::new(
                field,
                "stands beside spec.ports: move it into an entry there",
            ));
        }
        for (index, port) in self.ports.iter().enumerate() {
            let path = format!("spec.ports[{index}]");
            if port.name.is_empty() && self.ports.len() > 1 {
                let message = "one of several ports has no name: give each a name";
                return Err(FieldError::new(path, message));
            }
            if !port.name.is_empty() && !is_label(&port.name) {
                return Err(bad_name(&format!("{path}.name"), &port.name));
            }
            for earlier in &self.ports[..index] {
                validate_pair(&path, earlier, port)?;
            }
        }
        Ok(())
    }

    fn validate_upstreams(&self) -> Result<(), FieldError> {
        for (index, upstream) in self.upstreams.iter().enumerate() {
            for earlier in &self.upstreams[..index] {
                let variable = upstream.env_name();
                if earlier.env_name() == variable {
                    let message = format!("{variable:?} is set by two upstreams: set env of one");
                    return Err(FieldError::new(format!("spec.upstreams[{index}]"), message));
                }
                if upstream.local_port.is_some() && earlier.local_port == upstream.local_port {
                    let field = format!("spec.upstreams[{index}].localPort");
                    return Err(FieldError::new(field, "stands twice: use another port"));
                }
            }
        }
        Ok(())
    }

    fn validate_readiness(&self) -> Result<(), FieldError> {
        let Some(readiness) = &self.readiness else { return Ok(()) };
        let error = |field: &str, message: String| {
            Err(FieldError::new(format!("spec.readiness{field}"), message))
        };
        if readiness.http.is_some() && readiness.tcp.is_some() {
            return error("", "has http and tcp: keep one of them".into());
        }
        if let Some(http) = &readiness.http
            && !http.path.starts_with('/')
        {
            return error(".http.path", format!("{:?} is no path: begin it with '/'", http.path));
        }
        if let Some(port) = &readiness.port
            && !self.ports().iter().any(|known| known.name == *port)
        {
            return error(".port", format!("{port:?} names none of the workload's ports"));
        }
        for (field, value) in [
            (".intervalSeconds", readiness.interval_seconds),
            (".timeoutSeconds", readiness.timeout_seconds),
            (".failureThreshold", readiness.failure_threshold),
        ] {
            if value == Some(0) {
                return error(field, "0 is too few: use 1 or more".into());
            }
        }
        Ok(())
    }

    fn validate_addresses(&self) -> Result<(), FieldError> {
        let ports = self.ports();
        for (index, address) in self.addresses.iter().enumerate() {
            let path = format!("spec.addresses[{index}]");
            if address.address.is_unspecified() || address.address.is_multicast() {
                let message =
                    format!("nobody can dial {}: use the instance's own address", address.address);
                return Err(FieldError::new(format!("{path}.address"), message));
            }
            let stranger = |own: &&StaticPort| !ports.iter().any(|port| port.name == own.name);
            if let Some(port) = address.ports.iter().find(stranger) {
                let message = format!("{:?} names none of the workload's ports", port.name);
                return Err(FieldError::new(format!("{path}.ports"), message));
            }
            if let Some(port) = ports.iter().find(|port| address.port_of(port).is_none()) {
                let message =
                    format!("port {:?} has no number: set spec.port or one here", port.name);
                return Err(FieldError::new(path, message));
            }
        }
        Ok(())
    }
}

/// What two ports of a workload must not share.
fn validate_pair(
    path: &str,
    earlier: &WorkloadPort,
    port: &WorkloadPort,
) -> Result<(), FieldError> {
    if earlier.name == port.name {
        let message = format!("{:?} names two ports: use another name", port.name);
        return Err(FieldError::new(format!("{path}.name"), message));
    }
    if let (Some(one), Some(two)) = (earlier.port, port.port)
        && one == two
    {
        let message = format!("{two} stands twice: use another number");
        return Err(FieldError::new(format!("{path}.port"), message));
    }
    if earlier.service_port() == port.service_port() {
        let message =
            format!("{} is the service's port of two ports: set servicePort", port.service_port());
        return Err(FieldError::new(path, message));
    }
    Ok(())
}
