//! Asks a sidecar's admin port: is it ready, what has it counted.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use weft_proxy::clock;

const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// Returns when the sidecar says that it is ready. Cancel-safe.
pub(crate) async fn until_ready(admin: SocketAddr) {
    while !matches!(get(admin, "/ready").await, Ok((StatusCode::OK, _))) {
        clock::sleep(Duration::from_millis(25)).await;
    }
}

/// What the sidecar has counted, as Prometheus text.
pub(crate) async fn metrics(admin: SocketAddr) -> anyhow::Result<String> {
    let (status, text) = get(admin, "/metrics").await?;
    anyhow::ensure!(status == StatusCode::OK, "the sidecar at {admin} answered {status}");
    Ok(text)
}

async fn get(admin: SocketAddr, path: &str) -> anyhow::Result<(StatusCode, String)> {
    let asked = clock::timeout(ANSWER_WITHIN, exchange(admin, path)).await;
    asked.with_context(|| format!("the sidecar at {admin} does not answer"))?
}

async fn exchange(admin: SocketAddr, path: &str) -> anyhow::Result<(StatusCode, String)> {
    let stream = TcpStream::connect(admin).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header("host", admin.to_string())
        .header("connection", "close")
        .body(Empty::<bytes::Bytes>::new())?;
    let answered = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("its answer broke off: {error}"))?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    // The connection is driven for as long as the answer takes.
    let mut connection = std::pin::pin!(connection);
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        answer = &mut answered => return answer,
        _ = &mut connection => {}
    }
    answered.await
}
