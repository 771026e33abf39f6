//! Mesh TLS whose first bytes come when the proxy has stopped waiting for them.

use std::time::Duration;

use super::{scene::*, *};
use crate::policy::authz::{Effect, Rule};

fn allows_web(protocol: Protocol) -> InboundPort {
    let web = Rule { callers: account("web"), ..rule(Effect::Allow) };
    InboundPort { strict: false, ..port(protocol, vec![web], true) }
}

/// A connection of web to a permissive port that says nothing at first.
async fn late(scene: &Scene, alpn: Alpn) -> Client {
    let address = scene.app.address;
    let socket = scene.sidecar.connect(Some(address)).await;
    // The pause is what is tested.
    clock::sleep(Duration::from_millis(50)).await;
    Client(soon("mesh TLS", scene.sidecar.secure(socket, address.port(), alpn)).await)
}

#[test]
fn a_late_hello_of_another_sidecar_is_taken_for_one() {
    let test = async {
        for protocol in [Protocol::Unspecified, Protocol::Tcp, Protocol::Http1] {
            let open = InboundPort::plain(protocol, "shop/cart:80".into());
            let open = InboundPort { strict: false, ..open };
            for policy in [open, allows_web(protocol)] {
                let scene = Scene::with(policy).await;
                if protocol != Protocol::Http1 {
                    let mut client = late(&scene, Alpn::Tcp).await;
                    client.send("*1\r\n").await;
                    client.reads("*1\r\n").await;
                }
                if protocol != Protocol::Tcp {
                    let answer = late(&scene, Alpn::Http1).await.get("/").await;
                    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                }
            }
        }
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn a_stranger_that_waits_first_is_served_as_one() {
    let test = async {
        for protocol in [Protocol::Unspecified, Protocol::Tcp] {
            let open = InboundPort::plain(protocol, "shop/cart:80".into());
            let scene = Scene::with(InboundPort { strict: false, ..open }).await;
            let mut client = scene.stranger().await;
            until("the application to be dialled", || scene.app.saw("connection") == 1).await;
            client.send("*1\r\n").await;
            client.reads("*1\r\n").await;

            scene.change(allows_web(protocol));
            let mut client = scene.stranger().await;
            clock::sleep(Duration::from_millis(50)).await;
            client.send("*1\r\n").await;
            assert_eq!(client.rest().await, "");
        }
    };
    worker::run(test).expect("a runtime");
}
