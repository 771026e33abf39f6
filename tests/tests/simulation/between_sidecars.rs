//! What happens between two sidecars: partitions, held packets, delays.

use std::time::Duration;

use weft_tests::apps::Http;

use super::{
    shop::{LOAD, Plan, Shop},
    site::Load,
    world::{CONTROL_PLANE, seed, seeds},
};

const MINUTE: Duration = Duration::from_secs(60);

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// What one answer takes at the simulated network's pace.
const BRIEFLY: Duration = Duration::from_millis(500);

/// Web's settings: [`CONNECT_TIMEOUT`],
const QUICK: &[&str] = &["--connect-timeout=1s"];
/// and [`REQUEST_TIMEOUT`] besides.
const IMPATIENT: &[&str] = &["--connect-timeout=1s", "--request-timeout=5s"];

#[test]
fn a_partition_between_sidecars_fails_requests_in_time_and_ends_with_it() {
    let mut shop = Shop::open(seed(), &Plan { web: IMPATIENT, ..Plan::default() });
    let cut = shop.world.now();
    shop.world.partition("web", "catalog-1");
    shop.world.run_for(MINUTE);
    let calls = shop.web.calls_since(cut);
    let (first, rest) = calls.split_first().expect("calls go on");
    // The first went out on a connection that was good before, and waits for its answer.
    assert_eq!(first.reason, "request-timeout", "{first:?}");
    assert!(first.took <= REQUEST_TIMEOUT + BRIEFLY, "{first:?}");
    // Each later one tries to connect, twice.
    assert!(rest.len() > 20, "{rest:?}");
    for call in rest {
        assert_eq!(call.reason, "connect-timeout", "{call:?}");
        assert!(call.took <= 2 * CONNECT_TIMEOUT + BRIEFLY, "{call:?}");
    }

    shop.world.repair("web", "catalog-1");
    let repaired = shop.world.now();
    shop.run_until_answered_by("catalog-1", 2 * CONNECT_TIMEOUT + BRIEFLY);
    shop.world.run_for(MINUTE);
    shop.assert_no_failure_since(repaired);
}

#[test]
fn an_http2_connection_across_a_partition_is_given_up_without_a_request_timeout() {
    let load = Load { version: Http::Two, ..LOAD };
    let mut shop = Shop::open(seed(), &Plan { load, web: QUICK, ..Plan::default() });
    let cut = shop.world.now();
    shop.world.partition("web", "catalog-1");
    shop.world.run_for(MINUTE);
    let calls = shop.web.calls_since(cut);
    let (first, rest) = calls.split_first().expect("calls go on");
    // A PING goes out after ten seconds, and is waited for as long.
    assert_eq!(first.reason, "connection-lost", "{first:?}");
    assert!(first.took <= Duration::from_secs(20) + BRIEFLY, "{first:?}");
    assert!(
        rest.len() > 10 && rest.iter().all(|call| call.reason == "connect-timeout"),
        "{rest:?}"
    );

    shop.world.repair("web", "catalog-1");
    shop.run_until_answered_by("catalog-1", 2 * CONNECT_TIMEOUT + BRIEFLY);
}

#[test]
fn a_replica_behind_a_partition_costs_delays_that_become_rare_and_no_request() {
    let mut shop = Shop::open(seed(), &Plan { web: IMPATIENT, ..Plan::default() });
    shop.add_catalog("catalog-2");
    shop.run_until_answered_by("catalog-2", MINUTE);
    let cut = shop.world.now();
    shop.world.partition("web", "catalog-2");
    shop.world.run_for(MINUTE);
    let calls = shop.web.calls_since(cut);
    // What went out on a connection that was good before; what is not idempotent is not sent again.
    let failed = shop.failures_since(cut);
    assert!(failed.len() <= 1, "{failed:?}");
    assert!(failed.iter().all(|call| call.reason == "request-timeout"), "{failed:?}");
    let delayed: Vec<_> =
        calls.iter().filter(|call| call.is_answered() && call.took > BRIEFLY).collect();
    assert!(delayed.iter().all(|call| call.took <= CONNECT_TIMEOUT + BRIEFLY), "{delayed:?}");
    // The replica is tried again after pauses that double from half a second.
    assert!((1..=8).contains(&delayed.len()), "{delayed:?}");
}

#[test]
fn a_kept_connection_ends_when_it_is_idle_though_its_client_stays() {
    let step = Duration::from_millis(50);
    let load = Load { pause: 3 * MINUTE, ..LOAD };
    let mut shop = Shop::open(seed(), &Plan { step, load, ..Plan::default() });
    shop.world.run_for(31 * MINUTE);
    shop.assert_no_failure_since(Duration::ZERO);
    // Kept for 90 seconds: each call needs a new one.
    assert_eq!(shop.web.calls().len(), 11);
    assert_eq!(shop.world.attempts("web", "catalog-1", Duration::ZERO).len(), 11);
}

/// Packets between all hosts are kept back and delayed by chance; each caller's connection is given time enough.
#[test]
fn whatever_packets_wait_for_no_request_is_lost_or_repeated() {
    for seed in seeds(4) {
        let load = Load { connections: 8, pause: Duration::from_millis(20), ..LOAD };
        let mut shop = Shop::open(seed, &Plan { load, ..Plan::default() });
        let mut chance = fastrand::Rng::with_seed(seed);
        let links = [("web", "catalog-1"), ("web", CONTROL_PLANE), ("catalog-1", CONTROL_PLANE)];
        for _ in 0..60 {
            let (one, other) = links[chance.usize(..links.len())];
            shop.world.delay(one, other, Duration::from_millis(chance.u64(10..50)));
            shop.world.hold(one, other);
            shop.world.run_for(Duration::from_millis(chance.u64(..800)));
            shop.world.release(one, other);
            shop.world.run_for(Duration::from_millis(chance.u64(..200)));
        }
        shop.web.stop_calling();
        shop.world.run_for(BRIEFLY);
        shop.assert_no_failure_since(Duration::ZERO);
        let mut served = shop.catalog.served();
        served.sort_unstable();
        assert!(served.len() > 1000, "{}", served.len());
        assert!(served.into_iter().eq(0..shop.web.sent()), "each once");
    }
}
