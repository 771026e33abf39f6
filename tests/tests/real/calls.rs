//! Policies as a client of grpcio meets them: in codes, details, deadlines and the ends of streams.

use std::{path::PathBuf, process::Stdio};

use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};
use weft_tests::{
    program::{Server, python, script, succeed},
    wait,
};

use super::{
    local,
    policies::{Shop, VERSIONS, policy, traffic},
};

/// Two servers of grpcio, and a client.
struct Calls {
    shop: Shop,
    python: PathBuf,
    _servers: Vec<Server>,
}

/// What came of a call, or a message of its answer.
#[derive(Debug, Deserialize)]
struct Said {
    code: String,
    text: String,
    metadata: serde_json::Value,
}

impl Calls {
    /// With these policies from the start; `None` where there is no grpcio.
    async fn start(policies: &str) -> Option<Self> {
        let python = python("grpcio under policies", "grpc")?;
        let mut servers = Vec::new();
        for version in VERSIONS {
            let mut command = Command::new(&python);
            servers.push(Server::start(command.arg(script("grpc_server.py")).arg(version)).await);
        }
        let applications = [local(servers[0].port), local(servers[1].port)];
        let shop = Shop::start("grpc", applications, policies).await;
        Some(Self { shop, python, _servers: servers })
    }

    fn command(&self, service: &str, method: &str, options: &[&str]) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(script("grpc_call.py")).arg(self.shop.reaches(service).to_string());
        command.arg(method).args(options);
        command
    }

    /// What comes of calls of a method.
    async fn call(&self, service: &str, method: &str, options: &[&str]) -> Vec<Said> {
        let out = succeed(&mut self.command(service, method, options)).await;
        out.lines().map(said).collect()
    }

    /// What comes of one call.
    async fn call_once(&self, service: &str, method: &str, options: &[&str]) -> Said {
        self.call(service, method, options).await.remove(0)
    }

    /// Begins a call whose answer has many messages.
    fn watch(&self, service: &str) -> Watch {
        let mut command = self.command(service, "Watch", &["--stream"]);
        let mut child =
            command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Watch { _child: child, lines }
    }
}

/// A call whose answer has many messages; it is killed when dropped.
struct Watch {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    async fn next(&mut self) -> Said {
        let line = wait::soon("a message", self.lines.next_line()).await;
        said(&line.expect("text").expect("it runs"))
    }
}

fn said(line: &str) -> Said {
    serde_json::from_str(line).expect("a line of JSON")
}

fn count(said: &[Said], code: &str, text: &str) -> usize {
    said.iter().filter(|said| said.code == code && said.text == text).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcio_calls_go_where_a_route_sends_their_method_and_metadata() {
    let route = "---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: names, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: server, port: 80}]
  rules:
  - matches: [{method: {service: echo.Echo, method: Name}, headers: [{name: version, value: two}]}]
    backendRefs: [{name: server-v2, port: 80}]
  - matches: [{method: {service: echo.Echo, method: Name}}]
    backendRefs: [{name: server-v1, port: 80, weight: 70}, {name: server-v2, port: 80, weight: 30}]
";
    let Some(calls) = Calls::start(route).await else { return };
    let asked = calls.call("server", "Name", &["--times=50", "--metadata=version=two"]).await;
    assert_eq!(count(&asked, "OK", "server-v2"), 50, "{asked:?}");
    let split = calls.call("server", "Name", &["--times=1000"]).await;
    let (one, two) = (count(&split, "OK", "server-v1"), count(&split, "OK", "server-v2"));
    assert!(one + two == 1000 && (630..=770).contains(&one), "{one} to {two}");
    let other = calls.call_once("server", "Left", &[]).await;
    assert_eq!(other.code, "UNIMPLEMENTED", "{other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcio_calls_are_tried_again_at_the_other_server_by_their_code() {
    let retry = "  retry: {attempts: 1, grpcCodes: [Unavailable], unsafeMethods: true, backoff: {base: 1ms}, budget: {percent: 100, minPerSecond: 100}}";
    let Some(calls) = Calls::start(&traffic("server", retry)).await else { return };
    let refused = ["--times=50", "--body=server-v1"];
    let asked = calls.call("server", "UnlessNamed", &refused).await;
    assert_eq!(count(&asked, "OK", "server-v2"), 50, "{asked:?}");
    let retried = calls.shop.web.count("weft_retries_total", &["reason=\"grpc-status\""]).await;
    // How often the balancer asks the one that refuses is its own affair.
    assert!(retried >= 1.0, "{retried}");

    // Of another code nothing is tried again.
    let failed = calls.call("server", "Fail", &["--times=10"]).await;
    assert_eq!(failed.iter().filter(|said| said.code == "FAILED_PRECONDITION").count(), 10);
    let now = calls.shop.web.count("weft_retries_total", &["reason=\"grpc-status\""]).await;
    assert!((now - retried).abs() < 0.5, "{retried}, then {now}");

    calls.shop.change("");
    wait::until_true("the policy to be gone", || async {
        let asked = calls.call("server", "UnlessNamed", &refused).await;
        count(&asked, "UNAVAILABLE", "not me") > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcio_deadlines_shrink_on_their_way_and_end_calls() {
    let sections = "  timeouts: {request: 2s}
  faults: [{percent: 100, delay: 500ms, match: [{headers: [{name: delayed, exact: 'yes'}]}]}]";
    let Some(calls) = Calls::start(&traffic("server-v1", sections)).await else { return };
    let cases: [(&str, &[&str], f64, f64); 3] = [
        ("server-v2", &["--timeout=5"], 3.0, 5.0),
        ("server-v1", &["--timeout=10"], 1.0, 2.0),
        ("server-v1", &["--timeout=10", "--metadata=delayed=yes"], 0.5, 1.5),
    ];
    for (service, options, above, most) in cases {
        let said = calls.call_once(service, "Left", options).await;
        let left: f64 = said.text.parse().unwrap_or_else(|_| panic!("{said:?}"));
        assert!(left > above && left <= most, "{service} {options:?}: {left}");
    }
    // An application hears of gRPC's own deadline only.
    for service in VERSIONS {
        assert_eq!(calls.call_once(service, "Left", &[]).await.text, "none");
    }

    // The client has no deadline of its own: the mesh's word comes to it as such.
    let late = calls.call_once("server-v1", "Slow", &[]).await;
    assert_eq!(late.code, "DEADLINE_EXCEEDED", "{late:?}");
    assert_eq!(late.metadata["weft-reason"], "request-timeout", "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcio_hears_of_limits_denials_and_faults_in_its_own_codes() {
    let limit =
        "  rateLimits: [{requests: 5, per: 1h, match: [{paths: [{exact: /echo.Echo/Name}]}]}]";
    let deny = "  rules: [{action: Deny, to: [{paths: [{exact: /echo.Echo/Name}]}]}]";
    let fault = "  faults: [{percent: 100, abort: {status: 503, grpcCode: DataLoss}, match: [{headers: [{name: unlucky}]}]}]";
    let policies = [
        traffic("server-v1", limit),
        policy("AccessPolicy", "server-v2", deny),
        traffic("server", fault),
    ];
    let Some(calls) = Calls::start(&policies.concat()).await else { return };

    let asked = calls.call("server-v1", "Name", &["--times=8"]).await;
    let codes: Vec<_> = asked.iter().map(|said| &*said.code).collect();
    assert_eq!(codes, [["OK"; 5].as_slice(), &["RESOURCE_EXHAUSTED"; 3]].concat());
    let refused = &asked[7].metadata;
    assert_eq!(refused["weft-reason"], "rate-limited");
    let wait: Option<u32> = refused["retry-after"].as_str().and_then(|wait| wait.parse().ok());
    assert!(wait.is_some_and(|wait| (1..=720).contains(&wait)), "{refused}");
    assert_eq!(calls.call_once("server-v1", "Left", &[]).await.code, "OK");

    let denied = calls.call_once("server-v2", "Name", &[]).await;
    assert_eq!(denied.code, "PERMISSION_DENIED", "{denied:?}");
    assert!(!format!("{denied:?}").contains("of-server-v2"), "{denied:?}");
    assert_eq!(calls.call_once("server-v2", "Left", &[]).await.code, "OK");

    let lost = calls.call_once("server", "Left", &["--metadata=unlucky=yes"]).await;
    assert_eq!(lost.code, "DATA_LOSS", "{lost:?}");
    assert_eq!(lost.metadata["weft-reason"], "fault-injected", "{lost:?}");
    assert_eq!(calls.call_once("server", "Left", &[]).await.code, "OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpcio_stream_ends_when_access_is_withdrawn_and_another_goes_on() {
    let Some(calls) = Calls::start("").await else { return };
    let (mut ended, mut other) = (calls.watch("server-v1"), calls.watch("server-v2"));
    for (watch, name) in [(&mut ended, "server-v1"), (&mut other, "server-v2")] {
        assert_eq!(watch.next().await.text, name);
    }
    let deny = "  rules: [{action: Deny, to: [{paths: [{exact: /echo.Echo/Watch}]}]}]";
    calls.shop.change(&policy("AccessPolicy", "server-v1", deny));
    let end = async {
        loop {
            let said = ended.next().await;
            if said.code != "MESSAGE" {
                break said;
            }
        }
    };
    let last = wait::soon("the end of the stream", end).await;
    assert_eq!(last.code, "PERMISSION_DENIED", "{last:?}");
    assert_eq!(calls.watch("server-v1").next().await.code, "PERMISSION_DENIED");
    assert_eq!(calls.call_once("server-v1", "Name", &[]).await.text, "server-v1");
    for _ in 0..5 {
        assert_eq!(other.next().await.text, "server-v2");
    }
}
