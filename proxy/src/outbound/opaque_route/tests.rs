//! Opaque connections through routes, over real sockets.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    net::TcpStream,
    route::{
        HttpTable, OpaqueRule, OpaqueRules, Routes,
        matcher::HostMatch,
        testing::{Stage, any, backend, invalid, opaque_rule, rule, worker},
    },
};

fn opaque(rules: Vec<Arc<OpaqueRule>>) -> Routes {
    Routes { http: None, opaque: OpaqueRules::new(rules) }
}

/// What the server says first; empty when the connection is reset.
async fn greeting(stream: &mut TcpStream) -> String {
    let mut greeting = Vec::new();
    while !greeting.ends_with(b"\n") {
        match stream.read_u8().await {
            Ok(byte) => greeting.push(byte),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8(greeting).expect("text").trim_end().to_owned()
}

/// The first bytes of a TLS client that asks for this name.
fn hello(server_name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let config = builder
        .with_safe_default_protocol_versions()
        .expect("good versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = server_name.to_owned().try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("written");
    bytes
}

#[test]
fn a_server_that_speaks_first_is_reached_through_a_route_without_a_byte_of_the_client() {
    worker(async {
        let stage = Stage::new(&["tcp-one"]).await;
        stage.set(opaque(vec![opaque_rule("all", [], backend("tcp-one"))]));
        for _ in 0..2 {
            assert_eq!(greeting(&mut stage.connect().await).await, "tcp-one");
        }
    });
}

#[test]
fn the_server_name_of_tls_chooses_and_what_no_rule_takes_is_reset() {
    worker(async {
        let stage = Stage::new(&["tcp-one", "tcp-two"]).await;
        let exact = [HostMatch::Exact("one.example.com".into())];
        let below = [HostMatch::Below(".example.com".into())];
        stage.set(opaque(vec![
            opaque_rule("exact", exact, backend("tcp-one")),
            opaque_rule("below", below, backend("tcp-two")),
        ]));
        for (bytes, expected) in [
            (hello("one.example.com"), "tcp-one"),
            (hello("a.b.example.com"), "tcp-two"),
            (hello("example.org"), ""),
            (b"\x00\x01\x02\x03".to_vec(), ""),
        ] {
            let mut stream = stage.connect().await;
            // Piece by piece, as a slow network would.
            for piece in bytes.chunks(100) {
                stream.write_all(piece).await.expect("sent");
            }
            assert_eq!(greeting(&mut stream).await, expected);
        }
        let metric = "weft_connections_failed_total{direction=\"outbound\"";
        stage
            .counted(&format!("{metric},service=\"shop/cart:80\",reason=\"route-not-found\"}} 2"))
            .await;
    });
}

#[test]
fn beside_opaque_rules_http_is_routed_as_http() {
    worker(async {
        let stage = Stage::new(&["v1", "tcp-one"]).await;
        let http = HttpTable::new(vec![rule("http", [(1, backend("v1"))], [])], vec![any()]);
        let opaque = OpaqueRules::new(vec![opaque_rule("opaque", [], backend("tcp-one"))]);
        stage.set(Routes { http: Some(http), opaque });
        assert_eq!(stage.client().await.get("/", "").await.server(), "v1");
        assert_eq!(greeting(&mut stage.connect().await).await, "tcp-one");
        let mut bytes = stage.connect().await;
        bytes.write_all(b"\x00\x01\x02\x03").await.expect("sent");
        assert_eq!(greeting(&mut bytes).await, "tcp-one");
    });
}

#[test]
fn an_invalid_backend_resets_its_connections() {
    worker(async {
        let stage = Stage::new(&[]).await;
        stage.set(opaque(vec![opaque_rule(
            "bad",
            [],
            invalid("Service shop/gone does not exist"),
        )]));
        let mut stream = stage.connect().await;
        stream.write_all(b"\x00\x01").await.expect("sent");
        assert_eq!(greeting(&mut stream).await, "");
        let metric = "weft_connections_failed_total{direction=\"outbound\"";
        stage
            .counted(&format!("{metric},service=\"shop/cart:80\",reason=\"backend-invalid\"}} 1"))
            .await;
    });
}
