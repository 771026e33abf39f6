use std::{future::poll_fn, net::SocketAddr};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::net::{TcpListener, TcpStream};

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let connect = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(connect, listener.accept());
    (client.unwrap(), accepted.unwrap().0)
}

fn name() -> MeshServerName {
    MeshServerName::of_port(Port::new(8080).unwrap())
}

async fn meet(
    client: &MutualTls,
    server: &MutualTls,
    expected: &Arc<[SpiffeId]>,
) -> (Result<Connected, Refused>, Result<Accepted, Refused>) {
    let (out, into) = pair().await;
    let (name, offer) = (name(), [Alpn::Http2, Alpn::Http1]);
    tokio::join!(
        client.connect(Socket::new(out), "10.0.0.1:4143", expected, &name, &offer),
        server.accept(Socket::new(into)),
    )
}

#[tokio::test]
async fn bytes_pass_between_two_that_know_each_other() {
    let mesh = Authority::new("root");
    let (client, server) = (tls(mesh.sidecar("web")), tls(mesh.sidecar("cart")));
    for resumed in [0, 1] {
        let (connected, accepted) = meet(&client, &server, &any(&["cart"])).await;
        let (mut connected, mut accepted) = (connected.unwrap(), accepted.unwrap());
        assert_eq!(connected.peer.identity, spiffe_id("cart"));
        assert_eq!(accepted.peer.identity, spiffe_id("web"));
        assert_eq!((connected.alpn, accepted.alpn), (Some(Alpn::Http2), Some(Alpn::Http2)));
        assert_eq!(accepted.server_name, name());
        assert_eq!((connected.bundle_generation, accepted.bundle_generation), (1, 1));
        accepted.socket.write_all(b"hello").await.unwrap();
        let mut hello = [0; 5];
        connected.socket.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"hello");
        assert_eq!(client.counts().with(Role::Server).resumed, resumed);
    }
}

#[tokio::test]
async fn a_refused_server_is_told_and_a_refused_client_reads_it() {
    let mesh = Authority::new("root");
    let (client, server) = (tls(mesh.sidecar("web")), tls(mesh.sidecar("payments")));
    let (refusal, told) = meet(&client, &server, &any(&["cart"])).await;
    assert_eq!(refusal.unwrap_err().reason, Reason::PeerUnexpected);
    let told = told.unwrap_err();
    assert!(told.detail.contains("the client refused our certificate"), "{told}");
    assert_eq!(client.counts().with(Role::Server).refused, 1);

    // A server that no longer trusts the root that the client's SVID is of.
    let there = mesh.sidecar("cart");
    there.set_bundle(vec![Authority::new("new").root()]).unwrap();
    let (connected, refusal) = meet(&client, &tls(there), &any(&["cart"])).await;
    let refusal = refusal.unwrap_err();
    assert!(refusal.detail.contains("leads to an old root"), "{refusal}");
    let socket = connected.unwrap().socket;
    let mut buffer = BytesMut::new();
    assert!(client.explain(&socket).is_none(), "nothing has come yet");
    poll_fn(|cx| socket.poll_fill(cx, &mut buffer)).await.unwrap_err();
    let explained = client.explain(&socket).expect("the alert is known");
    assert_eq!(explained.reason, Reason::TlsFailed);
    for part in [&id("web"), &id("cart"), "refused our certificate (alert CertificateUnknown)"] {
        assert!(explained.detail.contains(part), "{explained} lacks {part:?}");
    }
    assert_eq!(client.counts().with(Role::Server).refused, 2);
}

#[tokio::test]
async fn a_connection_that_ends_otherwise_is_not_taken_for_refused() {
    let mesh = Authority::new("root");
    let (client, server) = (tls(mesh.sidecar("web")), tls(mesh.sidecar("cart")));
    for is_clean in [true, false] {
        let (connected, accepted) = meet(&client, &server, &any(&["cart"])).await;
        let (connected, mut accepted) = (connected.unwrap().socket, accepted.unwrap().socket);
        match is_clean {
            true => accepted.shutdown().await.unwrap(),
            false => accepted.abort(),
        }
        let mut buffer = BytesMut::new();
        let end = poll_fn(|cx| connected.poll_fill(cx, &mut buffer)).await;
        assert_eq!(end.is_ok(), is_clean, "{end:?}");
        assert!(client.explain(&connected).is_none(), "{end:?}");
    }
}

#[tokio::test]
async fn what_is_no_tls_is_refused_as_such() {
    let server = tls(Authority::new("root").sidecar("cart"));
    let (mut out, into) = pair().await;
    out.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let refusal = server.accept(Socket::new(into)).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::TlsFailed);
    let (out, into) = pair().await;
    drop(out);
    let refusal = server.accept(Socket::new(into)).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::TlsFailed);
    assert!(refusal.detail.contains("any identity of spiffe://weft.local"), "{refusal}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up_on() {
    let mesh = Authority::new("root");
    let (out, _into) = pair().await;
    let client = tls(mesh.sidecar("web"));
    let expected = any(&["cart"]);
    let name = name();
    let connect = client.connect(Socket::new(out), "x", &expected, &name, &[]);
    let refusal = connect.await.unwrap_err();
    assert_eq!(refusal.reason, Reason::TlsTimeout);
    assert!(refusal.detail.contains(&id("cart")), "{refusal}");
}

#[tokio::test]
async fn a_server_name_outside_the_mesh_is_refused() {
    let mesh = Authority::new("root");
    let (client, server) = (tls(mesh.sidecar("web")), tls(mesh.sidecar("cart")));
    let (out, into) = pair().await;
    let config = client.generation().unwrap().endpoint("x", &any(&["cart"])).config;
    let name = "cart.example".try_into().unwrap();
    let (_, refusal) = tokio::join!(
        Socket::new(out).start_tls_client(config, name, Vec::new()),
        server.accept(Socket::new(into)),
    );
    let refusal = refusal.unwrap_err();
    assert!(refusal.detail.contains("\"cart.example\""), "{refusal}");
}
