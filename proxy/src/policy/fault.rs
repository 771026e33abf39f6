//! Failures that are made on purpose, to see how clients and services bear them.
//!
//! In come a policy's faults, a request and chances between 0 and 1; out come those that are done to the request, in
//! the policy's order, each independent of the others. A fault first delays, then answers; one that only
//! delays lets the request go on. It never touches a request that no fault names.

use std::time::Duration;

use http::StatusCode;

use super::operation::{self, Operation, Reading, RequestFacts};
use crate::{error::ProxyError, http::RequestHead, reason::Reason};

/// One kind of failure.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// The requests that it may hit, any of them; empty: all.
    pub operations: Box<[Operation]>,
    /// Of these so many percent.
    pub percent: f64,
    /// How long they wait first.
    pub delay: Duration,
    /// What they are answered then; `None`: they go on.
    pub abort: Option<Abort>,
}

/// An answer instead of the service's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    /// For HTTP; `None`: such requests go on.
    pub status: Option<StatusCode>,
    /// For gRPC; `None`: what the status means there.
    pub grpc_code: Option<u8>,
}

/// The faults that hit a request; `chance` gives one number for each that could.
pub fn chosen<'a>(
    faults: &'a [Fault],
    head: &'a RequestHead,
    mut chance: impl FnMut() -> f64 + 'a,
) -> impl Iterator<Item = &'a Fault> {
    let facts = RequestFacts::new(head);
    faults.iter().filter(move |fault| {
        (fault.operations.is_empty()
            || operation::any_takes(&fault.operations, &facts, Reading::Any))
            && chance() * 100.0 < fault.percent
    })
}

impl Abort {
    /// The error that the request ends with; `None` where it goes on.
    #[must_use]
    pub fn error(self, is_grpc: bool) -> Option<ProxyError> {
        let code = self.grpc_code.or_else(|| self.status.map(grpc_code_of));
        let error = ProxyError::new(Reason::FaultInjected, "");
        if is_grpc {
            return Some(error.answered_with(None, Some(code?)));
        }
        Some(error.answered_with(Some(self.status?), code))
    }
}

/// The gRPC code of an HTTP status (the gRPC specification, "HTTP to gRPC Status Code Mapping").
fn grpc_code_of(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Version};

    use super::*;
    use crate::http::Fields;

    fn head(method: Method) -> RequestHead {
        RequestHead {
            method,
            target: "/items".parse().expect("a path"),
            version: Version::HTTP_11,
            headers: Fields::new(),
            upgrade: None,
            accepts_trailers: false,
        }
    }

    fn fault(percent: f64, methods: &[Method]) -> Fault {
        let operation = Operation { methods: methods.into(), ..Operation::default() };
        let operations: Box<[_]> =
            if methods.is_empty() { Box::default() } else { [operation].into() };
        Fault { operations, percent, delay: Duration::ZERO, abort: None }
    }

    #[test]
    fn a_fault_hits_its_share_of_the_requests_that_it_names() {
        for (fault, method, expected) in [
            (fault(100.0, &[]), Method::GET, 1.0),
            (fault(0.0, &[]), Method::GET, 0.0),
            (fault(12.5, &[]), Method::GET, 0.125),
            (fault(50.0, &[Method::PUT]), Method::GET, 0.0),
            (fault(50.0, &[Method::PUT, Method::GET]), Method::GET, 0.5),
        ] {
            let mut random = fastrand::Rng::with_seed(5);
            let head = head(method);
            let faults = [fault];
            let hits: usize =
                (0..10_000).map(|_| chosen(&faults, &head, || random.f64()).count()).sum();
            let share = hits as f64 / 10_000.0;
            assert!((share - expected).abs() < 0.02, "{faults:?}: {share}");
        }
    }

    #[test]
    fn faults_are_done_one_after_the_other() {
        let faults = [fault(100.0, &[]), fault(1.0, &[]), fault(100.0, &[Method::GET])];
        let head = head(Method::GET);
        let hit: Vec<_> = chosen(&faults, &head, || 0.5).collect();
        assert_eq!(hit, [&faults[0], &faults[2]]);
    }

    #[test]
    fn an_abort_answers_each_protocol_in_its_own_way() {
        let teapot = StatusCode::IM_A_TEAPOT;
        for (status, grpc_code, http, grpc) in [
            (Some(teapot), None, Some(teapot), Some(2)),
            (
                Some(StatusCode::SERVICE_UNAVAILABLE),
                None,
                Some(StatusCode::SERVICE_UNAVAILABLE),
                Some(14),
            ),
            (Some(teapot), Some(8), Some(teapot), Some(8)),
            (None, Some(8), None, Some(8)),
            (None, None, None, None),
        ] {
            let abort = Abort { status, grpc_code };
            assert_eq!(abort.error(false).map(|error| error.status()), http, "{abort:?}");
            assert_eq!(abort.error(true).map(|error| error.grpc_status()), grpc, "{abort:?}");
        }
    }
}
