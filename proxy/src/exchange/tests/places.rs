//! Places among a service's requests and connections: who waits for one and in which order, who takes one for how long.

use std::{sync::Arc, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    run,
    stage::{Application, Reply, Stage},
};
use crate::{
    clock,
    discovery::{Destination, Endpoint, ServiceState},
    io::Socket,
    policy::{RequestPolicy, limits::ServiceLimits},
};

const GET: &str = "GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n";
const UPGRADE: &str =
    "GET /upgrade HTTP/1.1\r\nHost: cart\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
const UPGRADED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";

/// A service with these limits, whose requests are sent once.
fn limited(endpoints: Vec<Endpoint>, limits: ServiceLimits) -> Destination {
    let mut destination = Destination::empty("shop/cart:80".into());
    destination.endpoints = endpoints.into_iter().map(Arc::new).collect();
    let mut requests = RequestPolicy::default();
    requests.retry.attempts = 0;
    destination.requests = Arc::new(requests);
    destination.limits = Some(Arc::new(limits));
    destination
}

fn patient(max_in_flight: u32, max_connections: u32) -> ServiceLimits {
    ServiceLimits {
        max_in_flight,
        max_connections,
        max_wait: Duration::from_secs(20),
        ..ServiceLimits::default()
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
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
