//! Our server and client between hyper's, which share nothing with each other but the wire.

use ::hyper::{body::Incoming, service::service_fn};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;

use super::*;
use crate::error::ProxyError;

/// Lets hyper run its tasks on this thread.
#[derive(Clone)]
struct Local;

impl<F: Future + 'static> ::hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        spawn_local(async move {
            task.await;
        });
    }
}

/// An application that sends back what it gets, trailers too.
async fn echo_application(stream: TcpStream) {
    let service = service_fn(|request: http::Request<Incoming>| async move {
        let response = http::Response::builder().header("x-path", request.uri().path());
        response.body(request.into_body())
    });
    let serving = ::hyper::server::conn::http2::Builder::new(Local);
    let _ = serving.serve_connection(TokioIo::new(stream), service).await;
}

#[test]
fn a_large_body_goes_through_and_back() {
    worker(async {
        let (near, far) = streams().await;
        spawn_local(echo_application(far));
        let upstream = our_client(near).await;
        let (near, far) = streams().await;
        let _server = spawn_server(far, server_settings(), move |request| {
            let upstream = upstream.clone();
            Box::pin(async move {
                let Request { head, body, interim } = request;
                match upstream.send(&head, body, &interim).await {
                    Ok(response) => response,
                    Err(error) => {
                        respond::respond(&ProxyError::from(error), &head, Audience::Local)
                    }
                }
            })
        });
        let (mut client, connection) =
            ::hyper::client::conn::http2::handshake(Local, TokioIo::new(near))
                .await
                .expect("a handshake");
        spawn_local(async move {
            let _ = connection.await;
        });
        let content: Bytes = (0..8_u32 << 20).map(|index| (index % 251) as u8).collect();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("251"));
        for _ in 0..2 {
            let sent = trailers.clone();
            let body = Full::new(content.clone()).with_trailers(std::future::ready(Some(Ok(sent))));
            let request = http::Request::post("http://cart/echo").body(body).expect("a request");
            let response = client.send_request(request).await.expect("a response");
            assert_eq!(response.headers()["x-path"], "/echo");
            let received = response.into_body().collect().await.expect("whole");
            assert_eq!(received.trailers(), Some(&trailers));
            assert!(received.to_bytes() == content, "the content is the same");
        }
    });
}
