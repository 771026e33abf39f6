//! Real loopback connections with raw bytes on one end and the codec on the other.

use std::{
    cell::RefCell,
    future::Future,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, LocalSet},
};

use super::*;
use crate::{
    drain::{Drain, DrainTrigger},
    http::{
        Body, Fields, Frame, Handler, Request, Response, Served,
        h1::{self, ClientSettings, Http1Client, ServerSettings},
    },
    io::Socket,
};

const DEADLINE: Duration = Duration::from_secs(10);

/// Runs a test on one thread, with a deadline.
pub(super) fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    LocalSet::new().block_on(&runtime.expect("a runtime"), async {
        tokio::time::timeout(DEADLINE, test).await.expect("the test ends in time");
    });
}

/// The same on a clock that moves only when nothing else does.
pub(super) fn run_paused<F: Future<Output = ()>>(test: F) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    LocalSet::new().block_on(&runtime.expect("a runtime"), test);
}

/// Bytes that count how many of them are in memory.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// The size of each.
    pub(super) const SIZE: usize = 64 * 1024;

    /// One more.
    pub(super) fn piece(alive: &Arc<AtomicUsize>) -> Bytes {
        alive.fetch_add(1, Ordering::Relaxed);
        Bytes::from_owner(Self(alive.clone()))
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        static CONTENT: [u8; Counted::SIZE] = [b'a'; Counted::SIZE];
        &CONTENT
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A number, once it stands still.
pub(super) async fn stable(mut number: impl FnMut() -> usize) -> usize {
    let (mut last, mut same) = (number(), 0);
    while same < 1000 {
        tokio::task::yield_now().await;
        let now = number();
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}

/// Two ends of a connection.
pub(super) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.expect("connected"), server.expect("accepted").0)
}

/// A handler made of a function.
pub(super) struct Answer<F>(pub F);

impl<F, R> Handler for Answer<F>
where
    F: Fn(Request) -> R,
    R: Future<Output = Response>,
{
    fn handle(&self, request: Request) -> impl Future<Output = Response> {
        (self.0)(request)
    }
}

/// Settings with timeouts that no test reaches by accident.
pub(super) fn settings() -> ServerSettings {
    ServerSettings {
        limits: HeadLimits { bytes: 16 * 1024, fields: 64 },
        header_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(60),
    }
}

/// A server connection whose other end speaks raw bytes.
pub(super) struct Raw {
    pub stream: TcpStream,
    pub served: JoinHandle<Served>,
    pub trigger: DrainTrigger,
}

/// Serves one connection with a handler.
pub(super) async fn serve<H: Handler + 'static>(handler: H) -> Raw {
    serve_with(handler, settings()).await
}

pub(super) async fn serve_with<H: Handler + 'static>(handler: H, settings: ServerSettings) -> Raw {
    let (stream, accepted) = pair().await;
    let (trigger, drain): (_, Drain) = crate::drain::channel();
    let served = tokio::task::spawn_local(async move {
        h1::serve(Socket::new(accepted), &handler, &settings, &drain).await
    });
    Raw { stream, served, trigger }
}

impl Raw {
    pub(super) async fn write(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.expect("written");
    }

    /// Reads exactly this.
    pub(super) async fn expect(&mut self, bytes: &str) {
        expect(&mut self.stream, bytes).await;
    }

    /// Reads until the connection ends.
    pub(super) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).await.expect("a clean end");
        String::from_utf8(rest).expect("text")
    }
}

/// Reads exactly this from a peer.
pub(super) async fn expect(stream: &mut TcpStream, bytes: &str) {
    let mut got = vec![0; bytes.len()];
    let mut filled = 0;
    while filled < got.len() {
        let count = stream.read(&mut got[filled..]).await.expect("readable");
        if count == 0 {
            break;
        }
        filled += count;
        let so_far = String::from_utf8_lossy(&got[..filled]);
        assert!(bytes.as_bytes().starts_with(&got[..filled]), "wanted {bytes:?}, got {so_far:?}");
    }
    assert_eq!(filled, bytes.len(), "wanted {bytes:?}, the connection ended");
}

/// Reads a request's head from a client codec.
pub(super) async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("more of the head"));
    }
    String::from_utf8(head).expect("text")
}

/// A client codec whose other end speaks raw bytes.
pub(super) async fn client() -> (Http1Client, TcpStream) {
    let (ours, theirs) = pair().await;
    (Http1Client::new(Socket::new(ours), ClientSettings { limits: settings().limits }), theirs)
}

/// A body's content and trailers; the error's text when it breaks.
pub(super) async fn collect(body: &mut Body) -> Result<(Vec<u8>, Fields), String> {
    let (mut content, mut trailers) = (Vec::new(), Fields::new());
    while let Some(frame) = body.frame().await {
        match frame.map_err(|error| error.to_string())? {
            Frame::Data(data) => content.extend_from_slice(&data),
            Frame::Trailers(fields) => trailers = fields,
        }
    }
    Ok((content, trailers))
}

/// A response with this status and content.
pub(super) fn text(status: u16, content: &'static str) -> Response {
    let status = http::StatusCode::from_u16(status).expect("a status");
    let body = Body::full(Bytes::from_static(content.as_bytes()));
    Response::new(crate::http::ResponseHead::new(status), body)
}

/// What a test saw, shared with its handler.
pub(super) type Seen<T> = Rc<RefCell<Vec<T>>>;
