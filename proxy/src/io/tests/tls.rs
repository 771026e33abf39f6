//! The record layer: handshakes, their failures, and their ends.

use rustls::HandshakeKind;

use super::*;

#[test]
fn a_handshake_says_what_was_agreed_on() {
    worker(async {
        let configs = configs();
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (near, far) = tls_pair(&configs).await;
            for socket in [&near, &far] {
                let info = socket.tls().expect("TLS");
                assert_eq!(info.alpn.as_deref(), Some(&b"weft-h2/1"[..]));
                assert_eq!(info.server_name.as_deref(), Some("weft.test"));
                assert_eq!(info.handshake_kind, Some(expected));
            }
            assert_eq!(near.tls().expect("TLS").peer_certificates.len(), 1);
            // The tickets come behind the handshake; with them goes the first answer.
            far.write(b"hello").expect("open");
            assert_eq!(&fill_to(&near, 5).await[..], b"hello");
        }
    });
}

#[test]
fn bytes_that_were_peeked_at_are_put_back_in_front_of_the_handshake() {
    worker(async {
        let configs = configs();
        let (near, far) = pair().await;
        let (client, server) = soon(async {
            tokio::join!(near.start_tls_client(configs.client.clone(), name(), vec![]), async {
                let mut hello = BytesMut::new();
                fill(&far, &mut hello).await.expect("read");
                far.unread(hello.split_off(7).freeze());
                far.unread(hello.freeze());
                far.start_tls_server(configs.server.clone()).await
            })
        })
        .await;
        client.expect("client").write(b"inside").expect("open");
        assert_eq!(&fill_to(&server.expect("server"), 6).await[..], b"inside");
    });
}
