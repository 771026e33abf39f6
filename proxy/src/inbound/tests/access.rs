//! Access policy over real connections: who is let in, with what, and what a refused caller learns.

use super::{scene::*, *};
use crate::policy::authz::{Effect, Rule};

const POLICY: &str = "AccessPolicy shop/cart rules[0]";

fn allow(name: &str) -> Rule {
    Rule { callers: account(name), ..rule(Effect::Allow) }
}

#[test]
fn a_refused_caller_gets_403_and_operators_alone_get_the_policys_name() {
    let test = async {
        let scene = Scene::with(port(Protocol::Http1, vec![allow("web")], true)).await;
        assert!(scene.get("/").await.ends_with("hi"));

        scene.change(port(Protocol::Http1, vec![allow("other")], true));
        let answer = scene.get("/").await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(answer.contains("weft-reason: authz-denied\r\n"), "{answer}");
        assert!(!answer.contains("MeshConfig") && !answer.contains("spiffe:"), "{answer}");

        scene.change(port(Protocol::Http1, vec![rule(Effect::Deny), allow("web")], false));
        let answer = scene.get("/").await;
        assert!(answer.starts_with("HTTP/1.1 403 ") && !answer.contains("Policy"), "{answer}");
        for policy in ["MeshConfig mesh", POLICY] {
            let labels = format!("policy=\"{policy}\",reason=\"authz-denied\"");
            assert_eq!(scene.metric("weft_policy_refusals_total", &[&labels]), 1, "{policy}");
        }
        assert_eq!(scene.app.saw("GET"), 1);
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn a_grpc_call_is_refused_with_permission_denied_over_both_versions() {
    let test = async {
        let scene = Scene::with(port(Protocol::Grpc, vec![allow("other")], true)).await;
        let mut one = scene.web(Alpn::Http1).await;
        one.send("POST /shop.Cart/Add HTTP/1.1\r\nHost: cart\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n").await;
        let answer = one.answer().await;
        assert!(answer.contains("grpc-status: 7\r\n"), "{answer}");

        let request = http::Request::post("http://cart/shop.Cart/Add")
            .header("content-type", "application/grpc");
        let response = http2(&scene, request).await;
        assert_eq!(
            (response.status(), &response.headers()["grpc-status"]),
            (http::StatusCode::OK, &"7".parse().expect("text"))
        );
        let response = http2(&scene, http::Request::get("http://cart/")).await;
        assert_eq!(response.status(), http::StatusCode::FORBIDDEN);
        assert_eq!(response.headers()["weft-reason"], "authz-denied");
        assert_eq!(scene.app.saw("connection"), 0);
    };
    worker::run(test).expect("a runtime");
}

/// What web gets over HTTP/2.
async fn http2(scene: &Scene, request: http::request::Builder) -> http::Response<()> {
    let mut client = scene.http2().await;
    let request = request.body(()).expect("a request");
    let (response, _) = client.send_request(request, true).expect("room");
    response.await.expect("a response").map(|_| ())
}

#[test]
fn no_spelling_of_a_path_and_no_other_protocol_gets_around_a_rule() {
    let test = async {
        let rules = || {
            let deny = Rule { operations: within("/admin"), ..rule(Effect::Deny) };
            let allow = Rule { operations: within("/public"), ..allow("web") };
            vec![deny, allow]
        };
        let scene = Scene::with(port(Protocol::Unspecified, rules(), true)).await;
        for path in [
            "/admin",
            "/public/../admin",
            "/public/..%2fadmin",
            "/public/%2e%2e/admin",
            "/public/..;/admin",
            "/public/%252e%252e/admin",
            "//admin",
            "/ADMIN/x",
            "/public/a%2fb/../../admin",
            "/other",
            "/public/%00",
        ] {
            let answer = scene.get(path).await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{path}: {answer}");
        }
        assert_eq!(scene.app.saw("GET"), 0);
        for path in ["/public", "/public/a%20b", "/public/a;v=1", "/public/./x"] {
            assert!(scene.get(path).await.ends_with("hi"), "{path}");
            assert_eq!(scene.app.saw(&format!("GET {path} ")), 1, "it is passed on as it is");
        }

        // Upgrade offers are requests, CONNECT is none, and what is no HTTP is not taken.
        let mut client = scene.web(Alpn::Http1).await;
        client.send("GET /admin HTTP/1.1\r\nHost: cart\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
        assert!(client.answer().await.starts_with("HTTP/1.1 403 "));
        let mut client = scene.web(Alpn::Http1).await;
        client.send("GET /admin HTTP/1.1\r\nHost: cart\r\nConnection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n").await;
        assert!(client.answer().await.starts_with("HTTP/1.1 403 "));
        let mut client = scene.web(Alpn::Http1).await;
        client.send("CONNECT cart:80 HTTP/1.1\r\nHost: cart:80\r\n\r\n").await;
        assert!(client.answer().await.starts_with("HTTP/1.1 400 "));
        let mut client = scene.web(Alpn::Tcp).await;
        client.send("*1\r\n$4\r\nPING\r\n").await;
        assert_eq!(client.rest().await, "");
        scene.refused(Reason::ProtocolMismatch, 1).await;
        let mut client = scene.web(Alpn::Tcp).await;
        client.send("GET /admin HTTP/1.1\r\nHost: cart\r\n\r\n").await;
        assert!(client.answer().await.starts_with("HTTP/1.1 403 "));
        assert_eq!(scene.app.saw(" HTTP/1.1"), 4);
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn opaque_bytes_are_judged_before_the_application_hears_of_them() {
    let test = async {
        let web_alone = || vec![allow("web")];
        for protocol in [Protocol::Tcp, Protocol::Unspecified] {
            let scene = Scene::with(port(protocol, web_alone(), true)).await;
            let mut client = scene.web(Alpn::Tcp).await;
            client.send("*1\r\n$4\r\nPING\r\n").await;
            let mut echo = [0; 14];
            client.0.read_exact(&mut echo).await.expect("it comes back");
            let connections = scene.app.saw("connection");

            scene.change(port(protocol, vec![allow("other")], true));
            assert_eq!(client.rest().await, "");
            scene.refused(Reason::AuthzDenied, 1).await;
            let mut client = scene.web(Alpn::Tcp).await;
            client.send("*1\r\n$4\r\nPING\r\n").await;
            assert_eq!(client.rest().await, "");
            scene.refused(Reason::AuthzDenied, 2).await;

            // Rules that speak of HTTP, on bytes that are none.
            let rules = vec![Rule { operations: within("/public"), ..allow("web") }];
            scene.change(port(protocol, rules, true));
            let mut client = scene.web(Alpn::Tcp).await;
            client.send("*1\r\n$4\r\nPING\r\n").await;
            assert_eq!(client.rest().await, "");
            let deny = vec![Rule { operations: within("/admin"), ..rule(Effect::Deny) }];
            scene.change(port(protocol, deny, false));
            let mut client = scene.web(Alpn::Tcp).await;
            client.send("*1\r\n$4\r\nPING\r\n").await;
            assert_eq!(client.rest().await, "");
            match protocol {
                Protocol::Tcp => scene.refused(Reason::AuthzDenied, 4).await,
                _ => scene.refused(Reason::ProtocolMismatch, 2).await,
            }
            assert_eq!(scene.app.saw("connection"), connections);
        }
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn who_shows_no_identity_is_known_by_address_alone_and_learns_nothing() {
    let test = async {
        let permissive =
            |rules| InboundPort { strict: false, ..port(Protocol::Http1, rules, true) };
        let scene = Scene::with(permissive(vec![allow("*")])).await;
        let answer = scene.stranger().await.get("/").await;
        assert!(answer.starts_with("HTTP/1.1 403 ") && !answer.contains("weft-"), "{answer}");
        let loopback = "127.0.0.0".parse().expect("an address");
        let mut callers = account("web");
        callers[0].identities = Box::new([]);
        callers[0].ranges =
            Box::new([crate::policy::authz::Range::new(loopback, 8).expect("short enough")]);
        scene.change(permissive(vec![Rule { callers, ..rule(Effect::Allow) }]));
        assert!(scene.stranger().await.get("/").await.ends_with("hi"));
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn audit_counts_and_changes_nothing() {
    let test = async {
        let deny = Rule { audit: true, ..rule(Effect::Deny) };
        let scene = Scene::with(port(Protocol::Unspecified, vec![deny], false)).await;
        assert!(scene.get("/").await.ends_with("hi"));
        let mut client = scene.web(Alpn::Tcp).await;
        client.send("*1\r\n$4\r\nPING\r\n").await;
        let mut echo = [0; 14];
        client.0.read_exact(&mut echo).await.expect("it comes back");
        let policy = format!("policy=\"{POLICY}\"");
        assert_eq!(scene.metric("weft_authz_audited_total", &[&policy]), 2);
        assert_eq!(scene.metric("weft_policy_refusals_total", &[&policy]), 0);
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn ports_that_are_not_listed_have_access_policy_too() {
    let test = async {
        let scene = Scene::with(port(Protocol::Http1, Vec::new(), false)).await;
        for (name, status) in [("other", 403), ("web", 200)] {
            let others = Some(port(Protocol::Unspecified, vec![allow(name)], true));
            let inbound = InboundPorts { others, ..InboundPorts::default() };
            scene.sidecar.directory.pin_inbound(inbound);
            let answer = scene.get("/").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
        }
    };
    worker::run(test).expect("a runtime");
}
