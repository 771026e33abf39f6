//! A change of access policy acts on connections that are open, and touches nothing that is still allowed.

use std::time::Duration;

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
        let answer = held.answer().await;
        assert!(answer.starts_with("HTTP/1.1 403 ") && !answer.contains("Policy"), "{answer}");
        assert!(!answer.contains("weft-not-delivered"), "it may have been served: {answer}");
        let labels = ["policy=\"MeshConfig mesh\"", "reason=\"authz-denied\""];
        assert_eq!(scene.metric("weft_policy_refusals_total", &labels), 1);
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
        scene.refused(Reason::AuthzDenied, 1).await;
    };
    worker::run(test).expect("a runtime");
}

/// Everything, but what lies below this path.
fn all_but(path: &str) -> InboundPort {
    let deny = Rule { operations: within(path), ..rule(Effect::Deny) };
    port(Protocol::Http1, vec![deny, rule(Effect::Allow)], false)
}

/// A port with no rules at all, or with rules that have nothing against what is asked for here.
fn before() -> [InboundPort; 2] {
    [InboundPort::plain(Protocol::Http1, "shop/cart:80".into()), all_but("/elsewhere")]
}

#[test]
fn of_the_requests_of_one_connection_those_end_that_a_rule_takes_now() {
    for before in before() {
        let test = async {
            let scene = Scene::with(before).await;
            let mut client = scene.http2().await;
            let mut send = |path: &str| {
                let request = http::Request::get(format!("http://cart{path}"));
                client.send_request(request.body(()).expect("a request"), true).expect("room").0
            };
            let (secret, public) = (send("/hold/secret"), send("/hold/public"));
            until("both to arrive", || scene.app.saw("/hold") == 2).await;
            scene.change(all_but("/hold/secret"));
            let refused = soon("a refusal", secret).await.expect("an answer");
            assert_eq!(refused.status(), http::StatusCode::FORBIDDEN);
            assert_eq!(refused.headers()["weft-reason"], "authz-denied");
            scene.app.release();
            scene.app.release();
            assert_eq!(public.await.expect("an answer").status(), http::StatusCode::OK);
        };
        worker::run(test).expect("a runtime");
    }
}

#[test]
fn a_response_under_way_ends_where_a_rule_takes_its_request_now_and_else_goes_on() {
    for before in before() {
        let test = async {
            let scene = Scene::with(before).await;
            let mut one = scene.web(Alpn::Http1).await;
            one.send("GET /stream/secret HTTP/1.1\r\nHost: cart\r\n\r\n").await;
            assert!(one.answer().await.starts_with("HTTP/1.1 200 "));
            one.reads("5\r\nfirst\r\n").await;
            let mut client = scene.http2().await;
            let mut begun = Vec::new();
            for path in ["secret", "public"] {
                let request = http::Request::get(format!("http://cart/stream/{path}"));
                let request = request.body(()).expect("a request");
                let (response, _) = client.send_request(request, true).expect("room");
                let mut body = response.await.expect("an answer").into_body();
                assert_eq!(&*body.data().await.expect("open").expect("open"), b"first");
                begun.push(body);
            }
            scene.change(all_but("/stream/secret"));
            assert_eq!(one.rest().await, "", "neither more nor the last chunk");
            let ended = soon("a reset", begun[0].data()).await.expect("not at its end");
            let ended = ended.expect_err("a reset");
            assert_eq!(ended.reason(), Some(::h2::Reason::CANCEL));
            // Two of the three wait no more: their connections were closed.
            for _ in 0..3 {
                scene.app.release();
                clock::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(&*begun[1].data().await.expect("open").expect("open"), b"last");
            let labels = ["policy=\"AccessPolicy shop/cart rules[0]\"", "reason=\"authz-denied\""];
            assert_eq!(scene.metric("weft_policy_refusals_total", &labels), 2);
        };
        worker::run(test).expect("a runtime");
    }
}

#[test]
fn an_upgraded_connection_is_judged_by_the_request_that_it_was() {
    for before in before() {
        let test = async {
            let scene = Scene::with(before).await;
            let mut client = scene.web(Alpn::Http1).await;
            client.send("GET /upgrade HTTP/1.1\r\nHost: cart\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
            assert!(client.answer().await.starts_with("HTTP/1.1 101 "));
            scene.change(all_but("/other"));
            client.send("ping").await;
            client.reads("ping").await;
            scene.change(all_but("/upgrade"));
            assert_eq!(client.rest().await, "");
            scene.refused(Reason::AuthzDenied, 1).await;
        };
        worker::run(test).expect("a runtime");
    }
}

#[test]
fn opaque_bytes_end_when_rules_want_http_and_stay_when_a_policy_is_only_audited() {
    let test = async {
        let deny = |audit| {
            let deny = Rule { audit, operations: within("/admin"), ..rule(Effect::Deny) };
            port(Protocol::Unspecified, vec![deny], false)
        };
        let allowed = port(Protocol::Unspecified, vec![rule(Effect::Allow)], true);
        let scene = Scene::with(allowed).await;
        let mut client = scene.web(Alpn::Tcp).await;
        for _ in 0..2 {
            client.send("*1\r\n").await;
            client.reads("*1\r\n").await;
            scene.change(deny(true));
        }
        scene.change(port(Protocol::Unspecified, Vec::new(), false));
        client.send("*2\r\n").await;
        client.reads("*2\r\n").await;
        scene.change(deny(false));
        assert_eq!(client.rest().await, "");
        scene.refused(Reason::ProtocolMismatch, 1).await;
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

#[test]
fn an_upload_that_is_cut_is_counted_once_behind_its_response_and_beside_it() {
    let test = async {
        let labels = ["policy=\"MeshConfig mesh\"", "reason=\"authz-denied\""];
        for (path, begins) in [("/", "HTTP/1.1 200 "), ("/stream", "HTTP/1.1 200 ")] {
            let scene = Scene::with(only("web")).await;
            let mut client = scene.web(Alpn::Http1).await;
            let head =
                format!("POST {path} HTTP/1.1\r\nHost: cart\r\nContent-Length: 100000\r\n\r\n");
            client.send(&head).await;
            client.reads(begins).await;
            until("the request to arrive", || scene.app.saw("POST") == 1).await;
            scene.change(only("other"));
            let _ = client.rest().await;
            assert_eq!(scene.metric("weft_policy_refusals_total", &labels), 1, "{path}");
        }
    };
    worker::run(test).expect("a runtime");
}
