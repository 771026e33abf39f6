//! The routes of a service port, compiled: which rule takes a request or a connection, what the rule does to it, and
//! which backend gets it.
//!
//! Comes in: a request's head, or a server name of TLS; randomness. Goes out: a rule, and one of its backends. The
//! tables are immutable, shared by all workers and as old as the snapshot that holds them. Nothing here waits or
//! touches the network; [`crate::exchange`] and [`crate::outbound`] act on what is decided here.

pub mod filter;
pub mod matcher;
pub mod mirror;
pub mod opaque;
pub mod query;
pub mod redirect;
pub mod rewrite;
pub mod table;
#[cfg(test)]
pub(crate) mod testing;
pub mod weights;

use std::sync::{Arc, OnceLock};

use weft_proto::ServicePort;

pub use filter::Filter;
pub use opaque::{OpaqueRule, OpaqueRules};
pub use table::HttpTable;
pub use weights::Weighted;

use crate::{policy::RequestPolicy, telemetry::BackendMetrics};

/// The routes of a service port.
#[derive(Debug, Default)]
pub struct Routes {
    /// Of HTTPRoutes and GRPCRoutes; `None`: HTTP goes to the service's own endpoints.
    pub http: Option<HttpTable>,
    /// Of TCPRoutes and TLSRoutes; none: opaque bytes go to the service's own endpoints.
    pub opaque: OpaqueRules,
}

/// What becomes of the requests that a rule takes.
#[derive(Debug)]
pub struct Rule {
    /// For operators: "HTTPRoute shop/split rules\[1\]".
    pub name: Arc<str>,
    /// In the order in which they act.
    pub filters: Box<[Filter]>,
    /// What holds for them; `None`: what their backend's service says.
    pub requests: Option<Arc<RequestPolicy>>,
    /// Who gets them, by weight.
    pub backends: Weighted<Arc<Backend>>,
}

/// Who may get what a rule takes.
#[derive(Debug)]
pub struct Backend {
    /// Where it is found.
    pub target: Target,
    /// What telemetry calls it: the service port's text, or "invalid".
    pub label: Arc<str>,
    /// After the rule's own.
    pub filters: Box<[Filter]>,
    /// Its counters, made with its first request and then held for as long as the snapshot is.
    pub metrics: OnceLock<Arc<BackendMetrics>>,
}

/// Where a backend is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A service port, whose own routes are not followed.
    Service(ServicePort),
    /// There is none, and why.
    Invalid(Box<str>),
}

impl Backend {
    /// A backend with these filters.
    #[must_use]
    pub fn new(target: Target, filters: Box<[Filter]>) -> Self {
        let label = match &target {
            Target::Service(service) => service.to_string().into(),
            Target::Invalid(_) => "invalid".into(),
        };
        Self { target, label, filters, metrics: OnceLock::new() }
    }
}
