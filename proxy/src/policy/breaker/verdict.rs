//! What the end of a request says of its endpoint.
//!
//! In comes a response, or why there is none, or how long the endpoint was waited for before its time was over; out
//! comes a [`Verdict`], or nothing where somebody else is to blame. What never counts against an endpoint: a wait for a
//! place in this proxy's own lines, a client that is slow with its body or leaves, a delay that a policy injects, and an
//! end for the client's or this proxy's own sake.
//!
//! A time that is over counts where the endpoint alone was waited for during at least half of it ([`Verdict::of_cut`]): it had
//! the request, and it had time. An attempt timeout runs only while that is so, and always counts. A client that leaves
//! in the last tenth of the time that it gave has given up for the endpoint's sake ([`Verdict::of_leaving`]).

use std::time::Duration;

use http::StatusCode;

use crate::{
    error::{self, Side},
    reason::Reason,
};

/// How a request to an endpoint ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The application answered, with no failure of its own.
    Success,
    /// The application answered that it failed.
    ApplicationFailure,
    /// No answer came: the connection, the stream or the time ended.
    PathFailure,
}

impl Verdict {
    /// What a response says of the application. 501 and UNIMPLEMENTED speak of the request.
    #[must_use]
    pub fn of_response(status: StatusCode, grpc_code: Option<u8>) -> Self {
        // UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS.
        let failed = match grpc_code {
            Some(code) => matches!(code, 2 | 4 | 13 | 14 | 15),
            None => status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED,
        };
        if failed { Self::ApplicationFailure } else { Self::Success }
    }

    /// What it says of an endpoint that there is no response, or no whole one; `None` for nothing.
    #[must_use]
    pub fn of_failure(reason: Reason) -> Option<Self> {
        (error::side(reason) == Side::Server).then_some(Self::PathFailure)
    }

    /// What it says that a time of which this much had passed was over, when the endpoint alone was waited for during
    /// `waited` of it.
    #[must_use]
    pub fn of_cut(waited: Duration, passed: Duration) -> Option<Self> {
        (waited.saturating_mul(2) >= passed).then_some(Self::PathFailure)
    }

    /// What it says that the client left when so much of the time that it gave had passed, and the endpoint alone was
    /// waited for during `waited` of it.
    #[must_use]
    pub fn of_leaving(waited: Duration, passed: Duration, given: Duration) -> Option<Self> {
        // Its own clock began earlier than ours.
        let is_late = given.saturating_sub(passed) <= given / 10;
        Self::of_cut(waited, passed).filter(|_| is_late)
    }
}
