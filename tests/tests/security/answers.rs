//! Answers of an application that break HTTP's rules, or whose end two readers could see in different places: the
//! client never gets more or other answers than belong to its requests.

use weft_tests::{raw::Raw, recorder::Recorder};

use super::stage::{HTTP, Setup, Stage};

/// What an application would like to be taken for another answer.
const SMUGGLED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled";

/// Heads that are no answer; [`SMUGGLED`] comes behind each.
const REFUSED: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\n X: a\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "HTTP/1.1 200 OK\r\nX: a\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    " HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "ICY 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "nonsense\r\n\r\n",
];

/// Chunked bodies that break off where their framing is no longer clear; [`SMUGGLED`] comes behind each.
const BROKEN: &[&str] = &[
    "2\r\nokX\r\n0\r\n\r\n",
    "2\nok\r\n0\r\n\r\n",
    "2\r\nok0\r\n\r\n",
    "+2\r\nok\r\n0\r\n\r\n",
    "0x2\r\nok\r\n0\r\n\r\n",
    "10000000000000002\r\nok\r\n0\r\n\r\n",
    "2;a\nb\r\nok\r\n0\r\n\r\n",
    "2\r\nok\r\n0\r\nX : y\r\n\r\n",
    "2\r\nok\r\n0\r\n X: y\r\n\r\n",
];

/// Whole answers, with what is read of each for a GET; [`SMUGGLED`] comes behind each.
const WHOLE: &[(&str, &str)] = &[
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "\r\n\r\nok"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\n\r\n", "0\r\n\r\n"),
    ("HTTP/1.1 204 No Content\r\n\r\n", "\r\n\r\n"),
    ("HTTP/1.1 304 Not Modified\r\nContent-Length: 8\r\n\r\n", "\r\n\r\n"),
    (
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "\r\n\r\nok",
    ),
];

/// A mesh whose application answers this to all but `GET /canary`.
async fn answering(answer: String, multiplexed: bool) -> (Stage, Vec<Raw>) {
    let http = Recorder::answering(move |head| match head.starts_with("GET /canary ") {
        true => "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ncanary".to_owned(),
        false => answer.clone(),
    })
    .await;
    let stage = Stage::with(Setup { http: Some(http), ..Setup::default() }).await;
    let crowd = if multiplexed { stage.crowd().await } else { Vec::new() };
    (stage, crowd)
}

fn request(method: &str, target: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: catalog\r\n\r\n")
}

/// What was to be smuggled answers no request of this client, nor of the next one.
async fn assert_canary(stage: &Stage, client: Option<Raw>, what: &str) {
    let clients = [client, Some(Raw::connect(stage.web.upstream(HTTP)).await)];
    for mut client in clients.into_iter().flatten() {
        client.send(request("GET", "/canary")).await;
        let answer = client.receive_until("canary").await;
        assert!(answer.contains("HTTP/1.1 200 OK\r\n"), "{what:?}: {answer:?}");
        assert!(!answer.contains("smuggled"), "{what:?}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_is_refused() {
    for multiplexed in [false, true] {
        for head in REFUSED {
            let (stage, _crowd) = answering(format!("{head}{SMUGGLED}"), multiplexed).await;
            let mut client = Raw::connect(stage.web.upstream(HTTP)).await;
            client.send(request("POST", "/")).await;
            let answer = client.receive_head().await;
            assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{head:?}: {answer:?}");
            let reason = "weft-reason: upstream-protocol\r\n";
            assert!(answer.contains(reason), "{head:?}: {answer:?}");
            assert_canary(&stage, Some(client), head).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_framing_breaks_is_broken_for_the_client() {
    for multiplexed in [false, true] {
        for body in BROKEN {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            let (stage, _crowd) = answering(format!("{head}{body}{SMUGGLED}"), multiplexed).await;
            let mut client = Raw::connect(stage.web.upstream(HTTP)).await;
            let close = "POST / HTTP/1.1\r\nHost: catalog\r\nConnection: close\r\n\r\n";
            client.send(close).await;
            let answer = client.receive_to_end().await;
            assert!(!answer.contains("smuggled"), "{body:?}: {answer:?}");
            assert!(!answer.ends_with("\r\n0\r\n\r\n"), "{body:?}: {answer:?}");
            assert_canary(&stage, None, body).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_an_answer_belongs_to_no_request() {
    for multiplexed in [false, true] {
        for (answer, end) in WHOLE {
            let (stage, _crowd) = answering(format!("{answer}{SMUGGLED}"), multiplexed).await;
            let mut client = Raw::connect(stage.web.upstream(HTTP)).await;
            client.send(request("POST", "/")).await;
            let mut received = client.receive_head().await;
            if received.starts_with("HTTP/1.1 103 ") {
                received = client.receive_head().await;
            }
            while !received.ends_with(end) {
                received += &client.receive_until(end.trim_start()).await;
            }
            assert_canary(&stage, Some(client), answer).await;
        }
        // What is announced to HEAD does not come, and is no other answer when it does.
        let (stage, _crowd) = answering(SMUGGLED.to_owned(), multiplexed).await;
        let mut client = Raw::connect(stage.web.upstream(HTTP)).await;
        client.send(request("HEAD", "/")).await;
        assert!(client.receive_head().await.contains("ontent-Length: 8\r\n"));
        assert_canary(&stage, Some(client), "HEAD").await;
    }
}
