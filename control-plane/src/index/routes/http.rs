//! HTTPRoutes and GRPCRoutes of one port, as one list of matches in order of precedence.

use std::collections::BTreeMap;

use weft_proto::{Port, ServiceName, ServicePort, discovery, discovery::Protocol};

use super::{
    Known,
    backend::{Fresh, Referrer, Unresolved, to_wire},
    precedence::{Rank, of_grpc, of_http, without_slash},
    requests::own_requests,
};
use crate::{
    index::{
        Index,
        policies::{Place, RouteRule},
    },
    model::{
        Kind, ObjectKey, Route,
        gateway::{
            filter::Filter,
            grpc_route::{CallPath, GrpcMatch, GrpcRule},
            http_route::{HttpMatch, HttpRule},
            matching::{MatchType, Method, PathMatchType, ValueMatch},
            reference::BackendRef,
            route::Fate,
        },
    },
};

/// Where routes are made: at a service, which may not be in the index yet.
pub(super) struct At<'a> {
    pub(super) index: &'a Index,
    pub(super) service: &'a ServiceName,
    /// All of its ports, and how their bytes are to be read.
    pub(super) own: &'a BTreeMap<Port, Protocol>,
    /// The one whose routes are made.
    pub(super) port: &'a discovery::Service,
}

/// What a rule is made of, whatever its kind.
struct Parts<'a> {
    name: Option<&'a str>,
    filters: &'a [Filter],
    backends: &'a [BackendRef],
    /// What it says of its requests itself.
    requests: discovery::RequestPolicy,
}

/// Rules and their matches as they come together.
#[derive(Default)]
struct Table {
    rules: Vec<discovery::HttpRule>,
    matches: Vec<(Rank, discovery::HttpMatch)>,
}

impl At<'_> {
    /// The routes of a port; `None` where none binds.
    pub(super) fn routes(
        &self,
        http: &[Known<'_>],
        opaque: &[Known<'_>],
    ) -> Option<discovery::Routes> {
        if http.is_empty() && opaque.is_empty() {
            return None;
        }
        let http = (!http.is_empty()).then(|| self.http(http));
        Some(discovery::Routes { http, opaque: self.opaque(opaque) })
    }

    fn http(&self, routes: &[Known<'_>]) -> discovery::HttpRoutes {
        let mut table = Table::default();
        for route in routes {
            match route.route {
                Route::Http(http) => {
                    for (index, rule) in http.spec.rules().iter().enumerate() {
                        self.http_rule(*route, &http.spec.hostnames, (index, rule), &mut table);
                    }
                }
                Route::Grpc(grpc) => {
                    for (index, rule) in grpc.spec.rules.iter().enumerate() {
                        self.grpc_rule(*route, &grpc.spec.hostnames, (index, rule), &mut table);
                    }
                }
                Route::Tls(_) | Route::Tcp(_) => {}
            }
        }
        table.matches.sort_by(|(one, _), (other, _)| one.cmp(other));
        let matches = table.matches.into_iter().map(|(_, one)| one).collect();
        discovery::HttpRoutes { rules: table.rules, matches }
    }

    fn http_rule(
        &self,
        known: Known<'_>,
        hostnames: &[String],
        (index, rule): (usize, &HttpRule),
        table: &mut Table,
    ) {
        let parts = Parts {
            name: rule.name.as_deref(),
            filters: &rule.filters,
            backends: &rule.backend_refs,
            requests: own_requests(rule.timeouts.as_ref(), rule.retry.as_ref()),
        };
        let route = known.route;
        let Some(made) = self.rule(known, Kind::HTTPRoute, index, parts) else { return };
        let everything = [HttpMatch::default()];
        let matches = if rule.matches.is_empty() { &everything } else { &rule.matches[..] };
        for (position, one) in matches.iter().enumerate() {
            let at = (index, position);
            table.add(route, hostnames, at, of_http(one), &http_match(one));
        }
        table.rules.push(made);
    }

    fn grpc_rule(
        &self,
        known: Known<'_>,
        hostnames: &[String],
        (index, rule): (usize, &GrpcRule),
        table: &mut Table,
    ) {
        let parts = Parts {
            name: rule.name.as_deref(),
            filters: &rule.filters,
            backends: &rule.backend_refs,
            requests: own_requests(None, None),
        };
        let route = known.route;
        let Some(made) = self.rule(known, Kind::GRPCRoute, index, parts) else { return };
        let everything = [GrpcMatch::default()];
        let matches = if rule.matches.is_empty() { &everything } else { &rule.matches[..] };
        for (position, one) in matches.iter().enumerate() {
            let at = (index, position);
            table.add(route, hostnames, at, of_grpc(one), &grpc_match(one));
        }
        table.rules.push(made);
    }

    /// A rule as it travels; `None` where it is not in force.
    fn rule(
        &self,
        known: Known<'_>,
        kind: Kind,
        index: usize,
        parts: Parts<'_>,
    ) -> Option<discovery::HttpRule> {
        let route = known.route;
        let name = rule_name(route, kind, index, parts.name);
        match known.fates.get(index)? {
            Fate::Dropped(_) => None,
            Fate::Refusing(fields) => {
                let reason = fields.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                let target = Some(discovery::backend::Target::Invalid(reason));
                let backends = vec![discovery::Backend { weight: 1, target, filters: Vec::new() }];
                Some(discovery::HttpRule { name, backends, ..Default::default() })
            }
            Fate::Whole => {
                let namespace = &route.metadata().namespace;
                let referrer = Referrer { kind, namespace, parent: self.service };
                let backends = parts.backends.iter().map(|backend| discovery::Backend {
                    filters: self.filters(referrer, &backend.filters),
                    ..to_wire(backend.weight(), self.backend(referrer, backend))
                });
                Some(discovery::HttpRule {
                    name,
                    filters: self.filters(referrer, parts.filters),
                    backends: backends.collect(),
                    requests: self.requests(route, kind, parts.name, parts.requests),
                })
            }
        }
    }

    /// What holds for the requests that a rule takes: what it says itself, and what policies say at every level.
    fn requests(
        &self,
        route: Route<'_>,
        kind: Kind,
        rule: Option<&str>,
        own: discovery::RequestPolicy,
    ) -> Option<discovery::RequestPolicy> {
        let metadata = route.metadata();
        let key = ObjectKey::new(kind, &metadata.namespace, &metadata.name);
        let place = Place {
            kind: self.index.kind_of(self.service),
            service: self.service,
            port: Port::try_from(self.port.port).ok()?,
            port_name: &self.port.port_name,
        };
        self.index.requests_at(&place, Some(RouteRule { route: &key, rule }), own)
    }

    pub(super) fn backend(
        &self,
        referrer: Referrer<'_>,
        backend: &BackendRef,
    ) -> Result<ServicePort, Unresolved> {
        let fresh = Fresh { service: self.service, ports: self.own };
        self.index.backend_beside(referrer, backend, Some(fresh))
    }
}

impl Table {
    /// Adds a match of the rule that comes next, once for each host.
    fn add(
        &mut self,
        route: Route<'_>,
        hostnames: &[String],
        at: (usize, usize),
        specifics: [usize; 5],
        one: &discovery::HttpMatch,
    ) {
        let rule = u32::try_from(self.rules.len()).unwrap_or(u32::MAX);
        let any = [String::new()];
        for host in if hostnames.is_empty() { &any } else { hostnames } {
            let one = discovery::HttpMatch { rule, host: host.clone(), ..one.clone() };
            self.matches.push((Rank::new(route, host, at, specifics), one));
        }
    }
}

/// "HTTPRoute shop/split rules[1]", or with the rule's own name.
pub(super) fn rule_name(route: Route<'_>, kind: Kind, index: usize, own: Option<&str>) -> String {
    let metadata = route.metadata();
    let rule = own.map_or_else(|| index.to_string(), str::to_owned);
    format!("{kind} {}/{} rules[{rule}]", metadata.namespace, metadata.name)
}

pub(in crate::index) fn http_match(one: &HttpMatch) -> discovery::HttpMatch {
    use discovery::path_match::Kind as Path;
    let path = match one.path() {
        (PathMatchType::Exact, path) => Path::Exact(path.to_owned()),
        (PathMatchType::PathPrefix, path) => Path::Prefix(without_slash(path).to_owned()),
        (PathMatchType::RegularExpression, path) => Path::Pattern(path.to_owned()),
    };
    discovery::HttpMatch {
        path: Some(discovery::PathMatch { kind: Some(path) }),
        method: one.method.map(Method::as_str).unwrap_or_default().to_owned(),
        headers: header_matches(&one.headers),
        query: one
            .query_params
            .iter()
            .map(|value| value_match(value.name.clone(), value))
            .collect(),
        ..discovery::HttpMatch::default()
    }
}

pub(in crate::index) fn grpc_match(one: &GrpcMatch) -> discovery::HttpMatch {
    use discovery::path_match::Kind as Path;
    let path = one.method.as_ref().map_or(CallPath::Any, |method| method.path());
    let path = match path {
        CallPath::Any => None,
        CallPath::Exact(path) => Some(Path::Exact(path)),
        CallPath::Service(path) => Some(Path::Prefix(path)),
        CallPath::Pattern(path) => Some(Path::Pattern(path)),
    };
    discovery::HttpMatch {
        path: path.map(|kind| discovery::PathMatch { kind: Some(kind) }),
        headers: header_matches(&one.headers),
        grpc: true,
        ..discovery::HttpMatch::default()
    }
}

/// Headers, in lower case. Of several that differ by case only, the first counts (Gateway API).
fn header_matches(headers: &[ValueMatch]) -> Vec<discovery::ValueMatch> {
    let mut matches: Vec<discovery::ValueMatch> = Vec::new();
    for header in headers {
        let name = header.name.to_ascii_lowercase();
        if matches.iter().all(|earlier| earlier.name != name) {
            matches.push(value_match(name, header));
        }
    }
    matches
}

fn value_match(name: String, value: &ValueMatch) -> discovery::ValueMatch {
    use discovery::value_match::Kind;
    let kind = match value.kind() {
        MatchType::Exact => Kind::Exact(value.value.clone()),
        MatchType::RegularExpression => Kind::Pattern(value.value.clone()),
    };
    discovery::ValueMatch { name, kind: Some(kind) }
}
