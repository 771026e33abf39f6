//! Our server against the h2 crate's client.

use std::future::{pending, poll_fn};

use h2::Reason as Code;
use http::{HeaderValue, StatusCode, header};

use super::*;
use crate::{
    error::ProxyError,
    http::{BodyError, Frame, body},
    reason::Reason,
};

fn echo(request: Request) -> Answer {
    Box::pin(async move { ok(request.body) })
}

#[test]
fn a_request_reaches_the_handler_as_it_was_sent() {
    worker(async {
        let (mut client, _server) = served(server_settings(), |request| {
            Box::pin(async move {
                let head = &request.head;
                assert_eq!(head.target, "http://cart.shop:80/items?all");
                assert_eq!(head.version, http::Version::HTTP_2);
                assert!(!head.headers.contains_key("proxy-authorization"));
                assert!(head.accepts_trailers && !head.headers.contains_key(header::TE));
                assert_eq!(head.headers.get_all(header::COOKIE).count(), 2);
                assert!(request.body.is_end());
                let mut response = ok(Body::full(Bytes::from_static(b"two items")));
                response.head.headers.insert("x-answer", HeaderValue::from_static("42"));
                response.head.headers.insert("connection", HeaderValue::from_static("close"));
                response
            })
        })
        .await;
        let mut get = request("GET", "http://cart.shop:80/items?all");
        get.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        get.headers_mut().insert("proxy-authorization", HeaderValue::from_static("Basic x"));
        get.headers_mut().append(header::COOKIE, HeaderValue::from_static("a=1"));
        get.headers_mut().append(header::COOKIE, HeaderValue::from_static("b=2"));
        let (response, _) = client.send_request(get, true).expect("sent");
        let mut response = response.await.expect("a response");
        assert_eq!(response.headers()["x-answer"], "42");
        assert!(!response.headers().contains_key("connection"));
        assert_eq!(drain_body(response.body_mut()).await.expect("whole").0, 9);
    });
}

#[test]
fn both_directions_stream_at_once_and_trailers_follow() {
    worker(async {
        let (mut client, _server) = served(server_settings(), echo).await;
        let (response, mut upload) =
            client.send_request(request("POST", "http://a/"), false).expect("sent");
        let mut response = response.await.expect("a head before any content");
        for word in ["one", "two", "three"] {
            upload.send_data(Bytes::from(word), false).expect("open");
            let data = response.body_mut().data().await.expect("content").expect("whole");
            assert_eq!(data, word);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("3"));
        trailers.insert("weft-client-id", HeaderValue::from_static("forged"));
        upload.send_trailers(trailers).expect("open");
        let (size, trailers) = drain_body(response.body_mut()).await.expect("whole");
        let trailers = trailers.expect("trailers");
        assert_eq!((size, &trailers["x-sum"]), (0, &HeaderValue::from_static("3")));
        assert!(!trailers.contains_key("weft-client-id"));
    });
}

#[test]
fn a_grpc_error_is_one_head_of_trailers() {
    worker(async {
        let (mut client, _server) = served(server_settings(), |request| {
            Box::pin(async move {
                let error = ProxyError::new(Reason::NoEndpoints, "");
                respond::respond(&error, &request.head, Audience::Local)
            })
        })
        .await;
        let mut call = request("POST", "http://a/Service/Method");
        let grpc = HeaderValue::from_static("application/grpc");
        call.headers_mut().insert(header::CONTENT_TYPE, grpc);
        let (response, _) = client.send_request(call, true).expect("sent");
        let response = response.await.expect("a response");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert!(response.body().is_end_stream());
    });
}

#[test]
fn a_body_that_breaks_off_resets_the_stream() {
    let cases = [
        (BodyError::Truncated, Code::INTERNAL_ERROR),
        (BodyError::Malformed("chunk"), Code::INTERNAL_ERROR),
        (BodyError::TimedOut, Code::CANCEL),
        (BodyError::Reset(ErrorCode::CANCEL), Code::CANCEL),
        (BodyError::Reset(ErrorCode::ENHANCE_YOUR_CALM), Code::ENHANCE_YOUR_CALM),
        (BodyError::Reset(ErrorCode::NO_ERROR), Code::INTERNAL_ERROR),
        (BodyError::Reset(ErrorCode::REFUSED_STREAM), Code::INTERNAL_ERROR),
    ];
    for (broken, code) in cases {
        worker(async move {
            let (mut client, _server) = served(server_settings(), move |_| {
                let (sender, body) = body::channel();
                sender.send(Ok(Frame::Data(Bytes::from_static(b"begin")))).expect("open");
                sender.send(Err(broken.clone())).expect("open");
                Box::pin(async { ok(body) })
            })
            .await;
            let (response, _) =
                client.send_request(request("GET", "http://a/"), true).expect("sent");
            let error = match response.await {
                Ok(mut response) => drain_body(response.body_mut()).await.expect_err("a reset"),
                Err(error) => error,
            };
            assert_eq!(error.reason(), Some(code));
        });
    }
}

#[test]
fn a_client_that_resets_ends_the_handler() {
    worker(async {
        let bell = Rc::new(Bell::default());
        let (rung, count) = (bell.0.clone(), bell.1.clone());
        let (mut client, _server) = served(server_settings(), move |_| {
            let held = Bell(bell.0.clone(), bell.1.clone());
            Box::pin(async move {
                let _held = held;
                pending().await
            })
        })
        .await;
        let (response, mut stream) =
            client.send_request(request("POST", "http://a/"), false).expect("sent");
        stream.send_data(Bytes::from_static(b"x"), false).expect("open");
        tokio::task::yield_now().await;
        assert_eq!(count.get(), 0);
        stream.send_reset(Code::CANCEL);
        rung.notified().await;
        assert_eq!(response.await.expect_err("reset").reason(), Some(Code::CANCEL));
    });
}

#[test]
fn malformed_and_oversized_requests_are_refused() {
    let mut two_hosts = request("GET", "http://a/");
    two_hosts.headers_mut().append(header::HOST, HeaderValue::from_static("a"));
    two_hosts.headers_mut().append(header::HOST, HeaderValue::from_static("b"));
    let mut many = request("GET", "http://a/");
    for index in 0..21 {
        let name = http::HeaderName::try_from(format!("x-{index}")).expect("a name");
        many.headers_mut().insert(name, HeaderValue::from_static("1"));
    }
    let with_bytes = |kibibytes: usize| {
        let mut large = request("GET", "http://a/");
        let value = HeaderValue::try_from("x".repeat(kibibytes * 1024)).expect("a value");
        large.headers_mut().insert("x-large", value);
        large
    };
    let cases = [
        (two_hosts, 400, "bad-request"),
        (many, 431, "headers-too-large"),
        (with_bytes(17), 431, "headers-too-large"),
        (with_bytes(33), 431, "headers-too-large"),
        (request("GET", "http://user@a/"), 400, "bad-request"),
        (request("CONNECT", "a:443"), 400, "bad-request"),
    ];
    worker(async move {
        let (mut client, _server) =
            served(server_settings(), |_| Box::pin(async { panic!("not to be handled") })).await;
        for (refused, status, reason) in cases {
            let what = format!("{refused:?}");
            let (response, _) = client.send_request(refused, true).expect("sent");
            let response = response.await.expect("a response");
            assert_eq!(response.status().as_u16(), status, "{what}");
            let code = response
                .headers()
                .get("weft-reason")
                .map_or("", |code| code.to_str().expect("text"));
            assert_eq!(code, reason, "{what}");
            client = client.ready().await.expect("open");
        }
    });
}

#[test]
fn informational_responses_come_before_the_final_one() {
    worker(async {
        let (mut client, _server) = served(server_settings(), |request| {
            Box::pin(async move {
                let mut hints = ResponseHead::new(StatusCode::EARLY_HINTS);
                hints.headers.insert(header::LINK, HeaderValue::from_static("</style.css>"));
                request.interim.send(hints);
                tokio::task::yield_now().await;
                request.interim.send(ResponseHead::new(StatusCode::CONTINUE));
                ok(Body::Empty)
            })
        })
        .await;
        let (mut response, _) =
            client.send_request(request("GET", "http://a/"), true).expect("sent");
        let mut seen = Vec::new();
        while let Some(informational) = poll_fn(|cx| response.poll_informational(cx)).await {
            seen.push(informational.expect("a head").status().as_u16());
        }
        assert_eq!(seen, [103, 100]);
        assert_eq!(response.await.expect("a response").status(), StatusCode::OK);
    });
}

#[test]
fn a_response_to_head_keeps_its_length() {
    worker(async {
        let (mut client, _server) = served(server_settings(), |_| {
            Box::pin(async {
                let mut response = ok(Body::Empty);
                let length = HeaderValue::from_static("1000");
                response.head.headers.insert(header::CONTENT_LENGTH, length);
                response
            })
        })
        .await;
        let (response, _) = client.send_request(request("HEAD", "http://a/"), true).expect("sent");
        let response = response.await.expect("a response");
        assert_eq!(response.headers()[header::CONTENT_LENGTH], "1000");
        assert!(response.body().is_end_stream());
    });
}

#[test]
fn an_early_response_does_not_cut_the_upload_off() {
    worker(async {
        let (sizes, mut received) = tokio::sync::mpsc::unbounded_channel();
        let (mut client, _server) = served(server_settings(), move |request| {
            let sizes = sizes.clone();
            Box::pin(async move {
                let mut body = request.body;
                let pump = async move {
                    let mut size = 0;
                    while let Some(Ok(Frame::Data(data))) = body.frame().await {
                        size += data.len();
                    }
                    sizes.send(size).expect("open");
                    Ok(())
                };
                Response { upload: Some(body::Upload::new(pump)), ..ok(Body::Empty) }
            })
        })
        .await;
        let (response, mut upload) =
            client.send_request(request("POST", "http://a/"), false).expect("sent");
        let response = response.await.expect("a response");
        assert!(response.body().is_end_stream());
        push(&mut upload, 300 * 1024).await.expect("window");
        upload.send_data(Bytes::new(), true).expect("open");
        assert_eq!(received.recv().await, Some(300 * 1024));
    });
}

#[test]
fn a_reader_that_stands_still_holds_back_its_sender() {
    worker(async {
        let settings = server_settings();
        let window = settings.stream_window as usize;
        let (mut client, _server) = served(settings, |request| {
            Box::pin(async move {
                let _held = request;
                pending().await
            })
        })
        .await;
        let (_response, mut upload) =
            client.send_request(request("POST", "http://a/"), false).expect("sent");
        assert_eq!(push(&mut upload, 10 * window).await, Err(window));
    });
}

#[test]
fn with_all_but_one_stream_stalled_the_last_runs() {
    worker(async {
        let settings = ServerSettings { max_streams: 32, ..server_settings() };
        let window = settings.stream_window as usize;
        let (mut client, _server) = served(settings, |request| {
            Box::pin(async move {
                if request.head.target.path() == "/run" {
                    return ok(request.body);
                }
                let _held = request;
                pending().await
            })
        })
        .await;
        let mut stalled = Vec::new();
        for _ in 0..31 {
            client = client.ready().await.expect("open");
            let (response, mut upload) =
                client.send_request(request("POST", "http://a/stall"), false).expect("sent");
            push(&mut upload, window).await.expect("the window of a stream");
            stalled.push((response, upload));
        }
        client = client.ready().await.expect("open");
        let (response, mut upload) =
            client.send_request(request("POST", "http://a/run"), false).expect("sent");
        let sending = async {
            push(&mut upload, 8 * 1024 * 1024).await.expect("window all the time");
            upload.send_data(Bytes::new(), true).expect("open");
        };
        let receiving = async {
            let mut response = response.await.expect("a response");
            drain_body(response.body_mut()).await.expect("whole").0
        };
        assert_eq!(tokio::join!(sending, receiving).1, 8 * 1024 * 1024);
    });
}

#[test]
fn rapid_resets_end_the_connection() {
    worker(async {
        let settings = ServerSettings { max_resets_per_second: 10, ..server_settings() };
        let (mut client, server) = served(settings, |_| Box::pin(async { pending().await })).await;
        for _ in 0..50 {
            let Ok(ready) = client.clone().ready().await else { break };
            client = ready;
            let Ok((_, mut stream)) = client.send_request(request("GET", "http://a/"), true) else {
                break;
            };
            // Each reset goes out alone, so that the server has begun the request.
            tokio::task::yield_now().await;
            stream.send_reset(Code::CANCEL);
            tokio::task::yield_now().await;
        }
        let served = server.served.await.expect("no panic");
        assert!(matches!(served, Served::Closed(Some(Reason::StreamLimit))), "{served:?}");
    });
}

#[test]
fn draining_finishes_what_is_open_and_takes_nothing_new() {
    worker(async {
        let gate = Rc::new(tokio::sync::Notify::new());
        let opened = gate.clone();
        let (mut client, server) = served(server_settings(), move |_| {
            let gate = gate.clone();
            Box::pin(async move {
                gate.notified().await;
                ok(Body::full(Bytes::from_static(b"done")))
            })
        })
        .await;
        let (response, _) = client.send_request(request("GET", "http://a/"), true).expect("sent");
        tokio::task::yield_now().await;
        server.drain.start();
        until(async || client.clone().ready().await.is_err()).await;
        opened.notify_one();
        let mut response = response.await.expect("a response");
        assert_eq!(drain_body(response.body_mut()).await.expect("whole").0, 4);
        drop(response);
        assert!(matches!(server.served.await.expect("no panic"), Served::Closed(None)));
    });
}

#[test]
fn an_idle_connection_is_left() {
    worker(async {
        let settings =
            ServerSettings { idle_timeout: Duration::from_millis(50), ..server_settings() };
        let (client, server) = served(settings, echo).await;
        let served = server.served.await.expect("no panic");
        assert!(matches!(served, Served::Closed(Some(Reason::IdleTimeout))), "{served:?}");
        drop(client);
    });
}

#[test]
fn a_client_without_a_preface_is_left() {
    worker(async {
        let settings =
            ServerSettings { preface_timeout: Duration::from_millis(50), ..server_settings() };
        let (_near, far) = streams().await;
        let server = spawn_server(far, settings, echo);
        let served = server.served.await.expect("no panic");
        assert!(matches!(served, Served::Closed(Some(Reason::HeaderTimeout))), "{served:?}");
    });
}

#[test]
fn a_client_that_is_lost_is_left() {
    worker(async {
        let settings =
            ServerSettings { keep_alive: Duration::from_millis(50), ..server_settings() };
        let (near, far) = streams().await;
        let server = spawn_server(far, settings, |_| Box::pin(async { pending().await }));
        // Sends its request, and is polled no more: nothing answers the PING.
        let (mut sender, mut connection) = h2::client::handshake(near).await.expect("a handshake");
        let (response, _) = sender.send_request(request("GET", "http://a/"), true).expect("sent");
        assert!(futures_util::poll!(&mut connection).is_pending());
        let served = server.served.await.expect("no panic");
        assert!(matches!(served, Served::Closed(Some(Reason::ConnectionLost))), "{served:?}");
        drop(response);
    });
}
