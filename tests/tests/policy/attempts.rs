//! Attempts: retries, timeouts and deadlines.

use std::time::Duration;

use tokio::time::Instant;
use weft_tests::apps::{App, Http};

use crate::stage::{Stage, answering, call, from, get, silent, status, traffic};

const TRIES: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_the_policy_names_is_tried_again_elsewhere() {
    let apps = [answering(503, &[]).await, App::echo_both("echo-v2").await];
    let policy = traffic(
        "echo",
        "  loadBalancing: {algorithm: RoundRobin}
  retry: {attempts: 2, statuses: [503], budget: {percent: 100, minPerSecond: 100}}",
    );
    let stage = Stage::serving(apps, &policy).await;
    for version in [Http::One, Http::Two] {
        let mut client = stage.client(version).await;
        let mut again = 0;
        for _ in 0..TRIES {
            let answer = client.get("http://echo/").await;
            from("echo-v2").check(&answer, "a GET");
            again += usize::from(answer.field("weft-attempts") == "2");
        }
        assert!(again > 0, "{version:?}: none went to the failing one first");
        let posted = get("http://echo/").by("POST");
        let key = posted.clone().with("idempotency-key", "1");
        let (mut failed, mut kept) = (0, 0);
        for _ in 0..TRIES {
            let answer = client.send(posted.request()).await.expect("an answer");
            failed += usize::from(answer.status == 503);
        }
        for _ in 0..TRIES {
            let answer = client.send(key.request()).await.expect("an answer");
            kept += usize::from(answer.status == 503);
        }
        assert!(failed > 0, "{version:?}: a POST is not safe to repeat");
        assert_eq!(kept, 0, "{version:?}: one with an Idempotency-Key is");
    }
    assert!(stage.web.count("weft_retries_total", &["direction=\"outbound\""]).await > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_policy_a_failed_answer_is_passed_on() {
    let apps = [answering(503, &[]).await, answering(503, &[]).await];
    let stage = Stage::serving(apps, "").await;
    stage.check(&[(get("http://echo/"), from("scripted").status(503))]).await;
    let connections: u64 = stage.servers().iter().map(|(_, app)| app.connections()).sum();
    assert!(connections <= 2, "each of the two requests was sent once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_takes_too_long_is_made_again_elsewhere() {
    let apps = [silent().await, App::echo_both("echo-v2").await];
    let sections = "  timeouts: {request: 10s, perTry: 200ms}
  retry: {attempts: 1, budget: {percent: 100, minPerSecond: 100}}";
    let stage = Stage::serving(apps, &traffic("echo", sections)).await;
    for version in [Http::One, Http::Two] {
        let mut client = stage.client(version).await;
        for _ in 0..10 {
            from("echo-v2").check(&client.get("http://echo/").await, &format!("{version:?}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_when_its_time_is_over() {
    let apps = [silent().await, silent().await];
    let stage = Stage::serving(apps, &traffic("echo", "  timeouts: {request: 300ms}")).await;
    let begun = Instant::now();
    stage
        .check(&[
            (get("http://echo/"), status(504).field("weft-reason", "request-timeout")),
            (
                call("http://echo:7070/a.B/C"),
                from("").field("grpc-status", "4").field("weft-reason", "request-timeout"),
            ),
        ])
        .await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_of_calls_are_tried_again() {
    let unavailable =
        answering(200, &[("content-type", "application/grpc"), ("grpc-status", "14")]);
    let apps = [unavailable.await, App::echo_both("echo-v2").await];
    let sections = "  retry: {attempts: 1, grpcCodes: [Unavailable], unsafeMethods: true, budget: {percent: 100, minPerSecond: 100}}";
    let stage = Stage::serving(apps, &traffic("echo", sections)).await;
    let mut client = stage.client(Http::Two).await;
    for _ in 0..TRIES {
        let answer =
            client.send(call("http://echo:7070/a.B/C").request()).await.expect("an answer");
        from("echo-v2").check(&answer, "a call");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_a_call_is_handed_on_and_shrinks() {
    let stage = Stage::with("").await;
    let mut client = stage.client(Http::Two).await;
    let asked = call("http://echo-v1:7070/a.B/C").with("grpc-timeout", "5S");
    let answer = client.send(asked.request()).await.expect("an answer");
    let left = answer.field("got-grpc-timeout");
    let (number, unit) = left.split_at(left.len() - 1);
    let per_second = match unit {
        "n" => 1e9,
        "u" => 1e6,
        "m" => 1e3,
        "S" => 1.0,
        _ => panic!("{left:?}"),
    };
    let seconds = number.parse::<f64>().expect("a number") / per_second;
    assert!(seconds < 5.0 && seconds > 3.0, "{left:?}");
}

/// The budget: what fails for everybody is not asked twice as often.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_bounds_what_is_tried_again() {
    let apps = [answering(503, &[]).await, answering(503, &[]).await];
    let sections =
        "  retry: {attempts: 5, statuses: [503], budget: {percent: 20, minPerSecond: 0}}";
    let stage = Stage::serving(apps, &traffic("echo", sections)).await;
    let mut client = stage.client(Http::One).await;
    for _ in 0..200 {
        assert_eq!(client.get("http://echo/").await.status, 503);
    }
    let retries = stage.web.count("weft_retries_total", &["direction=\"outbound\""]).await;
    assert!((20.0..=45.0).contains(&retries), "{retries} of 200");
}
