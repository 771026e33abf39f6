//! TCPRoute and TLSRoute: where opaque bytes go.

use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_tests::wait;

use crate::stage::Stage;

fn opaque(kind: &str, name: &str, spec: &str) -> String {
    let version = if kind == "TCPRoute" { "v1alpha2" } else { "v1" };
    format!(
        "---
apiVersion: gateway.networking.k8s.io/{version}
kind: {kind}
metadata: {{name: {name}, namespace: mesh}}
spec:
  parentRefs: [{{group: '', kind: Service, name: echo, port: 9000}}]
{spec}
"
    )
}

/// What the server says to a client whose first bytes these are; nothing when the connection is cut.
async fn greeting(stage: &Stage, first: &[u8]) -> String {
    let connect = weft_proxy::net::connect(stage.web.upstream("echo:9000"));
    let mut stream = connect.await.expect("the sidecar listens");
    let talk = async {
        stream.write_all(first).await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        std::io::Result::Ok(said)
    };
    wait::soon("the server to speak, or the end", talk).await.unwrap_or_default()
}

/// The first bytes of a TLS client that asks for this name.
fn hello(name: &'static str) -> Vec<u8> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = name.try_into().expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("memory");
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn opaque_bytes_go_where_a_tcp_route_says_also_to_a_server_that_speaks_first() {
    let rules = "  rules: [{backendRefs: [{name: echo-v1, port: 9000, weight: 1}, {name: echo-v2, port: 9000, weight: 3}]}]";
    let stage = Stage::with(&opaque("TCPRoute", "split", rules)).await;
    let mut second = 0;
    for _ in 0..200 {
        let said = greeting(&stage, b"").await;
        assert!(["echo-v1", "echo-v2"].contains(&&*said), "{said:?}");
        second += usize::from(said == "echo-v2");
    }
    assert!((120..=180).contains(&second), "{second} of 200");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_name_chooses_and_a_tcp_route_takes_the_rest() {
    let rule = |name: &str, hostnames: &str, backend: &str| {
        let spec = format!(
            "  hostnames: [{hostnames}]
  rules: [{{backendRefs: [{{name: {backend}, port: 9000}}]}}]"
        );
        opaque("TLSRoute", name, &spec)
    };
    let named =
        rule("exact", "one.example.com", "echo-v1") + &rule("many", "'*.example.com'", "echo-v2");
    let stage = Stage::with(&named).await;
    assert_eq!(greeting(&stage, &hello("one.example.com")).await, "echo-v1");
    assert_eq!(greeting(&stage, &hello("two.example.com")).await, "echo-v2");
    assert_eq!(greeting(&stage, &hello("example.org")).await, "", "no rule takes it");
    assert_eq!(greeting(&stage, b"no TLS at all\n").await, "", "no rule takes it");

    let rest =
        opaque("TCPRoute", "rest", "  rules: [{backendRefs: [{name: echo-v1, port: 9000}]}]");
    stage.change(&(named + &rest));
    wait::until_true("the other route to act", || async {
        greeting(&stage, b"no TLS at all\n").await == "echo-v1"
    })
    .await;
    assert_eq!(greeting(&stage, &hello("two.example.com")).await, "echo-v2");
    assert_eq!(greeting(&stage, &hello("example.org")).await, "echo-v1");
}
