//! Limits: rates, requests at once, connections; and balancing by hash.

use futures_util::future::join_all;
use weft_tests::{
    apps::{App, Http},
    client::Client,
    wait,
};

use crate::stage::{Asked, Stage, call, from, get, policy, route, silent, status, traffic};

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_has_its_rate_and_hears_when_to_come_back() {
    let sections = "  rateLimits: [{requests: 5, per: 1h, burst: 5, key: Identity}]";
    let stage = Stage::with(&traffic("echo-v1", sections)).await;
    for caller in [&stage.web, &stage.guest] {
        let mut client = Client::connect(caller.outbound(), Http::One).await;
        for _ in 0..5 {
            let answer = client.get("http://echo-v1.mesh/").await;
            from("echo-v1").check(&answer, "within the rate");
        }
        let answer = client.get("http://echo-v1.mesh/").await;
        assert_eq!((answer.status.as_u16(), answer.field("weft-reason")), (429, "rate-limited"));
        let wait: u64 = answer.field("retry-after").parse().expect("seconds");
        assert!((1..=720).contains(&wait), "{wait}");
    }
    stage.change("");
    wait::until_true("the limit to be gone", || async {
        let mut client = stage.client(Http::One).await;
        client.get("http://echo-v1/").await.status == 200
    })
    .await;
}

/// Says how each of the requests fares, one after the other, as `REMAINING` of a limit or as `limited`.
async fn fares(client: &mut Client, asked: &Asked, times: usize) -> Vec<String> {
    let mut fares = Vec::new();
    for _ in 0..times {
        let answer = client.send(asked.request()).await.expect("an answer");
        let remaining = answer.field("ratelimit-remaining").to_owned();
        if !answer.field("app").is_empty() {
            fares.push(remaining);
            continue;
        }
        match asked.is_call() {
            true => from("").field("grpc-status", "8").check(&answer, "a call"),
            false => status(429).check(&answer, "a request"),
        }
        assert_eq!((answer.field("weft-reason"), &*remaining), ("rate-limited", "0"));
        let said = format!("{answer:?} {}", String::from_utf8_lossy(&answer.body));
        assert!(!said.contains("TrafficPolicy mesh"), "{said}");
        fares.push("limited".to_owned());
    }
    fares
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_by_header_and_by_route_say_how_they_stand_over_every_protocol() {
    let by_header =
        traffic("echo-v1", "  rateLimits: [{requests: 4, per: 1h, key: Header, header: x-user}]");
    let rules = "  - name: limited
    matches: [{path: {type: PathPrefix, value: /limited}}]
    backendRefs: [{name: echo-v2, port: 80}]
  - backendRefs: [{name: echo-v2, port: 80}]
";
    let targets = "  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: by-route, sectionName: limited}]";
    let limit = "  rateLimits: [{requests: 2, per: 1h}]";
    let by_route = route("by-route", "echo-v2", rules)
        + &policy("TrafficPolicy", "by-route", &format!("{targets}\n{limit}\n"));
    let stage = Stage::with(&format!("{by_header}{by_route}")).await;
    let (mut one, mut two) = (stage.client(Http::One).await, stage.client(Http::Two).await);

    let plain = |user| get("http://echo-v1/").with("x-user", user);
    assert_eq!(fares(&mut one, &plain("ann"), 2).await, ["3", "2"]);
    assert_eq!(fares(&mut two, &plain("ann"), 3).await, ["1", "0", "limited"]);
    assert_eq!(fares(&mut one, &plain("ann"), 1).await, ["limited"]);
    assert_eq!(fares(&mut two, &plain("bob"), 1).await, ["3"]);
    let by_call = call("http://echo-v1:7070/a.B/C").with("x-user", "dan");
    assert_eq!(fares(&mut two, &by_call, 5).await, ["3", "2", "1", "0", "limited"]);
    assert_eq!(fares(&mut one, &plain("dan"), 1).await, ["limited"], "it is one application");
    assert_eq!(fares(&mut one, &get("http://echo-v1/"), 1).await, ["3"], "those without share one");

    let answer = two.send(plain("cid").request()).await.expect("an answer");
    assert_eq!(answer.field("ratelimit-limit"), "4");
    let reset: u64 = answer.field("ratelimit-reset").parse().expect("seconds");
    assert!((890..=900).contains(&reset), "a quarter of an hour for one of four: {reset}");
    assert!(!answer.headers.contains_key("retry-after"), "{answer:?}");

    let limited = get("http://echo-v2/limited/x");
    assert_eq!(fares(&mut one, &limited, 1).await, ["1"]);
    assert_eq!(fares(&mut two, &limited, 2).await, ["0", "limited"]);
    for client in [&mut one, &mut two] {
        assert_eq!(fares(client, &get("http://echo-v2/free"), 3).await, ["", "", ""]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_gets_so_many_requests_at_once() {
    let apps = [silent().await, App::echo_both("echo-v2").await];
    let stage =
        Stage::serving(apps, &traffic("echo-v1", "  concurrency: {maxInFlight: 2, maxPending: 0}"))
            .await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = stage.client(Http::One).await;
        held.push(tokio::spawn(
            async move { client.stream(get("http://echo-v1/").request()).await },
        ));
    }
    let (server, _) = &stage.servers()[0];
    server.counts("weft_requests_in_flight", &["direction=\"inbound\""], 2.0).await;
    let answer = stage.client(Http::One).await.get("http://echo-v1/").await;
    assert_eq!((answer.status.as_u16(), answer.field("weft-reason")), (503, "concurrency-limit"));
    for one in held {
        one.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_sends_so_many_requests_at_once() {
    let apps = [silent().await, silent().await];
    let stage = Stage::serving(apps, &traffic("echo", "  limits: {maxInFlight: 2}")).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = stage.client(Http::One).await;
        held.push(tokio::spawn(async move { client.stream(get("http://echo/").request()).await }));
    }
    wait::until_true("both to be at an application", || async {
        let mut arrived = 0.0;
        for (server, _) in stage.servers() {
            arrived += server.count("weft_requests_in_flight", &["direction=\"inbound\""]).await;
        }
        arrived >= 2.0
    })
    .await;
    let answer = stage.client(Http::One).await.get("http://echo/").await;
    assert_eq!((answer.status.as_u16(), answer.field("weft-reason")), (503, "service-limit"));
    for one in held {
        one.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_hash_stay_with_one_replica() {
    let sections = "  loadBalancing: {algorithm: RingHash, hash: {header: x-customer}}";
    let stage = Stage::with(&traffic("echo", sections)).await;
    let mut both = [false; 2];
    for customer in ["ann", "bob", "cid", "dan", "eve", "fay", "gus", "hal", "ida", "jan"] {
        let asks = (0..10).map(|_| async {
            let mut client = stage.client(Http::One).await;
            let asked = get("http://echo/").with("x-customer", customer).request();
            client.send(asked).await.expect("an answer").field("app").to_owned()
        });
        let apps = join_all(asks).await;
        assert!(apps.iter().all(|app| *app == apps[0]), "{customer}: {apps:?}");
        both[usize::from(apps[0] == "echo-v2")] = true;
    }
    assert_eq!(both, [true, true], "ten customers are of one replica");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_under_a_limit_is_served_at_once_when_its_policy_is_deleted() {
    for section in ["limits", "concurrency"] {
        let apps = [silent().await, App::echo_both("echo-v2").await];
        let sections = format!("  {section}: {{maxInFlight: 1, maxPending: 5, maxWait: 1h}}");
        let stage = Stage::serving(apps, &traffic("echo-v1", &sections)).await;
        let mut held = Vec::new();
        for _ in 0..4 {
            let mut client = stage.client(Http::One).await;
            let asked = get("http://echo-v1/").request();
            held.push(tokio::spawn(async move { client.stream(asked).await }));
        }
        stage.web.counts("weft_requests_in_flight", &["direction=\"outbound\""], 4.0).await;
        let (_, app) = &stage.servers()[0];
        wait::until_true("the first to arrive", || async { app.connections() == 1 }).await;
        stage.change("");
        wait::until_true("all to arrive", || async { app.connections() == 4 }).await;
        for one in held {
            one.abort();
        }
    }
}
