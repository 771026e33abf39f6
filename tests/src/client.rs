//! Clients by hyper: through an explicit proxy (absolute-form) or straight to a port.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Body, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;
use weft_proxy::net;

use crate::{apps::Http, wait};

/// A client connection; requests go one after the other.
#[derive(Debug)]
pub struct Client<B = Full<Bytes>> {
    sender: Sender<B>,
    _driver: JoinSet<()>,
}

#[derive(Debug)]
enum Sender<B> {
    One(http1::SendRequest<B>),
    Two(http2::SendRequest<B>),
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    /// The trailers, if there were any.
    pub trailers: Option<HeaderMap>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// A field as text; empty when it is not there.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl<B: Body<Data = Bytes, Error = Infallible> + Unpin + Send + 'static> Client<B> {
    /// Connects to a port, for requests with bodies of any kind.
    pub async fn connect_with(address: SocketAddr, version: Http) -> Self {
        let stream = net::connect(address).await.expect("somebody listens");
        let io = TokioIo::new(stream);
        let mut driver = JoinSet::new();
        let sender = match version {
            Http::One => {
                let handshake =
                    http1::Builder::new().preserve_header_case(true).handshake(io).await;
                let (sender, connection) = handshake.expect("a fresh connection");
                driver.spawn(async move {
                    let _ = connection.await;
                });
                Sender::One(sender)
            }
            Http::Two => {
                let handshake = http2::handshake(TokioExecutor::new(), io).await;
                let (sender, connection) = handshake.expect("a fresh connection");
                driver.spawn(async move {
                    let _ = connection.await;
                });
                Sender::Two(sender)
            }
        };
        Self { sender, _driver: driver }
    }

    /// Sends a request, and waits for the answer's head.
    ///
    /// # Errors
    /// The connection broke before.
    pub async fn stream(
        &mut self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        match &mut self.sender {
            Sender::One(sender) => {
                sender.ready().await?;
                wait::soon("an answer", sender.send_request(request)).await
            }
            Sender::Two(sender) => wait::soon("an answer", sender.send_request(request)).await,
        }
    }

    /// Whether no further request can be sent: the server has closed, or said that it will.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::One(sender) => sender.is_closed(),
            Sender::Two(sender) => sender.is_closed(),
        }
    }
}

impl Client {
    /// Connects to a port.
    pub async fn connect(address: SocketAddr, version: Http) -> Self {
        Self::connect_with(address, version).await
    }

    /// Sends a request, and waits for the whole answer.
    ///
    /// # Errors
    /// The connection broke, or the answer did.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        let response = self.stream(request).await?;
        let (head, body) = response.into_parts();
        let body = wait::soon("the answer's body", body.collect()).await?;
        let trailers = body.trailers().cloned();
        Ok(Answer { status: head.status, headers: head.headers, trailers, body: body.to_bytes() })
    }

    /// GETs a URI this many times at once, on this one connection.
    ///
    /// # Panics
    /// When there is no answer, or this is HTTP/1.
    pub async fn get_many(&mut self, uri: &str, count: usize) -> Vec<Answer> {
        let Sender::Two(sender) = &self.sender else { panic!("HTTP/1 has one request at a time") };
        let requests = (0..count).map(|_| {
            let sender = Sender::Two(sender.clone());
            let mut client = Self { sender, _driver: JoinSet::new() };
            async move { client.get(uri).await }
        });
        futures_util::future::join_all(requests).await
    }

    /// GETs a URI.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn get(&mut self, uri: &str) -> Answer {
        self.send(get(uri)).await.expect("an answer")
    }
}

/// A GET request, with `Host` as a client of HTTP/1 sends it.
#[must_use]
pub fn get(uri: &str) -> Request<Full<Bytes>> {
    request("GET", uri, Bytes::new())
}

/// A request with a body, with `Host` as a client of HTTP/1 sends it.
#[must_use]
pub fn request(method: &str, uri: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(uri).body(Full::new(body.into()));
    let mut request = request.expect("a valid request");
    // A path alone is for a port bound for one destination, where any name will do.
    let host = request.uri().authority().map_or("localhost", http::uri::Authority::as_str);
    let host = host.parse().expect("an authority is a field's value");
    request.headers_mut().insert(http::header::HOST, host);
    request
}

/// One GET on a connection of its own.
pub async fn get_once(address: SocketAddr, uri: &str) -> Answer {
    Client::connect(address, Http::One).await.get(uri).await
}
