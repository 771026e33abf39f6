//! Connections on which nothing has come yet: opened ahead of their first request, or waiting for the server.

use std::time::Duration;

use super::{
    limits::{limited_within, narrow},
    scene::*,
    *,
};
use crate::policy::authz::{Effect, Rule as AccessRule};

fn permissive(port: InboundPort) -> InboundPort {
    InboundPort { strict: false, ..port }
}

fn open(protocol: Protocol) -> InboundPort {
    permissive(InboundPort::plain(protocol, "shop/cart:80".into()))
}

/// Longer than a head may take in these tests.
async fn long() {
    // The pause is what is tested.
    clock::sleep(Duration::from_millis(150)).await;
}

const IMPATIENT: &[&str] = &["--header-timeout=20ms"];

#[test]
fn a_connection_that_is_opened_ahead_of_its_first_request_is_served_when_that_comes() {
    let test = async {
        let with_rules = permissive(port(
            Protocol::Unspecified,
            vec![AccessRule { operations: within("/"), ..rule(Effect::Allow) }],
            true,
        ));
        for policy in [open(Protocol::Http1), with_rules] {
            let is_declared = policy.protocol == Protocol::Http1;
            let scene = Scene::under(policy, IMPATIENT).await;
            let mut redirected = scene.stranger().await;
            // At the proxy's own port, of which only a declared protocol says what may come.
            let mut direct = Client(scene.sidecar.connect(None).await);
            let mut meshed = scene.web(Alpn::Tcp).await;
            long().await;
            assert_eq!(scene.app.saw("connection"), 0);
            for client in [&mut redirected, &mut meshed] {
                let answer = client.get("/").await;
                assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            }
            // Answered by the proxy itself: such a connection's application is looked for on loopback.
            let answer = direct.get("/").await;
            assert_eq!(answer.starts_with("HTTP/1.1 503 "), is_declared, "{answer}");
        }
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn it_ends_cleanly_like_a_kept_one_that_is_not_used() {
    let test = async {
        let scene = Scene::under(open(Protocol::Http1), &["--client-idle-timeout=50ms"]).await;
        let mut client = scene.stranger().await;
        let ended = soon("the end", client.0.read(&mut [0; 1])).await;
        assert_eq!(ended.expect("no reset"), 0);
        assert_eq!(scene.sidecar.refused(Reason::IdleTimeout), 1);

        for protocol in [Protocol::Http1, Protocol::Unspecified] {
            let scene = Scene::with(open(protocol)).await;
            let mut client = scene.stranger().await;
            long().await;
            scene.sidecar.drain.start();
            let ended = soon("the end", client.0.read(&mut [0; 1])).await;
            assert_eq!(ended.expect("no reset"), 0);
        }
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn a_silent_connection_ends_when_it_is_no_longer_allowed() {
    let test = async {
        for protocol in [Protocol::Http1, Protocol::Unspecified, Protocol::Tcp] {
            let scene = Scene::with(open(protocol)).await;
            let mut client = scene.stranger().await;
            long().await;
            scene.change(InboundPort { strict: true, ..open(protocol) });
            assert_eq!(client.rest().await, "");
            scene.refused(Reason::PolicyChanged, 1).await;
        }
    };
    worker::run(test).expect("a runtime");
}

/// Takes the only place of a port with [`narrow`] limits.
async fn hold(scene: &Scene) -> Client {
    let mut held = scene.web(Alpn::Http1).await;
    held.send("GET /hold HTTP/1.1\r\nHost: cart\r\n\r\n").await;
    until("the request to arrive", || scene.app.saw("/hold") == 1).await;
    held
}

fn waiting(scene: &Scene) -> u32 {
    scene.metric("weft_concurrency_waiting", &[])
}

#[test]
fn the_application_is_dialled_for_a_silent_client_in_its_turn_alone() {
    let test = async {
        let limits = || permissive(InboundPort { protocol: Protocol::Unspecified, ..narrow(1, 1) });
        let scene = Scene::with(limits()).await;
        let mut held = hold(&scene).await;
        let silent = scene.stranger().await;
        until("it to wait", || waiting(&scene) == 1).await;
        drop(silent);
        until("it to wait no longer", || waiting(&scene) == 0).await;

        // Who turns out to speak HTTP waits as a request, and who speaks something else keeps its place in the line.
        let mut http = scene.stranger().await;
        until("it to wait", || waiting(&scene) == 1).await;
        http.send("GET /next HTTP/1.1\r\nHost: cart\r\n\r\n").await;
        scene.app.release();
        assert!(held.answer().await.ends_with("hi") && http.answer().await.ends_with("hi"));

        let scene = Scene::with(limits()).await;
        let _held = hold(&scene).await;
        let mut opaque = scene.stranger().await;
        until("it to wait", || waiting(&scene) == 1).await;
        let dialled = scene.app.saw("connection");
        opaque.send("*1\r\n").await;
        long().await;
        assert_eq!((waiting(&scene), scene.app.saw("connection")), (1, dialled));
        scene.app.release();
        opaque.reads("*1\r\n").await;
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn the_application_is_dialled_for_no_more_silent_clients_than_a_rate_limit_lets_in() {
    let test = async {
        let limits = permissive(limited_within(Protocol::Unspecified, 1, Box::new([])));
        let scene = Scene::with(limits).await;
        let mut first = scene.stranger().await;
        until("the application to be dialled", || scene.app.saw("connection") == 1).await;
        assert_eq!(scene.stranger().await.rest().await, "");
        scene.refused(Reason::RateLimited, 1).await;
        first.send("*1\r\n").await;
        first.reads("*1\r\n").await;
        assert_eq!(scene.app.saw("connection"), 1);
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn limits_that_come_while_a_client_is_silent_hold_for_it() {
    let test = async {
        for protocol in [Protocol::Unspecified, Protocol::Tcp] {
            let scene = Scene::with(open(protocol)).await;
            let mut clients = [scene.stranger().await, scene.stranger().await];
            until("the application to be dialled", || scene.app.saw("connection") == 2).await;
            scene.change(permissive(limited_within(protocol, 1, Box::new([]))));
            let [first, second] = &mut clients;
            first.send("*1\r\n").await;
            first.reads("*1\r\n").await;
            second.send("*1\r\n").await;
            assert_eq!(second.rest().await, "");
            scene.refused(Reason::RateLimited, 1).await;

            let scene = Scene::with(open(protocol)).await;
            let mut client = scene.stranger().await;
            until("the application to be dialled", || scene.app.saw("connection") == 1).await;
            scene.change(open(Protocol::Http1));
            client.send("*1\r\n").await;
            assert_eq!(client.rest().await, "");
            scene.refused(Reason::ProtocolMismatch, 1).await;
        }
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn who_waits_for_a_place_waits_no_longer_when_it_leaves_or_may_not_come_any_more() {
    let test = async {
        let limits = InboundPort { protocol: Protocol::Unspecified, ..narrow(1, 2) };
        let scene = Scene::with(limits.clone()).await;
        let _held = hold(&scene).await;
        let mut clients = [scene.web(Alpn::Tcp).await, scene.web(Alpn::Tcp).await];
        for client in &mut clients {
            client.send("*1\r\n").await;
        }
        until("both to wait", || waiting(&scene) == 2).await;
        let [left, mut refused] = clients;
        drop(left);
        until("one to wait no longer", || waiting(&scene) == 1).await;
        let nobody = port(Protocol::Unspecified, Vec::new(), true);
        scene.change(InboundPort { access: nobody.access, ..limits });
        assert_eq!(refused.rest().await, "");
        scene.refused(Reason::AuthzDenied, 1).await;
        assert_eq!((waiting(&scene), scene.app.saw("*1")), (0, 0));
    };
    worker::run(test).expect("a runtime");
}
