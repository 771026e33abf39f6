//! What an application's destination stands for: "HOST:PORT" or "IP:PORT", seen from a namespace.
//!
//! | host | means |
//! |---|---|
//! | `cart` | the service `cart` in the caller's namespace |
//! | `cart.shop` | the service `cart` in the namespace `shop` |
//! | `cart.shop.svc` | the same |
//! | `cart.shop.SUFFIX` | the same, for every suffix of the mesh (`svc.cluster.local`) |
//! | a cluster address | the service that has it |
//! | an instance's address | that one instance |
//!
//! Names are compared without regard to case, and may end in a dot.

use std::net::{IpAddr, SocketAddr};

use weft_proto::{
    Port, ServiceName, ServicePort,
    discovery::{self, target::Found},
    names::is_label,
};

use super::{
    Dependency, Index, ResolvedTarget,
    endpoint::{Instance, static_instances},
};

impl Index {
    /// Resolves a destination as an application in `namespace` names it.
    #[must_use]
    pub fn target(&self, namespace: &str, destination: &str) -> ResolvedTarget {
        let Some((host, port)) = split(destination) else { return found(None, Vec::new()) };
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            let address = address.to_canonical();
            let depends_on = vec![Dependency::Address(address)];
            return found(self.by_address(address, port), depends_on);
        }
        let Some(service) = service_of(namespace, host, &self.config.suffixes()) else {
            return found(None, Vec::new());
        };
        let known = self.built.get(&service).is_some_and(|built| built.ports.contains_key(&port));
        let depends_on = vec![Dependency::Service(service.clone())];
        let target = known.then(|| Found::Service(ServicePort { service, port }.to_string()));
        found(target, depends_on)
    }

    fn by_address(&self, address: IpAddr, port: Port) -> Option<Found> {
        let services = self.cluster_addresses.get(&address).into_iter().flatten();
        for service in services {
            if self.built.get(service).is_some_and(|built| built.ports.contains_key(&port)) {
                let name = ServicePort { service: service.clone(), port };
                return Some(Found::Service(name.to_string()));
            }
        }
        let owners = self.instances_at.get(&SocketAddr::new(address, port.number()))?;
        owners.iter().find_map(|(key, port_name)| {
            let workload = self.workloads.get(&key.workload)?;
            let live = self.registrations.get(key);
            let instance = match live.filter(|live| self.check_registration(live).is_ok()) {
                Some(live) => Instance::from(live),
                None => static_instances(&key.workload, workload)
                    .into_iter()
                    .find(|instance| instance.key == *key)?,
            };
            let at = instance.port(port_name)?;
            let service = self.service_port_of(&key.workload, port_name);
            let protocol = service.as_ref().map_or_else(
                || {
                    let ports = workload.spec.ports();
                    let own = ports.iter().find(|own| own.name == *port_name);
                    let own = own.and_then(|own| own.protocol);
                    crate::model::AppProtocol::to_wire(own).into()
                },
                |(_, declaration)| declaration.protocol,
            );
            Some(Found::Endpoint(discovery::DirectEndpoint {
                endpoint: Some(instance.endpoint(at, workload, &self.trust_domain)),
                protocol,
                service: service.map(|(name, _)| name.to_string()).unwrap_or_default(),
            }))
        })
    }
}

fn found(target: Option<Found>, depends_on: Vec<Dependency>) -> ResolvedTarget {
    let target = target.unwrap_or(Found::NotFound(discovery::NotFound {}));
    ResolvedTarget { target: discovery::Target { found: Some(target) }, depends_on }
}

fn split(destination: &str) -> Option<(&str, Port)> {
    let (host, port) = destination.rsplit_once(':')?;
    Some((host, port.parse().ok()?))
}

/// The service that a host name means; `None` for names that no service can have.
fn service_of(namespace: &str, host: &str, suffixes: &[String]) -> Option<ServiceName> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let under = |suffix: &str| host.strip_suffix(suffix)?.strip_suffix('.');
    let suffixed = suffixes.iter().map(String::as_str).chain(["svc"]).find_map(under);
    let (name, named) = match (suffixed, host.split_once('.')) {
        (Some(short), _) => short.split_once('.')?,
        (None, Some(two)) => two,
        (None, None) => (host.as_str(), namespace),
    };
    let right = is_label(name) && is_label(named);
    right.then(|| ServiceName { namespace: named.into(), name: name.into() })
}
