//! Sidecars without their control plane: stale is better than none, and the way back is short and not crowded.

use std::time::Duration;

use super::{
    shop::{Plan, Shop},
    world::{CONTROL_PLANE, seed},
};

const MINUTE: Duration = Duration::from_secs(60);

/// A connection to the control plane that does not come about is given up after this,
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// and tried again after at most this; before that, half as long is sure.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A handshake, a push and a call, at the simulated network's pace.
const BRIEFLY: Duration = Duration::from_secs(1);

#[test]
fn a_proxy_cut_off_from_the_control_plane_goes_on_with_what_it_holds() {
    let mut shop = Shop::open(seed(), &Plan::default());
    let (start, held) = (shop.world.now(), shop.updates());
    shop.world.partition("web", CONTROL_PLANE);
    shop.world.run_for(2 * MINUTE);
    shop.add_catalog("catalog-2");
    shop.world.run_for(3 * MINUTE);
    shop.assert_no_failure_since(start);
    assert!(shop.web.calls_since(start).len() > 1000, "calls went on");
    assert!(!shop.answered_by("catalog-2"), "nobody could tell web of it");

    shop.world.repair("web", CONTROL_PLANE);
    let within = CONNECT_TIMEOUT + LONGEST_PAUSE + BRIEFLY;
    shop.run_until_answered_by("catalog-2", within);
    shop.world.run_for(MINUTE);
    shop.assert_no_failure_since(start);
    // The stream was opened anew, and of all that web holds only what had changed came again.
    let mut expected = held;
    *expected.get_mut("service").expect("web holds the service") += 1;
    assert_eq!(shop.updates(), expected);
}

#[test]
fn proxies_come_back_to_the_control_plane_with_jittered_backoff() {
    let mut shop = Shop::open(seed(), &Plan::default());
    let hosts = ["web", "catalog-1"];
    let cut = shop.world.now();
    for host in hosts {
        shop.world.partition(host, CONTROL_PLANE);
    }
    shop.world.run_for(5 * MINUTE);
    let [web, catalog] = hosts.map(|host| shop.world.attempts(host, CONTROL_PLANE, cut));
    for attempts in [&web, &catalog] {
        let gaps: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // Pauses double from 100 ms; from the eighth on they are the longest, half of it by chance.
        // The second is between two attempts, up to the end of a step.
        assert!(gaps[0] < CONNECT_TIMEOUT + Duration::from_millis(300), "{gaps:?}");
        let late = &gaps[7..];
        for gap in late {
            let pause = gap.saturating_sub(CONNECT_TIMEOUT);
            assert!(pause >= LONGEST_PAUSE / 2 && pause <= LONGEST_PAUSE + BRIEFLY, "{gaps:?}");
        }
        assert!((20..=32).contains(&gaps.len()), "{gaps:?}");
        let spread = late.iter().max().zip(late.iter().min()).map(|(most, least)| *most - *least);
        assert!(spread > Some(BRIEFLY), "no chance in it: {gaps:?}");
    }
    // Cut off at one moment, they do not come back at one moment.
    let together = |at: &&Duration| web.iter().any(|other| other.abs_diff(**at) < BRIEFLY / 10);
    assert!(catalog.iter().skip(8).filter(together).count() < 5, "{web:?} {catalog:?}");
}

#[test]
fn a_control_plane_that_comes_back_withdraws_nobody() {
    let mut shop = Shop::open(seed(), &Plan::default());
    let start = shop.world.now();
    shop.add_catalog("catalog-2");
    shop.run_until_answered_by("catalog-2", MINUTE);
    let held = shop.updates();
    shop.world.crash(CONTROL_PLANE);
    shop.world.run_for(2 * MINUTE);
    // It comes back at a moment when one of the proxies cannot reach it.
    shop.world.partition("catalog-2", CONTROL_PLANE);
    shop.world.restart(CONTROL_PLANE);
    shop.world.run_for(LONGEST_PAUSE);
    shop.world.repair("catalog-2", CONTROL_PLANE);
    shop.world.run_for(3 * MINUTE);
    shop.assert_no_failure_since(start);
    assert_eq!(shop.updates(), held, "what web holds was true all the time");
    let last = shop.web.calls_since(shop.world.now() - MINUTE);
    for host in ["catalog-1", "catalog-2"] {
        let share = last.iter().filter(|call| call.app == host).count();
        assert!(share > last.len() / 10, "{host} answered {share} of {}", last.len());
    }
}

#[test]
fn a_host_that_died_with_the_control_plane_is_withdrawn_when_it_does_not_come_back() {
    let mut shop = Shop::open(seed(), &Plan::default());
    shop.add_catalog("catalog-2");
    shop.run_until_answered_by("catalog-2", MINUTE);
    shop.world.crash(CONTROL_PLANE);
    shop.world.crash("catalog-2");
    shop.world.restart(CONTROL_PLANE);
    let held = shop.updates();
    // As long as the control plane waits for those who do not come back, nobody is withdrawn.
    shop.world.run_for(Duration::from_secs(20));
    assert_eq!(shop.updates(), held);
    shop.world.run_for(MINUTE);
    assert_eq!(shop.updates()["service"], held["service"] + 1, "one withdrawal");
    let start = shop.world.now();
    shop.world.run_for(MINUTE);
    shop.assert_no_failure_since(start);
    assert!(shop.web.calls_since(start).iter().all(|call| call.app == "catalog-1"));
}
