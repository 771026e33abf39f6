//! Our client against the h2 crate's server, and against raw bytes.

use std::future::poll_fn;

use h2::{Reason as Code, server::SendResponse};
use http::{HeaderValue, Method, StatusCode, Version, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{
    error::Delivery,
    http::{BodyError, Fields, Frame, Interim, RequestHead, Returns, SendError, Spare, body},
    reason::Reason,
};

fn head(method: Method, target: &'static str) -> RequestHead {
    RequestHead {
        method,
        target: http::Uri::from_static(target),
        version: Version::HTTP_2,
        headers: Fields::new(),
        upgrade: None,
        accepts_trailers: false,
    }
}

pub(super) fn get() -> RequestHead {
    head(Method::GET, "http://a/")
}

type Accepted = (http::Request<RecvStream>, SendResponse<Bytes>);

/// Our client, and the requests that the h2 crate's server gets from it.
async fn accepted(
    builder: &h2::server::Builder,
) -> (Rc<Http2Client>, tokio::sync::mpsc::UnboundedReceiver<Accepted>) {
    let (near, far) = streams().await;
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let builder = builder.clone();
    spawn_local(async move {
        let mut connection = builder.handshake(far).await.expect("a handshake");
        while let Some(Ok(request)) = connection.accept().await {
            let _ = sender.send(request);
        }
    });
    (our_client(near).await, receiver)
}

async fn default_accepted() -> (Rc<Http2Client>, tokio::sync::mpsc::UnboundedReceiver<Accepted>) {
    accepted(&h2::server::Builder::new()).await
}

pub(super) async fn send(
    client: &Http2Client,
    head: &RequestHead,
    body: Body,
) -> Result<Response, SendError> {
    client.send(head, body, &Interim::default()).await
}

#[test]
fn the_endpoint_says_how_many_streams_there_may_be_before_the_first() {
    worker(async {
        let mut builder = h2::server::Builder::new();
        let (client, mut requests) = accepted(builder.max_concurrent_streams(1)).await;
        assert!(client.can_take_request());
        let get = get();
        let mut sending = std::pin::pin!(send(&client, &get, Body::Empty));
        let (_request, _responder) = tokio::select! {
            _ = &mut sending => panic!("nobody has answered"),
            request = requests.recv() => request.expect("a request"),
        };
        assert!(!client.can_take_request(), "one is all");
    });
}

#[test]
fn an_endpoint_that_speaks_no_http2_gets_no_request() {
    for (says, reason) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", Reason::UpstreamProtocol),
        ("", Reason::ConnectFailed),
    ] {
        worker(async move {
            let (near, mut far) = streams().await;
            let shaking = Http2Client::handshake(Socket::new(near), client_settings(), false);
            let (shaken, ()) = tokio::join!(shaking, async move {
                far.write_all(says.as_bytes()).await.expect("open");
                far.shutdown().await.expect("open");
                // Read, so that the end is no reset.
                let _ = far.read_to_end(&mut Vec::new()).await;
            });
            let error = shaken.err().expect("no handshake");
            assert_eq!((error.reason, error.delivery), (reason, Delivery::Nothing), "{says:?}");
        });
    }
}

#[test]
fn an_endpoint_that_begins_with_goaway_is_not_connected_to() {
    worker(async {
        let (near, mut far) = streams().await;
        far.write_all(&[settings(), go_away(0)].concat()).await.expect("written");
        let shaken = Http2Client::handshake(Socket::new(near), client_settings(), false).await;
        let error = shaken.err().expect("no request could be sent");
        assert_eq!((error.reason, error.delivery), (Reason::ConnectFailed, Delivery::Nothing));
    });
}

#[test]
fn a_place_is_taken_before_the_request_is_sent_and_given_back_when_none_is() {
    worker(async {
        let (near, mut far) = streams().await;
        far.write_all(&settings()).await.expect("written");
        let only_one = ClientSettings { max_streams: 1, ..client_settings() };
        let shaken = Http2Client::handshake(Socket::new(near), only_one, false).await;
        let (client, _driver) = shaken.expect("HTTP/2");
        let spare = Rc::<Spare>::default();
        let client = Rc::new(client.telling(Rc::new(Returns::new(spare.clone()))));
        let reservation = client.reserve();
        assert!(!client.can_take_request() && !spare.may_be_there());
        drop(reservation);
        assert!(client.can_take_request() && spare.may_be_there());
    });
}

#[test]
fn a_request_arrives_as_http2_wants_it() {
    let mut plain = head(Method::GET, "/items?all");
    plain.headers.insert(header::HOST, HeaderValue::from_static("cart:80"));
    let mut absolute = head(Method::GET, "http://cart:80/items?all");
    absolute.headers.insert(header::HOST, HeaderValue::from_static("other"));
    let mut trailers = head(Method::GET, "http://cart:80/items?all");
    trailers.accepts_trailers = true;
    trailers.headers.insert("keep-alive", HeaderValue::from_static("5"));
    for head in [plain, absolute, trailers] {
        worker(async move {
            let (client, mut requests) = default_accepted().await;
            let responding = async {
                let (request, mut responder) = requests.recv().await.expect("a request");
                assert_eq!(request.uri(), "http://cart:80/items?all");
                assert!(!request.headers().contains_key(header::HOST));
                assert!(!request.headers().contains_key("keep-alive"));
                assert_eq!(request.headers().contains_key(header::TE), head.accepts_trailers);
                assert!(request.body().is_end_stream());
                responder.send_response(http::Response::new(()), true).expect("sent");
            };
            let (response, ()) = tokio::join!(send(&client, &head, Body::Empty), responding);
            let response = response.expect("a response");
            assert!(response.body.is_end() && response.upload.is_none());
            assert_eq!(client.in_flight(), 1, "until the body is gone");
            drop(response);
            assert_eq!(client.in_flight(), 0);
        });
    }
}

#[test]
fn targets_pass_from_sidecar_to_sidecar() {
    for (method, target, host, arrived) in [
        (Method::GET, "/a?b", Some("cart"), "http://cart/a?b"),
        (Method::GET, "/a//b/../%2f?", Some("cart:8080"), "http://cart:8080/a//b/../%2f?"),
        (Method::GET, "http://cart", Some("cart"), "http://cart/"),
        (Method::GET, "https://cart/a", None, "https://cart/a"),
        (Method::OPTIONS, "*", Some("cart"), "http://cart*"),
        (Method::OPTIONS, "/", Some("cart"), "http://cart/"),
        (Method::GET, "/", Some("[2001:db8::1]:80"), "http://[2001:db8::1]:80/"),
        (Method::GET, "/", None, "/"),
    ] {
        worker(async move {
            let (near, far) = streams().await;
            let _server = spawn_server(far, server_settings(), move |request| {
                Box::pin(async move {
                    assert_eq!(request.head.target, arrived);
                    ok(Body::Empty)
                })
            });
            let client = our_client(near).await;
            let mut head = head(method, target);
            if let Some(host) = host {
                head.headers.insert(header::HOST, HeaderValue::from_static(host));
            }
            let response = send(&client, &head, Body::Empty).await.expect("a response");
            assert_eq!(response.head.status, StatusCode::OK, "{target}");
        });
    }
}

#[test]
fn a_request_without_an_authority_is_sent_without_one() {
    worker(async {
        let (client, mut requests) = default_accepted().await;
        let responding = async {
            let (request, mut responder) = requests.recv().await.expect("a request");
            assert_eq!(request.uri(), "/path");
            responder.send_response(http::Response::new(()), true).expect("sent");
        };
        let head = head(Method::GET, "/path");
        assert!(tokio::join!(send(&client, &head, Body::Empty), responding).0.is_ok());
    });
}

#[test]
fn resets_before_the_head_say_what_they_prove() {
    for (code, reason, delivery) in [
        (Code::REFUSED_STREAM, Reason::UpstreamRefusedStream, Delivery::Nothing),
        (Code::CANCEL, Reason::UpstreamReset, Delivery::Unknown),
        (Code::INTERNAL_ERROR, Reason::UpstreamReset, Delivery::Unknown),
        (Code::NO_ERROR, Reason::UpstreamReset, Delivery::Unknown),
    ] {
        worker(async move {
            let (client, mut requests) = default_accepted().await;
            let responding = async {
                requests.recv().await.expect("a request").1.send_reset(code);
            };
            let head = get();
            let (sent, ()) = tokio::join!(send(&client, &head, Body::Empty), responding);
            let error = sent.expect_err("a reset");
            assert_eq!((error.reason, error.delivery), (reason, delivery), "{error}");
            assert!(client.can_take_request(), "a reset harms no other stream");
            assert_eq!(client.in_flight(), 0);
        });
    }
}

/// GOAWAY with this last stream and NO_ERROR.
fn go_away(last: u32) -> Vec<u8> {
    frame(7, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())
}

/// Reads frames up to the next HEADERS.
async fn read_headers(stream: &mut TcpStream) {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.expect("a frame");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.expect("a payload");
        if head[3] == 1 {
            return;
        }
    }
}

/// The same, with the client's preface before.
pub(super) async fn read_headers_behind_preface(stream: &mut TcpStream) {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.expect("the preface");
    read_headers(stream).await;
}

/// Our client, and a server of raw bytes that has exchanged settings.
async fn raw_server() -> (Rc<Http2Client>, TcpStream) {
    let (near, mut far) = streams().await;
    far.write_all(&settings()).await.expect("written");
    let client = our_client(near).await;
    let mut preface = [0; 24];
    far.read_exact(&mut preface).await.expect("the preface");
    (client, far)
}

#[test]
fn goaway_proves_delivery_by_its_last_stream() {
    for (last, reason, delivery) in [
        (0, Reason::UpstreamRefusedStream, Delivery::Nothing),
        (1, Reason::ConnectionLost, Delivery::Unknown),
    ] {
        worker(async move {
            let (client, mut server) = raw_server().await;
            let head = get();
            let responding = async {
                read_headers(&mut server).await;
                server.write_all(&go_away(last)).await.expect("written");
                server.shutdown().await.expect("shut");
            };
            let (sent, ()) = tokio::join!(send(&client, &head, Body::Empty), responding);
            let error = sent.expect_err("an error");
            assert_eq!((error.reason, error.delivery), (reason, delivery), "{error}");
            assert!(client.is_closed() && !client.can_take_request());
            let error = send(&client, &head, Body::Empty).await.expect_err("closed");
            assert_eq!(error.delivery, Delivery::Nothing);
        });
    }
}

#[test]
fn a_connection_found_closed_is_noticed_and_nothing_was_delivered() {
    worker(async {
        let (client, server) = raw_server().await;
        assert!(!client.is_closed());
        drop(server);
        until(async || client.is_closed()).await;
        let error = send(&client, &get(), Body::Empty).await.expect_err("closed");
        assert_eq!(error.delivery, Delivery::Nothing);
    });
}

#[test]
fn a_broken_connection_after_the_request_proves_nothing() {
    worker(async {
        let (client, mut server) = raw_server().await;
        let head = get();
        let breaking = async {
            read_headers(&mut server).await;
            drop(server);
        };
        let (sent, ()) = tokio::join!(send(&client, &head, Body::Empty), breaking);
        let error = sent.expect_err("broken");
        assert_eq!((error.reason, error.delivery), (Reason::ConnectionLost, Delivery::Unknown));
    });
}

#[test]
fn a_connection_that_breaks_before_anything_left_delivered_nothing() {
    worker(async {
        let (near, mut far) = streams().await;
        far.write_all(&settings()).await.expect("written");
        let socket = Socket::new(near);
        let handshake = Http2Client::handshake(socket.clone(), client_settings(), false);
        let (client, driver) = handshake.await.expect("a handshake");
        let head = get();
        let mut sending = std::pin::pin!(send(&client, &head, Body::Empty));
        assert!(futures_util::poll!(sending.as_mut()).is_pending());
        socket.abort();
        spawn_local(driver);
        let error = sending.await.expect_err("broken");
        assert_eq!((error.reason, error.delivery), (Reason::ConnectionLost, Delivery::Nothing));
    });
}

#[test]
fn an_endpoint_that_is_lost_is_noticed() {
    worker(async {
        let (near, mut server) = streams().await;
        server.write_all(&settings()).await.expect("written");
        let settings =
            ClientSettings { keep_alive: Duration::from_millis(50), ..client_settings() };
        let handshake = Http2Client::handshake(Socket::new(near), settings, false);
        let (client, driver) = handshake.await.expect("a handshake");
        spawn_local(driver);
        let head = get();
        let silent = async {
            let mut preface = [0; 24];
            server.read_exact(&mut preface).await.expect("the preface");
            read_headers(&mut server).await;
            std::future::pending::<()>().await;
        };
        let error = tokio::select! {
            sent = send(&client, &head, Body::Empty) => sent.expect_err("lost"),
            () = silent => unreachable!("it pends"),
        };
        assert_eq!((error.reason, error.delivery), (Reason::ConnectionLost, Delivery::Unknown));
        assert!(client.is_closed());
    });
}

/// Our client, which asks at this interval whether its peer lives, and a server that says no more than its settings.
async fn silent_server(interval: Duration) -> (Rc<Http2Client>, TcpStream) {
    let (near, mut server) = streams().await;
    server.write_all(&settings()).await.expect("written");
    let settings = ClientSettings { keep_alive: interval, ..client_settings() };
    (our_client_with(near, settings).await, server)
}

#[test]
fn an_endpoint_that_is_lost_while_nothing_is_asked_is_noticed_with_the_next_request() {
    worker(async {
        let interval = Duration::from_millis(100);
        let (client, _server) = silent_server(interval).await;
        // The driver has found nothing to do.
        clock::sleep(interval / 2).await;
        let head = get();
        let asked = clock::timeout(20 * interval, send(&client, &head, Body::Empty));
        let error = asked.await.expect("it is noticed").expect_err("nobody answers");
        assert_eq!(error.reason, Reason::ConnectionLost);
    });
}

#[test]
fn an_endpoint_that_is_lost_is_noticed_though_every_request_gives_up_sooner() {
    worker(async {
        let interval = Duration::from_millis(100);
        let (client, _server) = silent_server(interval).await;
        let head = get();
        let asked = async {
            while !client.is_closed() {
                let _ = clock::timeout(interval / 4, send(&client, &head, Body::Empty)).await;
                // The connection is at rest in between.
                clock::sleep(interval / 20).await;
            }
        };
        clock::timeout(20 * interval, asked).await.expect("it is noticed");
    });
}

#[test]
fn an_endpoint_that_answers_pings_may_take_its_time() {
    worker(async {
        let (near, far) = streams().await;
        let _server = spawn_server(far, server_settings(), |_| {
            Box::pin(async {
                clock::sleep(Duration::from_millis(300)).await;
                ok(Body::Empty)
            })
        });
        let settings =
            ClientSettings { keep_alive: Duration::from_millis(20), ..client_settings() };
        let handshake = Http2Client::handshake(Socket::new(near), settings, false);
        let (client, driver) = handshake.await.expect("a handshake");
        spawn_local(driver);
        for _ in 0..2 {
            assert!(send(&client, &get(), Body::Empty).await.is_ok());
        }
    });
}

#[test]
fn no_more_requests_than_the_peer_allows() {
    worker(async {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(2);
        let (client, mut requests) = accepted(&builder).await;
        let head = get();
        let first = async {
            let (_, mut responder) = requests.recv().await.expect("a request");
            responder.send_response(http::Response::new(()), false).expect("sent")
        };
        let (response, _stream) = tokio::join!(send(&client, &head, Body::Empty), first);
        let _response = response.expect("a response");
        assert!(client.can_take_request());
        let second = async {
            let (_, mut responder) = requests.recv().await.expect("a request");
            responder.send_response(http::Response::new(()), false).expect("sent")
        };
        let (response, _stream) = tokio::join!(send(&client, &head, Body::Empty), second);
        assert!(!client.can_take_request() && !client.is_closed());
        drop(response);
        assert!(client.can_take_request());
    });
}

#[test]
fn a_dropped_request_and_a_dropped_response_are_cancelled() {
    worker(async {
        let (client, mut requests) = default_accepted().await;
        let head = get();
        let sending = send(&client, &head, Body::Empty);
        let (_, mut responder) = tokio::select! {
            _ = sending => panic!("no response was sent"),
            accepted = requests.recv() => accepted.expect("a request"),
        };
        let reset = poll_fn(|cx| responder.poll_reset(cx)).await;
        assert_eq!(reset.expect("a reset"), Code::CANCEL);

        let responding = async {
            let (_, mut responder) = requests.recv().await.expect("a request");
            responder.send_response(http::Response::new(()), false).expect("sent")
        };
        let (response, mut stream) = tokio::join!(send(&client, &head, Body::Empty), responding);
        drop(response);
        let reset = poll_fn(|cx| stream.poll_reset(cx)).await;
        assert_eq!(reset.expect("a reset"), Code::CANCEL);
        assert_eq!(client.in_flight(), 0);
    });
}

#[test]
fn an_upload_goes_on_beside_the_response() {
    worker(async {
        let (client, mut requests) = default_accepted().await;
        let (sender, body) = body::channel();
        let head = head(Method::POST, "http://a/");
        let responding = async {
            let (request, mut responder) = requests.recv().await.expect("a request");
            let stream = responder.send_response(http::Response::new(()), false).expect("sent");
            (request.into_body(), stream)
        };
        let (response, (mut received, mut stream)) =
            tokio::join!(send(&client, &head, body), responding);
        let mut response = response.expect("a response");
        let upload = spawn_local(response.upload.take().expect("an upload"));
        sender.send(Ok(Frame::Data(Bytes::from_static(b"ping")))).expect("open");
        assert_eq!(received.data().await.expect("content").expect("whole"), "ping");
        stream.send_data(Bytes::from_static(b"pong"), true).expect("open");
        let Some(Ok(Frame::Data(data))) = response.body.frame().await else { panic!("content") };
        assert_eq!(data, "pong");
        assert!(response.body.frame().await.is_none());
        assert_eq!(client.in_flight(), 1, "the upload is still under way");
        drop(sender);
        assert!(upload.await.expect("no panic").is_ok());
        assert_eq!(client.in_flight(), 0);
        assert_eq!(drain_body(&mut received).await.expect("whole").0, 0);
    });
}

#[test]
fn an_upload_that_the_endpoint_does_not_want_ends_quietly() {
    worker(async {
        let (client, mut requests) = default_accepted().await;
        let (_sender, body) = body::channel();
        let head = head(Method::POST, "http://a/");
        let responding = async {
            // Dropped unread, the request is reset with NO_ERROR by the h2 crate.
            let (_, mut responder) = requests.recv().await.expect("a request");
            responder.send_response(http::Response::new(()), true).expect("sent");
        };
        let (response, ()) = tokio::join!(send(&client, &head, body), responding);
        let response = response.expect("a response");
        assert!(response.body.is_end());
        assert!(response.upload.expect("an upload").await.is_ok());
    });
}

#[test]
fn a_request_whose_body_breaks_off_is_reset() {
    worker(async {
        let (client, mut requests) = default_accepted().await;
        let (sender, body) = body::channel();
        sender.send(Ok(Frame::Data(Bytes::from_static(b"begin")))).expect("open");
        sender.send(Err(BodyError::Truncated)).expect("open");
        let head = head(Method::POST, "http://a/");
        let error = send(&client, &head, body).await.expect_err("broken");
        assert_eq!(error.reason, Reason::RequestBodyBroken);
        // The server may see the head and a reset, or the reset alone; never a clean end.
        if let Ok(Some((mut request, _))) =
            clock::timeout(Duration::from_millis(200), requests.recv()).await
        {
            let error = drain_body(request.body_mut()).await.expect_err("a reset");
            assert_eq!(error.reason(), Some(Code::INTERNAL_ERROR));
        }
    });
}

#[test]
fn a_response_that_is_reset_breaks_off() {
    worker(async {
        let (client, mut requests) = default_accepted().await;
        let head = get();
        let responding = async {
            let (_, mut responder) = requests.recv().await.expect("a request");
            responder.send_response(http::Response::new(()), false).expect("sent")
        };
        let (response, mut stream) = tokio::join!(send(&client, &head, Body::Empty), responding);
        let mut response = response.expect("a response");
        stream.send_data(Bytes::from_static(b"begin"), false).expect("open");
        assert!(matches!(response.body.frame().await, Some(Ok(Frame::Data(_)))));
        stream.send_reset(Code::ENHANCE_YOUR_CALM);
        let Some(Err(error)) = response.body.frame().await else { panic!("an error") };
        assert!(matches!(error, BodyError::Reset(ErrorCode::ENHANCE_YOUR_CALM)), "{error}");
    });
}

#[test]
fn informational_responses_are_passed_on() {
    worker(async {
        let (client, mut requests) = default_accepted().await;
        let (head, interim) = (get(), Interim::default());
        let responding = async {
            let (_, mut responder) = requests.recv().await.expect("a request");
            let hints = http::Response::builder().status(103).body(()).expect("a head");
            responder.send_informational(hints).expect("sent");
            responder.send_response(http::Response::new(()), true).expect("sent");
        };
        let sending = client.send(&head, Body::Empty, &interim);
        let (response, ()) = tokio::join!(sending, responding);
        assert_eq!(response.expect("a response").head.status, StatusCode::OK);
        assert_eq!(interim.try_next().expect("hints").status, StatusCode::EARLY_HINTS);
    });
}

#[test]
fn with_all_but_one_response_stalled_the_last_runs() {
    worker(async {
        let (client, mut requests) = default_accepted().await;
        let window = client_settings().stream_window as usize;
        let head = get();
        let mut stalled = Vec::new();
        for _ in 0..99 {
            let responding = async {
                let (_, mut responder) = requests.recv().await.expect("a request");
                let mut stream =
                    responder.send_response(http::Response::new(()), false).expect("sent");
                push(&mut stream, window).await.expect("the window of a stream");
                stream
            };
            stalled.push(tokio::join!(send(&client, &head, Body::Empty), responding));
        }
        let responding = async {
            let (_, mut responder) = requests.recv().await.expect("a request");
            let mut stream = responder.send_response(http::Response::new(()), false).expect("sent");
            push(&mut stream, 8 * 1024 * 1024).await.expect("window all the time");
            stream.send_data(Bytes::new(), true).expect("open");
        };
        let receiving = async {
            let mut response = send(&client, &head, Body::Empty).await.expect("a response");
            let mut size = 0;
            while let Some(frame) = response.body.frame().await {
                let Frame::Data(data) = frame.expect("whole") else { panic!("no trailers") };
                size += data.len();
            }
            size
        };
        assert_eq!(tokio::join!(receiving, responding).0, 8 * 1024 * 1024);
    });
}
