//! The time that a request has, across sidecars.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use weft_proto::discovery::Protocol;

use super::{
    run,
    stage::{Application, Reply, Stage},
};
use crate::policy::{
    RequestPolicy,
    timeout::{Limit, RequestTimeouts},
};

const GET: &str = "GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n";

fn within(millis: u64) -> RequestPolicy {
    let request = Limit::After(Duration::from_millis(millis));
    let timeouts = RequestTimeouts { request, ..RequestTimeouts::default() };
    RequestPolicy { timeouts, ..RequestPolicy::default() }
}

/// A response whose content is chunked, of which only the first chunk comes.
fn half() -> Reply {
    Reply::Bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n".to_owned())
}

#[test]
fn a_request_that_is_not_answered_in_time_ends_on_both_sides() {
    run(async {
        let stage = Stage::new();
        let slow = Application::start(|_| Reply::Silence).await;
        let endpoint = stage.meshed(slow.address, Protocol::Http1).await;
        stage.pin(vec![endpoint], within(100));
        let answer = stage.ask(GET).await;
        assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
        let reasons = ["weft-reason: request-timeout", "weft-reason: deadline-exceeded"];
        assert!(reasons.iter().any(|reason| answer.contains(reason)), "{answer}");
        assert_eq!(slow.count(), 1, "what is late is not repeated");
        let request = slow.asked.borrow()[0].to_ascii_lowercase();
        assert!(!request.contains("weft-deadline"), "side headers are the sidecars': {request}");
    });
}

#[test]
fn a_request_timeout_bounds_the_response_to_its_end() {
    run(async {
        let stage = Stage::new();
        let slow = Application::start(|_| half()).await;
        stage.pin(vec![slow.plain()], within(100));
        let answer = stage.ask(GET).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(!answer.ends_with("0\r\n\r\n"), "a broken response is no whole one: {answer}");
        assert_eq!(stage.count("weft_requests_failed_total", "request-timeout"), 1.0);
    });
}

#[test]
fn a_silent_stream_ends_and_one_that_moves_does_not() {
    run(async {
        let stage = Stage::new();
        let slow = Application::start(|_| half()).await;
        let stream_idle = Limit::After(Duration::from_millis(100));
        let timeouts = RequestTimeouts { stream_idle, ..RequestTimeouts::default() };
        stage.pin(vec![slow.plain()], RequestPolicy { timeouts, ..RequestPolicy::default() });
        let answer = stage.ask(GET).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(stage.count("weft_requests_failed_total", "stream-idle-timeout"), 1.0);
        let silent = Application::start(|_| Reply::Silence).await;
        stage.pin(vec![silent.plain()], RequestPolicy { timeouts, ..RequestPolicy::default() });
        let answer = stage.ask(GET).await;
        assert!(answer.contains("weft-reason: stream-idle-timeout"), "{answer}");
        assert_eq!(silent.count(), 1);
    });
}

#[test]
fn a_request_that_moves_is_not_cut_by_its_silence() {
    run(async {
        let stage = Stage::new();
        let app = Application::start(|_| Reply::status("200 OK", "", "hi")).await;
        let stream_idle = Limit::After(Duration::from_millis(400));
        let timeouts = RequestTimeouts { stream_idle, ..RequestTimeouts::default() };
        stage.pin(vec![app.plain()], RequestPolicy { timeouts, ..RequestPolicy::default() });
        let mut socket = stage.connect().await;
        let head = "POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 8\r\n\r\n";
        socket.write_all(head.as_bytes()).await.expect("open");
        for _ in 0..8 {
            socket.flush().await.expect("open");
            crate::clock::sleep(Duration::from_millis(100)).await;
            socket.write_all(b"x").await.expect("open");
        }
        socket.flush().await.expect("open");
        let mut answer = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut socket, &mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200");
    });
}
