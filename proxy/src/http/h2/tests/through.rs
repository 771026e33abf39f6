//! Our server and our client in a row, between the h2 crate's client and server: what a proxy does.

use std::future::poll_fn;

use h2::Reason as Code;
use http::HeaderValue;

use super::*;
use crate::{error::ProxyError, http::Frame};

/// An application: the h2 crate's server that hands out its requests.
type Accepted = (http::Request<RecvStream>, h2::server::SendResponse<Bytes>);

/// The client, and the requests that came through to the application.
async fn through() -> (SendRequest<Bytes>, tokio::sync::mpsc::UnboundedReceiver<Accepted>) {
    let (near, far) = streams().await;
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    spawn_local(async move {
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(64 * 1024).initial_connection_window_size(1 << 20);
        let mut connection = builder.handshake::<_, Bytes>(far).await.expect("a handshake");
        while let Some(Ok(request)) = connection.accept().await {
            let _ = sender.send(request);
        }
    });
    let upstream = our_client(near).await;
    let (client, server) = served(server_settings(), move |request| {
        let upstream = upstream.clone();
        Box::pin(async move {
            let Request { head, body, interim } = request;
            match upstream.send(&head, body, &interim).await {
                Ok(response) => response,
                Err(error) => respond::respond(&ProxyError::from(error), &head, Audience::Local),
            }
        })
    })
    .await;
    // The server lives as long as its connection.
    std::mem::drop(server.served);
    std::mem::forget(server.drain);
    (client, receiver)
}

#[test]
fn a_bidirectional_stream_passes_message_by_message() {
    worker(async {
        let (mut client, mut requests) = through().await;
        let (response, mut upload) =
            client.send_request(request("POST", "http://a/chat"), false).expect("sent");
        let (mut incoming, mut responder) = requests.recv().await.expect("a request");
        let mut outgoing = responder.send_response(http::Response::new(()), false).expect("sent");
        let mut response = response.await.expect("a head");
        for word in ["one", "two", "three"] {
            upload.send_data(Bytes::from(word), false).expect("open");
            assert_eq!(incoming.body_mut().data().await.expect("data").expect("whole"), word);
            outgoing.send_data(Bytes::from(word), false).expect("open");
            assert_eq!(response.body_mut().data().await.expect("data").expect("whole"), word);
        }
        upload.send_data(Bytes::new(), true).expect("open");
        assert!(incoming.body_mut().data().await.is_none_or(|end| end.expect("whole").is_empty()));
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        outgoing.send_trailers(trailers).expect("open");
        let (_, trailers) = drain_body(response.body_mut()).await.expect("whole");
        assert_eq!(trailers.expect("trailers")["grpc-status"], "0");
    });
}

#[test]
fn a_client_that_gives_up_cancels_upstream() {
    worker(async {
        let (mut client, mut requests) = through().await;
        // Before the response's head.
        let (response, stream) =
            client.send_request(request("POST", "http://a/"), false).expect("sent");
        let (_incoming, mut responder) = requests.recv().await.expect("a request");
        drop((response, stream));
        let reset = poll_fn(|cx| responder.poll_reset(cx)).await;
        assert_eq!(reset.expect("a reset"), Code::CANCEL);
        // In the middle of the body.
        let mut client = client.ready().await.expect("open");
        let (response, stream) =
            client.send_request(request("GET", "http://a/"), true).expect("sent");
        let (_incoming, mut responder) = requests.recv().await.expect("a request");
        let mut outgoing = responder.send_response(http::Response::new(()), false).expect("sent");
        drop((response.await.expect("a head"), stream));
        let reset = poll_fn(|cx| outgoing.poll_reset(cx)).await;
        assert_eq!(reset.expect("a reset"), Code::CANCEL);
    });
}

#[test]
fn resets_of_the_application_reach_the_client() {
    for (code, expected) in [
        (Code::CANCEL, Code::CANCEL),
        (Code::ENHANCE_YOUR_CALM, Code::ENHANCE_YOUR_CALM),
        (Code::REFUSED_STREAM, Code::INTERNAL_ERROR),
    ] {
        worker(async move {
            let (mut client, mut requests) = through().await;
            let (response, _) =
                client.send_request(request("GET", "http://a/"), true).expect("sent");
            let (_incoming, mut responder) = requests.recv().await.expect("a request");
            let mut outgoing =
                responder.send_response(http::Response::new(()), false).expect("sent");
            let mut response = response.await.expect("a head");
            outgoing.send_reset(code);
            let error = drain_body(response.body_mut()).await.expect_err("a reset");
            assert_eq!(error.reason(), Some(expected));
        });
    }
}

#[test]
fn a_slow_reader_bounds_what_the_proxy_holds() {
    worker(async {
        let (mut client, mut requests) = through().await;
        let (response, _) = client.send_request(request("GET", "http://a/"), true).expect("sent");
        let (_incoming, mut responder) = requests.recv().await.expect("a request");
        let mut outgoing = responder.send_response(http::Response::new(()), false).expect("sent");
        let mut response = response.await.expect("a head");
        // Nobody reads: both hops' windows fill, and what waits for the socket, and no more.
        let sent = push(&mut outgoing, 64 << 20).await.expect_err("held back");
        let bound = 3 * 64 * 1024 + crate::io::HIGH_WATER;
        assert!(sent <= bound, "{sent} bytes are on the way, {bound} are allowed");
        // The reader goes on, and so does the sender.
        let reading = async {
            let mut size = 0;
            while size < 16 << 20 {
                let data = response.body_mut().data().await.expect("data").expect("whole");
                size += data.len();
                response.body_mut().flow_control().release_capacity(data.len()).expect("held");
            }
        };
        tokio::select! {
            () = reading => {}
            sent = push(&mut outgoing, 64 << 20) => panic!("stopped: {sent:?}"),
        }
    });
}

#[test]
fn a_body_can_be_read_frame_by_frame_by_the_handler() {
    worker(async {
        let (near, far) = streams().await;
        let _server = spawn_server(far, server_settings(), |request| {
            Box::pin(async move {
                let mut body = request.body;
                assert_eq!(body.exact_length(), Some(6));
                let Some(Ok(Frame::Data(data))) = body.frame().await else { panic!("data") };
                assert_eq!(body.exact_length(), Some(6 - data.len() as u64));
                while body.frame().await.is_some() {}
                assert!(body.is_end());
                ok(Body::Empty)
            })
        });
        let mut client = raw_client(near).await;
        let mut post = request("POST", "http://a/");
        post.headers_mut().insert("content-length", HeaderValue::from_static("6"));
        let (response, mut upload) = client.send_request(post, false).expect("sent");
        upload.send_data(Bytes::from_static(b"abc"), false).expect("open");
        upload.send_data(Bytes::from_static(b"def"), true).expect("open");
        assert_eq!(response.await.expect("a response").status(), 200);
    });
}
