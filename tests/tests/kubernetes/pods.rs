//! Which connection goes where for pods of a cluster: real sidecars behind the rules of `weft-proxy init`, injected pods,
//! and a control plane that knows all of it from the Kubernetes API. In both families. Root only.

mod stage;

use std::net::{IpAddr, SocketAddr};

use weft_tests::{namespace, raw::Raw, wait};

use self::stage::{
    CARTS, GREETER, HTTP, LEGACY, OPAQUE, OUTSIDE, PERMISSIVE, SKIPPED, Stage, UNDECLARED, WEB,
    cart_name,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_meshed_pod_reaches_whatever_a_pod_can_reach() {
    if !namespace::available("a_meshed_pod_reaches_whatever_a_pod_can_reach") {
        return;
    }
    let stage = Stage::start().await;
    let (web, nobody) = (stage.spiffe("web"), String::new());
    // By the service's address: either of both.
    for service in &stage.cart {
        let url = format!("http://{}/", SocketAddr::new(*service, 80));
        for name in ["cart-0", "cart-1"] {
            wait::until_true(&format!("{url} to be answered by {name}"), || async {
                let (app, caller) = stage.answered(WEB, &[&url]).await;
                assert_eq!(caller, web, "{url}");
                app == name
            })
            .await;
        }
    }
    // By the pod's own name, which DNS knows below the headless service, or the sidecar as an HTTP proxy; and by its own
    // addresses, at a port of a service, of none, and at one that is not the sidecar's.
    for index in CARTS {
        let name = cart_name(index);
        let host = format!("{name}.carts.{}.svc.cluster.local", stage.node.namespace);
        let url = format!("http://{host}:{HTTP}/");
        let by_proxy = ["--proxy", "http://127.0.0.1:4140", &url];
        assert_eq!(stage.answered(WEB, &by_proxy).await, (name.clone(), web.clone()));
        for address in stage.node.addresses(index) {
            let resolve = format!("{host}:{HTTP}:{}", in_url(address));
            let found = stage.answered(WEB, &["--resolve", &resolve, &url]).await;
            assert_eq!(found, (name.clone(), web.clone()), "{resolve}");
        }
        for (port, caller) in
            [(HTTP, &web), (PERMISSIVE, &web), (UNDECLARED, &web), (SKIPPED, &nobody)]
        {
            for address in stage.cart_at(index, port) {
                let found = stage.answered(WEB, &[&format!("http://{address}/")]).await;
                assert_eq!(found, (name.clone(), caller.clone()), "{address}");
            }
        }
    }
    let by_name = ["--proxy", "http://127.0.0.1:4140", "http://cart/"];
    assert_eq!(stage.answered(WEB, &by_name).await.1, web);
    // Without a sidecar there: by the service, by the pod, and outside the cluster.
    let services = stage.legacy.iter().map(|ip| SocketAddr::new(*ip, 80));
    let pods = stage.cart_at(LEGACY, HTTP);
    let outside = SocketAddr::new(OUTSIDE.parse().expect("an address"), HTTP);
    for address in services.chain(pods).chain([outside]) {
        let found = stage.answered(WEB, &[&format!("http://{address}/")]).await;
        assert_eq!(found, ("legacy".to_owned(), nobody.clone()), "{address}");
    }
    let labels = ["direction=\"outbound\"", "service=\"outside\"", "tls=\"plain\""];
    let passed = stage.node.count(&stage.web, "weft_connections_closed_total", &labels).await;
    assert!((passed - 1.0).abs() < 0.1, "one went past the mesh: {passed}");
}

fn in_url(address: IpAddr) -> String {
    if address.is_ipv6() { format!("[{address}]") } else { address.to_string() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_behind_a_service_reaches_itself_by_it_over_mutual_tls() {
    if !namespace::available("a_pod_behind_a_service_reaches_itself_by_it_over_mutual_tls") {
        return;
    }
    let stage = Stage::start().await;
    let cart = stage.spiffe("cart");
    for service in &stage.cart {
        let url = format!("http://{}/", SocketAddr::new(*service, 80));
        wait::until_true("cart-0 to answer itself", || async {
            let (app, caller) = stage.answered(CARTS[0], &[&url]).await;
            assert_eq!(caller, cart, "{url}");
            app == "cart-0"
        })
        .await;
    }
    // Its own addresses are no way through the mesh: what it says to itself stays with it.
    for address in stage.cart_at(CARTS[0], HTTP) {
        let found = stage.answered(CARTS[0], &[&format!("http://{address}/")]).await;
        assert_eq!(found, ("cart-0".to_owned(), String::new()), "{address}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_a_sidecar_reach_what_is_open_to_them_and_nothing_else() {
    let test = "callers_without_a_sidecar_reach_what_is_open_to_them_and_nothing_else";
    if !namespace::available(test) {
        return;
    }
    let stage = Stage::start().await;
    let mut rows: Vec<(SocketAddr, bool)> = Vec::new();
    for service in &stage.cart {
        rows.extend([(80, false), (81, true)].map(|(port, open)| ((*service, port).into(), open)));
    }
    for (port, open) in [(HTTP, false), (UNDECLARED, false), (PERMISSIVE, true), (SKIPPED, true)] {
        for index in CARTS {
            rows.extend(stage.cart_at(index, port).into_iter().map(|address| (address, open)));
        }
    }
    let mut refused = 0.0;
    for (address, is_open) in rows {
        let (status, app, caller) = stage.ask(LEGACY, &[&format!("http://{address}/")]).await;
        let expected = if is_open { "200" } else { "000" };
        assert_eq!(status, expected, "{address}");
        assert_eq!((app.starts_with("cart-"), caller.as_str()), (is_open, ""), "{address}");
        refused += if is_open { 0.0 } else { 1.0 };
    }
    let mut counted = 0.0;
    for cart in &stage.carts {
        let labels = ["direction=\"inbound\"", "reason=\"strict-required\""];
        counted += stage.node.count(cart, "weft_refused_connections_total", &labels).await;
    }
    assert!((counted - refused).abs() < 0.1, "{counted} of {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_first_is_heard_and_its_bytes_are_its_own() {
    if !namespace::available("a_server_that_speaks_first_is_heard_and_its_bytes_are_its_own") {
        return;
    }
    let stage = Stage::start().await;
    let tls = ["direction=\"inbound\"", "tls=\"mutual\""];
    for (done, port) in [(0.0, GREETER), (2.0, OPAQUE)] {
        for address in stage.cart_at(CARTS[0], port) {
            let mut client = stage.servers[WEB].run(Raw::connect(address)).await;
            assert_eq!(client.receive_until("\n").await, "hello\n", "{address}");
            // Where bytes are opaque, not even what looks like a forged caller is anybody's business.
            let bytes = "GET / HTTP/1.1\r\nHost: cart\r\n\r\n";
            client.send(bytes).await;
            assert_eq!(client.receive_until("\r\n\r\n").await, bytes, "{address}");
            client.finish().await;
            client.ended().await;
        }
        let name = "weft_connections_closed_total";
        wait::until_true("both connections to be counted", || async {
            stage.node.count(&stage.carts[0], name, &tls).await >= done + 2.0
        })
        .await;
    }
    let requests = stage.node.count(&stage.carts[0], "weft_requests_total", &tls).await;
    assert!(requests < 0.5, "bytes were taken for requests: {requests}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_probes_reach_applications_behind_strict_ports() {
    if !namespace::available("the_nodes_probes_reach_applications_behind_strict_ports") {
        return;
    }
    let mut stage = Stage::start().await;
    let probes = ["readiness", "liveness", "startup"];
    let asked = async |stage: &Stage, kind: &str| {
        stage.node.asked(CARTS[0], &format!("/probe/app/{kind}")).await
    };
    for kind in probes {
        let answer = asked(&stage, kind).await;
        assert_eq!(answer.status, http::StatusCode::OK, "{kind}: {answer:?}");
    }
    assert_eq!(asked(&stage, "pre-stop").await.status, http::StatusCode::NOT_FOUND);
    for app in std::mem::take(&mut stage.apps[0]) {
        app.stop().await;
    }
    for kind in probes {
        let answer = asked(&stage, kind).await;
        assert_eq!(answer.status, http::StatusCode::SERVICE_UNAVAILABLE, "{kind}: {answer:?}");
        let why = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(why.contains("cannot connect to "), "{kind}: {why}");
    }
    // The sidecar itself is well, and the other pod's application too.
    assert_eq!(stage.node.asked(CARTS[0], "/ready").await.status, http::StatusCode::OK);
    let other = stage.node.asked(CARTS[1], "/probe/app/readiness").await;
    assert_eq!(other.status, http::StatusCode::OK, "{other:?}");
}
