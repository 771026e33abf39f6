//! The retry decision as tables.

use super::*;

const REFUSED: fn() -> ProxyError = || ProxyError::new(Reason::ConnectRefused, "");
const LOST: fn() -> ProxyError = || ProxyError::after_send(Reason::ConnectionLost, "");
const UNSENT: fn() -> ProxyError = || ProxyError::new(Reason::ConnectionLost, "");

fn facts<'a>(role: Role, method: &'a Method, outcome: Outcome<'a>) -> Facts<'a> {
    Facts {
        role,
        method,
        has_idempotency_key: false,
        retries_made: 0,
        another_endpoint: true,
        replayable: true,
        left: None,
        outcome,
    }
}

fn failed(error: &ProxyError) -> Outcome<'_> {
    Outcome::Failed { error, kept_connection: false }
}

fn answered<'a>(status: u16, grpc_code: Option<u8>, seconds: Option<u64>) -> Outcome<'a> {
    let status = StatusCode::from_u16(status).expect("a status");
    Outcome::Answered { status, grpc_code, retry_after: seconds.map(Duration::from_secs) }
}

fn is_again(decision: Decision) -> bool {
    matches!(decision, Decision::Again(_))
}

#[test]
fn by_default_a_request_is_resent_once_and_only_when_that_is_safe() {
    let of_endpoint = || ProxyError::of_endpoint(Reason::ConcurrencyLimit, "");
    let rows: [(Method, u32, ProxyError, Option<Withheld>, bool); 11] = [
        (Method::GET, 0, REFUSED(), None, true),
        (Method::POST, 0, REFUSED(), None, true),
        (Method::POST, 1, REFUSED(), None, false),
        (Method::GET, 0, LOST(), None, true),
        (Method::PUT, 0, LOST(), None, true),
        (Method::POST, 0, LOST(), Some(Withheld::Unsafe), false),
        (Method::PATCH, 0, LOST(), Some(Withheld::Unsafe), false),
        (Method::GET, 0, ProxyError::new(Reason::DiscoveryUnavailable, ""), None, false),
        (Method::GET, 0, ProxyError::after_send(Reason::RequestTimeout, ""), None, false),
        (Method::GET, 0, ProxyError::after_send(Reason::AttemptTimeout, ""), None, true),
        (Method::POST, 0, of_endpoint(), None, true),
    ];
    for (method, retries_made, error, withheld, again) in rows {
        let facts = Facts { retries_made, ..facts(Role::Client, &method, failed(&error)) };
        let decision = RetryPolicy::default().decide(&facts, 1.0);
        let expected = withheld.map(Decision::Withheld);
        match expected {
            Some(expected) => assert_eq!(decision, expected, "{method} {error}"),
            None if again => assert!(is_again(decision), "{method} {error} {decision:?}"),
            None => assert_eq!(decision, Decision::Last, "{method} {error}"),
        }
    }
}

#[test]
fn an_idle_close_race_is_no_retry() {
    use Decision::{Again, Last, Resend, Withheld as No};
    let none = RetryPolicy { attempts: 0, ..RetryPolicy::default() };
    let at_most = Duration::from_millis(25);
    let rows = [
        (Role::Client, Method::POST, true, UNSENT(), Resend),
        (Role::Client, Method::GET, true, LOST(), Again(at_most)),
        (Role::Client, Method::POST, true, LOST(), No(Withheld::Unsafe)),
        (Role::Client, Method::POST, false, UNSENT(), Again(at_most)),
        (Role::Server, Method::GET, true, LOST(), Resend),
        (Role::Server, Method::POST, true, UNSENT(), Resend),
        (Role::Server, Method::POST, true, LOST(), Last),
        (Role::Server, Method::GET, false, LOST(), Last),
        (Role::Server, Method::GET, false, REFUSED(), Last),
    ];
    for (role, method, kept_connection, error, expected) in rows {
        let outcome = Outcome::Failed { error: &error, kept_connection };
        let facts = facts(role, &method, outcome);
        let decision = RetryPolicy::default().decide(&facts, 1.0);
        assert_eq!(decision, expected, "{role:?} {method} {kept_connection} {error}");
        let resent = none.decide(&facts, 1.0) == Resend;
        assert_eq!(resent, expected == Resend, "a policy without retries resends the same");
        let gone = none.decide(&Facts { replayable: false, ..facts }, 1.0);
        assert_eq!(gone, Last, "without its body nothing is sent again");
    }
}

#[test]
fn conditions_choose_among_failures() {
    let only = |conditions| RetryPolicy { conditions, ..RetryPolicy::default() };
    let connect = only(Conditions { connect_failure: true, ..Conditions::NONE });
    let reset = only(Conditions { reset: true, ..Conditions::NONE });
    let stream = only(Conditions { refused_stream: true, ..Conditions::NONE });
    let timeout = only(Conditions { attempt_timeout: true, ..Conditions::NONE });
    let rows = [
        (Reason::ConnectRefused, [true, false, false, false]),
        (Reason::ConnectTimeout, [true, false, false, false]),
        (Reason::TlsFailed, [true, false, false, false]),
        (Reason::PeerUnexpected, [true, false, false, false]),
        (Reason::ConnectionLost, [false, true, false, false]),
        (Reason::UpstreamReset, [false, true, false, false]),
        (Reason::UpstreamProtocol, [false, true, false, false]),
        (Reason::UpstreamRefusedStream, [false, false, true, false]),
        (Reason::AttemptTimeout, [false, false, false, true]),
        (Reason::StreamIdleTimeout, [false, false, false, false]),
        (Reason::NoEndpoints, [false, false, false, false]),
        (Reason::AuthzDenied, [false, false, false, false]),
    ];
    for (reason, expected) in rows {
        let error = ProxyError::new(reason, "");
        let facts = facts(Role::Client, &Method::GET, failed(&error));
        let taken = [&connect, &reset, &stream, &timeout]
            .map(|policy| is_again(policy.decide(&facts, 0.5)));
        assert_eq!(taken, expected, "{reason}");
    }
}

#[test]
fn responses_are_tried_again_by_status_and_code_where_that_is_safe() {
    let policy = RetryPolicy {
        statuses: [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].into(),
        grpc_codes: [14].into(),
        ..RetryPolicy::default()
    };
    let bold = RetryPolicy { unsafe_methods: true, ..policy.clone() };
    let rows = [
        (answered(503, None, None), true),
        (answered(429, None, None), true),
        (answered(500, None, None), false),
        (answered(200, Some(14), None), true),
        (answered(200, Some(0), None), false),
        (answered(200, None, None), false),
    ];
    for (outcome, wanted) in rows {
        let get = facts(Role::Client, &Method::GET, outcome);
        assert_eq!(is_again(policy.decide(&get, 0.5)), wanted, "{outcome:?}");
        let post = facts(Role::Client, &Method::POST, outcome);
        let expected = if wanted { Decision::Withheld(Withheld::Unsafe) } else { Decision::Last };
        assert_eq!(policy.decide(&post, 0.5), expected, "{outcome:?}");
        assert_eq!(is_again(bold.decide(&post, 0.5)), wanted, "{outcome:?}");
        let keyed = Facts { has_idempotency_key: true, ..post };
        assert_eq!(is_again(policy.decide(&keyed, 0.5)), wanted, "{outcome:?}");
        let gone = Facts { replayable: false, ..get };
        let expected = if wanted { Decision::Withheld(Withheld::Body) } else { Decision::Last };
        assert_eq!(policy.decide(&gone, 0.5), expected, "{outcome:?}");
    }
    let response = answered(503, None, None);
    let server = policy.decide(&facts(Role::Server, &Method::GET, response), 0.5);
    assert_eq!(server, Decision::Last, "the server's sidecar passes on what its application says");
}

#[test]
fn retry_after_is_waited_for_where_it_is_short_and_fits() {
    let policy = RetryPolicy {
        statuses: [StatusCode::SERVICE_UNAVAILABLE].into(),
        backoff: Backoff { base: Duration::ZERO, max: Duration::ZERO },
        ..RetryPolicy::default()
    };
    let late = Decision::Withheld(Withheld::Deadline);
    let seconds = |seconds| Decision::Again(Duration::from_secs(seconds));
    for (retry_after, left, expected) in [
        (Some(2), None, seconds(2)),
        (Some(10), None, seconds(10)),
        (Some(11), None, late),
        (Some(2), Some(3), seconds(2)),
        (Some(2), Some(2), late),
        (None, Some(1), seconds(0)),
        (None, Some(0), late),
    ] {
        let facts = Facts {
            left: left.map(Duration::from_secs),
            ..facts(Role::Client, &Method::GET, answered(503, None, retry_after))
        };
        assert_eq!(policy.decide(&facts, 1.0), expected, "{retry_after:?} {left:?}");
    }
}

#[test]
fn the_wait_doubles_up_to_its_bound_and_any_part_of_it_is_taken() {
    let backoff = Backoff { base: Duration::from_millis(25), max: Duration::from_millis(150) };
    let waits: Vec<_> = (0..5).map(|made| backoff.wait(made, 1.0).as_millis()).collect();
    assert_eq!(waits, [25, 50, 100, 150, 150]);
    assert_eq!(backoff.wait(2, 0.0), Duration::ZERO);
    assert_eq!(backoff.wait(2, 0.5), Duration::from_millis(50));
    assert_eq!(backoff.wait(u32::MAX, 1.0), Duration::from_millis(150));
}

#[test]
fn only_the_first_retry_of_a_connect_failure_is_made_at_once_and_only_elsewhere() {
    let policy = RetryPolicy { attempts: 3, ..RetryPolicy::default() };
    for (error, another_endpoint, retries_made, at_once) in [
        (REFUSED(), true, 0, true),
        (REFUSED(), false, 0, false),
        (REFUSED(), true, 1, false),
        (LOST(), true, 0, false),
    ] {
        let facts = Facts {
            another_endpoint,
            retries_made,
            ..facts(Role::Client, &Method::GET, failed(&error))
        };
        let decision = policy.decide(&facts, 1.0);
        assert_eq!(decision == Decision::Again(Duration::ZERO), at_once, "{error} {facts:?}");
    }
}
