//! The client's side over real connections.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Version, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{wire::*, *};
use crate::{
    clock,
    error::Delivery,
    http::{
        Body, Fields, Frame, Interim, RequestHead, Response, SendError, ServerEnd, Takeover,
        fields::SpeltName,
        h1::{Http1Client, Shelf},
    },
    reason::Reason,
};

fn request_to(method: Method, path: &str) -> RequestHead {
    let mut headers = Fields::new();
    headers.append_spelt(SpeltName::of(header::HOST, b"Host"), HeaderValue::from_static("a"));
    RequestHead {
        method,
        target: path.parse().expect("a path"),
        version: Version::HTTP_11,
        headers,
        upgrade: None,
        accepts_trailers: false,
    }
}

fn shelf() -> Rc<Shelf> {
    Rc::new(Shelf::new(2, Duration::from_secs(3600)))
}

async fn send(
    client: Http1Client,
    head: &RequestHead,
    body: Body,
    shelf: &Rc<Shelf>,
) -> Result<Response, SendError> {
    client.send(head, body, &Interim::default(), shelf.clone()).await
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_connection_comes_back_when_both_messages_have_ended() {
    let rows: &[(&str, &str, bool)] = &[
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", true),
        ("HTTP/1.1 204 No Content\r\n\r\n", "", true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", "ok", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok", "ok", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n", "ok", false),
    ];
    for (answer, content, kept) in rows {
        run(async {
            let (client, mut server) = client().await;
            let shelf = shelf();
            let head = request_to(Method::GET, "/");
            let (response, ()) = tokio::join!(send(client, &head, Body::Empty, &shelf), async {
                expect(&mut server, GET).await;
                server.write_all(answer.as_bytes()).await.expect("written");
            });
            let mut response = response.expect("a response");
            let (got, _) = collect(&mut response.body).await.expect("whole");
            assert_eq!(String::from_utf8_lossy(&got), *content, "{answer:?}");
            assert_eq!(shelf.len(), usize::from(*kept), "{answer:?}");
            let Some(again) = shelf.take(true) else { return };
            // Kept while the earlier body's handle still lives.
            let (second, ()) = tokio::join!(send(again, &head, Body::Empty, &shelf), async {
                expect(&mut server, GET).await;
                server
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2")
                    .await
                    .expect("ok");
            });
            assert!(response.body.frame().await.is_none());
            let mut second = second.expect("a response");
            assert_eq!(collect(&mut second.body).await.expect("whole").0, b"2");
            assert_eq!(shelf.len(), 1);
        });
    }
}

#[test]
fn a_connection_that_is_too_old_takes_no_further_request() {
    run(async {
        let (client, mut server) = client().await;
        let shelf = Rc::new(Shelf::new(2, Duration::ZERO));
        let head = request_to(Method::GET, "/");
        let (response, ()) = tokio::join!(send(client, &head, Body::Empty, &shelf), async {
            expect(&mut server, GET).await;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            server.write_all(answer).await.expect("written");
        });
        let mut body = response.expect("a response").body;
        assert_eq!(collect(&mut body).await.expect("whole").0, b"ok");
        drop(body);
        assert!(shelf.take(true).is_none());
        assert_eq!(server.read(&mut [0]).await.expect("closed"), 0);
    });
}

#[test]
fn a_response_may_end_with_its_connection() {
    run(async {
        let (client, mut server) = client().await;
        let shelf = shelf();
        let head = request_to(Method::GET, "/");
        let (response, ()) = tokio::join!(send(client, &head, Body::Empty, &shelf), async {
            expect(&mut server, GET).await;
            server.write_all(b"HTTP/1.1 200 OK\r\n\r\nhel").await.expect("written");
        });
        let mut body = response.expect("a response").body;
        assert_eq!(body.exact_length(), None);
        server.write_all(b"lo").await.expect("written");
        drop(server);
        assert_eq!(collect(&mut body).await.expect("whole").0, b"hello");
        assert_eq!(shelf.len(), 0);
    });
}

#[test]
fn a_response_that_ends_early_is_an_error() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\nX: 1\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nhel\r\n",
    ] {
        run(async {
            let (client, mut server) = client().await;
            let shelf = shelf();
            let head = request_to(Method::GET, "/");
            let (response, ()) = tokio::join!(send(client, &head, Body::Empty, &shelf), async {
                expect(&mut server, GET).await;
                server.write_all(answer.as_bytes()).await.expect("written");
                server.shutdown().await.expect("half-closed");
            });
            let mut body = response.expect("a response").body;
            collect(&mut body).await.expect_err(answer);
            drop(body);
            assert_eq!(shelf.len(), 0);
        });
    }
}

#[test]
fn failures_tell_what_may_have_arrived() {
    let rows: &[(&str, Reason)] = &[
        ("", Reason::ConnectionLost),
        ("HTTP/1.1 200 OK\r\nContent-", Reason::ConnectionLost),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n", Reason::UpstreamProtocol),
        ("SSH-2.0-OpenSSH\r\n", Reason::UpstreamProtocol),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
            Reason::UpstreamProtocol,
        ),
    ];
    for (answer, reason) in rows {
        run(async {
            let (client, mut server) = client().await;
            let head = request_to(Method::GET, "/");
            let shelf = shelf();
            let (response, ()) = tokio::join!(send(client, &head, Body::Empty, &shelf), async {
                expect(&mut server, GET).await;
                server.write_all(answer.as_bytes()).await.expect("written");
                server.shutdown().await.expect("half-closed");
            });
            let error = response.expect_err(answer);
            assert_eq!((error.reason, error.delivery), (*reason, Delivery::Unknown), "{answer:?}");
        });
    }
}

#[test]
fn a_connection_that_broke_before_the_request_left_delivered_nothing() {
    run(async {
        let (client, server) = client().await;
        server.set_zero_linger().expect("set");
        drop(server);
        while client.is_quiet() {
            tokio::task::yield_now().await;
        }
        let head = request_to(Method::GET, "/");
        let error = send(client, &head, Body::Empty, &shelf()).await.expect_err("broken");
        assert_eq!((error.reason, error.delivery), (Reason::ConnectionLost, Delivery::Nothing));
    });
}

#[test]
fn the_shelf_gives_out_the_latest_open_connection_and_closes_what_a_burst_has_left() {
    run_paused(async {
        let shelf = shelf();
        let mut servers = Vec::new();
        for _ in 0..3 {
            let (client, mut server) = client().await;
            let head = request_to(Method::HEAD, "/");
            let (response, ()) = tokio::join!(send(client, &head, Body::Empty, &shelf), async {
                wire::head(&mut server).await;
                server
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
                    .await
                    .expect("ok");
            });
            assert!(response.expect("a response").body.is_end());
            servers.push(server);
        }
        // Load that swings finds its connections again.
        shelf.evict(|_, _| true);
        assert_eq!(shelf.len(), 3);
        clock::sleep(Duration::from_secs(5)).await;
        shelf.evict(|_, _| true);
        assert_eq!(shelf.len(), 2);
        // The oldest was dropped.
        assert_eq!(servers.remove(0).read(&mut [0; 1]).await.expect("a clean end"), 0);
        // The latest is closed by its server, so the other one is given out.
        servers.pop().expect("two").shutdown().await.expect("half-closed");
        let again = loop {
            tokio::task::yield_now().await;
            if let Some(client) = shelf.take(true) {
                break client;
            }
        };
        assert!(again.is_quiet());
        assert!(shelf.is_empty());
    });
}

#[test]
fn evicted_are_the_idle_the_old_and_the_closed() {
    let (idle, age) = (Duration::from_secs(10), Duration::from_secs(100));
    for (idle_seconds, speaks, left) in [(9, false, 1), (10, false, 0), (0, true, 0)] {
        run_paused(async move {
            let shelf = shelf();
            let (client, mut server) = client().await;
            let head = request_to(Method::HEAD, "/");
            let (response, ()) = tokio::join!(send(client, &head, Body::Empty, &shelf), async {
                wire::head(&mut server).await;
                server.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("written");
            });
            response.expect("a response");
            let since = clock::now();
            if speaks {
                server.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.expect("written");
                server.shutdown().await.expect("half-closed");
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
            }
            let now = since + Duration::from_secs(idle_seconds);
            shelf.evict(|client, since| now - since < idle && now - client.opened() < age);
            assert_eq!(shelf.len(), left, "{idle_seconds} {speaks}");
            shelf.evict(|client, _| since + age - client.opened() < age);
            assert_eq!(shelf.len(), 0);
        });
    }
}

/// The request is on its way when the server closes a connection that has been idle for long enough: its system
/// answers what it never read with a reset, behind the end of the connection.
#[test]
fn a_request_that_meets_the_close_of_a_kept_connection_was_not_delivered() {
    run(async {
        let (client, mut server) = client().await;
        let shelf = shelf();
        let first = request_to(Method::GET, "/");
        let (response, ()) = tokio::join!(send(client, &first, Body::Empty, &shelf), async {
            expect(&mut server, GET).await;
            server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("written");
        });
        response.expect("a response");
        let again = shelf.take(true).expect("kept");
        drop(server);
        let post = request_to(Method::POST, "/");
        let error = send(again, &post, Body::Empty, &shelf).await.expect_err("closed");
        assert_eq!((error.reason, error.delivery), (Reason::ConnectionLost, Delivery::Nothing));
    });
}

#[test]
fn a_connection_that_the_server_will_soon_close_carries_nothing_that_cannot_be_sent_again() {
    for (announced, rested, trusted) in [
        ("timeout=5, max=100", 2, true),
        ("timeout=5, max=100", 3, false),
        ("max=7, Timeout = \"5\"", 3, false),
        ("timeout=soon", 3, true),
    ] {
        run_paused(async move {
            let (client, mut server) = client().await;
            let (shelf, get) = (shelf(), request_to(Method::GET, "/"));
            let (response, ()) = tokio::join!(send(client, &get, Body::Empty, &shelf), async {
                expect(&mut server, GET).await;
                let answer = format!("HTTP/1.1 204 No Content\r\nKeep-Alive: {announced}\r\n\r\n");
                server.write_all(answer.as_bytes()).await.expect("written");
            });
            assert!(!response.expect("a response").head.headers.contains_key("keep-alive"));
            tokio::time::advance(Duration::from_secs(rested)).await;
            assert_eq!(shelf.take(false).is_some(), trusted, "{announced} {rested}");
            assert_eq!(shelf.take(true).is_some(), !trusted, "{announced} {rested}");
        });
    }
}

#[test]
fn a_request_that_the_server_has_read_counts_as_delivered() {
    run(async {
        let (client, mut server) = client().await;
        let post = request_to(Method::POST, "/");
        let shelf = shelf();
        let (outcome, ()) = tokio::join!(send(client, &post, Body::Empty, &shelf), async move {
            wire::head(&mut server).await;
        });
        let error = outcome.expect_err("closed without an answer");
        assert_eq!((error.reason, error.delivery), (Reason::ConnectionLost, Delivery::Unknown));
    });
}

#[test]
fn interim_responses_are_handed_on_and_bounded() {
    run(async {
        let (client, mut server) = client().await;
        let (head, interim) = (request_to(Method::GET, "/"), Interim::default());
        let (response, ()) =
            tokio::join!(client.send(&head, Body::Empty, &interim, shelf()), async {
                expect(&mut server, GET).await;
                let answer = "HTTP/1.1 100 Continue\r\n\r\n\
                              HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
                              HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                server.write_all(answer.as_bytes()).await.expect("written");
            });
        assert_eq!(response.expect("a response").head.status, 200);
        let statuses: Vec<_> =
            std::iter::from_fn(|| interim.try_next()).map(|head| head.status.as_u16()).collect();
        assert_eq!(statuses, [100, 103]);

        let (client, mut server) = wire::client().await;
        let (response, ()) =
            tokio::join!(client.send(&head, Body::Empty, &interim, shelf()), async {
                expect(&mut server, GET).await;
                let flood = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000);
                server.write_all(flood.as_bytes()).await.expect("written");
            });
        assert_eq!(response.expect_err("a flood").reason, Reason::UpstreamProtocol);
    });
}

#[test]
fn a_response_comes_before_the_upload_has_ended() {
    run(async {
        let (client, mut server) = client().await;
        let shelf = shelf();
        let (sender, body) = crate::http::body::channel();
        let head = request_to(Method::POST, "/");
        let (response, ()) = tokio::join!(send(client, &head, body, &shelf), async {
            wire::head(&mut server).await;
            server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("ok");
        });
        let mut response = response.expect("a response");
        assert_eq!(collect(&mut response.body).await.expect("whole").0, b"ok");
        assert_eq!(shelf.len(), 0, "the upload is still under way");
        let mut trailers = Fields::new();
        trailers.insert("x-sum", HeaderValue::from_static("1"));
        sender.send(Ok(Frame::Data(Bytes::from_static(b"abc")))).expect("open");
        sender.send(Ok(Frame::Trailers(trailers))).expect("open");
        response.upload.take().expect("the rest").await.expect("sent");
        expect(&mut server, "3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n").await;
        assert_eq!(shelf.len(), 1);
    });
}

#[test]
fn whatever_is_given_up_early_resets_the_connection() {
    for what in ["send", "body", "upload"] {
        run(async {
            let (client, mut server) = client().await;
            let shelf = shelf();
            let (_sender, body) = crate::http::body::channel();
            let head = request_to(Method::POST, "/");
            {
                let mut sending = std::pin::pin!(send(client, &head, body, &shelf));
                tokio::select! {
                    _ = &mut sending => panic!("no response yet"),
                    head = wire::head(&mut server) => assert!(head.contains("chunked")),
                }
                if what != "send" {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no";
                    server.write_all(answer).await.expect("written");
                    let response = sending.await.expect("a response");
                    let (body, upload) = (response.body, response.upload.expect("the rest"));
                    if what == "body" { drop(body) } else { drop(upload) }
                }
            }
            let error = server.read_to_end(&mut Vec::new()).await.expect_err("no clean end");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{what}");
            assert_eq!(shelf.len(), 0);
        });
    }
}

#[test]
fn a_request_body_that_breaks_never_ends_cleanly() {
    run(async {
        let (client, mut server) = client().await;
        let (sender, body) = crate::http::body::channel();
        sender.send(Ok(Frame::Data(Bytes::from_static(b"abc")))).expect("open");
        sender.send(Err(crate::http::BodyError::Truncated)).expect("open");
        let head = request_to(Method::POST, "/");
        let error = send(client, &head, body, &shelf()).await.expect_err("broken");
        assert_eq!(error.reason, Reason::RequestBodyBroken);
        let error = server.read_to_end(&mut Vec::new()).await.expect_err("no clean end");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_server_that_answers_and_closes_while_it_is_being_sent_to_is_heard() {
    run(async {
        let (client, mut server) = client().await;
        let (sender, body) = crate::http::body::channel();
        let head = request_to(Method::POST, "/");
        let shelf = shelf();
        let feeding = async {
            wire::head(&mut server).await;
            let answer = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig";
            server.write_all(answer).await.expect("written");
            server.shutdown().await.expect("half-closed");
            for _ in 0..64 {
                sender.send(Ok(Frame::Data(vec![0; 4096].into()))).expect("open");
            }
        };
        let (response, ()) = tokio::join!(send(client, &head, body, &shelf), feeding);
        let mut response = response.expect("a response");
        assert_eq!(response.head.status, 413);
        assert_eq!(collect(&mut response.body).await.expect("whole").0, b"big");
    });
}

#[test]
fn an_upgrade_is_spliced_with_what_came_behind_101() {
    run(async {
        let (client, mut server) = client().await;
        let mut head = request_to(Method::GET, "/");
        head.upgrade = Some(Bytes::from_static(b"websocket"));
        let shelf = shelf();
        let (response, ()) = tokio::join!(send(client, &head, Body::Empty, &shelf), async {
            let head = wire::head(&mut server).await;
            assert!(head.contains("Connection: Upgrade\r\n"), "{head}");
            let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi";
            server.write_all(answer).await.expect("written");
        });
        let response = response.expect("a response");
        assert_eq!(response.head.upgrade.as_deref(), Some(&b"websocket"[..]));
        let Some(Takeover::Splice(onward)) = response.takeover else { panic!("no takeover") };
        let ServerEnd::Connection(mut socket) = onward.end else { panic!("no connection") };
        let mut early = [0; 2];
        socket.read_exact(&mut early).await.expect("early bytes");
        assert_eq!(&early, b"hi");
        socket.write_all(b"up").await.expect("written");
        expect(&mut server, "up").await;
        assert_eq!(shelf.len(), 0);
    });
}
