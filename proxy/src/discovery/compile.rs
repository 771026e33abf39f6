//! From the control plane's messages to the typed form that the data path reads.
//!
//! Comes in: one message. Goes out: the compiled form, or an error that names the field, its value and what
//! would be right: it travels back as the Nack's reason. It must never let through what the data path cannot
//! use safely, such as a meshed endpoint without identities.

mod access;
mod balancing;
mod endpoints;
mod external;
mod filters;
mod limits;
mod operations;
mod requests;
mod routes;

use std::{collections::BTreeMap, fmt, net::IpAddr, net::SocketAddr, str::FromStr, sync::Arc};

use rustls_pki_types::CertificateDer;
use weft_proto::{
    NameError, Port, ServicePort,
    discovery::{self as wire, InboundMode, Protocol},
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    Destination, Endpoint, EndpointHealth, External, InboundPort, InboundPorts, MeshScope,
    Transport, TrustBundle,
};
use crate::{
    balance::BalancingPolicy,
    policy::{RequestPolicy, breaker::BreakerSettings, limits::ServiceLimits},
    route::Routes,
};

/// What telemetry calls every port that is not listed: there are 65,535 of them.
const UNLISTED: &str = "unlisted";

/// Content that cannot be put in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value:?}: {why}")]
pub(super) struct Refused {
    /// Where in the message: "endpoints[shop/cart/0:8080].address".
    field: String,
    value: String,
    why: String,
}

impl Refused {
    pub(super) fn new(
        field: impl Into<String>,
        value: impl Into<String>,
        why: impl fmt::Display,
    ) -> Self {
        Self { field: field.into(), value: value.into(), why: why.to_string() }
    }

    /// The same error, one level further out.
    fn within(mut self, outer: &str) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }
}

/// Parses one of the shared names.
fn name<T: FromStr<Err = NameError>>(field: &str, value: &str) -> Result<T, Refused> {
    value.parse().map_err(|error: NameError| Refused::new(field, value, error.why))
}

fn port(field: &str, number: u32) -> Result<Port, Refused> {
    Port::try_from(number).map_err(|error| Refused::new(field, number.to_string(), error.why))
}

fn protocol(number: i32) -> Result<Protocol, Refused> {
    Protocol::try_from(number)
        .map_err(|_| Refused::new("protocol", number.to_string(), "not known to this proxy"))
}

/// A service port's text, empty for none.
fn optional_service(field: &str, text: &str) -> Result<Option<ServicePort>, Refused> {
    if text.is_empty() { Ok(None) } else { name(field, text).map(Some) }
}

/// The eager set.
pub(super) fn mesh(message: &wire::Mesh) -> Result<MeshScope, Refused> {
    let ranges = message.address_ranges.iter().map(|text| range(text)).collect::<Result<_, _>>()?;
    Ok(MeshScope {
        trust_domain: name("trust_domain", &message.trust_domain)?,
        ranges,
        suffixes: message
            .name_suffixes
            .iter()
            .map(|suffix| suffix.trim_start_matches('.').to_ascii_lowercase())
            .filter(|suffix| !suffix.is_empty())
            .collect(),
        namespaces: message.namespaces.clone(),
        outside: external::outside(message)?,
    })
}

fn range(text: &str) -> Result<(IpAddr, u8), Refused> {
    let refused =
        || Refused::new("address_ranges", text, "use IP/PREFIX, for example 10.96.0.0/12");
    let (address, prefix) = text.split_once('/').ok_or_else(refused)?;
    let address: IpAddr = address.parse().map_err(|_| refused())?;
    let prefix: u8 = prefix.parse().map_err(|_| refused())?;
    if prefix > if address.is_ipv4() { 32 } else { 128 } {
        return Err(refused());
    }
    Ok((address, prefix))
}

/// The roots of the trust domain.
pub(super) fn trust(message: &wire::TrustBundle) -> Result<TrustBundle, Refused> {
    if message.roots.is_empty() {
        return Err(Refused::new("roots", "", "at least one root is needed"));
    }
    let mut roots = Vec::with_capacity(message.roots.len());
    for (index, der) in message.roots.iter().enumerate() {
        let field = format!("roots[{index}]");
        match X509Certificate::from_der(der) {
            Ok(([], _)) => {}
            Ok(_) => return Err(Refused::new(field, "", "bytes follow the certificate")),
            Err(error) => return Err(Refused::new(field, "", error)),
        }
        roots.push(CertificateDer::from(der.clone()));
    }
    Ok(TrustBundle { trust_domain: name("trust_domain", &message.trust_domain)?, roots })
}

/// What this workload serves; `before` is the last answer, whose limits go on where they stay the same.
pub(super) fn inbound(
    message: &wire::Inbound,
    before: Option<&InboundPorts>,
) -> Result<InboundPorts, Refused> {
    let mut ports = BTreeMap::new();
    for entry in &message.ports {
        let number = port("ports.port", entry.port)?;
        let outer = format!("ports[{number}]");
        let known = before.and_then(|before| before.ports.get(&number));
        let compiled = inbound_port(entry, known).map_err(|refused| refused.within(&outer))?;
        if ports.insert(number, compiled).is_some() {
            return Err(Refused::new(outer, number.to_string(), "the port is named twice"));
        }
    }
    let others = message.others.as_ref().map(|entry| {
        if entry.port != 0 {
            return Err(Refused::new("port", entry.port.to_string(), "it stands for no one port"));
        }
        inbound_port(entry, before.and_then(|before| before.others.as_ref()))
    });
    let others = others.transpose().map_err(|refused| refused.within("others"))?;
    Ok(InboundPorts { ports, others })
}

fn inbound_port(
    message: &wire::InboundPort,
    before: Option<&InboundPort>,
) -> Result<InboundPort, Refused> {
    let strict = match InboundMode::try_from(message.mode) {
        Ok(InboundMode::Strict) => true,
        Ok(InboundMode::Permissive) => false,
        Ok(InboundMode::Unspecified) | Err(_) => {
            return Err(Refused::new("mode", message.mode.to_string(), "use strict or permissive"));
        }
    };
    let service = optional_service("service", &message.service)?;
    let label = match &service {
        Some(service) => service.to_string().into(),
        None if message.port == 0 => UNLISTED.into(),
        None => format!(":{}", message.port).into(),
    };
    Ok(InboundPort {
        protocol: protocol(message.protocol)?,
        strict,
        service,
        label,
        access: message.access.as_ref().map(access::access).transpose()?,
        rate_limits: limits::rate_limits(&message.rate_limits, before)?,
        concurrency: limits::concurrency(message.concurrency.as_ref(), before)?,
    })
}

/// A service port's own fields.
#[derive(Debug, Clone)]
pub(super) struct ServiceHead {
    pub(super) service: ServicePort,
    pub(super) protocol: Protocol,
    pub(super) routes: Option<Arc<Routes>>,
    pub(super) balancing: Option<Arc<BalancingPolicy>>,
    pub(super) external: Option<Arc<External>>,
    pub(super) requests: Arc<RequestPolicy>,
    pub(super) breaking: Option<Arc<BreakerSettings>>,
    pub(super) limits: Option<Arc<ServiceLimits>>,
}

/// A service port's own fields, which must be those of the key that it came under.
pub(super) fn service(
    message: &wire::Service,
    expected: &ServicePort,
) -> Result<ServiceHead, Refused> {
    let text = format!("{}/{}:{}", message.namespace, message.name, message.port);
    let service: ServicePort = name("service", &text)?;
    if service != *expected {
        return Err(Refused::new("service", text, format!("the key names {expected}")));
    }
    let routes = message.routes.as_ref().map(routes::routes).transpose();
    let routes = routes.map_err(|refused| refused.within("routes"))?;
    let requests = message.requests.as_ref().map(requests::requests).transpose();
    let requests = requests.map_err(|refused| refused.within("requests"))?;
    let policy = message.endpoint_policy.as_ref();
    Ok(ServiceHead {
        service,
        protocol: protocol(message.protocol)?,
        routes: routes.map(Arc::new),
        balancing: balancing::balancing(policy.and_then(|policy| policy.balancing.as_ref()))
            .map_err(|refused| refused.within("endpoint_policy.balancing"))?,
        external: external::external(message.external.as_ref())
            .map_err(|refused| refused.within("external"))?,
        requests: requests.map(Arc::new).unwrap_or_default(),
        breaking: policy.and_then(endpoints::breaking).map(Arc::new),
        limits: policy.and_then(endpoints::limits).map(Arc::new),
    })
}

/// One endpoint; `known` is what an earlier snapshot had under the same id, whose health goes on when the
/// address is the same.
pub(super) fn endpoint(
    message: &wire::Endpoint,
    known: Option<&Arc<Endpoint>>,
) -> Result<Endpoint, Refused> {
    if message.id.is_empty() {
        return Err(Refused::new("endpoints.id", "", "an endpoint needs an id"));
    }
    let compile = || -> Result<Endpoint, Refused> {
        let address: SocketAddr = message
            .address
            .parse()
            .ok()
            .filter(|address: &SocketAddr| address.port() != 0 && !address.ip().is_unspecified())
            .ok_or_else(|| Refused::new("address", &message.address, "use IP:PORT"))?;
        let health = known
            .filter(|known| known.address == address)
            .map_or_else(|| Arc::new(EndpointHealth::default()), |known| Arc::clone(&known.health));
        let workload = match message.workload.as_str() {
            "" => None,
            text => Some(name("workload", text)?),
        };
        Ok(Endpoint {
            id: message.id.as_str().into(),
            address,
            app_port: port("app_port", message.app_port)?,
            transport: transport(message)?,
            zone: message.zone.as_str().into(),
            labels: message.labels.clone(),
            workload,
            alternate: None,
            health,
        })
    };
    compile().map_err(|refused| refused.within(&format!("endpoints[{}]", message.id)))
}

/// One workload that is dialled by its address; `before` is the last answer, for the endpoint's health.
pub(super) fn direct(
    message: &wire::DirectEndpoint,
    before: Option<&Destination>,
) -> Result<Destination, Refused> {
    let wire_endpoint = message
        .endpoint
        .as_ref()
        .ok_or_else(|| Refused::new("endpoint.endpoint", "", "the endpoint is missing"))?;
    let known = before
        .and_then(|before| before.endpoints.first())
        .filter(|known| *known.id == *wire_endpoint.id);
    let compiled = endpoint(wire_endpoint, known)?;
    let service = optional_service("endpoint.service", &message.service)?;
    let label = match &service {
        Some(service) => service.to_string().into(),
        None => compiled.address.to_string().into(),
    };
    let protocol = protocol(message.protocol)?;
    Ok(Destination {
        service,
        protocol,
        endpoints: vec![Arc::new(compiled)],
        state: before.map(|before| Arc::clone(&before.state)).unwrap_or_default(),
        ..Destination::empty(label)
    })
}

/// A sidecar that may show any identity is no protection: a meshed endpoint needs at least one.
fn transport(message: &wire::Endpoint) -> Result<Transport, Refused> {
    if !message.meshed {
        return Ok(Transport::Plain);
    }
    if message.identities.is_empty() {
        return Err(Refused::new("identities", "", "a meshed endpoint needs at least one"));
    }
    let identities: Vec<_> =
        message.identities.iter().map(|text| name("identities", text)).collect::<Result<_, _>>()?;
    Ok(Transport::Mesh(identities.into()))
}

#[cfg(test)]
mod tests;
