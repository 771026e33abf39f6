//! Which connection goes where in a cluster: meshed and unmeshed pods, services' addresses and pods' own, skipped
//! ports and networks.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_tests::{
    apps::App,
    ground::cluster_grounds,
    namespace::User,
    raw::Raw,
    stage::{GREETER, HTTP, Member, Plaintext, Stage},
    wait,
};

const WEB: &str = "spiffe://weft.local/ns/shop/sa/web";
const SHOW: &str = "%{http_code} %header{app} %header{got-weft-client-id}\n";
const REQUEST: &str = "GET /items HTTP/1.1\r\nHost: catalog\r\nConnection: close\r\n\r\n";

/// Answers a request with the address that it came from.
async fn says_who_calls(mut stream: tokio::net::TcpStream) {
    let caller = stream.peer_addr().map(|peer| peer.ip().to_canonical().to_string());
    let body = format!("{} calls", caller.unwrap_or_default());
    let _ = stream.read(&mut [0; 4096]).await;
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

/// The sidecar has not seen a connection.
async fn saw_nothing(member: &Member) {
    for metric in ["weft_open_connections", "weft_connections_closed_total"] {
        assert!(member.count(metric, &["direction"]).await < 0.5, "{metric}");
    }
    assert!(member.count("weft_refused_connections_total", &["reason"]).await < 0.5);
}

#[tokio::test]
async fn an_unmeshed_caller_is_refused_by_strict_ports_and_served_by_permissive_ones() {
    let test = "an_unmeshed_caller_is_refused_by_strict_ports_and_served_by_permissive_ones";
    for ground in cluster_grounds(test) {
        let stage = Stage::start(ground).await;
        let [one, two] = &stage.catalogs;
        let addresses = [stage.service(80), stage.pod(1, HTTP), stage.pod(2, HTTP)];
        for address in addresses {
            assert_eq!(stage.outsider_says(address, REQUEST).await, "", "{address}");
        }
        let strict = ["direction=\"inbound\"", "reason=\"strict-required\""];
        let reason = "weft_refused_connections_total";
        let refused =
            one.member.count(reason, &strict).await + two.member.count(reason, &strict).await;
        assert!((refused - 3.0).abs() < 0.1, "{refused}");

        stage.set_plaintext(Plaintext::Served);
        for address in addresses {
            wait::until_true("plaintext to be served", || async {
                let answer = stage.outsider_says(address, REQUEST).await;
                answer.starts_with("HTTP/1.1 200 ") && !answer.contains("got-weft-client-id")
            })
            .await;
        }
        // The node sends it to either of both.
        let answers = async |name: &str| {
            let answer = stage.outsider_says(stage.service(80), REQUEST).await;
            answer.contains(&format!("app: {name}\r\n"))
        };
        for name in ["catalog-1", "catalog-2"] {
            wait::until_true(name, || answers(name)).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_by_unmeshed_callers() {
    for ground in cluster_grounds("a_server_that_speaks_first_is_heard_by_unmeshed_callers") {
        let stage = Stage::start(ground).await;
        stage.set_plaintext(Plaintext::Served);
        for address in [stage.service(GREETER), stage.pod(1, GREETER), stage.pod(2, GREETER)] {
            let hello = || async {
                let mut client = stage.outside.run(Raw::connect(address)).await;
                client.receive_until_or_end("\n").await
            };
            let heard = wait::until("the server to speak", hello).await;
            assert_eq!(heard, "hello\n", "{address}");
        }
    }
}

#[tokio::test]
async fn a_headless_name_leads_to_its_pod_over_mutual_tls() {
    for ground in cluster_grounds("a_headless_name_leads_to_its_pod_over_mutual_tls") {
        let stage = Stage::start(ground).await;
        for index in [1, 2] {
            // What the cluster's DNS says of a StatefulSet's pod.
            let name = format!("catalog-{index}.catalog.shop.svc.cluster.local");
            let address = stage.pod(index, HTTP).ip();
            let address = if ground.v6 { format!("[{address}]") } else { address.to_string() };
            let resolve = format!("{name}:{HTTP}:{address}");
            let url = format!("http://{name}:{HTTP}/items");
            for _ in 0..3 {
                let said = stage.curl(&["--resolve", &resolve, "--write-out", SHOW, &url]).await;
                assert_eq!(said.text, format!("200 catalog-{index} {WEB}\n"), "{said:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_unmeshed_server_is_reached_by_a_meshed_caller() {
    for ground in cluster_grounds("an_unmeshed_server_is_reached_by_a_meshed_caller") {
        let stage = Stage::start(ground).await;
        let foreign = SocketAddr::new(stage.foreign(), HTTP);
        let _by_address = stage.outside.run(App::tcp_at(foreign, says_who_calls)).await;
        let _by_service =
            stage.outside.run(App::tcp_at(stage.outsider(HTTP), says_who_calls)).await;
        // The node translates the address of a service that is not the mesh's, as for anybody.
        for (done, address) in [foreign, stage.unmeshed_service()].into_iter().enumerate() {
            let said = stage.curl(&[&format!("http://{address}/")]).await;
            assert_eq!(said.text, format!("{} calls", stage.pod(0, 0).ip()), "{said:?}");
            let labels = ["direction=\"outbound\"", "service=\"outside\"", "tls=\"plain\""];
            let name = "weft_connections_closed_total";
            stage.web.counts(name, &labels, done as f64 + 1.0).await;
        }
    }
}

#[tokio::test]
async fn either_familys_address_leads_to_the_same_service() {
    for ground in cluster_grounds("either_familys_address_leads_to_the_same_service") {
        let stage = Stage::start(ground).await;
        for address in [stage.service(80), stage.service_of_other_family(80)] {
            let said = stage.curl(&["--write-out", SHOW, &format!("http://{address}/")]).await;
            assert!(said.text.starts_with("200 catalog-"), "{address}: {said:?}");
            assert!(said.text.ends_with(&format!(" {WEB}\n")), "{address}: {said:?}");
        }
        stage.set_plaintext(Plaintext::Served);
        for address in [stage.service(80), stage.service_of_other_family(80)] {
            wait::until_true("plaintext to be served in both families", || async {
                stage.outsider_says(address, REQUEST).await.starts_with("HTTP/1.1 200 ")
            })
            .await;
        }
    }
}

#[tokio::test]
async fn skipped_ports_stay_as_they_are_on_either_side() {
    for ground in cluster_grounds("skipped_ports_stay_as_they_are_on_either_side") {
        let (out, into) =
            ("--skip-outbound-ports=7000,9000-9010", "--skip-inbound-ports=9005-9020");
        let stage = Stage::start_with(ground, &[out], &[into]).await;
        let server = &stage.catalogs[0].servers;
        let mut open = Vec::new();
        for port in [7000, 9005, 9010, 9020, 9021] {
            open.push(server.run(App::tcp_at(stage.pod(1, port), says_who_calls)).await);
        }
        let called = async |port: u16| {
            let said = stage.curl(&[&format!("http://{}/", stage.pod(1, port))]).await;
            said.text == format!("{} calls", stage.pod(0, 0).ip())
        };
        // Skipped by both.
        assert!(called(9005).await && called(9010).await);
        saw_nothing(&stage.web).await;
        saw_nothing(&stage.catalogs[0].member).await;
        // By one side alone: the other's sidecar knows no such port.
        assert!(!called(7000).await);
        let unserved = ["direction=\"inbound\"", "reason=\"port-not-served\""];
        let refused = "weft_refused_connections_total";
        stage.catalogs[0].member.counts(refused, &unserved, 1.0).await;
        let said = stage.curl(&[&format!("http://{}/", stage.pod(1, 9020))]).await;
        assert!(said.text.starts_with("weft: destination-unknown: "), "{said:?}");
        // From outside, what is skipped in this pod alone counts.
        for (port, is_open) in [(9005, true), (9020, true), (9021, false), (7000, false)] {
            let answer = stage.outsider_says(stage.pod(1, port), REQUEST).await;
            assert_eq!(answer.ends_with(" calls"), is_open, "{port}: {answer}");
        }
    }
}

#[tokio::test]
async fn skipped_networks_stay_as_they_are_on_either_side() {
    for ground in cluster_grounds("skipped_networks_stay_as_they_are_on_either_side") {
        // The first catalog's address goes out as it is; what comes from the outsider goes in as it is.
        let out = "--skip-outbound-cidrs=10.77.0.3/32,fd77::3/128";
        let into = "--skip-inbound-cidrs=10.77.0.5,fd77::5";
        let stage = Stage::start_with(ground, &[out], &[into]).await;
        let [one, two] = &stage.catalogs;
        let strict = ["direction=\"inbound\"", "reason=\"strict-required\""];
        let said =
            stage.curl(&["--write-out", SHOW, &format!("http://{}/", stage.pod(1, HTTP))]).await;
        assert!(!said.text.contains("catalog-1"), "{said:?}");
        one.member.counts("weft_refused_connections_total", &strict, 1.0).await;
        saw_nothing(&stage.web).await;
        let said =
            stage.curl(&["--write-out", SHOW, &format!("http://{}/", stage.pod(2, HTTP))]).await;
        assert_eq!(said.text, format!("200 catalog-2 {WEB}\n"), "{said:?}");

        // The application itself: it listens on loopback alone, so another does on the pod's address.
        let before = two.member.count("weft_refused_connections_total", &["reason"]).await;
        let _plain = two.servers.run(App::tcp_at(stage.pod(2, 9000), says_who_calls)).await;
        let answer = stage.outsider_says(stage.pod(2, 9000), REQUEST).await;
        assert!(answer.ends_with(&format!("{} calls", stage.outsider(0).ip())), "{answer}");
        let after = two.member.count("weft_refused_connections_total", &["reason"]).await;
        assert!((after - before).abs() < 0.1, "{before} {after}");
    }
}

#[tokio::test]
async fn the_proxys_own_connections_go_where_they_say() {
    for ground in cluster_grounds("the_proxys_own_connections_go_where_they_say") {
        let stage = Stage::start(ground).await;
        let server = stage.outside.run(App::tcp_at(stage.outsider(HTTP), says_who_calls)).await;
        let proxy = stage.network.pod(0).runtime(User::Proxy);
        for address in [server.address, stage.unmeshed_service()] {
            let answer = proxy.run(async move {
                let mut client = Raw::connect(address).await;
                client.send(REQUEST).await;
                client.receive_to_end().await
            });
            let answer = answer.await;
            assert!(answer.ends_with(&format!("{} calls", stage.pod(0, 0).ip())), "{answer}");
        }
        saw_nothing(&stage.web).await;
    }
}
