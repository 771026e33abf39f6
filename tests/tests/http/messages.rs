//! Messages of HTTP/1 end to end, as bytes: on a connection of their own between the sidecars, and multiplexed.

use tokio::sync::mpsc;
use weft_tests::{
    apps::{App, Http},
    client::{Client, request},
    raw::Raw,
};

use super::shop::{Shop, raw_app};

/// One exchange.
struct Row {
    name: &'static str,
    request: &'static str,
    /// How the request ends at the application.
    request_end: &'static str,
    /// What the application gets, and does not.
    arrives: &'static [&'static str],
    missing: &'static [&'static str],
    /// What the application answers; it closes its connection after it.
    response: &'static str,
    /// What the client gets, to the last byte that it waits for; empty for the connection's end.
    returns: &'static [&'static str],
    response_end: &'static str,
    /// Whether the client's connection serves on.
    kept: bool,
}

const PLAIN: Row = Row {
    name: "",
    request: "GET http://catalog/ HTTP/1.1\r\nHost: catalog\r\n\r\n",
    request_end: "",
    arrives: &[],
    missing: &[],
    response: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    returns: &["HTTP/1.1 200 OK\r\n"],
    response_end: "ok",
    kept: true,
};

const ROWS: &[Row] = &[
    Row {
        name: "the case of names and the reason phrase",
        request: "GET http://catalog/a?b=%20c HTTP/1.1\r\nHost: catalog\r\nX-ODD-case: Value\r\nETag: x\r\n\r\n",
        arrives: &["GET /a?b=%20c HTTP/1.1\r\n", "\r\nX-ODD-case: Value\r\n", "\r\nETag: x\r\n"],
        response: "HTTP/1.1 299 Quite Odd\r\nX-MiXed: Yes\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok",
        returns: &[
            "HTTP/1.1 299 Quite Odd\r\n",
            "\r\nX-MiXed: Yes\r\n",
            "\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n",
        ],
        ..PLAIN
    },
    Row {
        name: "a client and an application of HTTP/1.0",
        request: "GET http://catalog/ HTTP/1.0\r\n\r\n",
        arrives: &["GET / HTTP/1.", "ost: catalog\r\n"],
        response: "HTTP/1.0 200 OK\r\n\r\nto the end",
        returns: &["200 OK\r\n", "to the end"],
        response_end: "",
        kept: false,
        ..PLAIN
    },
    Row {
        name: "a chunked answer to a client of HTTP/1.0",
        request: "GET http://catalog/ HTTP/1.0\r\n\r\n",
        response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        returns: &["\r\n\r\nhello"],
        response_end: "",
        kept: false,
        ..PLAIN
    },
    Row {
        name: "HEAD",
        request: "HEAD http://catalog/ HTTP/1.1\r\nHost: catalog\r\n\r\n",
        arrives: &["HEAD / HTTP/1.1\r\n"],
        response: "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        returns: &["ontent-Length: 10\r\n"],
        response_end: "\r\n\r\n",
        ..PLAIN
    },
    Row {
        name: "204",
        response: "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
        returns: &["HTTP/1.1 204 No Content\r\n", "X-A: b\r\n"],
        response_end: "\r\n\r\n",
        ..PLAIN
    },
    Row {
        name: "304 with the length of what it stands for",
        response: "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 99\r\n\r\n",
        returns: &["HTTP/1.1 304 Not Modified\r\n", "ETag: \"x\"\r\n"],
        response_end: "\r\n\r\n",
        ..PLAIN
    },
    Row {
        name: "chunks and trailers both ways",
        request: "POST http://catalog/ HTTP/1.1\r\nHost: catalog\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nTrailer: x-sum\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\nx-sum: 6\r\n\r\n",
        request_end: "x-sum: 6\r\n\r\n",
        arrives: &["ransfer-Encoding: chunked\r\n", "abc", "def"],
        response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-time\r\n\r\n2\r\nhi\r\n0\r\nx-time: 7\r\n\r\n",
        returns: &["ransfer-Encoding: chunked\r\n", "\r\n2\r\nhi\r\n"],
        response_end: "0\r\nx-time: 7\r\n\r\n",
        ..PLAIN
    },
    Row {
        name: "early hints before the answer",
        response: "HTTP/1.1 103 Early Hints\r\nWeft-Reason: forged\r\nLink: </a>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        returns: &[
            "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n",
            "HTTP/1.1 200 OK\r\n",
        ],
        ..PLAIN
    },
    Row {
        name: "the target's authority beats Host",
        request: "GET http://catalog/ HTTP/1.1\r\nHost: elsewhere\r\n\r\n",
        arrives: &["ost: catalog\r\n"],
        missing: &["elsewhere"],
        ..PLAIN
    },
    Row {
        name: "OPTIONS of the server, by its absolute form",
        request: "OPTIONS http://catalog HTTP/1.1\r\nHost: catalog\r\n\r\n",
        arrives: &["OPTIONS * HTTP/1.1\r\n"],
        ..PLAIN
    },
    Row {
        name: "OPTIONS of the server",
        request: "OPTIONS * HTTP/1.1\r\nHost: catalog\r\n\r\n",
        arrives: &["OPTIONS * HTTP/1.1\r\n", "ost: catalog\r\n"],
        ..PLAIN
    },
    Row {
        name: "Connection: close and nominated fields",
        request: "GET http://catalog/ HTTP/1.1\r\nHost: catalog\r\nConnection: close, x-hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nX-End: 1\r\n\r\n",
        arrives: &["X-End: 1\r\n"],
        missing: &["X-Hop", "Keep-Alive"],
        response_end: "",
        returns: &["onnection: close\r\n", "ok"],
        kept: false,
        ..PLAIN
    },
    Row {
        name: "an offer of h2c",
        request: "GET http://catalog/ HTTP/1.1\r\nHost: catalog\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        missing: &["pgrade", "h2c", "HTTP2-Settings"],
        ..PLAIN
    },
];

async fn check(row: &Row, client: &mut Raw, received: &mut mpsc::UnboundedReceiver<String>) {
    client.send(row.request).await;
    let returned = if row.response_end.is_empty() {
        client.receive_to_end().await
    } else {
        // The end alone might stand in the head too.
        let head = client.receive_head().await;
        let last = row.response_end == "\r\n\r\n";
        let mut all = head;
        while !last && !all.ends_with(row.response_end) {
            all += &client.receive_until(row.response_end).await;
        }
        all
    };
    let name = row.name;
    let arrived = received.recv().await.expect("the application runs");
    for part in row.arrives {
        assert!(arrived.contains(part), "{name}: {part:?} did not arrive: {arrived:?}");
    }
    for part in row.missing {
        assert!(!arrived.contains(part), "{name}: {part:?} arrived: {arrived:?}");
    }
    for part in row.returns {
        assert!(returned.contains(part), "{name}: {part:?} did not return: {returned:?}");
    }
    for (sent, kept) in [(&arrived, "weft-case"), (&returned, "weft-")] {
        assert!(!sent.to_lowercase().contains(kept), "{name}: a side header got out: {sent:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_http1_arrive_as_they_were_sent() {
    for crowded in [false, true] {
        for row in ROWS {
            let (seen, mut received) = mpsc::unbounded_channel();
            let app = raw_app(move |head, mut peer| {
                let seen = seen.clone();
                async move {
                    let mut request = head;
                    if !row.request_end.is_empty() {
                        request += &peer.receive_until(row.request_end).await;
                    }
                    peer.send(row.response).await;
                    let _ = seen.send(request);
                }
            })
            .await;
            let shop = Shop::of(&[app.address]).await;
            let _crowd = if crowded { shop.crowd(&app).await } else { Vec::new() };
            let mut client = shop.raw().await;
            check(row, &mut client, &mut received).await;
            if row.kept {
                check(row, &mut client, &mut received).await;
            }
            if crowded {
                let opened = r#"weft_pool_connections_opened_total{protocol="http2"#;
                let metrics = shop.web.metrics().await;
                assert!(metrics.contains(opened), "the hop was not multiplexed: {metrics}");
            }
        }
    }
}

/// A client speaks what it speaks; an application that declares its version gets that one.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_gets_the_version_that_its_port_declares() {
    for (declared, version) in [(", protocol: http", Http::One), (", protocol: http2", Http::Two)] {
        let app = App::echo(version, "catalog").await;
        let shop = Shop::with(&[app.address], declared, &[]).await;
        for client in [Http::One, Http::Two] {
            for address in [shop.web.outbound(), shop.web.upstream("catalog:80")] {
                let mut client = Client::connect(address, client).await;
                let post = request("POST", "http://catalog/a?b", "a body");
                let answer = client.send(post).await.expect("an answer");
                assert_eq!(answer.status, 200, "{declared} {answer:?}");
                assert_eq!((answer.field("x-target"), &answer.body[..]), ("/a?b", &b"a body"[..]));
                assert_eq!(answer.field("x-host"), "catalog");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let app = raw_app(|head, mut peer| async move {
        let mut head = head;
        loop {
            let target = head.split(' ').nth(1).expect("a request line").to_owned();
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len());
            peer.send(answer).await;
            head = peer.receive_head().await;
        }
    })
    .await;
    let shop = Shop::of(&[app.address]).await;
    let mut client = shop.raw().await;
    let requests: String = (0..20)
        .map(|at| format!("GET http://catalog/{at} HTTP/1.1\r\nHost: catalog\r\n\r\n"))
        .collect();
    client.send(requests).await;
    for at in 0..20 {
        client.receive_head().await;
        let target = format!("/{at}");
        assert_eq!(client.receive_exactly(target.len()).await, target.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_expects_100_continue_gets_it_from_the_application() {
    for crowded in [false, true] {
        let app = raw_app(|head, mut peer| async move {
            assert!(head.to_lowercase().contains("expect: 100-continue\r\n"), "{head}");
            peer.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            let body = peer.receive_exactly(5).await;
            assert_eq!(body, b"hello");
            peer.send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await;
            peer.ended().await;
        })
        .await;
        let shop = Shop::of(&[app.address]).await;
        let _crowd = if crowded { shop.crowd(&app).await } else { Vec::new() };
        let mut client = shop.raw().await;
        client
            .send("PUT http://catalog/ HTTP/1.1\r\nHost: catalog\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            .await;
        assert!(client.receive_head().await.starts_with("HTTP/1.1 100 "));
        client.send("hello").await;
        assert!(client.receive_head().await.starts_with("HTTP/1.1 201 Created\r\n"));
    }
}
