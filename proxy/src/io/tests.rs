//! The contract of a socket, with real sockets over loopback.

use std::{
    future::poll_fn,
    net::{Ipv4Addr, TcpStream as StdStream},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::runtime::Builder;

use super::{Socket, driver, turn};
use crate::{clock, net::TcpStream};

mod coalescing;
mod contract;
mod tls;

/// Runs a test as a worker runs: writes leave at the end of the turn.
fn worker<F: Future>(test: F) -> F::Output {
    crate::worker::run(test).expect("a runtime")
}

/// Runs a test as a plain runtime runs: writes leave at once.
fn plain<F: Future>(test: F) -> F::Output {
    Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test)
}

/// Two ends of one TCP connection over loopback.
async fn pair() -> (Socket, Socket) {
    let (near, far) = streams().await;
    (Socket::new(near), Socket::new(far))
}

async fn streams() -> (TcpStream, TcpStream) {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
    let address = listener.local_addr().expect("bound");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.expect("connect"), far.expect("accept").0)
}

/// Small enough to be filled soon; much below loopback's packets of 64 KiB, TCP would crawl.
const NARROW: usize = 64 * 1024;

/// One end as a socket whose kernel buffers are small, the other blocking.
async fn narrow() -> (Socket, StdStream) {
    let (near, far) = streams().await;
    socket2::SockRef::from(&near).set_send_buffer_size(NARROW).expect("set");
    let far = far.into_std().expect("std");
    socket2::SockRef::from(&far).set_recv_buffer_size(NARROW).expect("set");
    far.set_nonblocking(false).expect("set");
    far.set_read_timeout(Some(std::time::Duration::from_secs(10))).expect("set");
    (Socket::new(near), far)
}

/// Fails a test that hangs.
async fn soon<F: Future>(what: F) -> F::Output {
    clock::timeout(std::time::Duration::from_secs(10), what).await.expect("in time")
}

async fn fill(socket: &Socket, buffer: &mut BytesMut) -> std::io::Result<usize> {
    soon(poll_fn(|cx| socket.poll_fill(cx, buffer))).await
}

async fn fill_to(socket: &Socket, size: usize) -> BytesMut {
    let mut buffer = BytesMut::new();
    while buffer.len() < size {
        assert_ne!(fill(socket, &mut buffer).await.expect("read"), 0, "at {}", buffer.len());
    }
    buffer
}

async fn shut(socket: &Socket) -> std::io::Result<()> {
    soon(poll_fn(|cx| socket.poll_shutdown(cx))).await
}

fn once<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    poll(&mut Context::from_waker(Waker::noop()))
}

/// Waits for a condition. A worker gets idle meanwhile, so its turns end.
async fn settle(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            clock::sleep(std::time::Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Bytes that tell when they are lost, doubled or exchanged.
fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index / 251 + index) as u8).collect()
}

struct Configs {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    /// Asks for a client certificate that nobody here has.
    strict: Arc<ServerConfig>,
}

fn configs() -> Configs {
    let certified =
        rcgen::generate_simple_self_signed(["weft.test".to_owned()]).expect("a certificate");
    let certificate: CertificateDer<'static> = certified.cert.der().clone();
    let key = || PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("a root");
    let roots = Arc::new(roots);
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(Arc::clone(&roots))
        .with_no_client_auth();
    let builder = || {
        ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
    };
    let mut server = builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key())
        .expect("a server");
    server.alpn_protocols = vec![b"weft-h2/1".to_vec()];
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .expect("a verifier");
    let strict = builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key())
        .expect("a server");
    Configs { client: Arc::new(client), server: Arc::new(server), strict: Arc::new(strict) }
}

fn name() -> ServerName<'static> {
    ServerName::try_from("weft.test").expect("a name")
}

/// Two ends of one TLS connection over loopback.
async fn tls_pair(configs: &Configs) -> (Socket, Socket) {
    let (near, far) = pair().await;
    tls_over(configs, near, far).await
}

async fn tls_over(configs: &Configs, near: Socket, far: Socket) -> (Socket, Socket) {
    let (near, far) = soon(async {
        tokio::join!(
            near.start_tls_client(configs.client.clone(), name(), vec![b"weft-h2/1".to_vec()]),
            far.start_tls_server(configs.server.clone())
        )
    })
    .await;
    (near.expect("client"), far.expect("server"))
}
