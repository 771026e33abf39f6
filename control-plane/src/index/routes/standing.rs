//! To which ports of its parent a route binds, and why not to others.
//!
//! A route binds to a port of TCP that its parentRef takes (all, by default) and whose declared protocol it can route: a
//! port that declares opaque bytes or TLS has no HTTP to route, one that declares HTTP no opaque connections. Where two
//! exclude each other, see `conflict`.

use std::collections::BTreeSet;

use weft_proto::{Port, ServiceName, discovery, discovery::Protocol};

use super::{
    Known,
    conflict::{self, CONFLICTED, Lost},
};
use crate::{
    index::Index,
    model::{
        FieldError, Route,
        gateway::{reference::ParentRef, route::Fate},
    },
};

/// How a route stands with one of its parents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The ports that it binds to.
    pub ports: BTreeSet<Port>,
    /// Why it is not accepted: the reason by the Gateway API, and in words.
    pub refused: Option<(&'static str, String)>,
    /// What of it an older route keeps out, in words.
    pub lost: Option<String>,
}

impl Standing {
    fn refused(reason: &'static str, message: String) -> Self {
        Self { ports: BTreeSet::new(), refused: Some((reason, message)), lost: None }
    }
}

/// The reason for what Weft has no support for.
pub const UNSUPPORTED: &str = "UnsupportedValue";

impl Index {
    /// How a route stands with a parent of its own that is a service.
    #[must_use]
    pub fn route_standing(
        &self,
        route: Route<'_>,
        position: usize,
        parent: &ParentRef,
    ) -> Standing {
        let at = format!("spec.parentRefs[{position}]");
        let whole = route.unsupported().into_iter().chain(parent.unsupported(&at));
        let whole: Vec<FieldError> = whole.collect();
        if !whole.is_empty() {
            return Standing::refused(UNSUPPORTED, sentences(&whole));
        }
        let service = parent.service(&route.metadata().namespace);
        let Some(built) = self.built.get(&service) else {
            let message =
                format!("{at}.name: there is no service {service}: correct the name, or make it");
            return Standing::refused("NoMatchingParent", message);
        };
        if let Some(message) = self.of_another_kind(parent.is_external(), &service) {
            return Standing::refused("NoMatchingParent", format!("{at}.kind: {message}"));
        }
        if self.is_alias(&service) {
            let message =
                format!("{at}.name: Service {service} is only another name (spec.externalName)");
            return Standing::refused(UNSUPPORTED, message);
        }
        let named: Vec<_> = built
            .ports
            .iter()
            .filter(|(number, port)| takes(parent, **number, &port.declaration.port_name))
            .collect();
        if named.is_empty() {
            let ports =
                ports(built.ports.iter().map(|(number, port)| (*number, &*port.declaration)));
            let field = if parent.section_name.is_some() { "sectionName" } else { "port" };
            let message = format!("{at}.{field}: service {service} has no such port: {ports}");
            return Standing::refused("NoMatchingParent", message);
        }
        let fitting = named.iter().filter(|(_, port)| fits(route, port.declaration.protocol()));
        let fitting: BTreeSet<Port> = fitting.map(|(number, _)| **number).collect();
        if fitting.is_empty() {
            let ports = ports(named.iter().map(|(number, port)| (**number, &*port.declaration)));
            let what = if route.is_http() { "HTTP" } else { "opaque connections" };
            let message =
                format!("{at}: service {service} declares no {what} there to be routed: {ports}");
            return Standing::refused("UnsupportedProtocol", message);
        }
        let fates = route.fates();
        if let Some(refused) = all_flawed(&fates) {
            return Standing { ports: fitting, refused: Some(refused), lost: None };
        }
        self.beside_others(route, &service, fitting)
    }

    /// How a route stands with ports to which others may bind as well.
    fn beside_others(
        &self,
        route: Route<'_>,
        service: &ServiceName,
        fitting: BTreeSet<Port>,
    ) -> Standing {
        let mut standing = Standing { ports: fitting, refused: None, lost: None };
        let mut lost: Option<(Port, Lost)> = None;
        for number in standing.ports.clone() {
            let Some(found) = self.lost_at(route, service, number) else { continue };
            if found.whole {
                standing.ports.remove(&number);
            }
            lost.get_or_insert((number, found));
        }
        let message = lost.map(|(number, lost)| format!("at port {number}: {}", lost.message));
        if standing.ports.is_empty() {
            standing.refused = message.map(|message| (CONFLICTED, message));
        } else {
            standing.lost = message;
        }
        standing
    }

    /// What older routes keep from a route at a port. Those of one namespace bind the same callers.
    fn lost_at(&self, route: Route<'_>, service: &ServiceName, number: Port) -> Option<Lost> {
        let port = self.built.get(service)?.ports.get(&number)?;
        let namespace = &route.metadata().namespace;
        let bound =
            self.routes.at(service).filter(|one| self.binds(*one, service, &port.declaration));
        let others = bound.map(|bound| bound.route);
        let others = others.filter(|other| other.metadata().namespace == *namespace);
        conflict::lost_among(route, others.collect())
    }

    /// Whether a route binds to a port of a service that is a parent of its own.
    pub(super) fn binds(
        &self,
        known: Known<'_>,
        service: &ServiceName,
        port: &discovery::Service,
    ) -> bool {
        let Ok(number) = Port::try_from(port.port) else { return false };
        let route = known.route;
        let namespace = &route.metadata().namespace;
        let mut parents = route.parents().iter().enumerate();
        known.is_supported
            && !self.is_alias(service)
            && fits(route, port.protocol())
            && parents.any(|(_, parent)| {
                parent.is_service()
                    && parent.service(namespace) == *service
                    && parent.is_external() == self.is_external(service)
                    && parent.unsupported("").is_empty()
                    && takes(parent, number, &port.port_name)
            })
            && has_rules(known.fates)
    }

    /// Whether the service's name only stands for another one, outside the mesh.
    fn is_alias(&self, service: &ServiceName) -> bool {
        self.services.get(service).is_some_and(|object| object.spec.is_external())
    }
}

/// Whether anything of a route is in force: one of which every rule is dropped leaves its service as if it were not
/// there, rather than with no way to anywhere.
fn has_rules(fates: &[Fate]) -> bool {
    fates.is_empty() || fates.iter().any(|fate| !matches!(fate, Fate::Dropped(_)))
}

/// A route of which no rule is as it was meant is not accepted.
fn all_flawed(fates: &[Fate]) -> Option<(&'static str, String)> {
    if fates.is_empty() || fates.contains(&Fate::Whole) {
        return None;
    }
    Some((UNSUPPORTED, flaws(fates)))
}

/// What is said of rules that are not in force.
#[must_use]
pub fn flaws(fates: &[Fate]) -> String {
    let said = fates.iter().enumerate().filter_map(|(index, fate)| match fate {
        Fate::Whole => None,
        Fate::Dropped(fields) => Some(format!("Dropped Rule {index}: {}", sentences(fields))),
        Fate::Refusing(fields) => {
            Some(format!("Dropped Rule {index}, whose requests get 500: {}", sentences(fields)))
        }
    });
    said.collect::<Vec<_>>().join("; ")
}

fn sentences(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Whether a parentRef takes a port.
fn takes(parent: &ParentRef, number: Port, name: &str) -> bool {
    parent.port.is_none_or(|wanted| wanted == number)
        && parent.section_name.as_deref().is_none_or(|wanted| wanted == name)
}

/// Whether a port of this protocol has what the route routes.
const fn fits(route: Route<'_>, protocol: Protocol) -> bool {
    match protocol {
        Protocol::Unspecified => true,
        Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => route.is_http(),
        Protocol::Tcp | Protocol::Tls => !route.is_http(),
    }
}

/// "it has 80 (http), 9000 (admin, tcp)".
fn ports<'a>(ports: impl Iterator<Item = (Port, &'a discovery::Service)>) -> String {
    let of_one = |(number, port): (Port, &discovery::Service)| {
        let protocol = match port.protocol() {
            Protocol::Unspecified => "",
            Protocol::Http1 => "http",
            Protocol::Http2 => "http2",
            Protocol::Grpc => "grpc",
            Protocol::Tcp => "tcp",
            Protocol::Tls => "tls",
        };
        let known = [port.port_name.as_str(), protocol];
        let known: Vec<&str> = known.into_iter().filter(|text| !text.is_empty()).collect();
        if known.is_empty() {
            number.to_string()
        } else {
            format!("{number} ({})", known.join(", "))
        }
    };
    let ports: Vec<String> = ports.map(of_one).collect();
    if ports.is_empty() { "it has none".to_owned() } else { format!("it has {}", ports.join(", ")) }
}
