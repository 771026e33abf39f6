//! How the endpoints of a service are balanced, as a policy says it.
//!
//! Comes in: what discovery compiled. Goes out: what [`super::Plan`] is built from. A service without a policy has
//! none of this: peak EWMA over all endpoints alike.

use std::{sync::Arc, time::Duration};

use http::HeaderName;

/// How long an endpoint may ask to be left alone where no policy says otherwise. Long enough for a server that sheds
/// load to recover, short enough that a wrong `Retry-After` (an hour is common) takes no endpoint away.
pub const DEFAULT_MAX_COOLING: Duration = Duration::from_secs(10);

/// How the endpoints of a service are balanced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalancingPolicy {
    /// How one is chosen.
    pub algorithm: Algorithm,
    /// So long a new endpoint's share grows; zero: it has its full share at once.
    pub slow_start: Duration,
    /// Which zones are used; `None` for all alike.
    pub locality: Option<Locality>,
    /// An endpoint may ask to be left alone for so long at most; zero: not at all.
    pub max_cooling: Duration,
}

impl Default for BalancingPolicy {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::PeakEwma,
            slow_start: Duration::ZERO,
            locality: None,
            max_cooling: DEFAULT_MAX_COOLING,
        }
    }
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Algorithm {
    /// The better of two by smoothed latency times work in flight, as this worker sees both.
    PeakEwma,
    /// The better of two by requests in flight from this worker. Not from the whole process: a count that all
    /// workers write for every request would travel between their cores, and each worker's own balances as well.
    LeastRequest,
    /// One after the other, each worker in its own turn.
    RoundRobin,
    /// Any.
    Random,
    /// By a hash of something in the request; what has none of it goes to any.
    RingHash(HashKey),
}

/// What of a request is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// A header's first value.
    Header(HeaderName),
    /// A cookie's value.
    Cookie(Cookie),
    /// The address that the application's connection comes from, without the port.
    Source,
    /// The path, without the query.
    Path,
    /// The first value of a query parameter, as it is written.
    Query(Arc<str>),
}

/// A cookie that keeps a client with its endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    /// Its name.
    pub name: Arc<str>,
    /// What a request without one gets: nothing, or a cookie for so long; zero: for the session.
    pub made_for: Option<Duration>,
    /// The path that a made one is valid for.
    pub path: Arc<str>,
}

/// Which zones are used: the proxy's own first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Locality {
    /// The zones to go to next, in order; all others come last.
    pub failover: Vec<Arc<str>>,
    /// A zone is enough while it has so many endpoints,
    pub min_endpoints: u32,
    /// so many percent of them can take requests (and at least one),
    pub min_healthy_percent: u32,
    /// and they have no more requests of this process in flight each, on average; zero: no bound.
    pub max_in_flight_per_endpoint: u32,
}
