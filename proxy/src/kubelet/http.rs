//! `httpGet`: one request of HTTP, with what the kubelet puts into it and what it makes of redirections.
//!
//! It follows them on the same host only, wherever else they lead, that answer is the last. Of the body, up to 10 KiB
//! are read and dropped: one that breaks off before is a failure.

use axum::body::Body;
use futures_util::TryStreamExt;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT},
};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Dial, https,
    probes::HttpGet,
    url::{Url, is_absolute},
    user_agent,
};

/// Requests until redirections are given up on.
const MAX_REQUESTS: usize = 10;
/// Of a body.
const MAX_BODY: usize = 10 * 1024;

/// The status of the last answer.
pub(super) async fn get(
    get: &HttpGet,
    dial: &Dial,
    kubelet: Option<&HeaderValue>,
) -> Result<StatusCode, String> {
    let first = Url::of(get, dial.pod_ip);
    let mut url = first.clone();
    let mut headers = headers(get, kubelet);
    for _ in 0..MAX_REQUESTS {
        let answer = fetch(&url, &headers, dial).await;
        let answer =
            answer.map_err(|why| format!("GET {}{}: {why}", url.authority(), url.target))?;
        let Some(location) = redirection(&answer) else { return Ok(answer.status) };
        let next = url.join(location).ok_or_else(|| format!("it redirects to {location:?}"))?;
        if !next.host.eq_ignore_ascii_case(&first.host) {
            return Ok(answer.status);
        }
        // A name for the host goes with a path of its own only.
        if is_absolute(location) {
            headers.remove(HOST);
        }
        url = next;
    }
    Err(format!("{MAX_REQUESTS} redirections in a row"))
}

/// What of an answer counts.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
}

fn redirection(answer: &Answer) -> Option<&str> {
    let follows = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
    answer.headers.get(LOCATION).filter(|_| follows)?.to_str().ok()
}

fn headers(get: &HttpGet, kubelet: Option<&HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &get.headers {
        headers.append(name.clone(), value.clone());
    }
    if !headers.contains_key(USER_AGENT) {
        headers.insert(USER_AGENT, user_agent(kubelet));
    }
    match headers.get(ACCEPT) {
        None => drop(headers.insert(ACCEPT, HeaderValue::from_static("*/*"))),
        // How a probe says that it wants none.
        Some(value) if value.is_empty() => drop(headers.remove(ACCEPT)),
        Some(_) => {}
    }
    headers
}

async fn fetch(url: &Url, headers: &HeaderMap, dial: &Dial) -> Result<Answer, String> {
    let stream = dial.connect(Some(&url.host), url.port).await?;
    if !url.tls {
        return by_http1(stream, url, headers).await;
    }
    let (stream, http2) = https::connect(stream, &url.host).await?;
    if http2 { by_http2(stream, url, headers).await } else { by_http1(stream, url, headers).await }
}

async fn by_http1(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    url: &Url,
    headers: &HeaderMap,
) -> Result<Answer, String> {
    let mut request = Request::get(url.target.as_str()).body(Body::empty()).map_err(text)?;
    *request.headers_mut() = headers.clone();
    let own = HeaderValue::from_str(&url.authority()).map_err(text)?;
    request.headers_mut().entry(HOST).or_insert(own);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    beside(connection, async { read(sender.send_request(request).await).await }).await
}

async fn by_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    url: &Url,
    headers: &HeaderMap,
) -> Result<Answer, String> {
    let authority = match headers.get(HOST) {
        Some(host) => host.to_str().map_err(text)?.to_owned(),
        None => url.authority(),
    };
    let uri = format!("https://{authority}{}", url.target);
    let mut request = Request::get(uri).body(Body::empty()).map_err(text)?;
    *request.headers_mut() = headers.clone();
    request.headers_mut().remove(HOST);
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(text)?;
    beside(connection, async { read(sender.send_request(request).await).await }).await
}

/// Drives a connection while its one request is under way: a task of its own would outlive the probe.
async fn beside(
    connection: impl Future<Output = hyper::Result<()>>,
    exchange: impl Future<Output = Result<Answer, String>>,
) -> Result<Answer, String> {
    let mut exchange = std::pin::pin!(exchange);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        answer = &mut exchange => answer,
        // What was read before the end is still to be looked at.
        _ = &mut connection => exchange.await,
    }
}

async fn read(response: hyper::Result<Response<Incoming>>) -> Result<Answer, String> {
    let (head, body) = response.map_err(|error| described(&error))?.into_parts();
    let mut body = Body::new(body).into_data_stream();
    let mut length = 0;
    while length < MAX_BODY {
        match body.try_next().await {
            Ok(Some(bytes)) => length += bytes.len(),
            Ok(None) => break,
            Err(error) => {
                return Err(format!("the answer's body breaks off: {}", described(&error)));
            }
        }
    }
    Ok(Answer { status: head.status, headers: head.headers })
}

fn text(error: impl std::error::Error) -> String {
    described(&error)
}

/// An error down to its cause, in one line.
fn described(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
