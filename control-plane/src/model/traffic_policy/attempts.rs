//! How long a request may take, and when it is tried again: the sections `timeouts` and `retry`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_proto::discovery;

use super::rules;
use crate::model::amount::{CountOrNone, Percent, SpanOrNone, Time, Whole};

/// How long things may take. What is absent is the proxy's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Timeouts {
    /// Until the response is complete, all attempts included; `0s` for no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<SpanOrNone>,
    /// Until the head of one attempt's response; `0s` for no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_try: Option<SpanOrNone>,
    /// How long a kept connection may be without a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<Time>,
    /// How long a request under way may be without a byte in either direction; `0s` for no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_idle: Option<SpanOrNone>,
    /// Until a connection to an endpoint is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<Time>,
}

impl Timeouts {
    /// Those of requests.
    pub(super) fn of_requests(&self) -> Self {
        Self { idle: None, connect: None, ..self.clone() }
    }

    /// Those of connections to endpoints.
    pub(super) fn of_endpoints(&self) -> Self {
        Self { idle: self.idle, connect: self.connect, ..Self::default() }
    }
}

/// When a request is tried again, on another endpoint if there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// How often beside the first time; 0 for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Whole<0, 10>>,
    /// How long to wait before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// After which failures; by default those after which it is provably safe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    pub conditions: Option<Vec<RetryCondition>>,
    /// After which statuses of a response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub statuses: Option<Vec<Whole<400, 599>>>,
    /// After which gRPC codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub grpc_codes: Option<Vec<GrpcCode>>,
    /// Also requests that are not safe to repeat, such as POST, where something may have reached the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsafe_methods: Option<bool>,
    /// Bodies up to so many bytes are kept to be sent again; a request with a longer one is tried once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_limit: Option<Whole<0, 16_777_216>>,
    /// How many of all requests may be retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

/// How long to wait before a retry: a random time up to a bound that doubles with each one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::backoff()))]
pub struct Backoff {
    /// The first bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Time>,
    /// The last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Time>,
}

/// Retries may be a share of the requests of the last ten seconds, and always so many a second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Budget {
    /// So many percent of the requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<Percent>,
    /// So many a second in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_per_second: Option<CountOrNone>,
}

/// A failure after which a request may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetryCondition {
    /// No connection came to be.
    ConnectFailure,
    /// The connection or the stream ended before the response's head.
    Reset,
    /// The server took the stream back unused.
    RefusedStream,
    /// The attempt took longer than `timeouts.perTry`.
    PerTryTimeout,
}

impl From<RetryCondition> for discovery::RetryCondition {
    fn from(condition: RetryCondition) -> Self {
        match condition {
            RetryCondition::ConnectFailure => Self::ConnectFailure,
            RetryCondition::Reset => Self::Reset,
            RetryCondition::RefusedStream => Self::RefusedStream,
            RetryCondition::PerTryTimeout => Self::AttemptTimeout,
        }
    }
}

/// A code of gRPC other than OK (grpc/doc/statuscodes.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "gRPC says it")]
#[repr(u8)]
pub enum GrpcCode {
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl GrpcCode {
    /// Its number.
    #[must_use]
    pub fn number(self) -> u32 {
        u32::from(self as u8)
    }
}
