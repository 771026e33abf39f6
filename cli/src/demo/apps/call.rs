//! A plain HTTP/1 client that asks through `$http_proxy`, as most programs do, or without one the host that the
//! URL names. It keeps its connections.

use std::{
    collections::HashMap,
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

type Sender = SendRequest<Empty<Bytes>>;

/// The client. Clones share its connections.
#[derive(Clone)]
pub(super) struct Caller {
    /// "HOST:PORT". Without one, hosts are dialled themselves.
    proxy: Option<Arc<str>>,
    /// By what was dialled.
    idle: Arc<Mutex<HashMap<String, Vec<Sender>>>>,
}

impl Caller {
    /// A client of the proxy that the environment names, if it names one.
    pub(super) fn from_environment() -> anyhow::Result<Self> {
        let Ok(proxy) = super::variable("http_proxy") else {
            return Ok(Self { proxy: None, idle: Arc::default() });
        };
        let uri: Uri = proxy.parse().context("http_proxy is no URL")?;
        let authority = uri.authority().context("http_proxy names no host")?;
        Ok(Self { proxy: Some(authority.as_str().into()), idle: Arc::default() })
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
        let (dialled, target) = match &self.proxy {
            Some(proxy) => (proxy.to_string(), uri),
            None => direct(&uri)?,
        };
        let request = Request::get(target).header("host", host).body(Empty::new())?;
        let mut sender = self.connection(&dialled).await?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let reason = response.headers().get("weft-reason").cloned();
        let body = response.into_body().collect().await?.to_bytes();
        self.give_back(dialled, sender);
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body);
            let reason = reason.as_ref().and_then(|reason| reason.to_str().ok()).unwrap_or("");
            anyhow::bail!("{status} {reason} {}", text.trim());
        }
        serde_json::from_slice(&body).context("the answer is no JSON")
    }

    async fn connection(&self, dialled: &str) -> anyhow::Result<Sender> {
        while let Some(mut sender) = self.take_idle(dialled) {
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let stream = TcpStream::connect(dialled)
            .await
            .with_context(|| format!("{dialled} cannot be reached"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the last sender, or with the connection.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn take_idle(&self, dialled: &str) -> Option<Sender> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).get_mut(dialled)?.pop()
    }

    fn give_back(&self, dialled: String, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.entry(dialled).or_default().push(sender);
    }
}

/// What to dial for a URL without a proxy, and what to ask for there.
fn direct(uri: &Uri) -> anyhow::Result<(String, Uri)> {
    let host = uri.host().context("the URL names no host")?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok((format!("{host}:{}", uri.port_u16().unwrap_or(80)), path.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_proxy_the_host_of_the_url_is_dialled() {
        for (url, dialled, path) in [
            ("http://web.shop/", "web.shop:80", "/"),
            ("http://cart/cart?full=1", "cart:80", "/cart?full=1"),
            ("http://[fd00::1]:8080", "[fd00::1]:8080", "/"),
        ] {
            let (host, target) = direct(&url.parse().expect("a URL")).expect("a host");
            assert_eq!((host.as_str(), target.to_string().as_str()), (dialled, path), "{url}");
        }
    }
}
