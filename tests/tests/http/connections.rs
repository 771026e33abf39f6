//! What becomes of a connection: upgrades, tunnels, early answers, clients that leave.

use tokio::sync::mpsc;
use weft_tests::{apps::App, raw::Raw, wait};

use super::shop::{Shop, raw_app};

const UPGRADE: &str = "GET http://catalog/chat HTTP/1.1\r\nHost: catalog\r\nConnection: Upgrade\r\nUpgrade: Chat/1\r\n\r\n";

/// Echoes to the client's end, then says goodbye.
async fn echo_to_the_end(mut peer: Raw) {
    let line = peer.receive_until("\n").await;
    peer.send(line).await;
    let rest = peer.receive_to_end().await;
    peer.send(format!("{rest}, bye")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_upgrade_carries_bytes_both_ways_and_keeps_a_half_close() {
    let app = raw_app(|head, mut peer| async move {
        assert!(head.contains("pgrade: Chat/1\r\n"), "{head}");
        // The server's first bytes come with its answer.
        peer.send("HTTP/1.1 101 Go On\r\nConnection: Upgrade\r\nUpgrade: Chat/1\r\n\r\nwelcome\n")
            .await;
        echo_to_the_end(peer).await;
    })
    .await;
    let shop = Shop::of(&[app.address]).await;
    for address in [shop.web.outbound(), shop.web.upstream("catalog:80")] {
        let mut client = Raw::connect(address).await;
        client.send(UPGRADE).await;
        let head = client.receive_head().await;
        assert!(head.starts_with("HTTP/1.1 101 Go On\r\n"), "{head}");
        assert!(head.contains("pgrade: Chat/1\r\n"), "{head}");
        assert_eq!(client.receive_until("\n").await, "welcome\n");
        client.send("\x00\x01\n").await;
        assert_eq!(client.receive_until("\n").await, "\x00\x01\n");
        client.send("last").await;
        client.finish().await;
        assert_eq!(client.receive_to_end().await, "last, bye");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_upgrade_is_an_ordinary_answer() {
    let app = raw_app(|_, mut peer| async move {
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno").await;
        peer.ended().await;
    })
    .await;
    let shop = Shop::of(&[app.address]).await;
    let mut client = shop.raw().await;
    for _ in 0..2 {
        client.send(UPGRADE).await;
        let head = client.receive_head().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(client.receive_exactly(2).await, b"no");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_tunnels_http_and_opaque_bytes_to_the_mesh() {
    let app = App::tcp(|stream| async move {
        let mut peer = Raw::over(stream);
        let line = peer.receive_until("\n").await;
        if line.starts_with("GET ") {
            let head = peer.receive_head().await;
            assert!(head.contains("weft-client-id: spiffe://weft.local/ns/shop/sa/web\r\n"));
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhttp").await;
            peer.ended().await;
        } else {
            peer.send(line).await;
            let rest = peer.receive_to_end().await;
            peer.send(format!("{rest}, bye")).await;
        }
    })
    .await;
    let shop = Shop::of(&[app.address]).await;
    for (sent, expected) in [
        ("GET / HTTP/1.1\r\nHost: anything\r\n\r\n", "http"),
        ("\x01\x02opaque\n", "\x01\x02opaque\n"),
    ] {
        let mut client = shop.raw().await;
        client.send("CONNECT catalog.shop:80 HTTP/1.1\r\nHost: catalog.shop:80\r\n\r\n").await;
        let head = client.receive_head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(!head.to_lowercase().contains("content-length"), "{head}");
        client.send(sent).await;
        client.receive_until(expected).await;
        if expected != "http" {
            client.send("end").await;
            client.finish().await;
            assert_eq!(client.receive_to_end().await, "end, bye");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    for crowded in [false, true] {
        let app = raw_app(|_, mut peer| async move {
            peer.send(
                "HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\nConnection: close\r\n\r\nstop",
            )
            .await;
            peer.finish().await;
            peer.ended().await;
        })
        .await;
        let shop = Shop::of(&[app.address]).await;
        let _crowd = if crowded { shop.crowd(&app).await } else { Vec::new() };
        let mut client = shop.raw().await;
        client
            .send("POST http://catalog/ HTTP/1.1\r\nHost: catalog\r\nContent-Length: 100000000\r\n\r\nbegin")
            .await;
        let head = client.receive_head().await;
        assert!(head.starts_with("HTTP/1.1 413 Too Much\r\n"), "{head}");
        assert_eq!(client.receive_exactly(4).await, b"stop");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_the_request_at_the_application() {
    for crowded in [false, true] {
        for (answered, body) in
            [(false, "begin"), (true, "begin"), (false, "beginning"), (true, "beginning")]
        {
            let (left, mut leaving) = mpsc::unbounded_channel();
            let (began, mut beginning) = mpsc::unbounded_channel();
            let app = raw_app(move |_, mut peer| {
                let (left, began) = (left.clone(), began.clone());
                async move {
                    if answered {
                        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome").await;
                    }
                    let _ = began.send(());
                    peer.ended().await;
                    let _ = left.send(());
                }
            })
            .await;
            let shop = Shop::of(&[app.address]).await;
            let _crowd = if crowded { shop.crowd(&app).await } else { Vec::new() };
            let mut client = shop.raw().await;
            let head =
                "POST http://catalog/ HTTP/1.1\r\nHost: catalog\r\nContent-Length: 9\r\n\r\n";
            client.send(format!("{head}{body}")).await;
            wait::soon("the application to begin", beginning.recv()).await;
            if answered {
                client.receive_until("some").await;
            }
            drop(client);
            wait::soon("the application to learn of it", leaving.recv()).await;
        }
    }
}
