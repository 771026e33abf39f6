//! A plain HTTP/1 client that asks through `$http_proxy`, as most programs do, and keeps its connections.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use weft_proxy::clock;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The client. Clones share its connections.
#[derive(Clone)]
pub(super) struct Caller {
    /// "HOST:PORT".
    proxy: Arc<str>,
    idle: Arc<Mutex<Vec<SendRequest<Empty<Bytes>>>>>,
}

impl Caller {
    /// A client of the proxy that the environment names.
    pub(super) fn from_environment() -> anyhow::Result<Self> {
        let uri: Uri = super::variable("http_proxy")?.parse().context("http_proxy is no URL")?;
        let authority = uri.authority().context("http_proxy names no host")?;
        Ok(Self { proxy: authority.as_str().into(), idle: Arc::default() })
    }

    /// Asks a URL for JSON. Anything but a 2xx is an error that says what came.
    pub(super) async fn get(&self, url: &str) -> Result<Value, String> {
        let asked = clock::timeout(ANSWER_WITHIN, self.exchange(url)).await;
        let answered = asked.map_err(|_| "no answer in time".to_owned());
        answered
            .and_then(|answer| answer.map_err(|error| format!("{error:#}")))
            .map_err(|error| format!("{url}: {error}"))
    }

    async fn exchange(&self, url: &str) -> anyhow::Result<Value> {
        let uri: Uri = url.parse()?;
        let host = uri.authority().context("the URL names no host")?.to_string();
        let request = Request::get(uri).header("host", host).body(Empty::new())?;
        let mut sender = self.connection().await?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let reason = response.headers().get("weft-reason").cloned();
        let body = response.into_body().collect().await?.to_bytes();
        self.give_back(sender);
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body);
            let reason = reason.as_ref().and_then(|reason| reason.to_str().ok()).unwrap_or("");
            anyhow::bail!("{status} {reason} {}", text.trim());
        }
        serde_json::from_slice(&body).context("the answer is no JSON")
    }

    async fn connection(&self) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
        while let Some(mut sender) = self.take_idle() {
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let stream = TcpStream::connect(&*self.proxy).await.context("the proxy does not answer")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the last sender, or with the connection.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn take_idle(&self) -> Option<SendRequest<Empty<Bytes>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give_back(&self, sender: SendRequest<Empty<Bytes>>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
    }
}
