//! Retries, budgets, breakers and the balancer together, over minutes of simulated time: what none of their own tests
//! shows. Each is run for several seeds, which failures name; `WEFT_SIMULATION_SEED` runs one alone.

mod model;

use std::{env, fmt, time::Duration};

use http::StatusCode;
use model::{Plan, Tally, World};

use super::{breaker::BreakerSettings, retry::RetryPolicy};

const SECOND: Duration = Duration::from_secs(1);

/// Two callers of ten endpoints, each of which could serve 200 requests a second. The floor of a caller's budget is small
/// against its demand.
fn plan() -> Plan {
    Plan {
        callers: 2,
        endpoints: 10,
        demand: 600,
        retry: RetryPolicy {
            attempts: 3,
            statuses: [StatusCode::SERVICE_UNAVAILABLE].into(),
            ..RetryPolicy::default()
        },
        attempt_timeout: Duration::from_millis(250),
        breaking: BreakerSettings::default(),
        by_latency: true,
    }
}

/// What the control plane makes of a policy that has the section and says no more.
fn breaking() -> BreakerSettings {
    BreakerSettings {
        consecutive_failures: 5,
        consecutive_path_failures: 5,
        ..BreakerSettings::default()
    }
}

fn without_retries(plan: Plan) -> Plan {
    Plan { retry: RetryPolicy { attempts: 0, ..plan.retry }, ..plan }
}

fn for_seeds(plan: &Plan, test: impl Fn(u64, World)) {
    let seeds = match env::var("WEFT_SIMULATION_SEED") {
        Ok(seed) => vec![seed.parse().expect("WEFT_SIMULATION_SEED is a number")],
        Err(_) => (0..5).collect(),
    };
    for seed in seeds {
        test(seed, World::new(seed, plan.clone()));
    }
}

/// Figures of a run, for `--nocapture`.
#[expect(clippy::print_stdout, reason = "a test's output is captured")]
fn show(figures: fmt::Arguments<'_>) {
    println!("{figures}");
}

fn fail(world: &mut World, count: usize) {
    for (index, conduct) in world.conducts.iter_mut().enumerate() {
        conduct.fails = index < count;
    }
}

/// For each of these stretches of time.
fn stretches(world: &mut World, count: usize, each: Duration) -> Vec<Tally> {
    (0..count).map(|_| world.run(each)).collect()
}

/// A budget counts over ten seconds: no such stretch has more.
#[test]
fn where_three_of_ten_fail_the_offered_load_stays_below_five_quarters_of_demand() {
    for_seeds(&plan(), |seed, mut world| {
        world.run(SECOND * 20);
        fail(&mut world, 3);
        for tally in stretches(&mut world, 6, SECOND * 10) {
            show(format_args!(
                "seed {seed}: load {:.3}, success {:.3}",
                tally.load(),
                tally.success()
            ));
            assert!(tally.load() < 1.25, "seed {seed}: {}", tally.load());
            assert!(tally.load() > 1.15, "seed {seed}: {}: the budget is used", tally.load());
            assert!(tally.success() > 0.8, "seed {seed}: {}", tally.success());
        }
    });
}

#[test]
fn where_all_fail_the_offered_load_stays_below_five_quarters_of_demand() {
    for_seeds(&plan(), |seed, mut world| {
        world.run(SECOND * 20);
        fail(&mut world, 10);
        for tally in stretches(&mut world, 6, SECOND * 10) {
            show(format_args!("seed {seed}: load {:.3}", tally.load()));
            assert!(tally.load() < 1.25, "seed {seed}: {}", tally.load());
        }
        fail(&mut world, 0);
        world.run(SECOND * 10);
        let after = world.run(SECOND * 10);
        assert_eq!((after.offered, after.failed), (after.requests, 0), "seed {seed}");
    });
}

/// Breakers alone, as retries would hide the failures. Failing for a minute ends in ejections of 5, 10, 20 and 40
/// seconds: the last one has 15 seconds to go, and after it comes a success.
#[test]
fn failing_endpoints_are_left_alone_and_get_their_share_back_once() {
    let plan = without_retries(Plan { breaking: breaking(), ..plan() });
    for_seeds(&plan, |seed, mut world| {
        world.run(SECOND * 10);
        fail(&mut world, 3);
        let first = world.run(SECOND).success();
        let failing = stretches(&mut world, 59, SECOND);
        let worst = failing.iter().map(Tally::success).fold(1.0, f64::min);
        let again: u64 = failing.iter().map(Tally::ejected).sum();
        fail(&mut world, 0);
        let back = stretches(&mut world, 60, SECOND);
        // Of 600 requests a second each endpoint's share is 60.
        let has_share = |tally: &Tally| tally.shares[..3].iter().all(|share| *share >= 40);
        let within = back.iter().rposition(|tally| !has_share(tally)).map_or(0, |index| index + 1);
        let closed: u64 = back.iter().map(|tally| tally.closed).sum();
        let relapses: u64 = back.iter().map(Tally::ejected).sum();
        show(format_args!(
            "seed {seed}: success {first:.3}, then {worst:.4}; {again} ejections; {within} s"
        ));
        assert!(first < 0.99 && worst > 0.98, "seed {seed}: {first}, then {worst}");
        assert!(again <= 2 * 3 * 3, "seed {seed}: {again} failed tryings out in a minute");
        assert!(within <= 18, "seed {seed}: {within} s until each has its share");
        assert_eq!((closed, relapses), (6, 0), "seed {seed}: each caller takes each back once");
        let quiet = world.run(SECOND * 400);
        assert_eq!((quiet.ejected(), quiet.closed, quiet.failed), (0, 0, 0), "seed {seed}");
    });
}

#[test]
fn where_most_fail_no_more_than_the_share_is_left_alone() {
    let plan = without_retries(Plan { breaking: breaking(), ..plan() });
    for_seeds(&plan, |seed, mut world| {
        world.run(SECOND * 10);
        fail(&mut world, 8);
        let mut success = 1.0_f64;
        for tally in stretches(&mut world, 30, SECOND * 10) {
            success = success.min(tally.success());
            assert!(tally.most_out <= 5, "seed {seed}: {} are out", tally.most_out);
            assert_eq!(tally.refused, 0, "seed {seed}: five are used always");
        }
        show(format_args!("seed {seed}: success {success:.3}"));
        // Two of the five that are left.
        assert!(success > 0.35, "seed {seed}: {success}");
    });
}

#[test]
fn below_the_panic_threshold_all_are_used() {
    let breaking = BreakerSettings { max_ejected_percent: 100, panic_percent: 50, ..breaking() };
    let plan = without_retries(Plan { breaking, ..plan() });
    for_seeds(&plan, |seed, mut world| {
        world.run(SECOND * 10);
        fail(&mut world, 8);
        world.run(SECOND * 10);
        for tally in stretches(&mut world, 10, SECOND * 10) {
            assert_eq!(tally.refused, 0, "seed {seed}");
            let least = tally.shares.iter().min().expect("there are endpoints");
            assert!(*least > 400, "seed {seed}: {least} of 600: each is used");
        }
        fail(&mut world, 0);
        world.run(SECOND * 310);
        let after = world.run(SECOND * 10);
        assert_eq!((after.failed, after.ejected()), (0, 0), "seed {seed}");
    });
}

/// One endpoint of ten serves a tenth of what the others do, at a load that the other nine carry: it is left alone or
/// little used, and drags no other one along.
#[test]
fn a_slow_endpoint_falls_into_no_cycle_and_drags_no_other_along() {
    for by_latency in [true, false] {
        let plan = Plan { breaking: breaking(), demand: 1_000, by_latency, ..plan() };
        for_seeds(&plan, |seed, mut world| {
            world.run(SECOND * 10);
            world.conducts[0].works_for *= 10;
            let tallies = stretches(&mut world, 20, SECOND * 30);
            let slow: u64 = tallies.iter().map(|tally| tally.ejections[0]).sum();
            let all: u64 = tallies.iter().map(Tally::ejected).sum();
            let success = tallies.iter().map(Tally::success).fold(1.0, f64::min);
            let load = tallies.iter().map(Tally::load).fold(0.0, f64::max);
            show(format_args!(
                "seed {seed}: {slow} ejections, success {success:.4}, load {load:.3}"
            ));
            assert_eq!(slow, all, "seed {seed}: no other is ejected");
            // 5, 10, 20, ... 300 seconds.
            assert!(slow <= 2 * 8, "seed {seed}: {slow} ejections in ten minutes");
            assert!(success > 0.99, "seed {seed}: {success}");
            assert!(load < 1.25, "seed {seed}: {load}");
        });
    }
}

/// All together are too slow for the demand: they fail by turns, and leaving some alone makes it worse for the others.
/// What a breaker cannot mend it must not outlast.
#[test]
fn endpoints_that_are_overloaded_together_stay_in_use_and_recover() {
    let plan = Plan { breaking: breaking(), demand: 2_100, ..plan() };
    for_seeds(&plan, |seed, mut world| {
        for tally in stretches(&mut world, 6, SECOND * 10) {
            assert!(tally.most_out <= 5, "seed {seed}: {} are out", tally.most_out);
            assert!(tally.load() < 1.25, "seed {seed}: {}", tally.load());
            assert_eq!(tally.refused, 0, "seed {seed}");
        }
        for conduct in &mut world.conducts {
            conduct.works_for /= 3;
        }
        world.run(SECOND * 90);
        let after = world.run(SECOND * 30);
        show(format_args!("seed {seed}: success {:.3}", after.success()));
        assert_eq!((after.failed, after.ejected()), (0, 0), "seed {seed}");
    });
}
