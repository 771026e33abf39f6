//! From the wire to what is known of hosts outside the mesh.
//!
//! Comes in: the eager set's part about them, the hosts of a service. Goes out: both in the form in which names are
//! compared. It must never take a rule for egress that it does not know as leave to go out.

use std::sync::Arc;

use weft_proto::{
    Port,
    discovery::{self as wire, Egress},
};

use super::{External, Refused, port};
use crate::discovery::{OutsideScope, external};

/// The part of the eager set that speaks of what lies outside.
pub(super) fn outside(message: &wire::Mesh) -> Result<OutsideScope, Refused> {
    let registered_only = match Egress::try_from(message.egress) {
        Ok(Egress::Unspecified | Egress::Allow) => false,
        Ok(Egress::RegisteredOnly) => true,
        Err(_) => {
            let number = message.egress.to_string();
            return Err(Refused::new("egress", number, "not known to this proxy"));
        }
    };
    let ports = message.external_ports.iter();
    Ok(OutsideScope {
        hosts: hosts("external_hosts", &message.external_hosts)?,
        ports: ports
            .map(|number| port("external_ports", *number).map(Port::number))
            .collect::<Result<_, _>>()?,
        registered_only,
    })
}

/// The hosts of a service outside.
pub(super) fn external(message: Option<&wire::External>) -> Result<Option<Arc<External>>, Refused> {
    let Some(message) = message else { return Ok(None) };
    if message.hosts.is_empty() {
        return Err(Refused::new("hosts", "", "at least one is needed"));
    }
    let hosts = hosts("hosts", &message.hosts)?;
    Ok(Some(Arc::new(External { hosts, port: port("port", message.port)? })))
}

fn hosts(field: &str, hosts: &[String]) -> Result<Vec<String>, Refused> {
    let canonical = |(index, host): (usize, &String)| {
        external::canonical(host).ok_or_else(|| {
            let why = "use a name, an address, or *. and a suffix, without a port";
            Refused::new(format!("{field}[{index}]"), host.as_str(), why)
        })
    };
    hosts.iter().enumerate().map(canonical).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_arrive_in_the_form_in_which_they_are_compared() {
        let message = wire::Mesh {
            external_hosts: vec!["API.Example.com.".to_owned(), "*.example.org".to_owned()],
            external_ports: vec![443],
            egress: Egress::RegisteredOnly.into(),
            ..wire::Mesh::default()
        };
        let expected = OutsideScope {
            hosts: vec!["api.example.com".to_owned(), "*.example.org".to_owned()],
            ports: vec![443],
            registered_only: true,
        };
        assert_eq!(outside(&message), Ok(expected));
        assert_eq!(outside(&wire::Mesh::default()), Ok(OutsideScope::default()));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_field() {
        for (given, port, field) in [
            (&[][..], 443, "hosts: "),
            (&["a.example", ""], 443, "hosts[1]: "),
            (&["*"], 443, "hosts[0]: "),
            (&["a.*.example"], 443, "hosts[0]: "),
            (&["a.example:443"], 443, "hosts[0]: "),
            (&["a.example"], 0, "port: "),
        ] {
            let hosts = given.iter().map(|host| (*host).to_owned()).collect();
            let refused = external(Some(&wire::External { hosts, port })).expect_err(field);
            assert!(refused.to_string().starts_with(field), "{refused}");
        }
        let mesh = wire::Mesh { egress: 99, ..wire::Mesh::default() };
        assert!(outside(&mesh).expect_err("unknown").to_string().starts_with("egress: "));
    }
}
