//! What holds for the requests that a service or a rule of a route takes: timeouts, retries.
//!
//! Comes in merged from discovery (a route's own fields, then the policies on the route, the service, the
//! namespace and the mesh), goes out as what the attempts of a request act on. Absent fields are the proxy's
//! defaults.

use super::{fault::Fault, retry::RetryPolicy, timeout::RequestTimeouts};

/// What holds for a request. The default is what holds where nothing is configured.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RequestPolicy {
    /// How long it may take.
    pub timeouts: RequestTimeouts,
    /// When it is sent once more.
    pub retry: RetryPolicy,
    /// What is done to it on purpose.
    pub faults: Box<[Fault]>,
    /// Whose word this is, in order of precedence, for operators: "TrafficPolicy shop/cart".
    pub policies: Box<[Box<str>]>,
}
