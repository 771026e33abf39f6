//! A plain HTTP/1 server for the demo's services.

use std::{convert::Infallible, future::Future, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinSet};
use weft_proxy::clock;

/// What a service answers: JSON, or what went wrong with something it needs.
pub(super) type Answer = Result<Value, String>;

/// Serves `$PORT` with a handler until the process is ended.
pub(super) async fn serve<F>(
    handler: impl Fn(String) -> F + Clone + Send + 'static,
) -> anyhow::Result<()>
where
    F: Future<Output = Answer> + Send + 'static,
{
    let listener = TcpListener::bind(super::listen_address()?).await?;
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: some will be closed.
            clock::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let handler = handler.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = handler(request.uri().path().to_owned());
            async move { Ok::<_, Infallible>(respond(answer.await)) }
        });
        connections.spawn(async move {
            // A client that goes away is no matter.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn respond(answer: Answer) -> Response<Full<Bytes>> {
    let (status, value) = match answer {
        Ok(value) => (StatusCode::OK, value),
        Err(why) => (StatusCode::BAD_GATEWAY, serde_json::json!({ "error": why })),
    };
    let mut response = Response::new(Full::from(value.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}
