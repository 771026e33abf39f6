//! How a service's endpoints are used: the sections `circuitBreaking`, `limits` and `loadBalancing`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_proto::discovery;

use super::rules;
use crate::model::{
    amount::{Count, CountOrNone, Percent, SpanOrNone, Thousandths, Time},
    crd::fields,
    matching::{self, HeaderName, Path},
};

/// When an endpoint is left alone for a while. Each of the four criteria counts alone; 0 turns it off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::circuit_breaking()))]
pub struct CircuitBreaking {
    /// After so many failed answers of the application in a row (5xx, and gRPC codes that mean the same).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_failures: Option<CountOrNone>,
    /// After so many failures of the way there in a row: connections, resets, timeouts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_path_failures: Option<CountOrNone>,
    /// The time over which `failurePercent` and `successRateDeviation` look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Time>,
    /// They look only where there were so many requests in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_requests: Option<Count>,
    /// When more than so many percent failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_percent: Option<Percent>,
    /// When it succeeds so many standard deviations less often than its siblings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_rate_deviation: Option<Thousandths>,
    /// How long it is left alone the first time; doubled with each further time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_ejection: Option<Time>,
    /// How long at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ejection: Option<Time>,
    /// How many percent of the endpoints at most are left alone at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ejected_percent: Option<Percent>,
    /// When fewer than so many percent can take requests, all are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panic_percent: Option<Percent>,
    /// So many requests at once try it out afterwards, and as many successes in a row end it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<Count>,
}

/// How much one sidecar asks of the service at once. What is absent has no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// How many connections it has to all endpoints together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<Count>,
    /// How many requests may wait for a connection or for their turn; one more is refused at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pending: Option<Count>,
    /// How long each of them waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<Time>,
    /// How many requests are under way at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<Count>,
}

/// Which endpoint a request goes to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::load_balancing()))]
pub struct LoadBalancing {
    /// How one is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// What is hashed, for `RingHash`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Hash>,
    /// How long the share of a new endpoint grows; `0s` for not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<SpanOrNone>,
    /// Endpoints of the sidecar's own zone first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<Locality>,
    /// How long at most an endpoint is left alone that answers 429 or 503 with Retry-After; `0s` for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cooling: Option<SpanOrNone>,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// Of two at random the one that answers sooner and has less to do.
    PeakEwma,
    /// Of two at random the one with fewer requests under way.
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// Always the same one for the same `hash`.
    RingHash,
}

impl From<Algorithm> for discovery::BalancingAlgorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::PeakEwma => Self::PeakEwma,
            Algorithm::LeastRequest => Self::LeastRequest,
            Algorithm::RoundRobin => Self::RoundRobin,
            Algorithm::Random => Self::Random,
            Algorithm::RingHash => Self::RingHash,
        }
    }
}

/// What is hashed: exactly one field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::hash()))]
pub struct Hash {
    /// The value of this header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "matching::header_name")]
    pub header: Option<HeaderName>,
    /// The value of a cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<Cookie>,
    /// `true`: the address that the application's connection comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<bool>,
    /// `true`: the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<bool>,
    /// The value of this query parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub query: Option<String>,
}

/// A cookie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cookie {
    /// Its name.
    #[schemars(schema_with = "matching::header_name")]
    pub name: HeaderName,
    /// A request without one gets one for so long; `0s` for the session. Absent: none is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<SpanOrNone>,
    /// The path that it is made for; by default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "fields::path")]
    pub path: Option<Path>,
}

/// When the sidecar's own zone is left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Locality {
    /// The zones to go to next, in order; all others come last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub failover: Option<Vec<String>>,
    /// A zone is used alone while it has at least so many endpoints,
    /// and `minHealthyPercent` of them can take requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_endpoints: Option<Count>,
    /// So many percent of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_healthy_percent: Option<Percent>,
    /// Above so many requests under way for each endpoint a zone is too busy; 0 for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight_per_endpoint: Option<CountOrNone>,
}
