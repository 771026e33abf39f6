//! When a request is sent once more, and after which wait.
//!
//! In come the policy and what is known when an attempt has ended without a response, or with one that the policy
//! wants tried again; out comes whether another attempt follows. It must never allow one that could do twice what
//! was asked for once: by default only what is provably safe is repeated (nothing reached the application, or
//! the method is idempotent, RFC 9110 9.2.2, or the request has an `Idempotency-Key`); `unsafe_methods` is the
//! operator's word that more is.
//!
//! Only the client's sidecar retries; the server's resends only its own idle-close race, when a kept connection to
//! the application turns out closed. The client's sidecar has that race too: what provably did not leave on a kept
//! connection is sent again at once, whatever the policy says, and is no retry.
//!
//! A response that another attempt may not follow is passed on as it is. Between attempts lies a wait with full
//! jitter (a random part of a bound that doubles), so that the clients of a service that failed for all at once do
//! not come back at once; none where a connection could not be made and another endpoint has not been tried. A
//! `Retry-After` is waited for where that is short enough; else the response is passed on.

use std::time::Duration;

use http::{Method, StatusCode};

use super::budget::BudgetSettings;
use crate::{
    error::{Delivery, ProxyError},
    reason::Reason,
};

/// Attempts to open an opaque connection, the first included.
pub const MAX_ATTEMPTS: u32 = 2;

/// A longer `Retry-After` is the client's to wait for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);

/// When the requests of a service or a rule are sent once more.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Beside the first attempt.
    pub attempts: u32,
    /// The wait before each.
    pub backoff: Backoff,
    /// Without a response.
    pub conditions: Conditions,
    /// After a response with one of these statuses.
    pub statuses: Box<[StatusCode]>,
    /// After a gRPC response, of a head alone, with one of these codes.
    pub grpc_codes: Box<[u8]>,
    /// Also requests that are not safe to repeat, where something may have reached the application.
    pub unsafe_methods: bool,
    /// Bytes of a request's body that are kept for another attempt; `None` for the proxy's default.
    pub body_limit: Option<usize>,
    /// How many retries there may be.
    pub budget: BudgetSettings,
}

/// The wait before a retry: up to `base`, doubled with each retry of the request, up to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first retry at most.
    pub base: Duration,
    /// Before any at most.
    pub max: Duration,
}

/// The kinds of attempts without a response after which a request is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    /// No connection could be made, or the endpoint's sidecar could not reach its application.
    pub connect_failure: bool,
    /// The connection or the stream ended before the response's head.
    pub reset: bool,
    /// The endpoint, or its sidecar, turned the request away before anybody read it.
    pub refused_stream: bool,
    /// The response's head did not come within the attempt timeout.
    pub attempt_timeout: bool,
}

impl Default for RetryPolicy {
    /// One retry of what is provably safe.
    fn default() -> Self {
        Self {
            attempts: 1,
            backoff: Backoff::default(),
            conditions: Conditions::ALL,
            statuses: Box::default(),
            grpc_codes: Box::default(),
            unsafe_methods: false,
            body_limit: None,
            budget: BudgetSettings::default(),
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_millis(25), max: Duration::from_millis(250) }
    }
}

impl Backoff {
    /// The wait before a retry when this many were made; `chance` lies between 0 and 1.
    #[must_use]
    pub fn wait(self, retries_made: u32, chance: f64) -> Duration {
        let bound = self.base.saturating_mul(1 << retries_made.min(20)).min(self.max);
        bound.mul_f64(chance.clamp(0.0, 1.0))
    }
}

impl Conditions {
    /// Every one.
    pub const ALL: Self =
        Self { connect_failure: true, reset: true, refused_stream: true, attempt_timeout: true };
    /// None.
    pub const NONE: Self = Self {
        connect_failure: false,
        reset: false,
        refused_stream: false,
        attempt_timeout: false,
    };

    fn take(self, error: &ProxyError) -> bool {
        if is_connect_failure(error.reason) {
            self.connect_failure
        } else if error.reason == Reason::AttemptTimeout {
            self.attempt_timeout
        } else if matches!(
            error.reason,
            Reason::ConnectionLost | Reason::UpstreamReset | Reason::UpstreamProtocol
        ) {
            self.reset
        } else if matches!(error.reason, Reason::RequestTimeout | Reason::StreamIdleTimeout) {
            // The time for the whole request is over.
            false
        } else {
            // It was turned away: by the endpoint, or by its sidecar, whatever that one's reason.
            error.elsewhere_may_succeed() && self.refused_stream
        }
    }
}

const fn is_connect_failure(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ConnectRefused
            | Reason::ConnectTimeout
            | Reason::ConnectFailed
            | Reason::TlsFailed
            | Reason::TlsTimeout
            | Reason::PeerUnverified
            | Reason::PeerUnexpected
    )
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The client's sidecar.
    Client,
    /// The server's sidecar, towards its application.
    Server,
}

/// What is known when an attempt has ended.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Who asks.
    pub role: Role,
    /// The request's method.
    pub method: &'a Method,
    /// The request has an `Idempotency-Key`.
    pub has_idempotency_key: bool,
    /// Of this request, so far.
    pub retries_made: u32,
    /// There is an endpoint that this request was not tried on.
    pub another_endpoint: bool,
    /// The request's body can be sent again.
    pub replayable: bool,
    /// Until the request's deadline.
    pub left: Option<Duration>,
    /// How the attempt ended.
    pub outcome: Outcome<'a>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// Without a response's head.
    Failed {
        /// Why.
        error: &'a ProxyError,
        /// On a connection that had been used before, and was found closed without a byte of the response.
        kept_connection: bool,
    },
    /// With a response's head.
    Answered {
        /// Its status.
        status: StatusCode,
        /// Its gRPC code, where the head has one.
        grpc_code: Option<u8>,
        /// Its `Retry-After`.
        retry_after: Option<Duration>,
    },
}

/// Whether another attempt follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// None is wanted: what there is goes to the client.
    Last,
    /// One is wanted, and must not be.
    Withheld(Withheld),
    /// After this wait.
    Again(Duration),
    /// At once, and it is no retry: nothing left on a kept connection that was closed.
    Resend,
}

/// Why a retry that was wanted is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// The service's budget is used up.
    Budget,
    /// The request's body is no longer whole here.
    Body,
    /// Something may have reached the application, and doing it twice is not known to be safe.
    Unsafe,
    /// The wait does not fit into the time that is left.
    Deadline,
}

impl Withheld {
    /// All, in the order of their declaration.
    pub const ALL: [Self; 4] = [Self::Budget, Self::Body, Self::Unsafe, Self::Deadline];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Body => "body",
            Self::Unsafe => "unsafe",
            Self::Deadline => "deadline",
        }
    }
}

impl RetryPolicy {
    /// Whether another attempt follows, as far as the budget is not asked; `chance` (0 to 1) makes the wait.
    #[must_use]
    pub fn decide(&self, facts: &Facts<'_>, chance: f64) -> Decision {
        match (facts.role, facts.outcome) {
            (_, outcome) if outcome.is_idle_close(facts.role, facts.method) => {
                if facts.replayable {
                    Decision::Resend
                } else {
                    Decision::Last
                }
            }
            (Role::Server, _) => Decision::Last,
            (Role::Client, _) => self.retry(facts, chance),
        }
    }

    fn retry(&self, facts: &Facts<'_>, chance: f64) -> Decision {
        if !self.takes(facts.outcome) || facts.retries_made >= self.attempts {
            return Decision::Last;
        }
        if !self.is_safe(facts) {
            return Decision::Withheld(Withheld::Unsafe);
        }
        if !facts.replayable {
            return Decision::Withheld(Withheld::Body);
        }
        match self.wait(facts, chance) {
            Some(wait) => Decision::Again(wait),
            None => Decision::Withheld(Withheld::Deadline),
        }
    }

    /// Whether a response with this head could be tried again: asked of every response, so it costs nothing
    /// where no status and no code is configured.
    #[must_use]
    pub fn takes_response(
        &self,
        status: StatusCode,
        grpc_code: impl FnOnce() -> Option<u8>,
    ) -> bool {
        self.statuses.contains(&status)
            || !self.grpc_codes.is_empty()
                && grpc_code().is_some_and(|code| self.grpc_codes.contains(&code))
    }

    fn takes(&self, outcome: Outcome<'_>) -> bool {
        match outcome {
            Outcome::Failed { error, .. } => self.conditions.take(error),
            Outcome::Answered { status, grpc_code, .. } => {
                self.takes_response(status, || grpc_code)
            }
        }
    }

    fn is_safe(&self, facts: &Facts<'_>) -> bool {
        let undelivered = match facts.outcome {
            Outcome::Failed { error, .. } => error.delivery == Delivery::Nothing,
            Outcome::Answered { .. } => false,
        };
        undelivered
            || self.unsafe_methods
            || is_idempotent(facts.method)
            || facts.has_idempotency_key
    }

    /// How long to wait; `None` when it is too long.
    fn wait(&self, facts: &Facts<'_>, chance: f64) -> Option<Duration> {
        let wait = match facts.outcome {
            Outcome::Failed { error, .. }
                if facts.another_endpoint
                    && facts.retries_made == 0
                    && is_connect_failure(error.reason) =>
            {
                Duration::ZERO
            }
            Outcome::Answered { retry_after: Some(asked), .. } if asked > MAX_RETRY_AFTER => {
                return None;
            }
            Outcome::Failed { .. } | Outcome::Answered { retry_after: None, .. } => {
                self.backoff.wait(facts.retries_made, chance)
            }
            Outcome::Answered { retry_after: Some(asked), .. } => {
                asked.saturating_add(self.backoff.wait(facts.retries_made, chance))
            }
        };
        facts.left.is_none_or(|left| wait < left).then_some(wait)
    }
}

impl Outcome<'_> {
    /// Whether this is the race with a peer that closes an idle connection, and the request may be sent again.
    fn is_idle_close(self, role: Role, method: &Method) -> bool {
        let Self::Failed { error, kept_connection: true } = self else { return false };
        error.elsewhere_may_succeed()
            && match role {
                Role::Client => {
                    error.reason == Reason::ConnectionLost && error.delivery == Delivery::Nothing
                }
                Role::Server => error.delivery == Delivery::Nothing || is_idempotent(method),
            }
    }
}

/// Whether a request may be sent again though it may have been served (RFC 9110 section 9.2.2).
#[must_use]
pub fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE]
        .contains(method)
}

#[cfg(test)]
mod tests;
