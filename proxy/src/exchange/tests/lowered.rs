//! A limit of connections that comes, or is lowered, while there are more: their number comes down to it, and no request
//! fails for it. And who is counted while the connections are limited.

use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_proto::{Port, discovery::Protocol};

use super::{
    places::{GET, ask_http2, limited, patient, until},
    run,
    stage::{Application, Reply, Stage},
};
use crate::{
    clock,
    discovery::{Destination, Endpoint, ServiceState},
    net::TcpListener,
    policy::{gate::Answer, limits::ServiceLimits},
};

/// An application that answers when it is let, and knows how many connections it has.
#[derive(Clone, Default)]
pub(super) struct App {
    open: Rc<Cell<usize>>,
    pub(super) asked: Rc<Cell<usize>>,
    pub(super) answers: Rc<Cell<bool>>,
}

impl App {
    async fn listen(&self) -> (TcpListener, Endpoint) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address: SocketAddr = listener.local_addr().expect("bound");
        (listener, Endpoint::plain(address, Port::new(address.port()).expect("bound")))
    }

    pub(super) async fn http1(&self) -> Endpoint {
        let (listener, endpoint) = self.listen().await;
        let app = self.clone();
        tokio::task::spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let app = app.clone();
                tokio::task::spawn_local(async move {
                    app.open.set(app.open.get() + 1);
                    let mut received = Vec::new();
                    while let Ok(1..) = stream.read_buf(&mut received).await {
                        if received.ends_with(b"\r\n\r\n") {
                            received.clear();
                            app.answer().await;
                            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                            let _ = stream.write_all(answer).await;
                        }
                    }
                    app.open.set(app.open.get() - 1);
                });
            }
        });
        endpoint
    }

    pub(super) async fn http2(&self) -> Endpoint {
        let (listener, endpoint) = self.listen().await;
        let app = self.clone();
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let app = app.clone();
                tokio::task::spawn_local(async move {
                    app.open.set(app.open.get() + 1);
                    if let Ok(mut requests) = h2::server::handshake(stream).await {
                        while let Some(Ok((_, mut respond))) = requests.accept().await {
                            let app = app.clone();
                            tokio::task::spawn_local(async move {
                                app.answer().await;
                                let _ = respond.send_response(Response::new(()), true);
                            });
                        }
                    }
                    app.open.set(app.open.get() - 1);
                });
            }
        });
        endpoint
    }

    async fn answer(&self) {
        self.asked.set(self.asked.get() + 1);
        until("leave to answer", || self.answers.get()).await;
    }
}

/// The service with so many connections, from now on.
fn pin(
    stage: &Stage,
    endpoint: &Endpoint,
    protocol: Protocol,
    state: &Arc<ServiceState>,
    limits: Option<ServiceLimits>,
) {
    let endpoint = Endpoint::plain(endpoint.address, endpoint.app_port);
    let next = limited(vec![endpoint], ServiceLimits::default());
    let limits = limits.map(Arc::new);
    stage.pin_destination(Destination { state: state.clone(), protocol, limits, ..next });
}

fn is_served(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn idle_connections_come_down_to_a_limit_that_comes_and_then_to_a_lower_one_in_all_workers() {
    run(async {
        let (stage, app, state) = (Stage::new(), App::default(), Arc::default());
        let endpoint = app.http1().await;
        let workers = [stage.worker(), stage.worker()];
        let pin = |limits| pin(&stage, &endpoint, Protocol::Http1, &state, limits);
        pin(None);
        let release = async {
            until("all to be asked", || app.asked.get() == 6).await;
            app.answers.set(true);
        };
        let asking = (0..6).map(|number| stage.ask_at(&workers[number % 2], GET));
        let (answers, ()) = tokio::join!(join_all(asking), release);
        answers.iter().for_each(|answer| is_served(answer));
        assert_eq!((app.open.get(), state.connections.out()), (6, 0));
        pin(Some(patient(0, 4)));
        for worker in &workers {
            is_served(&stage.ask_at(worker, GET).await);
        }
        until("the connections to be four", || app.open.get() == 4).await;
        assert_eq!(state.connections.out(), 4, "those that had room were kept");
        pin(Some(patient(0, 1)));
        is_served(&stage.ask_at(&workers[0], GET).await);
        until("the connections to be one", || app.open.get() == 1).await;
        assert_eq!(state.connections.out(), 1);
        pin(None);
        is_served(&stage.ask_at(&workers[0], GET).await);
    });
}

#[test]
fn connections_in_use_come_down_to_the_limit_when_they_come_back() {
    run(async {
        for before in [None, Some(patient(0, 4))] {
            let (stage, app, state) = (Stage::new(), App::default(), Arc::default());
            let endpoint = app.http1().await;
            let pin = |limits| pin(&stage, &endpoint, Protocol::Http1, &state, limits);
            pin(before);
            let change = async {
                until("all to be asked", || app.asked.get() == 4).await;
                pin(Some(patient(0, 2)));
                let release = async {
                    clock::sleep(Duration::from_millis(20)).await;
                    app.answers.set(true);
                };
                tokio::join!(stage.ask(GET), release).0
            };
            let asking = join_all((0..4).map(|_| stage.ask(GET)));
            let (answers, further) = tokio::join!(asking, change);
            answers.iter().chain([&further]).for_each(|answer| is_served(answer));
            until("the connections to be two", || app.open.get() <= 2).await;
            assert!(state.connections.out() <= 2);
        }
    });
}

#[test]
fn shared_connections_come_down_to_the_limit_under_load() {
    run(async {
        for before in [None, Some(patient(0, 2))] {
            let (stage, app, state) = (Stage::new(), App::default(), Arc::default());
            let endpoint = app.http2().await;
            app.answers.set(true);
            let workers = [stage.worker(), stage.worker()];
            let pin = |limits| pin(&stage, &endpoint, Protocol::Http2, &state, limits);
            pin(before);
            let is_over = Cell::new(false);
            let load = workers.iter().cycle().take(4).map(|worker| async {
                while !is_over.get() {
                    assert_eq!(ask_http2(stage.connect_to(worker).await).await, 200);
                }
            });
            let change = async {
                until("both to have a connection", || app.open.get() == 2).await;
                pin(Some(patient(0, 1)));
                until("one to be left", || app.open.get() == 1).await;
                is_over.set(true);
            };
            tokio::join!(join_all(load), change);
            assert!(state.connections.out() <= 1);
        }
    });
}

#[test]
fn each_who_waits_for_a_shared_connection_is_counted_and_waits_no_longer_than_it_may() {
    run(async {
        let (stage, app, state) = (Stage::new(), App::default(), Arc::default());
        let endpoint = app.http2().await;
        let max_wait = Duration::from_secs(2);
        let limits = ServiceLimits { max_pending: 2, max_wait, ..patient(0, 1) };
        pin(&stage, &endpoint, Protocol::Http2, &state, Some(limits));
        let _held = state.connections.now(1).expect("room");
        let ask = async || {
            let began = clock::now();
            let status = ask_http2(stage.connect().await).await;
            (status, began.elapsed())
        };
        let later = async {
            until("the first to wait", || state.connections.waiting() == 1).await;
            clock::sleep(max_wait / 2).await;
            let third = async {
                until("both to wait", || state.connections.waiting() == 2).await;
                ask().await
            };
            tokio::join!(ask(), third)
        };
        let (first, (second, third)) = tokio::join!(ask(), later);
        assert_eq!([first.0, second.0, third.0], [503; 3]);
        assert!(third.1 < max_wait / 2, "it is one too many: {:?}", third.1);
        for (_, waited) in [first, second] {
            assert!(waited >= max_wait && waited < max_wait * 5 / 4, "{waited:?}");
        }
        assert_eq!(state.connections.waiting(), 0);
    });
}

#[test]
fn an_http1_request_learns_that_a_shared_connection_goes_on_though_nothing_came_back() {
    run(async {
        let stage = Stage::new();
        let app = Application::start(|number| match number {
            0..5 => Reply::Silence,
            _ => Reply::status("200 OK", "", "hi"),
        })
        .await;
        let endpoint = stage.meshed(app.address, Protocol::Http1).await;
        let destination = limited(vec![endpoint], patient(0, 5));
        let (state, endpoints) = (destination.state.clone(), destination.endpoints.clone());
        stage.pin_destination(destination);
        let mut held = Vec::new();
        for number in 1..=5 {
            let mut socket = stage.connect().await;
            let request = b"GET / HTTP/1.1\r\nHost: cart\r\n\r\n";
            socket.write_all(request).await.expect("it is open");
            socket.flush().await.expect("it is open");
            held.push(socket);
            until("it to arrive", || app.count() == number).await;
        }
        // The last one is on a shared connection.
        held.drain(..4);
        let gate = &state.connections;
        until("the others to have ended", || gate.out() == 1).await;
        let next = limited(Vec::new(), patient(0, 1));
        stage.pin_destination(Destination { state: state.clone(), endpoints, ..next });
        let Answer::Wait(other) = gate.ask(1, usize::MAX) else { panic!("there is room") };
        clock::sleep(crate::pool::TERM).await;
        let leave = async {
            until("it to wait", || gate.waiting() == 2).await;
            drop(other);
        };
        let asking = clock::timeout(Duration::from_secs(5), stage.ask(GET));
        let (answer, ()) = tokio::join!(asking, leave);
        is_served(&answer.expect("it learns of it"));
    });
}

#[test]
fn as_many_wait_as_the_policy_says_though_an_endpoint_may_have_fewer_connections() {
    run(async {
        let (app, state) = (App::default(), Arc::default());
        let stage = Stage::with(&["--pool-max-connections=2"]);
        let endpoint = app.http1().await;
        pin(&stage, &endpoint, Protocol::Http1, &state, Some(patient(0, 1)));
        let release = async {
            until("the others to wait", || state.connections.waiting() == 7).await;
            app.answers.set(true);
        };
        let (answers, ()) = tokio::join!(join_all((0..8).map(|_| stage.ask(GET))), release);
        answers.iter().for_each(|answer| is_served(answer));
        assert_eq!(app.asked.get(), 8);
    });
}
