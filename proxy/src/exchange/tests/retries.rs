//! Retries as the client and the applications see them.

use http::StatusCode;

use super::{
    run,
    stage::{Application, Reply, Stage},
};
use crate::policy::{
    RequestPolicy,
    budget::BudgetSettings,
    retry::{Backoff, RetryPolicy},
    timeout::{Limit, RequestTimeouts},
};
use std::time::Duration;

const GET: &str = "GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n";

fn post(length: usize) -> String {
    let body = "x".repeat(length);
    format!(
        "PUT / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Three retries without a wait, after 503.
fn retrying() -> RequestPolicy {
    let retry = RetryPolicy {
        attempts: 3,
        backoff: Backoff { base: Duration::ZERO, max: Duration::ZERO },
        statuses: [StatusCode::SERVICE_UNAVAILABLE].into(),
        ..RetryPolicy::default()
    };
    RequestPolicy { retry, ..RequestPolicy::default() }
}

fn unavailable() -> Reply {
    Reply::status("503 Service Unavailable", "", "busy")
}

fn ok() -> Reply {
    Reply::status("200 OK", "", "hi")
}

#[test]
fn a_status_is_tried_again_on_another_endpoint_and_attempts_are_counted() {
    run(async {
        let stage = Stage::new();
        let bad = Application::start(|_| unavailable()).await;
        let good = Application::start(|_| ok()).await;
        stage.pin(vec![bad.plain(), good.plain()], retrying());
        for _ in 0..20 {
            let answer = stage.ask(GET).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert_eq!(answer.contains("weft-attempts: 2"), answer.contains("weft-attempts"));
        }
        assert_eq!(good.count(), 20);
        let retried = stage.count("weft_retries_total", "response-status");
        assert_eq!(
            retried,
            bad.count() as f64,
            "never the same endpoint twice while there is another"
        );
        assert!(bad.count() > 0, "it was tried");
        assert_eq!(
            *bad.connections.borrow(),
            1,
            "a response that is thrown away frees its connection"
        );
    });
}

#[test]
fn the_last_response_is_passed_on_when_all_attempts_bring_the_same() {
    run(async {
        let stage = Stage::new();
        let bad = Application::start(|n| {
            Reply::status("503 Service Unavailable", &format!("X-Number: {n}\r\n"), "busy")
        })
        .await;
        stage.pin(vec![bad.plain()], retrying());
        let answer = stage.ask(GET).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("X-Number: 3") && answer.ends_with("busy"), "{answer}");
        assert!(answer.contains("weft-attempts: 4") && !answer.contains("weft-reason"), "{answer}");
        assert_eq!(bad.count(), 4);
    });
}

#[test]
fn a_body_is_replayed_up_to_the_limit_and_never_past_it() {
    run(async {
        let stage = Stage::new();
        let app = Application::start(|n| if n % 2 == 0 { unavailable() } else { ok() }).await;
        let mut policy = retrying();
        policy.retry.body_limit = Some(100_000);
        stage.pin(vec![app.plain()], policy);
        let answer = stage.ask(&post(100_000)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let asked = app.asked.take();
        assert_eq!(asked.len(), 2);
        assert!(asked.iter().all(|request| request.matches('x').count() == 100_000));

        let answer = stage.ask(&post(100_001)).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "passed on as it is: {answer}");
        assert_eq!((app.count(), stage.count("weft_retries_withheld_total", "body")), (1, 1.0));
    });
}

#[test]
fn what_is_not_safe_is_not_repeated() {
    run(async {
        let stage = Stage::new();
        let app = Application::start(|_| unavailable()).await;
        stage.pin(vec![app.plain()], retrying());
        let answer = stage.ask(&post(3).replace("PUT", "POST")).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert_eq!((app.count(), stage.count("weft_retries_withheld_total", "unsafe")), (1, 1.0));
        let keyed = post(3).replace("PUT / HTTP/1.1", "POST / HTTP/1.1\r\nIdempotency-Key: 7");
        stage.ask(&keyed).await;
        assert_eq!(app.count(), 5);
    });
}

#[test]
fn an_attempt_that_takes_too_long_gives_way_to_another() {
    run(async {
        let stage = Stage::new();
        let slow = Application::start(|_| Reply::Silence).await;
        let good = Application::start(|_| ok()).await;
        let attempt = Limit::After(Duration::from_millis(20));
        let timeouts = RequestTimeouts { attempt, ..RequestTimeouts::default() };
        stage.pin(vec![slow.plain(), good.plain()], RequestPolicy { timeouts, ..retrying() });
        while slow.count() == 0 {
            let answer = stage.ask(GET).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        let counted = stage.count("weft_retries_total", "attempt-timeout");
        assert_eq!(counted, slow.count() as f64);

        stage.pin(vec![slow.plain()], RequestPolicy { timeouts, ..retrying() });
        let answer = stage.ask(GET).await;
        assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
        assert!(answer.contains("weft-reason: attempt-timeout"), "{answer}");
    });
}

#[test]
fn a_budget_bounds_what_is_offered() {
    run(async {
        let stage = Stage::new();
        let bad = Application::start(|_| unavailable()).await;
        let mut policy = retrying();
        policy.retry.budget = BudgetSettings { percent: 20, min_per_second: 0 };
        stage.pin(vec![bad.plain()], policy);
        for _ in 0..100 {
            assert!(stage.ask(GET).await.starts_with("HTTP/1.1 503"));
        }
        assert!((115..=120).contains(&bad.count()), "{}", bad.count());
        assert!(stage.count("weft_retries_withheld_total", "budget") >= 80.0);
    });
}

#[test]
fn retry_after_is_waited_for_or_left_to_the_client() {
    run(async {
        let stage = Stage::new();
        let asked_for = |seconds: u32| {
            move |n: usize| match n {
                0 => {
                    let fields = format!("Retry-After: {seconds}\r\n");
                    Reply::status("503 Service Unavailable", &fields, "")
                }
                _ => ok(),
            }
        };
        let soon = Application::start(asked_for(1)).await;
        stage.pin(vec![soon.plain()], retrying());
        let began = crate::clock::now();
        assert!(stage.ask(GET).await.starts_with("HTTP/1.1 200"));
        assert!(began.elapsed() >= Duration::from_secs(1));

        let late = Application::start(asked_for(60)).await;
        stage.pin(vec![late.plain()], retrying());
        let answer = stage.ask(GET).await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.contains("Retry-After: 60"),
            "{answer}"
        );
        assert_eq!(stage.count("weft_retries_withheld_total", "deadline"), 1.0);
    });
}

#[test]
fn a_connection_that_is_closed_without_an_answer_is_tried_again_only_where_that_is_safe() {
    run(async {
        let stage = Stage::new();
        let app = Application::start(|n| if n == 0 { Reply::Close } else { ok() }).await;
        stage.pin(vec![app.plain()], RequestPolicy::default());
        let answer = stage.ask(GET).await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("weft-attempts: 2"),
            "{answer}"
        );
    });
}
