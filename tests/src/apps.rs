//! Applications for the mesh to carry: servers on port 0, by hyper and by hand, that note what they saw.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpSocket, sync::watch, task::JoinSet};
use weft_proxy::net::{TcpListener, TcpStream};

/// A port of loopback that is free.
const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The body of an application's answer.
pub type Answer = BoxBody<Bytes, Infallible>;

/// A running application; it stops when dropped.
#[derive(Debug)]
pub struct App {
    /// Where it listens.
    pub address: SocketAddr,
    connections: Arc<AtomicU64>,
    leave: watch::Sender<bool>,
    task: JoinSet<()>,
}

/// A port that refuses connections, and that nobody else is given as long as this is held.
#[derive(Debug)]
pub struct Refusing {
    /// Where nobody listens.
    pub address: SocketAddr,
    _socket: TcpSocket,
}

impl Refusing {
    /// Takes a free port.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn bind() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        Self { address: socket.local_addr().expect("it is bound"), _socket: socket }
    }
}

/// Which HTTP an application speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http {
    /// HTTP/1.1.
    One,
    /// HTTP/2 with prior knowledge.
    Two,
}

impl Http {
    /// What the client of this connection speaks; nothing when it says nothing.
    async fn spoken(stream: &mut TcpStream) -> Option<Self> {
        // HTTP/2 begins with "PRI * HTTP/2.0" (RFC 9113 section 3.4); no method of HTTP/1 begins with "PR" here.
        let mut first = [0; 2];
        loop {
            match stream.peek(&mut first).await.ok()? {
                0 => return None,
                1 => tokio::task::yield_now().await,
                _ => return Some(if first == *b"PR" { Self::Two } else { Self::One }),
            }
        }
    }
}

impl App {
    /// Serves each connection with `serve`.
    pub async fn tcp<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::tcp_at(LOCAL, serve).await
    }

    /// Ends as a program does that was asked to: takes no new connection, answers what is under way, closes the rest.
    pub async fn stop(mut self) {
        self.leave.send_replace(true);
        while self.task.join_next().await.is_some() {}
    }

    /// Serves each connection to this address with `serve`.
    ///
    /// # Panics
    /// When the address cannot be bound.
    pub async fn tcp_at<F>(
        address: SocketAddr,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::serve_at(address, watch::Sender::new(false), serve).await
    }

    /// Serves each connection, until it is time to leave.
    async fn serve_at<F>(
        address: SocketAddr,
        leave: watch::Sender<bool>,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.expect("the address is free");
        let address = listener.local_addr().expect("it is bound");
        let connections = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&connections);
        let mut leaving = leave.subscribe();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = leaving.wait_for(|leaving| *leaving) => break,
                };
                let Ok((stream, _)) = accepted else { break };
                counter.fetch_add(1, Ordering::Relaxed);
                let _ = stream.set_nodelay(true);
                open.spawn(serve(stream));
                while open.try_join_next().is_some() {}
            }
            drop(listener);
            while open.join_next().await.is_some() {}
        });
        Self { address, connections, leave, task }
    }

    /// Answers HTTP requests with `answer`.
    pub async fn http<F>(
        version: Http,
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Answer>> + Send + 'static,
    {
        let leave = watch::Sender::new(false);
        let leaving = leave.subscribe();
        let serve = move |stream| serve_http(stream, version, answer.clone(), leaving.clone());
        Self::serve_at(LOCAL, leave, serve).await
    }

    /// Answers HTTP requests of both versions to this address with `answer`.
    pub async fn http_at<F>(
        address: SocketAddr,
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Answer>> + Send + 'static,
    {
        let leave = watch::Sender::new(false);
        let leaving = leave.subscribe();
        let serve = move |mut stream| {
            let (answer, mut leaving) = (answer.clone(), leaving.clone());
            async move {
                let spoken = tokio::select! {
                    spoken = Http::spoken(&mut stream) => spoken,
                    _ = leaving.wait_for(|leaving| *leaving) => None,
                };
                if let Some(version) = spoken {
                    serve_http(stream, version, answer, leaving).await;
                }
            }
        };
        Self::serve_at(address, leave, serve).await
    }

    /// An [`echo`] that speaks both versions of HTTP.
    pub async fn echo_both(name: &'static str) -> Self {
        Self::http_at(LOCAL, move |request| echo(name, request)).await
    }

    /// Sends each request's body back while it comes in; speaks both versions of HTTP.
    pub async fn streaming_echo() -> Self {
        Self::http_at(LOCAL, |request| async { stream_back(request) }).await
    }

    /// An HTTP application that says what it got: see [`echo`].
    pub async fn echo(version: Http, name: &'static str) -> Self {
        Self::http(version, move |request| echo(name, request)).await
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn serve_http<F>(
    stream: TcpStream,
    version: Http,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    mut leaving: watch::Receiver<bool>,
) where
    F: Future<Output = Response<Answer>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let io = TokioIo::new(stream);
    // A client that goes away is no failure of the application.
    let leave = async move {
        // Without a sender nobody ever asks.
        if leaving.wait_for(|leaving| *leaving).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    match version {
        Http::One => {
            let mut connection = pin!(
                hyper::server::conn::http1::Builder::new()
                    .preserve_header_case(true)
                    .half_close(true)
                    .serve_connection(io, service)
                    .with_upgrades()
            );
            tokio::select! {
                _ = connection.as_mut() => return,
                () = leave => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        }
        Http::Two => {
            let mut connection = pin!(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(io, service)
            );
            tokio::select! {
                _ = connection.as_mut() => return,
                () = leave => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        }
    }
}

/// Echoes the request's body; the answer's fields say who answered (`app`), the target (`x-target`), the
/// method (`x-method`), `Host` or `:authority` (`x-host`), and every field of the request with `got-` before
/// its name.
pub async fn echo(name: &'static str, request: Request<Incoming>) -> Response<Answer> {
    let (head, body) = request.into_parts();
    let host = head
        .headers
        .get(http::header::HOST)
        .and_then(|host| host.to_str().ok().map(str::to_owned))
        .or_else(|| head.uri.authority().map(ToString::to_string))
        .unwrap_or_default();
    let mut response = Response::builder()
        .header("app", name)
        .header("x-method", head.method.as_str())
        .header("x-target", head.uri.path_and_query().map_or("*", |target| target.as_str()))
        .header("x-host", host);
    for (field, value) in &head.headers {
        response = response.header(format!("got-{field}"), value);
    }
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    response.body(full(body)).expect("fields of a request are valid in a response")
}

/// The body goes back as it comes, with its length where that is known.
fn stream_back(request: Request<Incoming>) -> Response<Answer> {
    let (head, body) = request.into_parts();
    let mut response = Response::builder();
    if let Some(length) = head.headers.get(http::header::CONTENT_LENGTH) {
        response = response.header(http::header::CONTENT_LENGTH, length);
    }
    // A client that leaves breaks its body off: the panic ends this connection, and nothing else.
    let body = body.map_err(|error| -> Infallible { panic!("the request broke off: {error}") });
    response.body(body.boxed()).expect("a valid response")
}

/// A whole body.
#[must_use]
pub fn full(body: impl Into<Bytes>) -> Answer {
    Full::new(body.into()).boxed()
}
