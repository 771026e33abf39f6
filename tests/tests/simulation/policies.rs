//! Policies on a network that fails: what they allow holds under partitions, crashes and held packets, and a change
//! of them arrives whole or not at all.

use std::{collections::BTreeSet, time::Duration};

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    shop::{LOAD, Plan, Shop},
    site::{Call, Load, Site},
    world::{CONTROL_PLANE, World, seed, seeds},
};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// A push and a call, at the simulated network's pace.
const BRIEFLY: Duration = Duration::from_millis(500);
/// When at the latest a sidecar has its stream again, once it can: a connection that is given up, and a pause.
const STREAM_AGAIN: Duration = Duration::from_secs(5 + 10 + 1);

/// A few callers that hardly pause.
const BUSY: Load = Load { connections: 8, pause: Duration::from_millis(20), ..LOAD };
/// What does not connect within a second, or is not answered whole within five, has failed.
fn impatient(mut sections: Value) -> Value {
    sections["timeouts"] = json!({"connect": "1s", "request": "5s"});
    traffic(sections)
}

fn policy(kind: &str, spec: Value) -> Value {
    let metadata = json!({"namespace": "shop", "name": "catalog"});
    let mut policy = json!({"apiVersion": "weft.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
    policy["spec"]["targetRefs"] = json!([{"group": "", "kind": "Service", "name": "catalog"}]);
    policy
}

fn traffic(sections: Value) -> Value {
    policy("TrafficPolicy", sections)
}

/// The sum of a metric's samples that have this label.
fn count(world: &mut World, site: &Site, name: &str, label: &str) -> f64 {
    let lines = world.metrics(site, name);
    let samples = lines.iter().filter(|line| line.contains(label));
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[test]
fn retries_under_a_partition_stay_within_their_budget_and_end_with_it() {
    let load = Load { pause: Duration::from_millis(50), ..BUSY };
    let mut shop = Shop::open(seed(), &Plan { load, ..Plan::default() });
    let retry = json!({
        "attempts": 3,
        "backoff": {"base": "25ms", "max": "100ms"},
        "budget": {"percent": 20, "minPerSecond": 1},
    });
    shop.world.apply(&impatient(json!({"retry": retry})));
    shop.world.run_for(SECOND);
    shop.world.partition("web", "catalog-1");
    // What the good time before has paid for is used up.
    let window = 10 * SECOND;
    shop.world.run_for(2 * window);

    let start = shop.world.now();
    shop.world.run_for(MINUTE);
    let calls = shop.web.calls_since(start);
    let retries: usize = calls.iter().map(|call| call.attempts - 1).sum();
    // A share of what came since a window before, and one a second.
    let most = shop.web.calls_since(start - window).len() / 5 + 60 + 10;
    assert!(retries <= most, "{retries} retries for {} calls, not {most}", calls.len());
    assert!(retries >= calls.len() / 5, "{retries} retries for {} calls", calls.len());
    assert!(calls.iter().all(|call| call.reason == "connect-timeout"), "{calls:?}");
    let name = "weft_retries_withheld_total";
    assert!(count(&mut shop.world, &shop.web, name, "cause=\"budget\"") > 100.0);

    shop.world.repair("web", "catalog-1");
    // Whoever still waits to connect.
    shop.world.run_for(5 * SECOND);
    let repaired = shop.world.now();
    shop.world.run_for(MINUTE);
    shop.assert_no_failure_since(repaired);
    let calls = shop.web.calls_since(repaired);
    assert!(calls.len() > 1000 && calls.iter().all(|call| call.attempts == 1), "no retry");
}

#[test]
fn an_endpoint_behind_a_partition_is_ejected_for_ever_longer_and_returns_with_its_share() {
    let load = Load { connections: 2, pause: Duration::from_millis(100), ..LOAD };
    let mut shop = Shop::open(seed(), &Plan { load, ..Plan::default() });
    shop.world.apply(&impatient(json!({"circuitBreaking": {
        "consecutivePathFailures": 1, "baseEjection": "10s", "maxEjection": "40s",
    }})));
    shop.add_catalog("catalog-2");
    shop.run_until_answered_by("catalog-2", MINUTE);
    shop.world.run_for(5 * SECOND);

    let cut = shop.world.now();
    shop.world.partition("web", "catalog-2");
    shop.world.run_for(3 * MINUTE);
    // What went out on connections that were good before; nobody else notices but by the time that a probe takes.
    let failed = shop.failures_since(cut);
    assert!(failed.len() <= load.connections, "{failed:?}");
    assert!(failed.iter().all(|call| call.reason == "request-timeout"), "{failed:?}");
    let cause = "cause=\"consecutive-path-failures\"";
    assert!(count(&mut shop.world, &shop.web, "weft_ejections_total", cause) >= 1.0);
    assert!(count(&mut shop.world, &shop.web, "weft_ejections_total", "cause=\"probe\"") >= 3.0);
    assert_eq!(count(&mut shop.world, &shop.web, "weft_ejected_endpoints", "catalog"), 1.0);
    // Each dial since is a probe, which takes a second, after an ejection of 10, 20, and from then on 40 seconds.
    let dials = shop.world.attempts("web", "catalog-2", cut);
    let since = [&[cut], &*dials].concat();
    let gaps: Vec<_> = since.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((4..=5).contains(&gaps.len()), "{gaps:?}");
    let least = [10, 21, 41, 41, 41].map(|seconds| seconds * SECOND);
    assert!(gaps.iter().zip(least).all(|(gap, least)| *gap >= least), "{gaps:?}");

    shop.world.repair("web", "catalog-2");
    let repaired = shop.world.now();
    shop.run_until_answered_by("catalog-2", MINUTE);
    shop.world.run_for(MINUTE);
    shop.assert_no_failure_since(repaired);
    assert_eq!(count(&mut shop.world, &shop.web, "weft_ejected_endpoints", "catalog"), 0.0);
    let last = shop.web.calls_since(shop.world.now() - MINUTE / 2);
    let share = last.iter().filter(|call| call.app == "catalog-2").count();
    assert!(share > last.len() / 4, "catalog-2 answered {share} of {}", last.len());
}

/// Each crash ends connections, dials and those who wait at a moment of its own.
#[test]
fn places_among_the_connections_are_given_back_whenever_the_server_crashes() {
    for seed in seeds(4) {
        let mut shop = Shop::open(seed, &Plan { load: BUSY, ..Plan::default() });
        let limits = json!({"maxConnections": 2, "maxPending": 100, "maxWait": "2s"});
        shop.world.apply(&impatient(json!({"limits": limits})));
        shop.world.run_for(SECOND);
        // Connections from before the limit are not counted by it: they end here.
        for _ in 0..4 {
            shop.world.crash("catalog-1");
            shop.world.run_for(Duration::from_millis(fastrand::u64(..3000)));
            shop.world.restart("catalog-1");
            shop.run_until_answered_by("catalog-1", MINUTE);
            shop.world.run_for(Duration::from_millis(fastrand::u64(..200)));
        }
        shop.world.run_for(5 * SECOND);
        let start = shop.world.now();
        for _ in 0..20 {
            shop.world.run_for(BRIEFLY);
            let catalog = shop.catalog.clone();
            let open = count(&mut shop.world, &catalog, "weft_open_connections", "inbound");
            assert!((1.0..=2.0).contains(&open), "{open} connections");
        }
        shop.assert_no_failure_since(start);
        let calls = shop.web.calls_since(start);
        assert!(calls.len() > 500, "{} calls", calls.len());
    }
}

/// Every call fails like this.
fn fault(status: u16) -> Value {
    traffic(json!({"faults": [{"percent": 100, "abort": {"status": status}}]}))
}

/// The statuses of calls, each as often as it came anew.
fn changes(calls: &[Call]) -> Vec<u16> {
    let mut statuses: Vec<_> =
        calls.iter().map(|call| call.status.map_or(0, |status| status.as_u16())).collect();
    statuses.dedup();
    statuses
}

#[test]
fn a_policy_that_changes_as_the_control_plane_dies_is_the_old_or_the_new_one_and_the_newest_after()
{
    let mut taken = [false; 2];
    // It is on its way after a dozen milliseconds.
    for (delay, seed) in (0_u64..).step_by(5).zip(seeds(8)) {
        let mut shop = Shop::open(seed, &Plan::default());
        shop.world.apply(&fault(418));
        shop.world.run_for(BRIEFLY);
        let start = shop.world.now();
        shop.world.apply(&fault(451));
        shop.world.run_for(Duration::from_millis(delay));
        shop.world.crash(CONTROL_PLANE);
        // What was under way arrives yet.
        shop.world.run_for(BRIEFLY);
        let crashed = shop.world.now();
        shop.world.run_for(2 * MINUTE);
        shop.world.apply(&fault(429));
        shop.world.run_for(2 * MINUTE);
        let held = changes(&shop.web.calls_since(crashed));
        assert!([vec![418], vec![451]].contains(&held), "{held:?}");
        taken[usize::from(held == [451])] = true;

        shop.world.restart(CONTROL_PLANE);
        let web = shop.web.clone();
        shop.world.run_until("the newest policy", STREAM_AGAIN, || {
            web.calls()
                .last()
                .is_some_and(|call| call.status == Some(StatusCode::TOO_MANY_REQUESTS))
        });
        shop.world.run_for(MINUTE);
        // From the old to the new to the newest; never back, and never without one.
        let seen = changes(&web.calls_since(start));
        assert!(
            seen.is_sorted_by_key(|status| [418, 451, 429].iter().position(|is| is == status)),
            "{seen:?}"
        );
        assert!(seen.iter().all(|status| [418, 451, 429].contains(status)), "{seen:?}");

        shop.world.remove(&fault(429));
        shop.world.run_for(BRIEFLY);
        let undone = shop.world.now();
        shop.world.run_for(MINUTE);
        shop.assert_no_failure_since(undone);
    }
    assert!(std::env::var_os("WEFT_SIM_SEED").is_some() || taken == [true; 2], "{taken:?}");
}

#[test]
fn requests_that_were_held_back_meet_the_access_policy_that_holds_when_they_arrive() {
    for seed in seeds(4) {
        let mut shop = Shop::open(seed, &Plan { load: BUSY, ..Plan::default() });
        let from = json!([{"identities": ["shop/web"]}]);
        let deny = policy("AccessPolicy", json!({"rules": [{"action": "Deny", "from": from}]}));
        let mut holds = Vec::new();
        for _ in 0..5 {
            shop.run_until_answered_by("catalog-1", SECOND);
            shop.world.run_for(Duration::from_millis(fastrand::u64(..200)));
            holds.push(shop.world.now());
            shop.world.hold("web", "catalog-1");
            shop.world.run_for(BRIEFLY);
            shop.world.apply(&deny);
            shop.world.run_for(BRIEFLY);
            let served = shop.catalog.served().len();
            let released = shop.world.now();
            shop.world.release("web", "catalog-1");
            shop.world.run_for(BRIEFLY);
            let calls = shop.web.calls_since(released);
            assert!(calls.len() > 50, "{} calls", calls.len());
            assert!(calls.iter().all(|call| call.reason == "authz-denied"), "{calls:?}");
            assert_eq!(shop.catalog.served().len(), served, "none came to the application");

            // The change's own packets are held back: until they arrive, the policy is as it was.
            shop.world.hold(CONTROL_PLANE, "catalog-1");
            shop.world.remove(&deny);
            shop.world.run_for(BRIEFLY);
            assert_eq!(shop.catalog.served().len(), served, "the old policy holds");
            shop.world.release(CONTROL_PLANE, "catalog-1");
        }
        shop.run_until_answered_by("catalog-1", SECOND);
        shop.web.stop_calling();
        shop.world.run_for(BRIEFLY);
        // What was answered was served once, and what was refused was not: but where a hold has cut it in two, so that
        // the application had its head.
        let mut served = BTreeSet::new();
        for number in shop.catalog.served() {
            assert!(served.insert(number), "{number} came twice");
        }
        for call in shop.web.calls().iter() {
            let cut = holds.iter().any(|hold| (call.at..call.at + call.took).contains(hold));
            let told = call.is_answered() || call.reason == "authz-denied";
            assert!(
                told && (cut || call.is_answered() == served.contains(&call.number)),
                "{call:?}"
            );
        }
    }
}
