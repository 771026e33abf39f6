//! What a workload serves, and how: the ports that its sidecar takes traffic for.

use weft_proto::{ServiceName, ServicePort, WorkloadName, discovery};

use super::Index;
use crate::model::{AppProtocol, RegisteredPort, WorkloadPort, registration::InstanceKey};

impl Index {
    /// The inbound ports of one instance. A port whose number the runner assigns is known once the
    /// instance has registered it. `None` when there is no such workload.
    #[must_use]
    pub fn inbound(&self, key: &InstanceKey) -> Option<discovery::Inbound> {
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
        let mode = port.mode.unwrap_or(self.config.inbound.mode);
        discovery::InboundPort {
            port: number,
            protocol,
            mode: discovery::InboundMode::from(mode).into(),
            service,
        }
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
            Some((name, &port.declaration))
        };
        self.memberships.get(workload)?.iter().find_map(of_service)
    }
}
