//! Transparent interception, for real: network namespaces, redirected by the rules that users load on machines
//! (deploy/vm/transparent.nft) and by those that `weft-proxy init` writes in pods, IPv4 and IPv6. Root only.

use std::{net::SocketAddr, sync::Arc};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_proto::{MeshServerName, Port, SpiffeId};
use weft_proxy::{
    identity::Identity,
    io::Socket,
    net::TcpStream,
    telemetry::Metrics,
    tls::{Alpn, MutualTls},
    worker,
};
use weft_tests::{
    apps::App,
    ground::grounds,
    namespace::User,
    raw::Raw,
    stage::{Plaintext, Said, Stage},
    wait,
};

const WEB: &str = "spiffe://weft.local/ns/shop/sa/web";
const SHOW: &str = "%{http_version} %{http_code} %header{app} %header{got-weft-client-id}\n";
const REQUEST: &str = "GET /items HTTP/1.1\r\nHost: catalog\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_services_address_is_balanced_over_mutual_tls() {
    for ground in grounds("a_services_address_is_balanced_over_mutual_tls") {
        let stage = Stage::start(ground).await;
        let url = format!("http://{}/items", stage.service(80));
        let mut arguments = vec!["--parallel", "--parallel-immediate", "--write-out", SHOW];
        arguments.extend([url.as_str(); 40]);
        let said = stage.curl(&arguments).await;
        for name in ["catalog-1", "catalog-2"] {
            let answer = format!("1.1 200 {name} {WEB}");
            assert!(said.text.contains(&answer), "{name} got nothing: {said:?}");
        }
        assert_eq!(said.text.matches(" 200 ").count(), 40, "{said:?}");
        let labels = ["service=\"shop/catalog:80\"", "tls=\"mutual\""];
        stage.web.counts("weft_requests_total", &labels, 40.0).await;
        let [one, two] = &stage.catalogs;
        for catalog in [one, two] {
            catalog.member.counts("weft_requests_total", &labels, 1.0).await;
            let plain = ["direction=\"inbound\"", "tls=\"plain\""];
            assert!(catalog.member.count("weft_requests_total", &plain).await < 1.0);
        }
    }
}

#[tokio::test]
async fn an_instance_is_reached_by_its_own_address() {
    for ground in grounds("an_instance_is_reached_by_its_own_address") {
        let stage = Stage::start(ground).await;
        for (index, catalog) in stage.catalogs.iter().enumerate() {
            let address = stage.pod(index + 1, catalog.http.address.port());
            for _ in 0..3 {
                let url = format!("http://{address}/");
                let said = stage.curl(&["--write-out", SHOW, &url]).await;
                let name = format!("catalog-{}", index + 1);
                assert_eq!(said.text, format!("1.1 200 {name} {WEB}\n"), "{said:?}");
            }
            let labels = ["direction=\"inbound\"", "tls=\"mutual\""];
            catalog.member.counts("weft_requests_total", &labels, 3.0).await;
        }
    }
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_intercepted() {
    for ground in grounds("http2_with_prior_knowledge_is_intercepted") {
        let stage = Stage::start(ground).await;
        let url = format!("http://{}/", stage.service(81));
        let said = stage.curl(&["--http2-prior-knowledge", "--write-out", SHOW, &url]).await;
        assert!(said.text.starts_with("2 200 catalog-"), "{said:?}");
        assert!(said.text.ends_with(&format!(" {WEB}\n")), "{said:?}");
    }
}

#[tokio::test]
async fn a_server_that_speaks_first_is_intercepted() {
    for ground in grounds("a_server_that_speaks_first_is_intercepted") {
        let stage = Stage::start(ground).await;
        let application = stage.network.pod(0).runtime(User::Application);
        let address = stage.service(6379);
        let talk = async move {
            let mut client = Raw::connect(address).await;
            assert_eq!(client.receive_until("\n").await, "hello\n");
            client.send("PING\n").await;
            assert_eq!(client.receive_until("\n").await, "PING\n");
            client.finish().await;
            assert_eq!(client.receive_to_end().await, "");
        };
        application.run(talk).await;
        let labels = ["service=\"shop/catalog:6379\"", "tls=\"mutual\""];
        stage.web.counts("weft_connections_closed_total", &labels, 1.0).await;
    }
}

#[tokio::test]
async fn a_destination_outside_the_mesh_passes_through_at_once() {
    for ground in grounds("a_destination_outside_the_mesh_passes_through_at_once") {
        let mut stage = Stage::start(ground).await;
        let foreign = SocketAddr::new(stage.foreign(), 0);
        let server = stage.outside.run(App::tcp_at(foreign, says_who_calls)).await;
        let url = format!("http://{}/", server.address);
        // At once: nobody is asked, so nobody need be there.
        stage.mesh.kill_control_plane();
        let said = stage.curl(&[&url]).await;
        let expected = format!("{} calls", stage.pod(0, 0).ip());
        assert_eq!((said.exit, said.text.as_str()), (0, expected.as_str()), "{said:?}");
        // It did go through the proxy.
        let labels = ["direction=\"outbound\"", "service=\"outside\"", "tls=\"plain\""];
        stage.web.counts("weft_connections_closed_total", &labels, 1.0).await;
    }
}

/// Answers a request with its connection's address, without regard to what is asked.
async fn says_who_calls(mut stream: tokio::net::TcpStream) {
    let peer = stream.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
    let _ = stream.read(&mut [0; 4096]).await;
    let length = peer.len() + " calls".len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(format!("{head}{peer} calls").as_bytes()).await;
}

#[tokio::test]
async fn what_nobody_in_the_mesh_has_is_refused_and_never_dialled() {
    for ground in grounds("what_nobody_in_the_mesh_has_is_refused_and_never_dialled") {
        let stage = Stage::start(ground).await;
        // Somebody does listen there, in the mesh's ranges; but no object says so.
        let listen = stage.outsider(0);
        let server = stage.outside.run(App::tcp_at(listen, says_who_calls)).await;
        let unknown_port = stage.service(8080);
        for (done, address) in [server.address, stage.nobody(), unknown_port].iter().enumerate() {
            // Who speaks HTTP is told.
            let said = stage.curl(&["--include", &format!("http://{address}/")]).await;
            assert!(said.text.starts_with("HTTP/1.1 502 "), "{said:?}");
            assert!(said.text.contains("weft-reason: destination-unknown\r\n"), "{said:?}");
            assert!(said.text.contains("Connection: close\r\n"), "{said:?}");
            // Anybody else gets a reset.
            let said = stage.curl(&[&format!("telnet://{address}")]).await;
            assert_ne!(said.exit, 0, "{said:?}");
            let labels = ["direction=\"outbound\"", "reason=\"destination-unknown\""];
            let count = stage.web.count("weft_refused_connections_total", &labels).await;
            assert!((count - (done as f64 + 1.0)).abs() < 0.1, "{address}: {count}");
        }
        assert_eq!(server.connections(), 0);
    }
}

#[tokio::test]
async fn without_the_control_plane_the_known_goes_on_and_nothing_new_goes_in_plain() {
    for ground in
        grounds("without_the_control_plane_the_known_goes_on_and_nothing_new_goes_in_plain")
    {
        let mut stage = Stage::start(ground).await;
        let server = stage.outside.run(App::tcp_at(stage.outsider(0), says_who_calls)).await;
        let known = format!("http://{}/", stage.service(80));
        let arguments = ["--parallel", "--write-out", SHOW, &known, &known];
        assert_eq!(stage.curl(&arguments).await.text.matches("1.1 200 catalog-").count(), 2);
        stage.mesh.kill_control_plane();

        assert_eq!(stage.curl(&arguments).await.text.matches("1.1 200 catalog-").count(), 2);
        for (version, line) in
            [("--http1.1", "HTTP/1.1 503 "), ("--http2-prior-knowledge", "HTTP/2 503 ")]
        {
            let url = format!("http://{}/", server.address);
            let said = stage.curl(&[version, "--include", &url]).await;
            assert!(said.text.starts_with(line), "{said:?}");
            assert!(said.text.contains("weft-reason: discovery-unavailable\r\n"), "{said:?}");
        }
        assert_eq!(server.connections(), 0);
    }
}

#[tokio::test]
async fn plaintext_is_for_permissive_ports_and_ends_when_one_becomes_strict() {
    for ground in grounds("plaintext_is_for_permissive_ports_and_ends_when_one_becomes_strict") {
        let stage = Stage::start(ground).await;
        let catalog = &stage.catalogs[0];
        let http = stage.pod(1, catalog.http.address.port());
        assert_eq!(stage.outsider_says(http, REQUEST).await, "");
        let strict = ["direction=\"inbound\"", "reason=\"strict-required\""];
        catalog.member.counts("weft_refused_connections_total", &strict, 1.0).await;

        stage.set_plaintext(Plaintext::Served);
        let answer = wait::until("plaintext to be served", || async {
            let answer = stage.outsider_says(http, REQUEST).await;
            (!answer.is_empty()).then_some(answer)
        })
        .await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(!answer.contains("got-weft-client-id"), "{answer}");
        // The caller's own address, not the form in which a socket of both families shows IPv4's.
        let from = format!("got-x-forwarded-for: {}\r\n", stage.outsider(0).ip());
        assert!(answer.contains(&from), "{answer}");

        let greeter = stage.pod(1, catalog.greeter.address.port());
        let mut open = stage.outside.run(Raw::connect(greeter)).await;
        assert_eq!(open.receive_until("\n").await, "hello\n");
        let mut idle = stage.outside.run(Raw::connect(http)).await;
        idle.send("GET / HTTP/1.1\r\nHost: catalog\r\n\r\n").await;
        assert!(idle.receive_head().await.starts_with("HTTP/1.1 200 "));

        stage.set_plaintext(Plaintext::Refused);
        assert_eq!(open.receive_to_end().await, "");
        assert_eq!(idle.receive_to_end().await, "");
        let changed = ["direction=\"inbound\"", "reason=\"policy-changed\""];
        catalog.member.counts("weft_refused_connections_total", &changed, 2.0).await;
        assert_eq!(stage.outsider_says(http, REQUEST).await, "");
        // Who belongs to the mesh is still served.
        let said = stage.curl(&["--write-out", SHOW, &format!("http://{http}/")]).await;
        assert_eq!(said.text, format!("1.1 200 catalog-1 {WEB}\n"), "{said:?}");
    }
}

#[tokio::test]
async fn the_port_named_in_the_handshake_is_the_one_that_was_dialled() {
    for ground in grounds("the_port_named_in_the_handshake_is_the_one_that_was_dialled") {
        let stage = Stage::start(ground).await;
        let catalog = &stage.catalogs[0];
        let (dialled, other) = (catalog.http.address.port(), catalog.greeter.address.port());
        let address = stage.pod(1, dialled);
        // The sidecar takes mutual TLS that was redirected to it, as well as at its own port.
        for address in [address, stage.pod(1, 4143)] {
            let answer = mesh_call(&stage, address, dialled);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{address}: {answer}");
        }
        assert_eq!(mesh_call(&stage, address, other), "");
        let labels = ["direction=\"inbound\"", "reason=\"port-not-served\""];
        catalog.member.counts("weft_refused_connections_total", &labels, 1.0).await;
    }
}

/// Sends a request to an address as the sidecar of `web` does, naming this port in the handshake.
fn mesh_call(stage: &Stage, address: SocketAddr, named: u16) -> String {
    let identity = stage.web.sidecar.running().identity.clone();
    // As the proxy: no rule redirects its packets on their way out.
    let call = move || worker::run(mesh_request(identity, address, named));
    stage.network.pod(0).run(User::Proxy, call).join().expect("no panic").expect("a runtime")
}

async fn mesh_request(identity: Identity, address: SocketAddr, named: u16) -> String {
    let named = MeshServerName::of_port(Port::new(named).expect("a bound port"));
    let catalog = "spiffe://weft.local/ns/shop/sa/catalog".parse().expect("an identity");
    let expected: Arc<[SpiffeId]> = Arc::new([catalog]);
    let tls = MutualTls::new(identity, wait::PATIENCE, Metrics::new().tls());
    let socket = Socket::new(TcpStream::connect(address).await.expect("the sidecar listens"));
    let connected = tls.connect(socket, "test", &expected, &named, &[Alpn::Http1]).await;
    let mut socket = connected.expect("both belong to the mesh").socket;
    let mut received = Vec::new();
    let _ = socket.write_all(REQUEST.as_bytes()).await;
    let _ = socket.flush().await;
    let _ = wait::soon("the connection's end", socket.read_to_end(&mut received)).await;
    String::from_utf8_lossy(&received).into_owned()
}

#[tokio::test]
async fn the_proxys_own_ports_lead_nowhere() {
    for ground in grounds("the_proxys_own_ports_lead_nowhere") {
        let stage = Stage::start(ground).await;
        for address in [
            stage.loopback(4140),
            stage.pod(0, 4140),
            stage.pod(0, 4143),
            stage.pod(1, 4140),
            stage.pod(1, 4143),
            stage.pod(1, 4191),
        ] {
            let said = stage.curl(&["--write-out", SHOW, &format!("http://{address}/")]).await;
            refused(&said);
        }
        // Nobody else may use the application's proxy: it would act in its name.
        let by_name = "GET http://catalog/ HTTP/1.1\r\nHost: catalog\r\nConnection: close\r\n\r\n";
        assert_eq!(stage.outsider_says(stage.pod(0, 4140), by_name).await, "");
        let labels = ["direction=\"outbound\"", "reason=\"destination-forbidden\""];
        stage.web.counts("weft_refused_connections_total", &labels, 2.0).await;
        // Nothing goes round in circles.
        wait::until_true("every connection to end", || async {
            stage.web.count("weft_open_connections", &["direction"]).await < 0.5
        })
        .await;
    }
}

#[tokio::test]
async fn excluded_ports_stay_as_they_are() {
    for ground in grounds("excluded_ports_stay_as_they_are") {
        let stage = Stage::start(ground).await;
        let catalog = &stage.catalogs[0];
        for port in [22, 4480] {
            let address = stage.pod(1, port);
            let _server = catalog.servers.run(App::tcp_at(address, says_who_calls)).await;
            let answer = stage.outsider_says(address, REQUEST).await;
            assert!(answer.ends_with(&format!("{} calls", stage.outsider(0).ip())), "{answer:?}");
            let said = stage.curl(&[&format!("http://{address}/")]).await;
            assert_eq!(said.text, format!("{} calls", stage.pod(0, 0).ip()), "{said:?}");
        }
        for member in [&catalog.member, &stage.web] {
            assert!(member.count("weft_open_connections", &["direction"]).await < 0.5);
            assert!(member.count("weft_refused_connections_total", &["reason"]).await < 0.5);
        }
    }
}

#[tokio::test]
async fn the_application_may_still_name_its_destination_to_the_proxy() {
    for ground in grounds("the_application_may_still_name_its_destination_to_the_proxy") {
        let stage = Stage::start(ground).await;
        let proxy = format!("http://{}", stage.loopback(4140));
        let said = stage.curl(&["-x", &proxy, "--write-out", SHOW, "http://catalog/"]).await;
        assert!(said.text.starts_with("1.1 200 catalog-"), "{said:?}");
        assert!(said.text.ends_with(&format!(" {WEB}\n")), "{said:?}");
    }
}

/// No application answered.
fn refused(said: &Said) {
    let refused = said.exit != 0 || said.text.starts_with("weft: destination-");
    assert!(refused && !said.text.contains("catalog-"), "{said:?}");
}
