//! A route of any kind, for whom the kind does not matter: its parents, its rules, what of them has no support.

use std::{borrow::Cow, net::IpAddr};

use super::{
    filter::{Action, Filter},
    grpc_route::GrpcRouteSpec,
    http_route::HttpRouteSpec,
    opaque_route::{OpaqueRule, TcpRouteSpec, TlsRouteSpec},
    other::Other,
    reference::{BackendRef, ParentRef},
};
use crate::model::{FieldError, Metadata, Object, Resource};

/// A route of any kind.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "they say it themselves")]
pub enum Route<'a> {
    Http(&'a Resource<HttpRouteSpec>),
    Grpc(&'a Resource<GrpcRouteSpec>),
    Tls(&'a Resource<TlsRouteSpec>),
    Tcp(&'a Resource<TcpRouteSpec>),
}

/// What becomes of a rule that may say more than Weft can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is in force.
    Whole,
    /// Something is to be done to its requests that cannot be, and must not be left out: they get an error.
    Refusing(Vec<FieldError>),
    /// It is not in force.
    Dropped(Vec<FieldError>),
}

/// A reference to a backend, and the field that it stands in.
#[derive(Debug)]
pub struct Referred {
    /// `spec.rules[0].backendRefs[1]`.
    pub field: String,
    /// To what.
    pub backend: BackendRef,
}

impl<'a> Route<'a> {
    /// The object as a route, if it is one.
    #[must_use]
    pub const fn of(object: &'a Object) -> Option<Self> {
        // Not a match, so that a new kind, which is none, need not be said here.
        if let Object::HTTPRoute(route) = object {
            Some(Self::Http(route))
        } else if let Object::GRPCRoute(route) = object {
            Some(Self::Grpc(route))
        } else if let Object::TLSRoute(route) = object {
            Some(Self::Tls(route))
        } else if let Object::TCPRoute(route) = object {
            Some(Self::Tcp(route))
        } else {
            None
        }
    }

    /// Its name, namespace, age.
    #[must_use]
    pub const fn metadata(&self) -> &'a Metadata {
        match self {
            Self::Http(route) => &route.metadata,
            Self::Grpc(route) => &route.metadata,
            Self::Tls(route) => &route.metadata,
            Self::Tcp(route) => &route.metadata,
        }
    }

    /// Whether it routes requests of HTTP, and not opaque connections.
    #[must_use]
    pub const fn is_http(&self) -> bool {
        matches!(self, Self::Http(_) | Self::Grpc(_))
    }

    /// What it attaches to.
    #[must_use]
    pub fn parents(&self) -> &'a [ParentRef] {
        match self {
            Self::Http(route) => &route.spec.parent_refs,
            Self::Grpc(route) => &route.spec.parent_refs,
            Self::Tls(route) => &route.spec.parent_refs,
            Self::Tcp(route) => &route.spec.parent_refs,
        }
    }

    /// The hosts, or server names, that it is for; none: any.
    #[must_use]
    pub fn hostnames(&self) -> &'a [String] {
        match self {
            Self::Http(route) => &route.spec.hostnames,
            Self::Grpc(route) => &route.spec.hostnames,
            Self::Tls(route) => &route.spec.hostnames,
            Self::Tcp(_) => &[],
        }
    }

    /// What of it as a whole has no support: with any of it, the route is not in force.
    #[must_use]
    pub fn unsupported(&self) -> Vec<FieldError> {
        let other: &Other = match self {
            Self::Http(route) => &route.spec.other,
            Self::Grpc(route) => &route.spec.other,
            Self::Tls(route) => &route.spec.other,
            Self::Tcp(route) => &route.spec.other,
        };
        let mut found = Vec::new();
        other.name("spec", &mut found);
        for (index, host) in self.hostnames().iter().enumerate() {
            if host.parse::<IpAddr>().is_ok() {
                let message = format!("{host:?} is an address: use a host name");
                found.push(FieldError::new(format!("spec.hostnames[{index}]"), message));
            }
        }
        found
    }

    /// The names of those rules that have one.
    #[must_use]
    pub fn rule_names(&self) -> Vec<&'a str> {
        match self {
            Self::Http(route) => match route.spec.rules() {
                Cow::Borrowed(rules) => {
                    rules.iter().filter_map(|rule| rule.name.as_deref()).collect()
                }
                // The rule of a route that writes none has no name.
                Cow::Owned(_) => Vec::new(),
            },
            Self::Grpc(route) => {
                route.spec.rules.iter().filter_map(|rule| rule.name.as_deref()).collect()
            }
            Self::Tls(route) => {
                route.spec.rules.iter().filter_map(|rule| rule.name.as_deref()).collect()
            }
            Self::Tcp(route) => {
                route.spec.rules.iter().filter_map(|rule| rule.name.as_deref()).collect()
            }
        }
    }

    /// What becomes of each rule.
    #[must_use]
    pub fn fates(&self) -> Vec<Fate> {
        let at = |index: usize| format!("spec.rules[{index}]");
        let fate = |rest: Vec<FieldError>, filters: Vec<FieldError>| match (&*rest, &*filters) {
            ([], []) => Fate::Whole,
            ([], _) => Fate::Refusing(filters),
            (_, _) => Fate::Dropped(rest.into_iter().chain(filters).collect()),
        };
        let opaque = |rules: &[OpaqueRule]| {
            let mut is_taken = false;
            let rules = rules.iter().enumerate().map(|(index, rule)| {
                let mut found = rule.unsupported(&at(index));
                if is_taken {
                    let message =
                        "is never reached: an earlier rule takes every connection; leave it out";
                    found.push(FieldError::new(at(index), message));
                }
                is_taken |= found.is_empty();
                fate(found, Vec::new())
            });
            rules.collect()
        };
        match self {
            Self::Http(route) => {
                let rules = route.spec.rules();
                let rules = rules.iter().enumerate().map(|(index, rule)| match &rule.flawed {
                    Some(flawed) => (**flawed).clone(),
                    None => {
                        fate(rule.unsupported(&at(index)), rule.unsupported_filters(&at(index)))
                    }
                });
                rules.collect()
            }
            Self::Grpc(route) => {
                let rules = route.spec.rules.iter().enumerate();
                let rules = rules.map(|(index, rule)| match &rule.flawed {
                    Some(flawed) => (**flawed).clone(),
                    None => {
                        fate(rule.unsupported(&at(index)), rule.unsupported_filters(&at(index)))
                    }
                });
                rules.collect()
            }
            Self::Tls(route) => opaque(&route.spec.rules),
            Self::Tcp(route) => opaque(&route.spec.rules),
        }
    }

    /// Whether some of its rules could not be read: what it holds of them is not what was written.
    #[must_use]
    pub fn has_flawed_rules(&self) -> bool {
        match self {
            Self::Http(route) => route.spec.rules().iter().any(|rule| rule.flawed.is_some()),
            Self::Grpc(route) => route.spec.rules.iter().any(|rule| rule.flawed.is_some()),
            Self::Tls(_) | Self::Tcp(_) => false,
        }
    }

    /// Everything that its rules refer to, mirrors included.
    #[must_use]
    pub fn referred(&self) -> Vec<Referred> {
        let mut found = Vec::new();
        match self {
            Self::Http(route) => {
                for (index, rule) in route.spec.rules().iter().enumerate() {
                    refer(index, &rule.filters, &rule.backend_refs, &mut found);
                }
            }
            Self::Grpc(route) => {
                for (index, rule) in route.spec.rules.iter().enumerate() {
                    refer(index, &rule.filters, &rule.backend_refs, &mut found);
                }
            }
            Self::Tls(route) => refer_opaque(&route.spec.rules, &mut found),
            Self::Tcp(route) => refer_opaque(&route.spec.rules, &mut found),
        }
        found
    }
}

fn refer_opaque(rules: &[OpaqueRule], found: &mut Vec<Referred>) {
    for (index, rule) in rules.iter().enumerate() {
        refer(index, &[], &rule.backend_refs, found);
    }
}

fn refer(rule: usize, filters: &[Filter], backends: &[BackendRef], found: &mut Vec<Referred>) {
    let at = format!("spec.rules[{rule}]");
    mirrors(&format!("{at}.filters"), filters, found);
    for (index, backend) in backends.iter().enumerate() {
        let field = format!("{at}.backendRefs[{index}]");
        mirrors(&format!("{field}.filters"), &backend.filters, found);
        found.push(Referred { field, backend: backend.clone() });
    }
}

fn mirrors(at: &str, filters: &[Filter], found: &mut Vec<Referred>) {
    for (index, filter) in filters.iter().enumerate() {
        if let Some(Action::Mirror(mirror)) = filter.action() {
            let field = format!("{at}[{index}].requestMirror.backendRef");
            found.push(Referred { field, backend: mirror.backend_ref.clone() });
        }
    }
}

/// What of an object is not in force because Weft has no support for it, or leaves it to others, field by field.
#[must_use]
pub fn unsupported(object: &Object) -> Vec<FieldError> {
    if let Object::ReferenceGrant(grant) = object {
        return grant.spec.unsupported();
    }
    let Some(route) = Route::of(object) else { return Vec::new() };
    let mut found = route.unsupported();
    for (index, parent) in route.parents().iter().enumerate() {
        let at = format!("spec.parentRefs[{index}]");
        found.extend(parent.unsupported(&at));
        if !parent.is_service() {
            let (_, kind) = parent.group_kind();
            let message =
                format!("{kind} {:?} is not Weft's to route for: it takes Services", parent.name);
            found.push(FieldError::new(at, message));
        }
    }
    for fate in route.fates() {
        match fate {
            Fate::Whole => {}
            Fate::Refusing(fields) | Fate::Dropped(fields) => found.extend(fields),
        }
    }
    found
}
