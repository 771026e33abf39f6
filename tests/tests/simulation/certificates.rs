//! Certificates over simulated hours: renewed in time, and what happens when they cannot be.

use std::{collections::BTreeSet, time::Duration};

use super::{
    shop::{LOAD, Plan, Shop},
    site::Load,
    world::{CONTROL_PLANE, seed},
};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// Hours pass in large steps; certificates live for one.
const COARSE: Plan<'static> = Plan {
    step: Duration::from_millis(50),
    load: Load { pause: Duration::from_secs(5), ..LOAD },
    control_plane: &["--svid-ttl=1h"],
    web: &["--pool-max-age=5m"],
};

#[test]
fn certificates_are_renewed_for_as_long_as_the_mesh_runs() {
    let mut shop = Shop::open(seed(), &COARSE);
    let start = shop.world.now();
    let mut ends = BTreeSet::new();
    for _ in 0..36 {
        shop.world.run_for(HOUR / 6);
        ends.extend(shop.web.svid_not_after());
    }
    shop.assert_no_failure_since(start);
    // Renewed at two thirds of the hour, or a tenth of it earlier.
    assert!((9..=12).contains(&ends.len()), "{ends:?}");
    // Requests went over connections of at most five minutes, so that each certificate was shown.
    let dialled = shop.world.attempts("web", "catalog-1", start).len();
    assert!((60..=80).contains(&dialled), "{dialled}");
}

#[test]
fn a_partition_that_outlasts_the_certificate_ends_the_traffic_until_it_ends() {
    let mut shop = Shop::open(seed(), &COARSE);
    let start = shop.world.now();
    shop.world.partition("web", CONTROL_PLANE);
    shop.world.run_for(HOUR - MINUTE - start);
    shop.assert_no_failure_since(start);
    // The last connection made under the certificate may live on for five minutes.
    shop.world.run_for(HOUR / 2);
    let (start, error) = (shop.world.now(), shop.web.stream_error());
    assert!(error.as_ref().is_some_and(|error| error.contains("SVID does not hold")), "{error:?}");
    shop.world.run_for(HOUR / 2);
    // It is one cause, which is logged once.
    assert_eq!(shop.web.stream_error(), error);
    let calls = shop.web.calls_since(start);
    assert!(
        calls.len() > 100 && calls.iter().all(|call| call.reason == "identity-missing"),
        "{calls:?}"
    );

    shop.world.repair("web", CONTROL_PLANE);
    // The join token proves who web is once more.
    shop.run_until_answered_by("catalog-1", MINUTE);
    let start = shop.world.now();
    shop.world.run_for(2 * HOUR);
    shop.assert_no_failure_since(start);
}
