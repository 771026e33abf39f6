//! A change of access policy acts on connections that are open, and touches nothing that is still allowed.

use super::{scene::*, *};
use crate::policy::authz::{Effect, Rule};

fn only(name: &str) -> InboundPort {
    let allow = Rule { callers: account(name), ..rule(Effect::Allow) };
    port(Protocol::Http1, vec![allow], true)
}

#[test]
fn the_next_request_on_an_open_connection_goes_by_the_new_policy() {
    let test = async {
        let scene = Scene::with(only("web")).await;
        let mut client = scene.web(Alpn::Http1).await;
        for (name, status) in [("web", 200), ("other", 403), ("w*", 200), ("other", 403)] {
            scene.change(only(name));
            let answer = client.get("/").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
        }
        assert_eq!(scene.sidecar.refused(Reason::PolicyChanged), 0, "idle connections stay");
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn requests_under_way_of_a_caller_that_is_refused_now_are_ended_and_others_are_not() {
    let test = async {
        let scene = Scene::with(only("web")).await;
        let mut held = scene.web(Alpn::Http1).await;
        held.send("GET /hold HTTP/1.1\r\nHost: cart\r\n\r\n").await;
        until("the request to arrive", || scene.app.saw("/hold") == 1).await;
        // As often as it likes, as long as web may go on.
        for name in ["w*", "web", "we*"] {
            scene.change(only(name));
            assert!(scene.get("/").await.ends_with("hi"));
        }
        scene.app.release();
        assert!(held.answer().await.ends_with("hi"));

        held.send("GET /hold HTTP/1.1\r\nHost: cart\r\n\r\n").await;
        until("the request to arrive", || scene.app.saw("/hold") == 2).await;
        scene.change(only("other"));
        assert_eq!(held.rest().await, "");
        scene.refused(Reason::PolicyChanged, 1).await;
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn an_upgraded_connection_is_under_way_for_as_long_as_it_lives() {
    let test = async {
        let scene = Scene::with(only("web")).await;
        let mut client = scene.web(Alpn::Http1).await;
        client.send("GET /upgrade HTTP/1.1\r\nHost: cart\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
        assert!(client.answer().await.starts_with("HTTP/1.1 101 "));
        scene.change(only("w*"));
        client.send("ping").await;
        let mut echo = [0; 4];
        client.0.read_exact(&mut echo).await.expect("it comes back");
        scene.change(only("other"));
        assert_eq!(client.rest().await, "");
        scene.refused(Reason::PolicyChanged, 1).await;
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn a_stream_of_changes_under_load_drops_no_request_that_is_allowed() {
    let test = async {
        let scene = Scene::with(only("web")).await;
        let mut clients = Vec::new();
        for _ in 0..8 {
            clients.push(scene.web(Alpn::Http1).await);
        }
        for round in 0..100 {
            for client in &mut clients {
                client.send("GET / HTTP/1.1\r\nHost: cart\r\n\r\n").await;
            }
            scene.change(only(if round % 2 == 0 { "w*" } else { "web" }));
            for client in &mut clients {
                assert!(client.answer().await.ends_with("hi"), "round {round}");
            }
        }
        assert_eq!(scene.app.saw("GET / "), 800);
        assert_eq!(scene.metric("weft_refused_connections_total", &[]), 0);
    };
    worker::run(test).expect("a runtime");
}
