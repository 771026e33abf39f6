//! What must not pass unread where no protocol is declared.

use super::{scene::*, *};

/// HTTP/2 until its first request, in which no name of a field is to be read.
const HTTP2: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[test]
fn http2_does_not_pass_unread_however_late_it_begins() {
    let test = async {
        let scene = Scene::with(policy(true, "shop/cart:80")).await;
        // The line rests; or something else comes first, after which a server may take HTTP/2.
        for (refused, first) in [(1, "PRI * HT"), (2, "\0\r\nQUIT\n")] {
            let mut client = scene.web(Alpn::Tcp).await;
            client.send(first).await;
            client.reads(first).await;
            let rest = HTTP2.strip_prefix(first).unwrap_or(HTTP2);
            client.send(rest).await;
            assert_eq!(client.rest().await, "");
            scene.refused(Reason::ProtocolMismatch, refused).await;
        }
    };
    worker::run(test).expect("a runtime");
}
