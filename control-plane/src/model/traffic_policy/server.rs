//! What a server's sidecar bounds, and what goes wrong on purpose: the sections `rateLimits`, `concurrency` and
//! `faults`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_proto::discovery;

use super::{attempts::GrpcCode, rules};
use crate::model::{
    amount::{Count, CountOrNone, Thousandths, Time, Whole},
    matching::{self, HeaderName, MOST, RequestMatch},
};

/// So many requests in a time, of each instance of the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::rate_limit()))]
pub struct RateLimit {
    /// How many requests.
    pub requests: Count,
    /// In which time; by default in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<Time>,
    /// How many at once; by default as many as `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<Count>,
    /// Which requests it counts, any of these; by default all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST))]
    pub r#match: Vec<RequestMatch>,
    /// Every value of this has a limit of its own; by default there is one for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<RateLimitKey>,
    /// The header, for the key `Header`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "matching::header_name")]
    pub header: Option<HeaderName>,
    /// One limit for all, of which no caller may take what others need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fair: Option<bool>,
}

/// By what there are several limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RateLimitKey {
    /// The caller's identity; its address where it shows none.
    Identity,
    /// The value of a header.
    Header,
    /// The caller's address.
    Address,
}

impl From<RateLimitKey> for discovery::RateLimitKey {
    fn from(key: RateLimitKey) -> Self {
        match key {
            RateLimitKey::Identity => Self::Identity,
            RateLimitKey::Header => Self::Header,
            RateLimitKey::Address => Self::Address,
        }
    }
}

/// How many requests each instance takes at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Concurrency {
    /// So many.
    pub max_in_flight: Count,
    /// So many more wait; by default none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pending: Option<CountOrNone>,
    /// How long each of them waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<Time>,
}

/// What is done to requests on purpose: a delay, an answer instead of the service's, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::fault()))]
pub struct Fault {
    /// To which requests, any of these; by default to all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST))]
    pub r#match: Vec<RequestMatch>,
    /// To how many percent of them, such as 0.1.
    pub percent: Thousandths,
    /// First they wait so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Time>,
    /// Then they are answered so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<Abort>,
}

/// An answer instead of the service's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Abort {
    /// The status; gRPC requests get `grpcCode`.
    pub status: Whole<200, 599>,
    /// The code for gRPC requests; by default the one that means the same as the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_code: Option<GrpcCode>,
}
