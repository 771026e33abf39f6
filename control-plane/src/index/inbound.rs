//! What a workload serves, and how: the ports that its sidecar takes traffic for.

use std::collections::BTreeSet;

use weft_proto::{Port, ServiceName, ServicePort, WorkloadName, discovery};

use super::{Index, policies::Place};
use crate::model::{
    AppProtocol, Pod, PortMode, RegisteredPort, WorkloadPort, registration::InstanceKey,
};

impl Index {
    /// The inbound ports of one instance. A port whose number the runner assigns is known once the
    /// instance has registered it. `None` when there is no such workload.
    #[must_use]
    pub fn inbound(&self, key: &InstanceKey) -> Option<discovery::Inbound> {
        if let Some(pod) = self.pod_of(key) {
            return Some(self.pod_inbound(pod));
        }
        let workload = self.workloads.get(&key.workload)?;
        let registered: &[RegisteredPort] = self
            .registrations
            .get(key)
            .filter(|registration| self.check_registration(registration).is_ok())
            .map_or(&[], |registration| &registration.ports);
        let mut ports = Vec::new();
        for port in workload.spec.ports() {
            let live = registered.iter().find(|live| live.name == port.name);
            if let Some(number) = live.map(|live| live.app_port).or(port.port) {
                ports.push(self.inbound_port(&key.workload, &port, number.into()));
            }
        }
        Some(discovery::Inbound { ports, others: None })
    }

    fn inbound_port(
        &self,
        workload: &WorkloadName,
        port: &WorkloadPort,
        number: u32,
    ) -> discovery::InboundPort {
        // The caller's sidecar acts by the service's declaration: both must agree.
        let (service, protocol) = match self.service_port_of(workload, &port.name) {
            Some((service, declared)) => (service.to_string(), declared.protocol),
            None => (String::new(), AppProtocol::to_wire(port.protocol).into()),
        };
        let mode = port.mode.unwrap_or_else(|| self.inbound_mode());
        let bare = discovery::InboundPort {
            port: number,
            protocol,
            mode: discovery::InboundMode::from(mode).into(),
            service,
            ..discovery::InboundPort::default()
        };
        let behind: Vec<ServicePort> = self.service_ports_of(workload, &port.name).collect();
        self.with_policies(bare, &behind, &workload.namespace)
    }

    /// An inbound port with the policies that hold for it: of every service port that it stands behind, and above.
    fn with_policies(
        &self,
        bare: discovery::InboundPort,
        behind: &[ServicePort],
        namespace: &str,
    ) -> discovery::InboundPort {
        let places = self.places(behind);
        discovery::InboundPort {
            access: self.access(&places, namespace),
            rate_limits: self.rate_limits(&places, namespace),
            concurrency: self.concurrency(&places, namespace),
            ..bare
        }
    }

    /// Service ports, as policies see them.
    pub(super) fn places<'a>(&'a self, ports: &'a [ServicePort]) -> Vec<Place<'a>> {
        let places = ports.iter().filter_map(|port| {
            let declaration = &self.built.get(&port.service)?.ports.get(&port.port)?.declaration;
            Some(Place {
                kind: self.kind_of(&port.service),
                service: &port.service,
                port: port.port,
                port_name: &declaration.port_name,
            })
        });
        places.collect()
    }

    /// The inbound ports of a pod: those that services name, and those of which its annotations say something. Its
    /// application may listen on any other, which is treated by the default.
    fn pod_inbound(&self, pod: &Pod) -> discovery::Inbound {
        let settings = &pod.settings;
        let behind = self.ports_of_pod(pod);
        let named: BTreeSet<Port> = behind
            .iter()
            .map(|(_, own)| *own)
            .chain(settings.opaque_ports.ports())
            .chain(settings.permissive_ports.ports())
            .collect();
        let mode = |port: Option<Port>| {
            let permissive = match port {
                Some(port) => settings.permissive_ports.contains(port),
                None => settings.permissive_ports.is_all(),
            };
            let mode = if permissive { PortMode::Permissive } else { self.inbound_mode() };
            discovery::InboundMode::from(mode).into()
        };
        let port = |number: Port| {
            let service = self.service_port_of_pod(pod, number);
            let bare = discovery::InboundPort {
                port: number.into(),
                protocol: self.pod_protocol(pod, number).into(),
                mode: mode(Some(number)),
                service: service.map(|(service, _)| service.to_string()).unwrap_or_default(),
                ..discovery::InboundPort::default()
            };
            self.with_policies(bare, &at_port(&behind, number), &pod.key.namespace)
        };
        let others = discovery::InboundPort { mode: mode(None), ..Default::default() };
        discovery::Inbound {
            ports: named.into_iter().map(port).collect(),
            others: Some(self.with_policies(others, &[], &pod.key.namespace)),
        }
    }

    /// How the bytes of a pod's port are to be read. The caller's sidecar acts by the service's declaration: both
    /// must agree.
    pub(super) fn pod_protocol(&self, pod: &Pod, port: Port) -> discovery::Protocol {
        match self.service_port_of_pod(pod, port) {
            Some((_, declaration)) => declaration.protocol(),
            None => {
                let opaque = pod.settings.opaque_ports.contains(port);
                AppProtocol::to_wire(opaque.then_some(AppProtocol::Tcp))
            }
        }
    }

    /// Every service port that a workload's port stands behind.
    pub(super) fn service_ports_of(
        &self,
        workload: &WorkloadName,
        port_name: &str,
    ) -> impl Iterator<Item = ServicePort> {
        let services = self.memberships.get(workload).into_iter().flatten();
        let ports = services.flat_map(|service| {
            let built = self.built.get(service).into_iter();
            built.flat_map(|built| &built.ports).map(move |(number, port)| (service, *number, port))
        });
        ports
            .filter(move |(_, _, port)| {
                port.serving.get(workload).is_some_and(|it| it == port_name)
            })
            .map(|(service, port, _)| ServicePort { service: service.clone(), port })
    }

    /// The first service port, by name, that a workload's port stands behind.
    pub(super) fn service_port_of(
        &self,
        workload: &WorkloadName,
        port_name: &str,
    ) -> Option<(ServicePort, &discovery::Service)> {
        let of_service = |service: &ServiceName| {
            let built = self.built.get(service)?;
            let serves = |name: Option<&String>| name.is_some_and(|name| name == port_name);
            let (number, port) =
                built.ports.iter().find(|(_, port)| serves(port.serving.get(workload)))?;
            let name = ServicePort { service: service.clone(), port: *number };
            Some((name, &*port.declaration))
        };
        self.memberships.get(workload)?.iter().find_map(of_service)
    }
}

/// The service ports behind which one port of a pod stands.
pub(super) fn at_port(behind: &BTreeSet<(ServicePort, Port)>, own: Port) -> Vec<ServicePort> {
    let at_port = behind.iter().filter(|(_, port)| *port == own);
    at_port.map(|(service, _)| service.clone()).collect()
}
