//! Names outside the mesh, over real sockets, by a DNS server that says what the test says.

use std::time::Duration;

use weft_proto::Port;

use super::*;
use crate::{
    balance::{BalancingPolicy, policy::Algorithm},
    discovery::{Directory, InboundPorts, MeshScope, OutsideScope, Subscription, Trial},
    dns::fake::FakeDns,
    policy::breaker::{BreakerSettings, Verdict},
    telemetry::{Direction, Metrics},
};

const PATIENCE: Duration = Duration::from_secs(20);
const API: &str = "api.example.com:443";

struct Bench {
    dns: FakeDns,
    directory: Directory,
    finder: Finder,
}

async fn bench() -> Bench {
    let dns = FakeDns::start().await;
    let mesh = MeshScope {
        trust_domain: weft_proto::TrustDomain::default(),
        ranges: Vec::new(),
        suffixes: Vec::new(),
        namespaces: Vec::new(),
        outside: OutsideScope { hosts: hosts(), ..OutsideScope::default() },
    };
    let directory = Directory::fixed(mesh, InboundPorts::default());
    let lookup = Lookup {
        resolver: Resolver::of_server(dns.address),
        own_ports: Arc::new([SocketAddr::from(([192, 0, 2, 99], 443))]),
        permits: authority::allowed,
        floor: Duration::from_millis(50),
    };
    let finder = Finder::new(lookup, Arc::clone(&directory.shared));
    Bench { dns, directory, finder }
}

fn hosts() -> Vec<String> {
    ["api.example.com", "*.example.org", "127.0.0.1"].map(str::to_owned).to_vec()
}

fn wanted() -> Destination {
    let external = External { hosts: hosts(), port: Port::new(443).expect("a port") };
    Destination { external: Some(Arc::new(external)), ..Destination::empty("shop/api:443".into()) }
}

impl Bench {
    /// The control plane says that a name is the external service; returns what a worker holds.
    fn says(&mut self, name: &str, destination: Destination) -> Subscription<Resolution> {
        let held = self.directory.resolve(name);
        self.finder.publish(vec![(name.into(), Resolution::Mesh(Arc::new(destination)))]);
        held
    }

    /// Waits until DNS has been asked so many times more.
    async fn asked_again(&self, times: usize) {
        let (before, until) = (self.dns.asked(), clock::now() + PATIENCE);
        while self.dns.asked() < before + times {
            assert!(clock::now() < until, "DNS is not asked");
            clock::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn addresses(resolution: &Resolution) -> Option<Vec<String>> {
    let Resolution::Mesh(destination) = resolution else { return None };
    Some(destination.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect())
}

/// Waits until a worker sees these addresses.
async fn sees(held: &mut Subscription<Resolution>, expected: &[&str]) -> Arc<Destination> {
    let is_seen = |found: &Resolution| addresses(found).is_some_and(|found| found == expected);
    let seen = clock::timeout(PATIENCE, held.wait_for(is_seen)).await;
    match seen.expect("in time").expect("a sender").clone() {
        Resolution::Mesh(destination) => destination,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_name_has_the_addresses_that_dns_says_and_follows_them() {
    let mut bench = bench().await;
    bench.dns.says("api.example.com", &["192.0.2.2", "192.0.2.1", "fd00::1"], 0);
    let mut held = bench.says(API, wanted());
    assert!(matches!(*held.borrow(), Resolution::Pending), "it is waited for");
    let before = sees(&mut held, &["192.0.2.1:443", "192.0.2.2:443", "[fd00::1]:443"]).await;

    bench.dns.says("api.example.com", &["192.0.2.2", "192.0.2.3"], 0);
    let after = sees(&mut held, &["192.0.2.2:443", "192.0.2.3:443"]).await;
    assert!(Arc::ptr_eq(&before.endpoints[1].health, &after.endpoints[0].health));
    assert!(after.endpoints[1].health.age_ms(u64::MAX).is_some(), "it is new");
}

#[tokio::test]
async fn the_last_good_answer_stays_while_dns_fails() {
    let mut bench = bench().await;
    bench.dns.says("api.example.com", &["192.0.2.1"], 0);
    let mut held = bench.says(API, wanted());
    sees(&mut held, &["192.0.2.1:443"]).await;

    bench.dns.is_broken(true);
    bench.asked_again(4).await;
    assert_eq!(addresses(&held.borrow()).expect("kept"), ["192.0.2.1:443"]);

    bench.dns.says("api.example.com", &["192.0.2.7"], 0);
    bench.dns.is_broken(false);
    sees(&mut held, &["192.0.2.7:443"]).await;
}

#[tokio::test]
async fn a_name_that_dns_does_not_know_has_no_endpoints_until_it_does() {
    let mut bench = bench().await;
    let mut held = bench.says("www.example.org:443", wanted());
    sees(&mut held, &[]).await;
    bench.dns.says("www.example.org", &["192.0.2.1"], 0);
    sees(&mut held, &["192.0.2.1:443"]).await;
}

#[tokio::test]
async fn an_answer_cannot_lead_back_to_this_machine_and_an_operator_can() {
    let mut bench = bench().await;
    let own = ["127.0.0.1", "169.254.169.254", "192.0.2.99", "::1", "192.0.2.1"];
    bench.dns.says("api.example.com", &own, 0);
    let mut held = bench.says(API, wanted());
    sees(&mut held, &["192.0.2.1:443"]).await;

    let mut held = bench.says("127.0.0.1:443", wanted());
    sees(&mut held, &["127.0.0.1:443"]).await;
}

#[tokio::test]
async fn a_changed_policy_is_in_force_without_another_question() {
    let mut bench = bench().await;
    bench.dns.says("api.example.com", &["192.0.2.1"], 3_600);
    let mut held = bench.says(API, wanted());
    sees(&mut held, &["192.0.2.1:443"]).await;
    let asked = bench.dns.asked();

    let policy = BalancingPolicy { algorithm: Algorithm::Random, ..BalancingPolicy::default() };
    let plan = Plan::new(&Arc::new(policy), &[], "");
    let mut held = bench.says(API, Destination { balancing: Some(Arc::new(plan)), ..wanted() });
    let changed = |found: &Resolution| match found {
        Resolution::Mesh(found) => found.balancing.is_some() && found.endpoints.len() == 1,
        _ => false,
    };
    let seen = clock::timeout(PATIENCE, held.wait_for(changed)).await;
    assert!(seen.is_ok_and(|seen| seen.is_ok()));
    assert_eq!(bench.dns.asked(), asked);
}

#[tokio::test]
async fn a_name_that_stands_for_something_else_is_followed_no_longer() {
    let mut bench = bench().await;
    bench.dns.says("api.example.com", &["192.0.2.1"], 0);
    let mut held = bench.says(API, wanted());
    sees(&mut held, &["192.0.2.1:443"]).await;
    bench.finder.publish(vec![(API.into(), Resolution::NotFound)]);
    bench.dns.says("api.example.com", &["192.0.2.2"], 0);
    let ended = clock::timeout(PATIENCE, bench.finder.tasks.join_next()).await;
    assert!(ended.expect("in time").is_some_and(|ended| ended.is_ok()));
    assert!(matches!(*held.borrow(), Resolution::NotFound));

    let mut held = bench.says(API, wanted());
    sees(&mut held, &["192.0.2.2:443"]).await;
    bench.finder.forget(API);
    let ended = clock::timeout(PATIENCE, bench.finder.tasks.join_next()).await;
    assert!(ended.expect("in time").is_some_and(|ended| ended.is_ok()), "nobody uses it");
}

#[tokio::test]
async fn each_name_of_a_service_has_ejections_of_its_own_and_they_end_with_it() {
    const WWW: &str = "www.example.org:443";
    let mut bench = bench().await;
    bench.dns.says("api.example.com", &["192.0.2.1", "192.0.2.2"], 3_600);
    bench.dns.says("www.example.org", &["192.0.2.3", "192.0.2.4"], 3_600);
    let settings = BreakerSettings {
        consecutive_failures: 1,
        base_ejection: Duration::from_secs(600),
        panic_percent: 50,
        ..BreakerSettings::default()
    };
    let service = Destination { breaking: Some(Arc::new(settings)), ..wanted() };
    let (mut api, mut www) = (bench.says(API, service.clone()), bench.says(WWW, service.clone()));
    let api = sees(&mut api, &["192.0.2.1:443", "192.0.2.2:443"]).await;
    let www = sees(&mut www, &["192.0.2.3:443", "192.0.2.4:443"]).await;
    let metrics = Metrics::default();
    let traffic = metrics.traffic(Direction::Outbound, "shop/api:443");
    let fail = |destination: &Arc<Destination>, index: usize| {
        let trial = Trial::begin(destination, &destination.endpoints[index], &traffic);
        let trial = trial.expect("it takes requests").expect("there is a policy");
        trial.judge(Some(Verdict::ApplicationFailure));
    };
    let ejected = |destination: &Destination| destination.state.breaking.ejected(0);
    let shown = |count| {
        let text = metrics.text();
        let mut lines = text.lines().filter(|line| line.starts_with("weft_ejected_endpoints{"));
        assert!(lines.any(|line| line.ends_with(&format!(" {count}"))), "{text}");
    };

    fail(&api, 0);
    fail(&www, 0);
    assert_eq!((ejected(&api), ejected(&www)), (1, 1), "one of two each");
    shown(2);
    for destination in [&api, &www] {
        let is_ejected = destination.is_ejected(&destination.endpoints[0], clock::process_ms());
        assert!(is_ejected, "{}", destination.endpoints[0].id);
    }
    assert!(Arc::ptr_eq(&api.state.budget, &www.state.budget), "they are one service");
    assert!(Arc::ptr_eq(&api.state.requests, &service.state.requests));

    bench.finder.forget(API);
    let ended = clock::timeout(PATIENCE, bench.finder.tasks.join_next()).await;
    assert!(ended.expect("in time").is_some_and(|ended| ended.is_ok()));
    assert_eq!((ejected(&api), ejected(&www)), (0, 1));
    shown(1);
}

#[test]
fn an_answer_is_used_a_little_shorter_than_it_holds_within_bounds() {
    let now = clock::now();
    for (seconds, expected) in
        [(Some(0), 5), (Some(5), 5), (Some(100), 90), (Some(86_400), 300), (None, 270)]
    {
        let until = seconds.map(|seconds| now + Duration::from_secs(seconds));
        assert_eq!(renewal(now, until, FLOOR), Duration::from_secs(expected), "{seconds:?}");
    }
}
