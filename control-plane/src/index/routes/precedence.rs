//! Which of several matches takes a request: the Gateway API's order, made one total order of all matches of a port.
//!
//! 1. The host: longer names first, those without wildcard before those with one.
//! 2. What is matched. HTTP: an exact path, then a pattern, then the longest prefix; a method; more headers; more query
//!    parameters. gRPC: the longer service, then the longer method, those without pattern first; more headers. No host has
//!    routes of both (`conflict`).
//! 3. The older route, then the first by namespace and name.
//! 4. Within a route, the first rule and the first match.

use std::cmp::Reverse;

use crate::model::{
    Route,
    gateway::{
        grpc_route::GrpcMatch,
        http_route::HttpMatch,
        matching::{MatchType, PathMatchType},
    },
};

/// Where a match stands: the least goes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    host: Reverse<Host>,
    specifics: Reverse<[usize; 5]>,
    age: Age,
    rule: usize,
    one: usize,
    /// Two names of one route may be of one length.
    name: String,
}

impl Rank {
    pub(super) fn new(
        route: Route<'_>,
        host: &str,
        (rule, one): (usize, usize),
        specifics: [usize; 5],
    ) -> Self {
        Self {
            host: Reverse(Host::of(host)),
            specifics: Reverse(specifics),
            age: Age::of(route),
            rule,
            one,
            name: host.to_owned(),
        }
    }
}

/// How much a host name says: the characters of one without wildcard, then those of any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Host {
    precise: usize,
    any: usize,
}

impl Host {
    pub(super) fn of(name: &str) -> Self {
        let precise = if name.starts_with("*.") { 0 } else { name.len() };
        Self { precise, any: name.len() }
    }
}

/// A route's age, as it counts between routes: the older is less. One without a date is the youngest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Age {
    undated: bool,
    created: String,
    namespace: String,
    name: String,
}

impl Age {
    pub(super) fn of(route: Route<'_>) -> Self {
        let metadata = route.metadata();
        Self {
            undated: metadata.creation_timestamp.is_none(),
            created: metadata.creation_timestamp.clone().unwrap_or_default(),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
        }
    }
}

/// How much a match of an HTTPRoute says.
pub(super) fn of_http(one: &HttpMatch) -> [usize; 5] {
    let (kind, path) = match one.path() {
        (PathMatchType::Exact, path) => (2, path.len()),
        // How long a pattern is says nothing of what it takes.
        (PathMatchType::RegularExpression, _) => (1, 0),
        (PathMatchType::PathPrefix, path) => (0, without_slash(path).len()),
    };
    [kind, path, usize::from(one.method.is_some()), one.headers.len(), one.query_params.len()]
}

/// How much a match of a GRPCRoute says.
pub(super) fn of_grpc(one: &GrpcMatch) -> [usize; 5] {
    let part = |part: Option<&str>| part.map_or(0, str::len);
    let Some(method) = &one.method else { return [0, 0, 0, one.headers.len(), 0] };
    let exact = usize::from(method.kind() == MatchType::Exact);
    let (service, name) = (part(method.service()), part(method.method()));
    [service, name, exact, one.headers.len(), 0]
}

/// A prefix without the last slash, which says nothing; "/" is the prefix of everything.
pub(super) fn without_slash(prefix: &str) -> &str {
    match prefix.trim_end_matches('/') {
        "" => "/",
        prefix => prefix,
    }
}
