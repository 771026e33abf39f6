//! Places among a service's requests and connections: who waits for one and in which order, who takes one for how long.

use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::{Request, Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};

use weft_proto::{Port, discovery::Protocol};

use super::{
    run,
    stage::{Application, Reply, Stage},
};
use crate::{
    clock,
    discovery::{Destination, Endpoint, ServiceState},
    io::Socket,
    net::TcpListener,
    policy::{RequestPolicy, limits::ServiceLimits},
    shared::Shared,
};

pub(super) const GET: &str = "GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n";
const UPGRADE: &str =
    "GET /upgrade HTTP/1.1\r\nHost: cart\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
const UPGRADED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";

/// A service with these limits, whose requests are sent once.
pub(super) fn limited(endpoints: Vec<Endpoint>, limits: ServiceLimits) -> Destination {
    let mut destination = Destination::empty("shop/cart:80".into());
    destination.endpoints = endpoints.into_iter().map(Arc::new).collect();
    let mut requests = RequestPolicy::default();
    requests.retry.attempts = 0;
    destination.requests = Arc::new(requests);
    destination.limits = Some(Arc::new(limits));
    destination
}

pub(super) fn patient(max_in_flight: u32, max_connections: u32) -> ServiceLimits {
    ServiceLimits {
        max_in_flight,
        max_connections,
        max_wait: Duration::from_secs(20),
        ..ServiceLimits::default()
    }
}

pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            clock::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(clock::timeout(Duration::from_secs(10), wait).await.is_ok(), "waited for {what}");
}

async fn send(socket: &mut Socket, bytes: &str) {
    socket.write_all(bytes.as_bytes()).await.expect("it is open");
    socket.flush().await.expect("it is open");
}

fn waiting(state: &ServiceState) -> usize {
    state.requests.waiting() + state.connections.waiting()
}

#[test]
fn an_upgraded_connection_keeps_its_places_until_both_directions_have_ended() {
    run(async {
        for limits in [patient(1, 0), patient(0, 1)] {
            let stage = Stage::new();
            let app = Application::start(|n| match n {
                0 => Reply::Bytes(UPGRADED.to_owned()),
                _ => Reply::status("200 OK", "", "hi"),
            })
            .await;
            let destination = limited(vec![app.plain()], limits);
            let state = destination.state.clone();
            stage.pin_destination(destination);
            let mut upgraded = stage.connect().await;
            send(&mut upgraded, UPGRADE).await;
            let mut head = [0; 12];
            upgraded.read_exact(&mut head).await.expect("an answer");
            assert_eq!(&head, b"HTTP/1.1 101");
            let out = state.requests.out() + state.connections.out();
            assert_eq!(out, 1, "it is work in flight");
            let next = async {
                until("the next to wait", || waiting(&state) == 1).await;
                // The application's side is still open.
                upgraded.shutdown().await.expect("it is open");
                let mut rest = Vec::new();
                upgraded.read_to_end(&mut rest).await.expect("it ends");
            };
            let (answer, ()) = tokio::join!(stage.ask(GET), next);
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    });
}

#[test]
fn who_waits_is_served_in_the_order_of_arrival_and_who_leaves_is_left_out() {
    run(async {
        let stage = Stage::new();
        let app = Application::start(|n| match n {
            0 => Reply::Silence,
            _ => Reply::status("200 OK", "", "hi"),
        })
        .await;
        let destination = limited(vec![app.plain()], patient(1, 0));
        let state = destination.state.clone();
        stage.pin_destination(destination);
        let mut first = stage.connect().await;
        send(&mut first, "GET /0 HTTP/1.1\r\nHost: cart\r\n\r\n").await;
        until("the first to arrive", || app.count() == 1).await;
        let mut line = Vec::new();
        for number in 1..=6 {
            let mut socket = stage.connect().await;
            send(&mut socket, &format!("GET /{number} HTTP/1.1\r\nHost: cart\r\n\r\n")).await;
            until("it to wait", || state.requests.waiting() == number).await;
            line.push(socket);
        }
        drop(line.remove(2));
        until("the third to have left", || state.requests.waiting() == 5).await;
        drop(first);
        until("the others to be served", || app.count() == 6).await;
        let asked = app.asked.borrow();
        let paths: Vec<_> = asked.iter().map(|request| &request[..6]).collect();
        assert_eq!(paths[1..], ["GET /1", "GET /2", "GET /4", "GET /5", "GET /6"]);
    });
}

/// A service that may have one connection, and two workers that need it.
struct Contended {
    stage: Stage,
    state: Arc<ServiceState>,
    workers: [Rc<Shared>; 2],
}

impl Contended {
    fn new(endpoint: Endpoint, protocol: Protocol) -> Self {
        let stage = Stage::new();
        let limits = ServiceLimits { max_wait: Duration::from_secs(5), ..patient(0, 1) };
        let mut destination = limited(vec![endpoint], limits);
        destination.protocol = protocol;
        let state = destination.state.clone();
        stage.pin_destination(destination);
        let workers = [stage.worker(), stage.worker()];
        Self { stage, state, workers }
    }

    /// Requests of each worker in turn, so that the other has an idle connection; then four at once of the first for as
    /// long as the second needs for some.
    async fn check<F: Future<Output = ()>>(&self, ask: impl Fn(Rc<Shared>) -> F) {
        let began = clock::now();
        for worker in self.workers.iter().cycle().take(6) {
            ask(worker.clone()).await;
            assert!(self.state.connections.out() <= 1);
        }
        assert!(began.elapsed() < Duration::from_secs(3), "idle connections are given up");
        let [busy, other] = &self.workers;
        let is_over = Cell::new(false);
        let load = (0..4).map(|_| async {
            while !is_over.get() {
                ask(busy.clone()).await;
            }
        });
        let few = async {
            for _ in 0..5 {
                ask(other.clone()).await;
                assert!(self.state.connections.out() <= 1);
            }
            is_over.set(true);
        };
        tokio::join!(join_all(load), few);
    }
}

#[test]
fn a_connection_is_handed_from_worker_to_worker_over_http1() {
    run(async {
        let app = Application::start(|_| Reply::status("200 OK", "", "hi")).await;
        let contended = Contended::new(app.plain(), Protocol::Http1);
        contended
            .check(|worker| {
                let stage = &contended.stage;
                async move {
                    let answer = stage.ask_at(&worker, GET).await;
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                }
            })
            .await;
    });
}

/// An application that answers each HTTP/2 request after a moment.
pub(super) async fn http2_app() -> SocketAddr {
    serve_http2(async || {}).await
}

/// The same, which begins with each connection when it is told to.
async fn http2_app_that_begins(told: Rc<Notify>) -> SocketAddr {
    serve_http2(async move || told.notified().await).await
}

async fn serve_http2(begins: impl AsyncFn() + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            begins().await;
            tokio::task::spawn_local(async move {
                let Ok(mut requests) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((_, mut respond))) = requests.accept().await {
                    tokio::task::spawn_local(async move {
                        clock::sleep(Duration::from_millis(5)).await;
                        let _ = respond.send_response(Response::new(()), true);
                    });
                }
            });
        }
    });
    address
}

/// The status of the answer to one HTTP/2 request.
pub(super) async fn ask_http2(socket: Socket) -> u16 {
    let (sender, connection) = h2::client::handshake(socket).await.expect("HTTP/2");
    let answer = async {
        let mut sender = sender.ready().await.expect("open");
        let request = Request::get("http://cart/").body(()).expect("valid");
        let (response, _) = sender.send_request(request, true).expect("open");
        response.await.expect("an answer").status().as_u16()
    };
    tokio::select! {
        status = answer => status,
        ended = connection => panic!("before the answer: {ended:?}"),
    }
}

#[test]
fn a_connection_is_handed_from_worker_to_worker_over_http2_though_it_is_never_idle() {
    run(async {
        let address = http2_app().await;
        let endpoint = Endpoint::plain(address, Port::new(address.port()).expect("bound"));
        let contended = Contended::new(endpoint, Protocol::Http2);
        contended
            .check(|worker| {
                let stage = &contended.stage;
                async move {
                    assert_eq!(ask_http2(stage.connect_to(&worker).await).await, 200);
                }
            })
            .await;
    });
}

#[test]
fn an_opaque_connection_waits_for_one_of_another_worker_to_end() {
    run(async {
        let app = Application::start(|_| Reply::status("200 OK", "", "hi")).await;
        let contended = Contended::new(app.plain(), Protocol::Tcp);
        let (stage, [one, other]) = (&contended.stage, &contended.workers);
        let request = "GET / HTTP/1.1\r\nHost: cart\r\n\r\n";
        let mut first = stage.connect_to(one).await;
        send(&mut first, request).await;
        until("the first to be served", || app.count() == 1).await;
        let mut second = stage.connect_to(other).await;
        send(&mut second, request).await;
        until("the second to wait", || contended.state.connections.waiting() == 1).await;
        drop(first);
        let mut head = [0; 12];
        second.read_exact(&mut head).await.expect("an answer");
        assert_eq!(&head, b"HTTP/1.1 200");
    });
}

#[test]
fn a_connection_that_nobody_has_waited_for_to_its_end_is_given_up_for_those_elsewhere() {
    run(async {
        let may_answer = Rc::new(Notify::new());
        let address = http2_app_that_begins(may_answer.clone()).await;
        let endpoint = Endpoint::plain(address, Port::new(address.port()).expect("bound"));
        let contended = Contended::new(endpoint, Protocol::Http2);
        let (stage, [one, other]) = (&contended.stage, &contended.workers);
        let left = tokio::task::spawn_local(ask_http2(stage.connect_to(one).await));
        until("a place to be taken", || contended.state.connections.out() == 1).await;
        let waits = tokio::task::spawn_local(ask_http2(stage.connect_to(other).await));
        until("the other to wait", || contended.state.connections.waiting() == 1).await;
        left.abort();
        assert!(left.await.is_err_and(|error| error.is_cancelled()));
        until("the request to be gone", || stage.count("weft_requests_total", "499") > 0.0).await;
        may_answer.notify_one();
        until("the place to change hands", || contended.state.connections.waiting() == 0).await;
        may_answer.notify_one();
        assert_eq!(waits.await.expect("it ends"), 200);
    });
}

#[test]
fn a_connection_that_nobody_waits_for_any_more_leaves_the_line() {
    run(async {
        let address = http2_app().await;
        let endpoint = Endpoint::plain(address, Port::new(address.port()).expect("bound"));
        let contended = Contended::new(endpoint, Protocol::Http2);
        let (stage, [_, worker]) = (&contended.stage, &contended.workers);
        let connections = &contended.state.connections;
        let held = connections.now(1).expect("there is room");
        let leaves = tokio::task::spawn_local(ask_http2(stage.connect_to(worker).await));
        until("it to wait", || connections.waiting() == 1).await;
        let began = clock::now();
        leaves.abort();
        until("it to leave", || connections.waiting() == 0).await;
        assert!(began.elapsed() < Duration::from_secs(3), "not when its time is up");
        drop(held);
        assert_eq!(ask_http2(stage.connect_to(worker).await).await, 200);
    });
}

#[test]
fn an_opaque_connection_that_has_no_place_in_time_does_not_line_up_again() {
    run(async {
        let stage = Stage::new();
        let app = Application::start(|_| Reply::status("200 OK", "", "hi")).await;
        let max_wait = Duration::from_secs(1);
        let limits = ServiceLimits { max_wait, ..patient(0, 1) };
        let mut destination = limited(vec![app.plain()], limits);
        destination.protocol = Protocol::Tcp;
        stage.pin_destination(destination);
        let mut first = stage.connect().await;
        send(&mut first, "GET / HTTP/1.1\r\nHost: cart\r\n\r\n").await;
        until("the first to be served", || app.count() == 1).await;
        let began = clock::now();
        let mut second = stage.connect().await;
        let ended = second.read(&mut [0; 1]).await;
        assert!(!matches!(ended, Ok(1..)), "{ended:?}");
        assert!(began.elapsed() < 2 * max_wait, "it waits once: {:?}", began.elapsed());
    });
}

#[test]
fn who_waited_is_sent_to_an_endpoint_that_is_there_when_the_wait_is_over() {
    run(async {
        let stage = Stage::new();
        let before = Application::start(|_| Reply::Silence).await;
        let after = Application::start(|_| Reply::status("200 OK", "", "hi")).await;
        let destination = limited(vec![before.plain()], patient(1, 0));
        let state = destination.state.clone();
        stage.pin_destination(destination);
        let mut first = stage.connect().await;
        send(&mut first, "GET / HTTP/1.1\r\nHost: cart\r\n\r\n").await;
        until("the first to arrive", || before.count() == 1).await;
        let change = async {
            until("the second to wait", || state.requests.waiting() == 1).await;
            let state = state.clone();
            let next = limited(vec![after.plain()], patient(1, 0));
            stage.pin_destination(Destination { state, ..next });
            drop(first);
        };
        let (answer, ()) = tokio::join!(stage.ask(GET), change);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!((before.count(), after.count()), (1, 1));
    });
}
