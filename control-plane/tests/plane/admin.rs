//! The admin port, and the page that documents it.

use std::collections::BTreeSet;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use weft_proto::discovery::{ResourceKind, control_message};

use crate::{
    harness::{DEADLINE, Plane},
    sidecar::{Stream, hello, join},
};

async fn get(plane: &Plane, path: &str) -> String {
    let address = plane.running.as_ref().unwrap().addresses.admin.unwrap();
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn it_tells_readiness_and_counts_what_happens() {
    let plane = Plane::start(&["--admin-listen=127.0.0.1:0"]).await;
    plane.apply("Workload", "web", "{}").await;
    for path in ["/ready", "/live"] {
        assert!(get(&plane, path).await.starts_with("HTTP/1.1 200"), "{path}");
    }
    let (_, token) = plane.token("web", 0, 0).await;
    let web = join(&plane, &token, "shop/web").await.unwrap();
    let mut stream = Stream::of(&plane, &web, hello("shop/web", "0", "a")).await;
    stream.get(ResourceKind::Mesh, "").await;
    // The answer to a second question says that the first one's acknowledgement has arrived.
    stream.get(ResourceKind::Trust, "").await;
    let metrics = get(&plane, "/metrics").await;
    for line in [
        "weft_cp_certificates_issued_total{proof=\"join_token\",result=\"issued\"} 1",
        "weft_cp_updates_sent_total{kind=\"mesh\"} 1",
        "weft_cp_updates_answered_total{kind=\"mesh\",answer=\"ack\"} 1",
        "weft_cp_proxies_connected 1",
        "weft_cp_subscriptions 2",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    the_page_lists(&metrics);
}

/// docs/control-plane.md lists what is exported once everything has happened, and nothing else.
fn the_page_lists(exported: &str) {
    let mut described = BTreeSet::new();
    for line in exported.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, help) = line.split_once(' ').unwrap();
        described.insert((name.to_owned(), help.trim_end_matches('.').to_owned()));
    }
    let page = include_str!("../../../docs/control-plane.md");
    let listed: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            (cells[0].trim_end_matches('`').to_owned(), cells[2].to_owned())
        })
        .collect();
    assert_eq!(listed, described);
}

#[tokio::test]
async fn a_stream_ends_with_its_certificate_and_the_instance_stays() {
    let plane = Plane::start(&["--svid-ttl=2s"]).await;
    plane.apply("Workload", "cart", r#"{"service":"cart","port":8080}"#).await;
    let (_, token) = plane.token("cart", 0, 0).await;
    let cart = join(&plane, &token, "shop/cart").await.unwrap();
    let mut stream = Stream::of(&plane, &cart, hello("shop/cart", "0", "a")).await;
    stream.register(4143, true).await;
    let goodbye = loop {
        match stream.next().await.unwrap() {
            control_message::Kind::Registration(answer) => assert!(answer.accepted),
            control_message::Kind::Goodbye(goodbye) => break goodbye,
            other => panic!("a goodbye is due, not {other:?}"),
        }
    };
    assert!(goodbye.reason.contains("expired"), "{goodbye:?}");
    plane
        .until("registered still", |all| {
            all.iter().any(|proxy| proxy.registered && proxy.ready && !proxy.connected)
        })
        .await;
    // A certificate counts to the end of its last second.
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let again = || hello("shop/cart", "0", "a");
    while Stream::open(&plane, cart.trust(), Some(&cart), again()).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "the expired certificate still counts");
    }
}
