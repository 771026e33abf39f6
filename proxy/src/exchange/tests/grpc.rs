//! gRPC calls: codes that are tried again, and deadlines that shrink on their way.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use weft_proto::{Port, discovery::Protocol};

use super::{run, stage::Stage};
use crate::{
    clock,
    discovery::{Destination, Endpoint},
    http::{Fields, grpc},
    net::TcpListener,
    policy::{
        RequestPolicy,
        breaker::BreakerSettings,
        retry::{Backoff, RetryPolicy},
    },
};

/// What an application does with a call.
#[derive(Clone, Copy)]
enum Reply {
    /// A head alone, with this code.
    Code(u16),
    Silence,
}

/// A gRPC application that answers by the number of the call, and notes the calls' fields.
struct Application {
    address: SocketAddr,
    asked: Rc<RefCell<Vec<Fields>>>,
}

impl Application {
    async fn start(answer: impl Fn(usize) -> Reply + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let asked: Rc<RefCell<Vec<Fields>>> = Rc::default();
        let (notes, answer) = (asked.clone(), Rc::new(answer));
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (notes, answer) = (notes.clone(), answer.clone());
                tokio::task::spawn_local(async move {
                    let Ok(mut calls) = h2::server::handshake(stream).await else { return };
                    let mut held = Vec::new();
                    while let Some(Ok((request, mut respond))) = calls.accept().await {
                        let number = notes.borrow().len();
                        notes.borrow_mut().push(fields(request.headers()));
                        match answer(number) {
                            Reply::Code(code) => {
                                let response = Response::builder()
                                    .header("content-type", "application/grpc")
                                    .header("grpc-status", code)
                                    .body(())
                                    .expect("valid");
                                let _ = respond.send_response(response, true);
                            }
                            Reply::Silence => held.push((request, respond)),
                        }
                    }
                });
            }
        });
        Self { address, asked }
    }

    fn plain(&self) -> Endpoint {
        Endpoint::plain(self.address, Port::new(self.address.port()).expect("bound"))
    }
}

fn pin(stage: &Stage, endpoint: Endpoint, requests: RequestPolicy) {
    let mut destination = Destination::empty("shop/cart:80".into());
    destination.protocol = Protocol::Grpc;
    destination.endpoints.push(endpoint.into());
    destination.requests = requests.into();
    stage.pin_destination(destination);
}

/// The fields of the answer to one call that its caller gives this much time.
async fn call(stage: &Stage, timeout: &str) -> Fields {
    let socket = stage.connect().await;
    let (mut sender, connection) = h2::client::handshake(socket).await.expect("HTTP/2");
    let driver = tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    let request = Request::builder()
        .method("POST")
        .uri("http://cart/shop.Cart/Get")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", timeout)
        .body(())
        .expect("valid");
    let (response, mut body) = sender.send_request(request, false).expect("open");
    body.send_data(Bytes::from_static(&[0; 5]), true).expect("open");
    let response = response.await.expect("an answer");
    driver.abort();
    fields(response.headers())
}

fn fields(map: &http::HeaderMap) -> Fields {
    map.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn retrying() -> RequestPolicy {
    let retry = RetryPolicy {
        attempts: 2,
        backoff: Backoff { base: Duration::ZERO, max: Duration::ZERO },
        grpc_codes: [14].into(),
        unsafe_methods: true,
        ..RetryPolicy::default()
    };
    RequestPolicy { retry, ..RequestPolicy::default() }
}

#[test]
fn a_code_is_tried_again_where_the_policy_says_that_it_is_safe() {
    run(async {
        let stage = Stage::new();
        let app = Application::start(|n| Reply::Code(if n == 0 { 14 } else { 0 })).await;
        let mut careful = retrying();
        careful.retry.unsafe_methods = false;
        pin(&stage, app.plain(), careful);
        assert_eq!(grpc::status(&call(&stage, "5S").await), Some(14), "passed on as it is");
        app.asked.borrow_mut().clear();
        pin(&stage, app.plain(), retrying());
        let answer = call(&stage, "5S").await;
        assert_eq!(
            (grpc::status(&answer), &answer["weft-attempts"]),
            (Some(0), &"2".parse().expect("valid"))
        );
        assert_eq!(stage.count("weft_retries_total", "grpc-status"), 1.0);
        assert_eq!(stage.count("weft_retries_withheld_total", "unsafe"), 1.0);
    });
}

#[test]
fn a_callers_deadline_shrinks_across_sidecars_and_ends_the_call() {
    run(async {
        let stage = Stage::new();
        let app =
            Application::start(|n| if n == 0 { Reply::Code(0) } else { Reply::Silence }).await;
        let endpoint = stage.meshed(app.address, Protocol::Grpc).await;
        pin(&stage, endpoint, RequestPolicy::default());
        assert_eq!(grpc::status(&call(&stage, "5S").await), Some(0));
        let left = grpc::timeout(&app.asked.borrow()[0]).expect("handed on");
        assert!(left < Duration::from_secs(5) && left > Duration::from_secs(4), "{left:?}");
        assert!(!app.asked.borrow()[0].contains_key("weft-deadline"));
        let answer = call(&stage, "100m").await;
        assert_eq!(grpc::status(&answer), Some(4));
        assert_eq!(answer["weft-reason"], "deadline-exceeded");
        let expired = call(&stage, "0n").await;
        assert_eq!(grpc::status(&expired), Some(4));
        assert_eq!(app.asked.borrow().len(), 2, "work for an expired call is not begun");
    });
}

/// One failure ejects an endpoint.
fn pin_breaking(stage: &Stage, endpoint: Endpoint) {
    let settings = BreakerSettings {
        consecutive_path_failures: 1,
        base_ejection: Duration::from_secs(60),
        panic_percent: 0,
        ..BreakerSettings::default()
    };
    let mut destination = Destination::empty("shop/cart:80".into());
    destination.protocol = Protocol::Grpc;
    destination.endpoints.push(endpoint.into());
    destination.breaking = Some(settings.into());
    stage.pin_destination(destination);
}

#[test]
fn an_endpoint_that_hangs_until_its_callers_deadline_has_failed() {
    run(async {
        for has_sidecar in [false, true] {
            let stage = Stage::new();
            let app = Application::start(|_| Reply::Silence).await;
            let endpoint = match has_sidecar {
                true => stage.meshed(app.address, Protocol::Grpc).await,
                false => app.plain(),
            };
            pin_breaking(&stage, endpoint);
            assert_eq!(grpc::status(&call(&stage, "200m").await), Some(4));
            let ejected = stage.count("weft_ejections_total", "consecutive-path-failures");
            assert_eq!(ejected, 1.0, "{has_sidecar}");
        }
    });
}

#[test]
fn a_caller_that_leaves_at_its_deadline_leaves_for_the_endpoints_sake_and_one_before_does_not() {
    run(async {
        for (leaves_after, ejections) in [(300, 0.0), (1_000, 1.0)] {
            let stage = Stage::new();
            let app = Application::start(|_| Reply::Silence).await;
            pin_breaking(&stage, app.plain());
            let leaves_after = Duration::from_millis(leaves_after);
            let left = clock::timeout(leaves_after, call(&stage, "1S")).await;
            left.expect_err("nothing answers");
            while stage.count("weft_requests_total", "499") < 1.0 {
                clock::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(stage.count("weft_ejections_total", "shop/cart:80"), ejections);
        }
    });
}
