//! What an application's destination stands for: "HOST:PORT" or "IP:PORT", seen from a namespace.
//!
//! | host | means |
//! |---|---|
//! | `cart` | the service `cart` in the caller's namespace |
//! | `cart.shop` | the service `cart` in the namespace `shop` |
//! | `cart.shop.svc` | the same |
//! | `cart.shop.SUFFIX` | the same, for every suffix of the mesh (`svc.cluster.local`) |
//! | a cluster address | the service that has it |
//! | an instance's address | that one instance, a pod at any port |
//! | `db-0.db.shop.SUFFIX` | the one pod that is called so below its service |
//! | `api.example.com`, or an address, registered by an `ExternalService` | that service, at the ports that it has |
//! | a name that stands for another one (`ExternalName`) | what is outside: it passes through |
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
    external::patterns,
};

impl Index {
    /// Resolves a destination as an application in `namespace` names it.
    #[must_use]
    pub fn target(&self, namespace: &str, destination: &str) -> ResolvedTarget {
        let Some((host, port)) = split(destination) else { return found(None, Vec::new()) };
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            let address = address.to_canonical();
            let depends_on =
                vec![Dependency::Address(address), Dependency::Host(address.to_string())];
            let target = self.by_address(address, port);
            let target = target.or_else(|| self.by_external_host(&address.to_string(), port));
            let target = target.or_else(|| (!self.is_claimed(address)).then(passthrough));
            return found(target, depends_on);
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let Some(Named { hostname, service }) = named(namespace, &host, &self.config.suffixes())
        else {
            let depends_on = patterns(&host).map(Dependency::Host).collect();
            return found(self.by_external_host(&host, port), depends_on);
        };
        let mut depends_on = vec![Dependency::Service(service.clone())];
        let target = match hostname {
            Some(hostname) => self.address_of(&service, &hostname).and_then(|address| {
                depends_on.push(Dependency::Address(address));
                let found = self.by_address(address, port);
                found.or_else(|| (!self.is_claimed(address)).then(passthrough))
            }),
            None => self.by_name(service, port),
        };
        // A name of two labels may be one outside as well.
        let target = target.or_else(|| {
            depends_on.extend(patterns(&host).map(Dependency::Host));
            self.by_external_host(&host, port)
        });
        found(target, depends_on)
    }

    /// What a host outside the mesh is registered as. At a port that nobody registers it is as any other host.
    fn by_external_host(&self, host: &str, port: Port) -> Option<Found> {
        if let Some(service) = self.by_host(host, port) {
            return Some(Found::Service(service.to_string()));
        }
        let passes = self.is_registered(host) && self.egress() == discovery::Egress::Allow;
        passes.then(passthrough)
    }

    fn by_name(&self, service: ServiceName, port: Port) -> Option<Found> {
        if self.services.get(&service).is_some_and(|object| object.spec.is_external()) {
            return Some(passthrough());
        }
        let known = self.built.get(&service).is_some_and(|built| built.ports.contains_key(&port));
        known.then(|| Found::Service(ServicePort { service, port }.to_string()))
    }

    /// The address of the one endpoint that is called so below its service, as slices say.
    fn address_of(&self, service: &ServiceName, hostname: &str) -> Option<IpAddr> {
        let mut all = self.cluster.slices(service).flat_map(|slice| &slice.endpoints);
        let found = all.find(|endpoint| endpoint.hostname.as_deref() == Some(hostname))?;
        Some(found.address)
    }

    fn by_address(&self, address: IpAddr, port: Port) -> Option<Found> {
        let services = self.cluster_addresses.get(&address).into_iter().flatten();
        for service in services {
            if self.built.get(service).is_some_and(|built| built.ports.contains_key(&port)) {
                let name = ServicePort { service: service.clone(), port };
                return Some(Found::Service(name.to_string()));
            }
        }
        self.by_instance(address, port).or_else(|| self.by_pod(address, port))
    }

    fn by_pod(&self, address: IpAddr, port: Port) -> Option<Found> {
        let pod = self.cluster.pod_at(address)?;
        let service = self.service_port_of_pod(pod, port);
        Some(Found::Endpoint(discovery::DirectEndpoint {
            endpoint: Some(self.pod_endpoint(pod, address, port)),
            protocol: self.pod_protocol(pod, port).into(),
            service: service.map(|(name, _)| name.to_string()).unwrap_or_default(),
        }))
    }

    fn by_instance(&self, address: IpAddr, port: Port) -> Option<Found> {
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

const fn passthrough() -> Found {
    Found::Passthrough(discovery::Passthrough {})
}

fn found(target: Option<Found>, depends_on: Vec<Dependency>) -> ResolvedTarget {
    let target = target.unwrap_or(Found::NotFound(discovery::NotFound {}));
    ResolvedTarget { target: discovery::Target { found: Some(target) }, depends_on }
}

fn split(destination: &str) -> Option<(&str, Port)> {
    let (host, port) = destination.rsplit_once(':')?;
    Some((host, port.parse().ok()?))
}

/// What a host name means.
struct Named {
    /// The one instance below the service.
    hostname: Option<String>,
    service: ServiceName,
}

/// What a host name means; `None` for names that no service can have.
fn named(namespace: &str, host: &str, suffixes: &[String]) -> Option<Named> {
    let under = |suffix: &str| host.strip_suffix(suffix)?.strip_suffix('.');
    let suffixed = suffixes.iter().map(String::as_str).chain(["svc"]).find_map(under);
    let (hostname, name, named) = match (suffixed, host.split_once('.')) {
        (Some(short), _) => {
            let (rest, named) = short.rsplit_once('.')?;
            match rest.split_once('.') {
                Some((hostname, name)) => (Some(hostname), name, named),
                None => (None, rest, named),
            }
        }
        (None, Some((name, named))) => (None, name, named),
        (None, None) => (None, host, namespace),
    };
    let right = is_label(name) && is_label(named) && hostname.is_none_or(is_label);
    right.then(|| Named {
        hostname: hostname.map(str::to_owned),
        service: ServiceName { namespace: named.into(), name: name.into() },
    })
}
