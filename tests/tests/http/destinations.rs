//! Explicit mode: how a destination is named, and the ones that lie outside the mesh.

use std::net::{IpAddr, UdpSocket};

use http::StatusCode;
use weft_tests::{
    apps::{App, Http},
    client::{Client, get_once, request},
};

use super::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_name_leads_to_the_service_and_the_wrong_port_does_not() {
    let app = App::echo(Http::One, "catalog").await;
    let shop = Shop::of(&[app.address]).await;
    for authority in [
        "catalog",
        "catalog:80",
        "CATALOG",
        "catalog.shop",
        "catalog.shop:80",
        "catalog.shop.svc",
        "catalog.shop.svc.cluster.local",
        "catalog.shop.svc.cluster.local.:80",
    ] {
        let answer = get_once(shop.web.outbound(), &format!("http://{authority}/")).await;
        assert_eq!(
            (answer.status, answer.field("app")),
            (StatusCode::OK, "catalog"),
            "{authority}"
        );
        assert_eq!(answer.field("x-host"), authority);
    }
    for authority in ["catalog:81", "catalog.shop:443", "catalogue", "catalogue.shop"] {
        let answer = get_once(shop.web.outbound(), &format!("http://{authority}/")).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{authority} {answer:?}");
        assert_eq!(answer.field("weft-reason"), "destination-unknown", "{authority} {answer:?}");
    }
}

/// This machine's own address that is not loopback, if it has one. No packet is sent for the answer.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_outside_the_mesh_is_passed_through_in_plain() {
    let Some(address) = own_address() else {
        return weft_tests::skip(
            "a_destination_outside_the_mesh_is_passed_through_in_plain",
            "this machine has no IPv4 address but loopback",
        );
    };
    let listener = tokio::net::TcpListener::bind((address, 0)).await.expect("its own address");
    let outside = listener.local_addr().expect("bound");
    drop(listener);
    let app = App::tcp_at(outside, |stream| async move {
        let mut peer = weft_tests::raw::Raw::over(stream);
        let head = peer.receive_head().await;
        // What it got is its answer; then it echoes.
        let length = head.len();
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{head}")).await;
        peer.ended().await;
    })
    .await;
    let shop = Shop::of(&[]).await;

    let mut client = Client::connect(shop.web.outbound(), Http::One).await;
    let uri = format!("http://{}/a?b=c", app.address);
    let answer = client.send(request("GET", &uri, "")).await.expect("an answer");
    let seen = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(seen.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{seen}");
    assert!(seen.to_lowercase().contains(&format!("host: {}\r\n", app.address)), "{seen}");
    assert!(
        !seen.to_lowercase().contains("weft-"),
        "a stranger learns nothing of the mesh: {seen}"
    );

    let mut tunnel = shop.raw().await;
    tunnel.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", app.address)).await;
    assert!(tunnel.receive_head().await.starts_with("HTTP/1.1 200 "));
    tunnel.send("GET /inside HTTP/1.1\r\n\r\n").await;
    tunnel.receive_until("GET /inside HTTP/1.1\r\n").await;
}
