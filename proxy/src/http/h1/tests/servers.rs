//! The server's side over real connections.

use std::{
    future::pending,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{wire::*, *};
use crate::{
    clock,
    http::{
        Body, BodyError, Frame, Onward, Request, Response, ResponseHead, Served, ServerEnd,
        Takeover, body::Upload,
    },
    io::Socket,
    reason::Reason,
};

/// Answers with method, target and content of the request.
async fn echo(mut request: Request) -> Response {
    let content = collect(&mut request.body).await;
    let content = content
        .map_or_else(|error| error, |(content, _)| String::from_utf8(content).expect("text"));
    let line = format!("{} {} {content}", request.head.method, request.head.target);
    Response::new(ResponseHead::new(http::StatusCode::OK), Body::full(line.into()))
}

fn ok(content: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{content}", content.len())
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    run(async {
        let mut raw = serve(Answer(echo)).await;
        raw.write(
            "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
             POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
             POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nd\r\n0\r\n\r\n\
             GET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n\
             GET /never HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .await;
        raw.expect(&(ok("GET /1 ") + &ok("POST /2 abc") + &ok("POST /3 d"))).await;
        let last = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nGET /4 ";
        assert_eq!(raw.rest().await, last);
        assert!(matches!(raw.served.await, Ok(Served::Closed(None))));
    });
}

#[test]
fn bytes_one_by_one_make_the_same_requests() {
    run(async {
        let mut raw = serve(Answer(echo)).await;
        raw.stream.set_nodelay(true).expect("set");
        for _ in 0..2 {
            let request = "\r\nPOST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                           2;x=y\r\nab\r\n1\r\nc\r\n0\r\nX: 1\r\n\r\n";
            for byte in request.chars() {
                raw.write(&byte.to_string()).await;
                tokio::task::yield_now().await;
            }
            raw.expect(&ok("POST /a abc")).await;
        }
    });
}

#[test]
fn http_1_0_is_kept_alive_only_when_asked_and_when_the_length_is_known() {
    run(async {
        let streamed = |_| async {
            let (sender, body) = crate::http::body::channel();
            sender.send(Ok(Frame::Data(Bytes::from_static(b"x")))).expect("open");
            Response::new(ResponseHead::new(http::StatusCode::OK), body)
        };
        let mut raw = serve(Answer(echo)).await;
        raw.write("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        raw.expect("HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: keep-alive\r\n\r\nGET / ")
            .await;
        raw.write("GET / HTTP/1.0\r\n\r\n").await;
        let closed = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nGET / ";
        assert_eq!(raw.rest().await, closed);

        let mut raw = serve(Answer(streamed)).await;
        raw.write("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        assert_eq!(raw.rest().await, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nx");
    });
}

#[test]
fn head_gets_the_length_and_no_content() {
    run(async {
        let mut raw = serve(Answer(|_| async {
            let mut response = text(200, "hello");
            response.head.headers.insert("content-length", 5.into());
            response
        }))
        .await;
        raw.write("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        raw.expect("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
        raw.expect("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
    });
}

#[test]
fn informational_responses_precede_the_final_one_and_never_reach_http_1_0() {
    let handler = |mut request: Request| async move {
        request.interim.send(ResponseHead::new(http::StatusCode::EARLY_HINTS));
        tokio::task::yield_now().await;
        request.interim.send(ResponseHead::new(http::StatusCode::CONTINUE));
        let (content, _) = collect(&mut request.body).await.expect("whole");
        assert_eq!(content, b"abc");
        text(200, "done")
    };
    run(async move {
        let mut raw = serve(Answer(handler)).await;
        raw.write("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
            .await;
        raw.expect("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n").await;
        raw.write("abc").await;
        raw.expect(&ok("done")).await;
        raw.write("PUT / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc").await;
        assert!(raw.rest().await.starts_with("HTTP/1.1 200 OK\r\n"));
    });
}

#[test]
fn a_client_that_got_no_100_cannot_go_on() {
    run(async {
        let mut raw = serve(Answer(|_| async { text(417, "no") })).await;
        raw.write("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
            .await;
        let answer = raw.rest().await;
        assert!(answer.contains("417") && answer.contains("Connection: close"), "{answer}");
    });
}

#[test]
fn refused_requests_get_their_status_and_a_closed_connection() {
    for (bytes, status, reason) in [
        ("GET / HTTP/1.1\r\n\r\n", "400", Reason::BadRequest),
        ("GET / HTTP/2.0\r\n\r\n", "505", Reason::UnsupportedVersion),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "501",
            Reason::BadRequest,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
            "400",
            Reason::BadRequest,
        ),
        (&format!("GET /{} HTTP/1.1\r\n", "a".repeat(20_000)), "431", Reason::HeadersTooLarge),
    ] {
        run(async {
            let handler = |_| async { unreachable!("never handled") };
            let mut raw = serve(Answer(handler)).await;
            raw.write(bytes).await;
            let answer = raw.rest().await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes:?}: {answer}");
            assert!(answer.contains("Connection: close\r\n"), "{answer}");
            assert!(matches!(raw.served.await, Ok(Served::Closed(Some(why))) if why == reason));
        });
    }
}

#[test]
fn a_refused_client_that_goes_on_sending_still_reads_its_answer() {
    run(async {
        let handler = |_| async { unreachable!("never handled") };
        let mut raw = serve(Answer(handler)).await;
        raw.write("BAD\r\n\r\n").await;
        for _ in 0..50 {
            raw.write(&"more ".repeat(100)).await;
            tokio::task::yield_now().await;
        }
        assert!(raw.rest().await.starts_with("HTTP/1.1 400 "));
    });
}

#[test]
fn a_head_has_its_time_and_so_has_silence() {
    let settings = || crate::http::h1::ServerSettings {
        header_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(50),
        ..wire::settings()
    };
    run_paused(async move {
        let began = tokio::time::Instant::now();
        let mut raw = serve_with(Answer(echo), settings()).await;
        raw.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        raw.expect(&ok("GET / ")).await;
        assert_eq!(raw.rest().await, "");
        assert_eq!(began.elapsed().as_secs(), 50);
        assert!(matches!(raw.served.await, Ok(Served::Closed(Some(Reason::IdleTimeout)))));

        let mut raw = serve_with(Answer(echo), settings()).await;
        let began = tokio::time::Instant::now();
        raw.write("GET / HTTP/1.1\r\n").await;
        assert!(raw.rest().await.starts_with("HTTP/1.1 408 "));
        assert_eq!(began.elapsed().as_secs(), 5);
        assert!(matches!(raw.served.await, Ok(Served::Closed(Some(Reason::HeaderTimeout)))));
    });
}

#[test]
fn a_half_closed_client_that_said_so_gets_its_answer() {
    for last in ["POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", "POST / HTTP/1.0\r\n"] {
        run(async {
            let mut raw = serve(Answer(|request| async {
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
                echo(request).await
            }))
            .await;
            raw.write(&format!("{last}Content-Length: 2\r\n\r\nab")).await;
            raw.stream.shutdown().await.expect("half-closed");
            assert!(raw.rest().await.ends_with("POST / ab"), "{last}");
            assert!(matches!(raw.served.await, Ok(Served::Closed(None))));
        });
    }
}

#[test]
fn a_half_closed_client_is_not_waited_for_for_ever() {
    run_paused(async {
        let mut raw = serve(Answer(|_| async {
            pending::<()>().await;
            text(200, "")
        }))
        .await;
        let began = clock::now();
        raw.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        raw.stream.shutdown().await.expect("half-closed");
        assert!(matches!(raw.served.await, Ok(Served::Closed(Some(Reason::ConnectionLost)))));
        assert_eq!(began.elapsed().as_secs(), 60);
    });
}

#[test]
fn each_request_of_a_half_closed_client_has_its_own_time() {
    run_paused(async {
        let answer = Answer(|request: Request| async move {
            let wait = if request.head.target.path() == "/slow" { 59 } else { 3 };
            clock::sleep(Duration::from_secs(wait)).await;
            text(200, "")
        });
        let mut raw = serve(answer).await;
        raw.write("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
        raw.write("GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        raw.stream.shutdown().await.expect("half-closed");
        let answers = raw.rest().await;
        assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 2, "{answers}");
        assert!(matches!(raw.served.await, Ok(Served::Closed(None))));
    });
}

/// For how long a client keeps what it holds that has sent its last request and then left altogether.
async fn held_by_who_left<R: Future<Output = Response> + 'static>(
    version: &str,
    handler: impl Fn(Request) -> R + 'static,
) -> u64 {
    let raw = serve(Answer(handler)).await;
    let Raw { mut stream, served, .. } = raw;
    let request = format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let began = clock::now();
    drop(stream);
    assert!(matches!(served.await, Ok(Served::Closed(Some(Reason::ConnectionLost)))));
    began.elapsed().as_secs()
}

#[test]
fn a_client_that_leaves_behind_its_last_request_is_missed_soon() {
    run_paused(async {
        let unanswered = |_| async {
            pending::<()>().await;
            text(200, "")
        };
        assert_eq!(held_by_who_left("1.1", unanswered).await, 2);
        // It cannot be asked.
        assert_eq!(held_by_who_left("1.0", unanswered).await, 60);
        let (sender, body) = crate::http::body::channel();
        let body = std::cell::RefCell::new(Some(body));
        let streaming = move |_| {
            let body = body.borrow_mut().take().expect("once");
            async {
                // Its end is read before.
                clock::sleep(Duration::from_millis(100)).await;
                Response::new(ResponseHead::new(http::StatusCode::OK), body)
            }
        };
        assert_eq!(held_by_who_left("1.1", streaming).await, 1);
        drop(sender);
    });
}

#[test]
fn a_client_that_leaves_cancels_the_handler() {
    struct Cancelled(Seen<&'static str>);
    impl Drop for Cancelled {
        fn drop(&mut self) {
            self.0.borrow_mut().push("cancelled");
        }
    }
    for resets in [true, false] {
        run(async {
            let seen = Seen::default();
            let in_handler = seen.clone();
            let raw = serve(Answer(move |_| {
                let cancelled = Cancelled(in_handler.clone());
                async move {
                    cancelled.0.borrow_mut().push("handling");
                    pending::<()>().await;
                    text(200, "")
                }
            }))
            .await;
            let Raw { mut stream, served, .. } = raw;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("written");
            while seen.borrow().is_empty() {
                tokio::task::yield_now().await;
            }
            if resets {
                stream.set_zero_linger().expect("set");
            }
            drop(stream);
            assert!(matches!(served.await, Ok(Served::Closed(Some(Reason::ConnectionLost)))));
            assert_eq!(*seen.borrow(), ["handling", "cancelled"]);
        });
    }
}

#[test]
fn a_truncated_request_body_is_an_error_for_the_handler() {
    run(async {
        let mut raw = serve(Answer(echo)).await;
        raw.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab").await;
        raw.stream.shutdown().await.expect("half-closed");
        let answer = raw.rest().await;
        assert!(answer.ends_with("POST / the connection ended before the body was complete"));
    });
}

#[test]
fn a_body_that_breaks_never_ends_cleanly() {
    let broken = || async {
        let (sender, body) = crate::http::body::channel();
        sender.send(Ok(Frame::Data(Bytes::from_static(b"abc")))).expect("open");
        sender.send(Err(BodyError::Truncated)).expect("open");
        Response::new(ResponseHead::new(http::StatusCode::OK), body)
    };
    run(async move {
        let mut raw = serve(Answer(move |_| broken())).await;
        raw.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = raw.rest().await;
        assert!(answer.ends_with("\r\n\r\n3\r\nabc\r\n"), "{answer:?}");

        let mut raw = serve(Answer(move |_| broken())).await;
        raw.write("GET / HTTP/1.0\r\n\r\n").await;
        let mut rest = Vec::new();
        let error = raw.stream.read_to_end(&mut rest).await.expect_err("no clean end");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn trailers_are_forwarded_in_both_directions() {
    run(async {
        let mut raw = serve(Answer(|mut request: Request| async move {
            let (_, trailers) = collect(&mut request.body).await.expect("whole");
            let (sender, body) = crate::http::body::channel();
            sender.send(Ok(Frame::Data(Bytes::from_static(b"abc")))).expect("open");
            sender.send(Ok(Frame::Trailers(trailers))).expect("open");
            Response::new(ResponseHead::new(http::StatusCode::OK), body)
        }))
        .await;
        raw.write(
            "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n\
             0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n",
        )
        .await;
        raw.expect(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n",
        )
        .await;
    });
}

#[test]
fn an_early_response_does_not_stop_the_upload_and_the_connection_lives_on() {
    run(async {
        let seen: Seen<usize> = Seen::default();
        let in_handler = seen.clone();
        let mut raw = serve(Answer(move |mut request: Request| {
            let seen = in_handler.clone();
            async move {
                let mut response = text(200, "early");
                if request.body.is_end() {
                    return response;
                }
                response.upload = Some(Upload::new(async move {
                    let (content, _) = collect(&mut request.body).await.expect("whole");
                    seen.borrow_mut().push(content.len());
                    Ok(())
                }));
                response
            }
        }))
        .await;
        raw.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n").await;
        raw.expect(&ok("early")).await;
        for _ in 0..3 {
            raw.write(&"a".repeat(100_000)).await;
        }
        raw.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        raw.expect(&ok("early")).await;
        assert_eq!(*seen.borrow(), [300_000]);
    });
}

#[test]
fn a_body_that_nobody_reads_is_taken_in_when_small_and_closes_when_large() {
    run(async {
        let mut raw = serve(Answer(|_| async { text(200, "x") })).await;
        for length in [10, 60_000] {
            raw.write(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"))
                .await;
            raw.expect(&ok("x")).await;
            raw.write(&"a".repeat(length)).await;
        }
        raw.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n").await;
        let closed = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx";
        assert_eq!(raw.rest().await, closed);
    });
}

#[test]
fn an_upgrade_takes_the_connection_over_with_what_was_sent_early() {
    run(async {
        let (upstream, mut application) = pair().await;
        let upstream = std::cell::RefCell::new(Some(Socket::new(upstream)));
        let handler = move |request: Request| {
            let upstream = upstream.borrow_mut().take();
            async move {
                assert_eq!(request.head.upgrade.as_deref(), Some(&b"websocket"[..]));
                let mut head = ResponseHead::new(http::StatusCode::SWITCHING_PROTOCOLS);
                head.upgrade = Some(Bytes::from_static(b"websocket"));
                let mut response = Response::new(head, Body::Empty);
                response.takeover = upstream
                    .map(|socket| Takeover::Splice(Onward::new(ServerEnd::Connection(socket))));
                response
            }
        };
        let mut raw = serve(Answer(handler)).await;
        raw.write(
            "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly",
        )
        .await;
        raw.expect(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        )
        .await;
        let Ok(Served::TakenOver(
            mut client,
            Takeover::Splice(Onward { end: ServerEnd::Connection(mut server), .. }),
        )) = raw.served.await
        else {
            panic!("not taken over");
        };
        let mut early = [0; 5];
        client.read_exact(&mut early).await.expect("early bytes");
        assert_eq!(&early, b"early");
        client.write_all(b"down").await.expect("written");
        server.write_all(b"up").await.expect("written");
        expect(&mut raw.stream, "down").await;
        expect(&mut application, "up").await;
    });
}

#[test]
fn a_declined_upgrade_is_an_ordinary_response() {
    run(async {
        let mut raw = serve(Answer(|_| async { text(200, "no") })).await;
        let offer =
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        raw.write(&offer.repeat(2)).await;
        raw.expect(&ok("no").repeat(2)).await;
    });
}

#[test]
fn connect_tunnels_or_closes() {
    run(async {
        let handler = |request: Request| async move {
            let authority = request.head.target.authority().expect("one").clone();
            let mut response = text(200, "");
            if authority.host() == "no" {
                return text(403, "no");
            }
            response.takeover = Some(Takeover::Tunnel { destination: authority.to_string() });
            response
        };
        let mut raw = serve(Answer(handler)).await;
        raw.write("CONNECT yes:443 HTTP/1.1\r\nHost: yes:443\r\n\r\nhello").await;
        raw.expect("HTTP/1.1 200 OK\r\n\r\n").await;
        let Ok(Served::TakenOver(mut socket, Takeover::Tunnel { destination })) = raw.served.await
        else {
            panic!("not taken over");
        };
        assert_eq!(destination, "yes:443");
        let mut early = [0; 5];
        socket.read_exact(&mut early).await.expect("early bytes");
        assert_eq!(&early, b"hello");

        let mut raw = serve(Answer(handler)).await;
        raw.write(
            "CONNECT no:443 HTTP/1.1\r\nHost: no:443\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .await;
        let declined = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
        assert_eq!(raw.rest().await, declined);
    });
}

#[test]
fn a_drain_ends_idle_connections_and_lets_requests_finish() {
    run(async {
        let mut idle = serve(Answer(echo)).await;
        idle.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        idle.expect(&ok("GET / ")).await;
        idle.trigger.start();
        assert_eq!(idle.rest().await, "");

        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let gone = std::cell::RefCell::new(Some(gone));
        let mut busy = serve(Answer(move |request| {
            let gone = gone.borrow_mut().take();
            async move {
                gone.expect("one request").await.expect("sent");
                echo(request).await
            }
        }))
        .await;
        busy.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        tokio::task::yield_now().await;
        busy.trigger.start();
        go.send(()).expect("awaited");
        let last = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nGET / ";
        assert_eq!(busy.rest().await, last);
    });
}

#[test]
fn a_slow_reader_holds_back_the_body() {
    const PIECES: usize = 1024;
    run(async {
        let alive = Arc::new(AtomicUsize::new(0));
        let (sender, body) = crate::http::body::channel();
        for _ in 0..PIECES {
            sender.send(Ok(Frame::Data(Counted::piece(&alive)))).expect("open");
        }
        let body = std::cell::RefCell::new(Some(body));
        let mut raw = serve(Answer(move |_| {
            let body = body.borrow_mut().take().expect("one request");
            async move { Response::new(ResponseHead::new(http::StatusCode::OK), body) }
        }))
        .await;
        raw.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        // What the kernel took is gone; the rest waits for the reader.
        let waiting = stable(|| alive.load(Ordering::Relaxed)).await;
        assert!(waiting > PIECES / 2, "only {waiting} pieces wait");
        drop(sender);
        let answer = raw.rest().await;
        assert!(answer.len() > PIECES * Counted::SIZE);
        assert!(answer.ends_with("\r\n0\r\n\r\n"));
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_client_that_pipelines_and_never_reads_is_held_back() {
    run(async {
        let answered = Seen::default();
        let in_handler = answered.clone();
        let mut raw = serve(Answer(move |_| {
            in_handler.borrow_mut().push(());
            async {
                let mut response = text(204, "");
                let value = "x".repeat(8000).parse().expect("a value");
                response.head.headers.insert("x-large", value);
                response
            }
        }))
        .await;
        let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(10_000);
        raw.write(&requests).await;
        let count = stable(|| answered.borrow().len()).await;
        assert!(count < 5_000, "{count} answers wait");
    });
}

#[test]
fn a_client_that_did_not_wait_for_100_is_served_on() {
    run(async {
        let mut raw = serve(Answer(|_| async { text(200, "x") })).await;
        for _ in 0..2 {
            raw.write(
                "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
            )
            .await;
            raw.expect(&ok("x")).await;
        }
    });
}

#[test]
fn the_handler_defect_of_an_unasked_101_is_an_error_response() {
    run(async {
        let mut raw = serve(Answer(|_| async { text(101, "") })).await;
        raw.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(raw.rest().await.starts_with("HTTP/1.1 500 "));
    });
}

#[test]
fn an_unread_body_is_dropped_with_its_connection() {
    run(async {
        let kept: Rc<std::cell::RefCell<Option<Body>>> = Rc::default();
        let in_handler = kept.clone();
        let mut raw = serve(Answer(move |request: Request| {
            *in_handler.borrow_mut() = Some(request.body);
            async { text(200, "x") }
        }))
        .await;
        raw.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab").await;
        raw.expect(&ok("x")).await;
        raw.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\ncd").await;
        // The earlier request's body must not see the later one's bytes.
        let mut stale = kept.borrow_mut().take().expect("kept");
        raw.expect(&ok("x")).await;
        assert!(collect(&mut stale).await.is_err());
    });
}
