//! HTTP/2 over real sockets: our server against the `h2` crate's client, our client against its server and
//! against raw bytes, and both in a row, as a proxy has them.

mod client;
mod cost;
mod faults;
mod hyper;
mod server;
mod through;

use std::{cell::Cell, future::Future, net::Ipv4Addr, pin::Pin, rc::Rc, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest};
use http::HeaderMap;
use tokio::{
    runtime::{Builder, LocalOptions},
    task::{JoinHandle, spawn_local},
};

use super::{ClientSettings, ErrorCode, Http2Client, ServerSettings, serve};
use crate::{
    clock,
    drain::{self, DrainTrigger},
    http::{Asked, Audience, Body, Handler, Request, Response, ResponseHead, Served, respond},
    io::{Socket, turn},
    net::TcpStream,
};

/// Runs a test as a worker runs, and fails it when it hangs.
fn worker(test: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .on_thread_park(turn::end)
        .build_local(LocalOptions::default())
        .expect("a runtime");
    turn::install();
    runtime
        .block_on(async { clock::timeout(Duration::from_secs(30), test).await.expect("in time") });
    turn::uninstall();
}

/// Waits for a condition; the worker gets idle meanwhile, so that what is written leaves.
async fn until(condition: impl AsyncFn() -> bool) {
    while !condition().await {
        clock::sleep(Duration::from_millis(1)).await;
    }
}

/// Two ends of one TCP connection over loopback.
async fn streams() -> (TcpStream, TcpStream) {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
    let address = listener.local_addr().expect("bound");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (near, far) = (near.expect("connect"), far.expect("accept").0);
    near.set_nodelay(true).expect("set");
    far.set_nodelay(true).expect("set");
    (near, far)
}

fn server_settings() -> ServerSettings {
    ServerSettings {
        max_streams: 100,
        max_header_bytes: 16 * 1024,
        max_headers: 20,
        max_resets_per_second: 100,
        stream_window: 64 * 1024,
        preface_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(20),
        keep_alive: Duration::from_secs(10),
    }
}

fn client_settings() -> ClientSettings {
    ClientSettings {
        max_streams: 100,
        max_header_bytes: 16 * 1024,
        stream_window: 64 * 1024,
        preface_timeout: Duration::from_secs(5),
        keep_alive: Duration::from_secs(10),
    }
}

type Answer = Pin<Box<dyn Future<Output = Response>>>;

/// A handler that is a function.
struct Answering<F>(F);

impl<F: Fn(Request) -> Answer> Handler for Answering<F> {
    async fn handle(&self, request: Request) -> Response {
        (self.0)(request).await
    }

    fn refuse(&self, error: crate::error::ProxyError, asked: Asked) -> Response {
        respond::respond(&error, asked, Audience::Local)
    }
}

/// Our server on one end of a connection.
struct Server {
    served: JoinHandle<Served>,
    drain: DrainTrigger,
}

fn spawn_server(
    stream: TcpStream,
    settings: ServerSettings,
    answer: impl Fn(Request) -> Answer + 'static,
) -> Server {
    let (trigger, drain) = drain::channel();
    let served = spawn_local(async move {
        serve(Socket::new(stream), &Answering(answer), &settings, &drain).await
    });
    Server { served, drain: trigger }
}

/// The h2 crate's client on the other end.
async fn raw_client(stream: TcpStream) -> SendRequest<Bytes> {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(64 * 1024).initial_connection_window_size(8 * 1024 * 1024);
    let (sender, connection) = builder.handshake(stream).await.expect("a handshake");
    spawn_local(async move {
        let _ = connection.await;
    });
    sender.ready().await.expect("ready")
}

/// Our server and the h2 crate's client, connected.
async fn served(
    settings: ServerSettings,
    answer: impl Fn(Request) -> Answer + 'static,
) -> (SendRequest<Bytes>, Server) {
    let (near, far) = streams().await;
    let server = spawn_server(far, settings, answer);
    (raw_client(near).await, server)
}

/// Our client on one end of a connection, its driver running.
async fn our_client(stream: TcpStream) -> Rc<Http2Client> {
    our_client_with(stream, client_settings()).await
}

async fn our_client_with(stream: TcpStream, settings: ClientSettings) -> Rc<Http2Client> {
    let socket = Socket::new(stream);
    let (client, driver) =
        Http2Client::handshake(socket, settings, false).await.expect("a handshake");
    spawn_local(driver);
    Rc::new(client)
}

fn request(method: &str, uri: &str) -> http::Request<()> {
    http::Request::builder().method(method).uri(uri).body(()).expect("a request")
}

fn ok(body: Body) -> Response {
    Response::new(ResponseHead::new(http::StatusCode::OK), body)
}

/// Sends content as fast as the windows allow; `Err` with what was sent when no window came for a moment.
async fn push(stream: &mut SendStream<Bytes>, mut bytes: usize) -> Result<(), usize> {
    let mut sent = 0;
    while bytes > 0 {
        stream.reserve_capacity(bytes.min(16 * 1024));
        let capacity = std::future::poll_fn(|cx| stream.poll_capacity(cx));
        match clock::timeout(Duration::from_millis(200), capacity).await {
            Ok(Some(Ok(capacity))) => {
                let piece = capacity.min(bytes);
                stream.send_data(Bytes::from(vec![7; piece]), false).expect("open");
                bytes -= piece;
                sent += piece;
            }
            Ok(_) | Err(_) => return Err(sent),
        }
    }
    Ok(())
}

/// Reads a body to its end, giving the window back; its size and its trailers, or the reset.
async fn drain_body(body: &mut RecvStream) -> Result<(usize, Option<HeaderMap>), h2::Error> {
    let mut size = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        size += data.len();
        body.flow_control().release_capacity(data.len()).expect("held");
    }
    Ok((size, body.trailers().await?))
}

/// A bell that rings when it is dropped.
#[derive(Clone, Default)]
struct Bell(Rc<tokio::sync::Notify>, Rc<Cell<usize>>);

impl Drop for Bell {
    fn drop(&mut self) {
        self.1.set(self.1.get() + 1);
        self.0.notify_one();
    }
}

/// A raw frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// An empty SETTINGS frame: as many streams as one likes.
fn settings() -> Vec<u8> {
    frame(4, 0, 0, &[])
}
