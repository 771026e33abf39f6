//! WebSockets through two sidecars: asked for over HTTP/2 (RFC 8441), served by an application of HTTP/1.

use std::net::SocketAddr;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest, ext::Protocol};
use http::{Request, Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use weft_tests::{apps::App, wait};

use super::shop::Shop;

/// More than a window of a stream.
const MUCH: usize = 1 << 20;

/// What a server answers to a key (RFC 6455 section 4.2.2).
fn accept(key: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let joined = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, joined.as_bytes());
    let mut bits: Vec<u8> = hash
        .as_ref()
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
        .collect();
    // Twenty bytes fill 26 digits and two thirds of another one.
    bits.extend([0, 0]);
    let digit = |six: &[u8]| six.iter().fold(0, |value, bit| value * 2 + usize::from(*bit));
    let digits = bits.chunks(6).map(|six| char::from(DIGITS[digit(six)]));
    digits.chain(['=']).collect()
}

/// Opens each WebSocket, and sends back all that comes.
async fn echo() -> App {
    App::tcp(|mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).expect("text");
        let field = |name: &str| {
            let mut fields = head.lines().filter_map(|line| line.split_once(": "));
            fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        let is_one = head.starts_with("GET /chat?room=1 HTTP/1.1\r\n")
            && field("upgrade") == Some("websocket")
            && field("sec-websocket-version") == Some("13")
            && field("weft-client-id").is_some();
        let answer = match field("sec-websocket-key").filter(|_| is_one) {
            Some(key) => format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
                accept(key)
            ),
            None => "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n".to_owned(),
        };
        let _ = stream.write_all(answer.as_bytes()).await;
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await
}

/// A connection that knows that the server takes extended CONNECTs.
async fn connect(address: SocketAddr, driver: &mut JoinSet<()>) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.expect("somebody listens");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    driver.spawn(async move { drop(connection.await) });
    wait::until_true("SETTINGS", || async { client.is_extended_connect_protocol_enabled() }).await;
    client
}

async fn ask(
    client: &mut SendRequest<Bytes>,
    path: &str,
) -> (Response<RecvStream>, SendStream<Bytes>) {
    let request = Request::connect(format!("http://catalog{path}"))
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .body(())
        .expect("a request");
    let (response, send) = client.send_request(request, false).expect("open");
    (wait::soon("an answer", response).await.expect("an answer"), send)
}

/// Reads so many bytes.
async fn read(receive: &mut RecvStream, count: usize) -> Vec<u8> {
    let mut received = Vec::new();
    while received.len() < count {
        let data = wait::soon("bytes", receive.data()).await.expect("open").expect("no reset");
        let _ = receive.flow_control().release_capacity(data.len());
        received.extend_from_slice(&data);
    }
    received
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_of_http2_reaches_an_application_of_http1() {
    let app = echo().await;
    for protocol in ["", ", protocol: http"] {
        let shop = Shop::with(&[app.address], protocol, &[]).await;
        for address in [shop.web.outbound(), shop.web.upstream("catalog:80")] {
            let mut driver = JoinSet::new();
            let mut client = connect(address, &mut driver).await;
            // Beside others on the same connection.
            let (other, _kept) = ask(&mut client, "/other").await;
            assert_eq!(other.status(), 426);
            let (response, mut send) = ask(&mut client, "/chat?room=1").await;
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
            assert!(!response.headers().contains_key("sec-websocket-accept"));
            let mut receive = response.into_body();
            for piece in [Bytes::from_static(b"hello"), Bytes::from(vec![7; MUCH])] {
                let count = piece.len();
                send.send_data(piece.clone(), false).expect("open");
                assert!(read(&mut receive, count).await == piece, "{count} bytes");
            }
            send.send_data(Bytes::new(), true).expect("open");
            let end = wait::soon("the end", receive.data()).await;
            assert!(end.is_none_or(|end| end.is_ok_and(|data| data.is_empty())), "a clean end");
        }
    }
}
