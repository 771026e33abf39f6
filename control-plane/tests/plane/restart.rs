//! What a restart of the control plane means to those who were connected: nothing.

use weft_proto::discovery::{ResourceKind, control_message};

use crate::{
    harness::Plane,
    sidecar::{Stream, Svid, held, hello, ids, join, renew},
};

const CART: &str = "shop/cart:8080";

async fn shop(flags: &[&str]) -> (Plane, Svid, Svid) {
    let plane = Plane::start(flags).await;
    plane.apply("Workload", "web", "{}").await;
    plane.apply("Workload", "cart", r#"{"service":"cart","port":8080}"#).await;
    let (_, token) = plane.token("web", 0, 0).await;
    let web = join(&plane, &token, "shop/web").await.unwrap();
    let (_, token) = plane.token("cart", 0, 0).await;
    let cart = join(&plane, &token, "shop/cart").await.unwrap();
    (plane, web, cart)
}

#[tokio::test]
async fn tokens_and_certificates_of_before_count_after() {
    let (mut plane, web, _) = shop(&[]).await;
    let (_, token) = plane.token("cart", 0, 1).await;
    plane.restart().await;
    renew(&plane, &web, "shop/web").await.unwrap();
    join(&plane, &token, "shop/cart").await.unwrap();
    plane.restart().await;
    assert!(join(&plane, &token, "shop/cart").await.is_err(), "it was used up before");
}

#[tokio::test]
async fn a_restart_withdraws_nobody_while_new_ones_are_added() {
    let (mut plane, web, cart) = shop(&["--settle=600s"]).await;
    let mut servers = Vec::new();
    for instance in ["0", "1"] {
        let mut server = Stream::of(&plane, &cart, hello("shop/cart", instance, "a")).await;
        server.register(4143, true).await;
        servers.push(server);
    }
    plane.until("both are ready", |all| all.iter().filter(|proxy| proxy.ready).count() == 2).await;
    let mut caller = Stream::of(&plane, &web, hello("shop/web", "0", "a")).await;
    let first = caller.get(ResourceKind::Service, CART).await;
    assert_eq!(ids(&first).0.len(), 2);
    plane.restart().await;
    let control_message::Kind::Goodbye(_) = caller.next().await.unwrap() else {
        panic!("a goodbye")
    };

    let mut again = hello("shop/web", "0", "a");
    again.held = vec![held(&[&first])];
    let mut caller = Stream::of(&plane, &web, again).await;
    caller.nothing_is_due().await;

    // One comes back, at another address; one is new; the other one has not come back.
    let mut back = Stream::of(&plane, &cart, hello("shop/cart", "0", "b")).await;
    back.register(5143, true).await;
    let update = caller.take().await;
    assert_eq!(ids(&update), (vec!["shop/cart/0:8080"], vec![]));
    let mut new = Stream::of(&plane, &cart, hello("shop/cart", "2", "a")).await;
    new.register(4143, true).await;
    assert_eq!(ids(&caller.take().await), (vec!["shop/cart/2:8080"], vec![]));

    // Who has reported is withdrawn when it is not ready.
    back.health(false).await;
    assert_eq!(ids(&caller.take().await), (vec![], vec!["shop/cart/0:8080"]));
}

#[tokio::test]
async fn who_has_not_come_back_goes_when_the_start_has_settled() {
    let (mut plane, web, cart) = shop(&["--settle=300ms"]).await;
    let mut server = Stream::of(&plane, &cart, hello("shop/cart", "0", "a")).await;
    server.register(4143, true).await;
    plane.until("it is ready", |all| all.iter().any(|proxy| proxy.ready)).await;
    let mut caller = Stream::of(&plane, &web, hello("shop/web", "0", "a")).await;
    let first = caller.get(ResourceKind::Service, CART).await;
    plane.restart().await;

    let mut again = hello("shop/web", "0", "a");
    again.held = vec![held(&[&first])];
    let mut caller = Stream::of(&plane, &web, again).await;
    assert_eq!(ids(&caller.take().await), (vec![], vec!["shop/cart/0:8080"]));
}

#[tokio::test]
async fn a_sidecar_keeps_its_inbound_ports_until_it_has_registered_again() {
    let (mut plane, _, cart) = shop(&[]).await;
    // The runner assigns the port: only the registration tells it.
    plane.apply("Workload", "cart", r#"{"service":"cart"}"#).await;
    let mut server = Stream::of(&plane, &cart, hello("shop/cart", "0", "a")).await;
    server.register(4143, true).await;
    plane.until("it is ready", |all| all.iter().any(|proxy| proxy.ready)).await;
    let inbound = server.get(ResourceKind::Inbound, "").await;
    plane.restart().await;

    let mut again = hello("shop/cart", "0", "a");
    again.held = vec![held(&[&inbound])];
    let mut server = Stream::of(&plane, &cart, again).await;
    server.nothing_is_due().await;
    server.register(4143, true).await;
    plane.until("it is ready", |all| all.iter().any(|proxy| proxy.ready)).await;
    server.nothing_is_due_after_answer().await;
}
