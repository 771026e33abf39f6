//! Both sides together: what a client sends through a server and a client codec, as the proxy does.

use std::{cell::RefCell, rc::Rc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{wire::*, *};
use crate::http::{
    Request, Response, Served,
    h1::{Http1Client, Shelf},
};

/// A client, a proxy of one upstream connection, and the server behind it.
async fn proxy() -> (Raw, TcpStream) {
    let (client, server) = client().await;
    let shelf = Rc::new(Shelf::new(1, Duration::from_secs(3600)));
    let first: RefCell<Option<Http1Client>> = RefCell::new(Some(client));
    let handler = move |request: Request| {
        let client = first.borrow_mut().take().or_else(|| shelf.take(true));
        let shelf = shelf.clone();
        async move {
            let Some(client) = client else { return text(503, "no connection") };
            let Request { head, body, interim } = request;
            let sent: Result<Response, _> = client.send(&head, body, &interim, shelf).await;
            sent.unwrap_or_else(|error| text(502, Box::leak(error.to_string().into_boxed_str())))
        }
    };
    (serve(Answer(handler)).await, server)
}

#[test]
fn messages_pass_with_their_names_and_phrases() {
    run(async {
        let (mut raw, mut server) = proxy().await;
        for _ in 0..2 {
            raw.write(
                "POST /a?b HTTP/1.1\r\nHOST: a\r\nX-tHiNg: 1\r\nConnection: X-Gone\r\nX-Gone: 1\r\n\
                 TE: trailers\r\nCONTENT-length: 2\r\n\r\nab",
            )
            .await;
            expect(
                &mut server,
                "POST /a?b HTTP/1.1\r\nHOST: a\r\nX-tHiNg: 1\r\nCONTENT-length: 2\r\n\
                 TE: trailers\r\nConnection: TE\r\n\r\nab",
            )
            .await;
            server
                .write_all(
                    b"HTTP/1.1 299 So So\r\nX-a: 1\r\nset-COOKIE: a\r\nset-cookie: b\r\n\
                      Keep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n\
                      3;ext=1\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
                )
                .await
                .expect("written");
            raw.expect(
                "HTTP/1.1 299 So So\r\nX-a: 1\r\nset-COOKIE: a\r\nset-cookie: b\r\nTrailer: X-T\r\n\
                 Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n",
            )
            .await;
        }
    });
}

#[test]
fn a_client_that_waits_for_100_gets_the_servers_and_only_then_sends() {
    run(async {
        let (mut raw, mut server) = proxy().await;
        let head = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
        raw.write(head).await;
        expect(&mut server, head).await;
        server.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.expect("written");
        raw.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
        raw.write("abc").await;
        expect(&mut server, "abc").await;
        server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("written");
        raw.expect("HTTP/1.1 204 No Content\r\n\r\n").await;

        raw.write(head).await;
        expect(&mut server, head).await;
        server.write_all(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n").await.expect("written");
        let last = "HTTP/1.1 417 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        raw.expect(last).await;
    });
}

#[test]
fn an_upgrade_passes_and_h2c_does_not() {
    run(async {
        let (mut raw, mut server) = proxy().await;
        raw.write(
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\
             Connection: Upgrade, HTTP2-Settings\r\n\r\n",
        )
        .await;
        expect(&mut server, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("written");
        raw.expect("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;

        raw.write(
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
             Sec-WebSocket-Key: k\r\n\r\n",
        )
        .await;
        expect(
            &mut server,
            "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: k\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\n\r\n",
        )
        .await;
        let answer = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s\r\n\
                      Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        server.write_all(answer.as_bytes()).await.expect("written");
        raw.expect(answer).await;
        assert!(matches!(raw.served.await, Ok(Served::TakenOver(..))));
    });
}

#[test]
fn both_directions_move_at_once_however_large_the_bodies() {
    const SIZE: usize = 24 * 1024 * 1024;
    run(async {
        let (mut raw, server) = proxy().await;
        raw.write(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n")).await;
        // An echo that never holds more than a piece: it stalls for ever if either direction waits.
        let echo = tokio::task::spawn_local(async move {
            let mut server = server;
            wire::head(&mut server).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
            server.write_all(head.as_bytes()).await.expect("written");
            let mut piece = vec![0; 8 * 1024];
            let mut left = SIZE;
            while left > 0 {
                let count = server.read(&mut piece).await.expect("readable");
                assert!(count > 0, "ended early");
                server.write_all(&piece[..count]).await.expect("written");
                left -= count;
            }
        });
        let (mut reader, mut writer) = raw.stream.split();
        let sending = async {
            for index in 0..SIZE / 8192 {
                let piece = [u8::try_from(index % 251).expect("small"); 8192];
                writer.write_all(&piece).await.expect("written");
            }
        };
        let receiving = async {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
            let mut got = vec![0; head.len()];
            reader.read_exact(&mut got).await.expect("a head");
            assert_eq!(got, head.as_bytes());
            let mut piece = [0; 8192];
            for index in 0..SIZE / 8192 {
                reader.read_exact(&mut piece).await.expect("more");
                assert!(piece.iter().all(|byte| usize::from(*byte) == index % 251), "{index}");
            }
        };
        tokio::join!(sending, receiving);
        echo.await.expect("echoed");
    });
}

#[test]
fn a_client_that_does_not_read_holds_back_the_server() {
    const MOST: usize = 32 * 1024 * 1024;
    run(async {
        let (mut raw, mut server) = proxy().await;
        raw.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        wire::head(&mut server).await;
        server.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("written");
        let piece = [b'a'; 16 * 1024];
        let mut taken = 0;
        let mut refused = 0;
        while refused < 2000 {
            match server.try_write(&piece) {
                Ok(count) => (taken, refused) = (taken + count, 0),
                Err(_) => refused += 1,
            }
            tokio::task::yield_now().await;
            assert!(taken < MOST, "nothing holds back the server");
        }
        drop(server);
        let mut read = Vec::new();
        raw.stream.read_to_end(&mut read).await.expect("readable");
        // The client gets chunks, whose frames come on top.
        assert!(read.len() > taken, "{} of {taken}", read.len());
    });
}

#[test]
fn a_server_that_cuts_its_body_short_is_seen_by_the_client() {
    run(async {
        let (mut raw, mut server) = proxy().await;
        raw.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        wire::head(&mut server).await;
        server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await.expect("ok");
        drop(server);
        assert_eq!(raw.rest().await, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
        assert!(matches!(raw.served.await, Ok(Served::Closed(Some(_)))));
    });
}

#[test]
fn a_client_that_leaves_ends_the_request_at_the_server() {
    run(async {
        let (Raw { mut stream, served, .. }, mut server) = proxy().await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("written");
        wire::head(&mut server).await;
        stream.set_zero_linger().expect("set");
        drop(stream);
        let error = server.read(&mut [0; 1]).await.expect_err("no clean end");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(matches!(served.await, Ok(Served::Closed(Some(_)))));
    });
}
