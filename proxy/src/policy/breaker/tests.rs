//! The breaker's criteria one by one, a seeded sweep over all of it, and a service whose endpoints fail.

use super::*;
use crate::{
    clock,
    policy::budget::{Budget, BudgetSettings},
};

use Verdict::{ApplicationFailure as Failure, PathFailure as Lost, Success};

fn settings() -> BreakerSettings {
    BreakerSettings {
        base_ejection: Duration::from_millis(100),
        max_ejection: Duration::from_millis(1_000),
        ..BreakerSettings::default()
    }
}

/// The step of the last of these verdicts.
fn steps(settings: &BreakerSettings, verdicts: &[Verdict]) -> Step {
    let mut breaker = Breaker::default();
    let step = |step, verdict: &Verdict| match step {
        Step::Stay => breaker.record(*verdict, false, settings, 1),
        Step::Trip(_) | Step::Close => panic!("{step:?} too early"),
    };
    verdicts.iter().fold(Step::Stay, step)
}

#[test]
fn failures_in_a_row_trip_each_kind_by_its_own_count() {
    let settings =
        BreakerSettings { consecutive_failures: 3, consecutive_path_failures: 2, ..settings() };
    let app = Step::Trip(Cause::ConsecutiveFailures);
    let path = Step::Trip(Cause::ConsecutivePathFailures);
    for (verdicts, expected) in [
        (&[Failure, Failure][..], Step::Stay),
        (&[Failure, Failure, Failure], app),
        (&[Failure, Failure, Success, Failure, Failure], Step::Stay),
        (&[Lost, Lost], path),
        (&[Lost, Failure, Lost], Step::Stay),
        (&[Lost, Success, Lost], Step::Stay),
        (&[Failure, Lost, Failure, Failure], app),
    ] {
        assert_eq!(steps(&settings, verdicts), expected, "{verdicts:?}");
    }
    let none = BreakerSettings { consecutive_path_failures: 0, ..settings };
    assert_eq!(steps(&none, &[Lost; 100]), Step::Stay, "a criterion of zero is not used");
}

#[test]
fn a_share_of_failures_trips_when_there_are_enough_requests() {
    let settings = BreakerSettings { failure_percent: 50, min_requests: 4, ..settings() };
    let trip = Step::Trip(Cause::FailurePercent);
    for (verdicts, expected) in [
        (&[Failure, Failure, Failure][..], Step::Stay),
        (&[Success, Success, Failure, Lost], Step::Stay),
        (&[Success, Failure, Lost, Failure], trip),
    ] {
        assert_eq!(steps(&settings, verdicts), expected, "{verdicts:?}");
    }
}

#[test]
fn the_window_slides() {
    let settings = BreakerSettings {
        failure_percent: 50,
        min_requests: 4,
        window: Duration::from_millis(500),
        ..settings()
    };
    let mut breaker = Breaker::default();
    for now_ms in [1_000, 1_010, 1_020] {
        assert_eq!(breaker.record(Failure, false, &settings, now_ms), Step::Stay);
    }
    assert_eq!(breaker.window.counts(settings.window, 1_499), (3, 3));
    assert_eq!(breaker.window.counts(settings.window, 1_500), (0, 0));
    assert_eq!(breaker.record(Failure, false, &settings, 1_500), Step::Stay, "one of one");
}

#[test]
fn ejections_grow_up_to_their_cap_and_an_endpoint_that_held_is_new() {
    let settings = BreakerSettings { consecutive_failures: 1, ..settings() };
    let mut breaker = Breaker::default();
    let mut now_ms = 5_000;
    for expected in [100, 200, 400, 800, 1_000, 1_000] {
        let until_ms = breaker.eject(&settings, now_ms);
        assert_eq!(until_ms - now_ms, expected);
        let early = breaker.record(Success, true, &settings, until_ms - 1);
        assert_eq!(early, Step::Stay, "ejected is ejected");
        now_ms = until_ms;
        assert_eq!(breaker.record(Success, false, &settings, now_ms), Step::Stay, "it is late");
        assert_eq!(breaker.record(Success, true, &settings, now_ms), Step::Close);
    }
    assert_eq!(breaker.eject(&settings, now_ms + 1_000) - now_ms - 1_000, 100);
}

#[test]
fn probes_close_the_breaker_in_a_row_and_one_that_fails_trips_it() {
    let settings = BreakerSettings { probes: 3, ..settings() };
    let mut breaker = Breaker::default();
    let until_ms = breaker.eject(&settings, 0);
    let mut probe = |verdict| breaker.record(verdict, true, &settings, until_ms);
    assert_eq!([probe(Success), probe(Success)], [Step::Stay; 2]);
    assert_eq!(probe(Lost), Step::Trip(Cause::Probe));
    assert_eq!(
        [probe(Success), probe(Success), probe(Success)],
        [Step::Stay, Step::Stay, Step::Close]
    );
}

#[test]
fn an_endpoint_that_succeeds_less_than_its_siblings_is_an_outlier() {
    let is_outlier = |rates: &[f64], deviation| {
        let below = outliers_below(rates, deviation).unwrap_or(-1.0);
        rates.iter().map(|rate| *rate < below).collect::<Vec<_>>()
    };
    let rates = [1.0, 1.0, 0.98, 1.0, 0.5];
    assert_eq!(is_outlier(&rates, 1_900), [false, false, false, false, true]);
    assert_eq!(is_outlier(&rates, 0), [false; 5]);
    assert_eq!(is_outlier(&[0.9; 5], 1_900), [false; 5], "alike");
    assert_eq!(is_outlier(&[1.0, 0.0], 500), [false; 2], "two cannot be told apart");
    let mut breaker = Breaker::default();
    let settings = BreakerSettings { min_requests: 2, ..settings() };
    breaker.record(Success, false, &settings, 1);
    assert_eq!(breaker.success_rate(&settings, 1), None, "too few");
    breaker.record(Failure, false, &settings, 1);
    assert_eq!(breaker.success_rate(&settings, 1), Some(0.5));
}

#[test]
fn no_more_than_the_share_is_ejected_and_one_always_may_be() {
    for (total, percent, expected) in [(1, 50, 1), (10, 50, 5), (10, 0, 1), (3, 50, 1), (4, 100, 4)]
    {
        let settings = BreakerSettings { max_ejected_percent: percent, ..settings() };
        let mut ejections = Ejections::default();
        for number in 0..20 {
            if ejections.allows(total, &settings, 0) {
                ejections.note(&number.to_string().into(), 10);
            }
        }
        assert_eq!(ejections.count(9), expected, "{total} {percent}");
        assert_eq!((ejections.next_change_ms(), ejections.count(10)), (10, 0));
    }
}

#[test]
fn below_the_threshold_all_are_used() {
    let panicking = |percent, ejected, total| {
        panics(ejected, total, &BreakerSettings { panic_percent: percent, ..settings() })
    };
    assert!(!panicking(0, 10, 10), "without a threshold never");
    assert!(!panicking(50, 5, 10));
    assert!(panicking(50, 6, 10));
    assert!(panicking(1, 1, 1));
    assert!(!panicking(100, 0, 10));
}

#[test]
fn any_sequence_keeps_the_invariants() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let settings = BreakerSettings {
            consecutive_failures: random.u32(0..4),
            consecutive_path_failures: random.u32(0..4),
            failure_percent: random.u32(0..100),
            min_requests: random.u32(0..6),
            probes: random.u32(1..4),
            ..settings()
        };
        let mut breaker = Breaker::default();
        let mut now_ms = random.u64(0..10_000);
        for _ in 0..500 {
            now_ms += random.u64(0..100);
            let verdict = [Success, Failure, Lost][random.usize(..3)];
            match breaker.record(verdict, random.bool(), &settings, now_ms) {
                Step::Trip(_) if random.u8(..4) > 0 => {
                    let until_ms = breaker.eject(&settings, now_ms);
                    assert!(until_ms > now_ms, "seed {seed}");
                    assert!(until_ms <= now_ms + 1_000, "seed {seed}");
                }
                Step::Trip(_) | Step::Stay => {}
                Step::Close => assert_ne!(verdict, Lost, "seed {seed}"),
            }
            assert!(breaker.check_invariants(), "seed {seed}");
        }
    }
}

/// A service of ten endpoints over time: each has its breaker, the budget is the service's.
struct Simulated {
    random: fastrand::Rng,
    settings: BreakerSettings,
    breakers: Vec<(Breaker, u64)>,
    ejections: Ejections,
    budget: Budget,
    origin: clock::Instant,
    offered: u64,
    succeeded: u64,
    changes: u64,
}

impl Simulated {
    fn new(seed: u64) -> Self {
        let origin = clock::now();
        let settings = BreakerSettings {
            consecutive_failures: 5,
            max_ejected_percent: 50,
            base_ejection: Duration::from_secs(5),
            ..BreakerSettings::default()
        };
        Self {
            random: fastrand::Rng::with_seed(seed),
            settings,
            breakers: vec![(Breaker::default(), 0); 10],
            ejections: Ejections::default(),
            budget: Budget::new(origin),
            origin,
            offered: 0,
            succeeded: 0,
            changes: 0,
        }
    }

    /// A request with up to three retries, while these first endpoints fail.
    fn request(&mut self, now_ms: u64, failing: usize) {
        let now = self.origin + Duration::from_millis(now_ms);
        self.budget.deposit(now);
        for attempt in 0..4 {
            if attempt > 0 && !self.budget.withdraw(BudgetSettings::default(), now) {
                return;
            }
            let able: Vec<_> = (0..10).filter(|&index| self.breakers[index].1 <= now_ms).collect();
            let index = able[self.random.usize(..able.len())];
            self.offered += 1;
            let verdict = if index < failing { Failure } else { Success };
            self.record(index, verdict, now_ms);
            if verdict == Success {
                self.succeeded += 1;
                return;
            }
        }
    }

    fn record(&mut self, index: usize, verdict: Verdict, now_ms: u64) {
        let (breaker, until_ms) = &mut self.breakers[index];
        let is_probe = *until_ms > 0;
        match breaker.record(verdict, is_probe, &self.settings, now_ms) {
            Step::Stay => {}
            Step::Trip(_) => {
                if self.ejections.allows(10, &self.settings, now_ms) {
                    *until_ms = breaker.eject(&self.settings, now_ms);
                    self.ejections.note(&index.to_string().into(), *until_ms);
                    self.changes += 1;
                }
            }
            Step::Close => {
                *until_ms = 0;
                self.changes += 1;
            }
        }
    }
}

#[test]
fn where_three_of_ten_fail_the_load_stays_bounded_and_recovery_is_steady() {
    for seed in 0..20 {
        let mut service = Simulated::new(seed);
        let (demand, minute_ms) = (500, 60_000);
        let requests = |minutes: u64| minutes * minute_ms * demand / 1_000;
        for request in 0..requests(1) {
            service.request(request * 1_000 / demand, 3);
        }
        let ratio = service.offered as f64 / requests(1) as f64;
        let succeeded = service.succeeded as f64 / requests(1) as f64;
        assert!(ratio < 1.25, "seed {seed}: {ratio} times the demand is offered");
        assert!(succeeded > 0.999, "seed {seed}: {succeeded} succeed");
        service.changes = 0;
        for request in requests(1)..requests(8) {
            service.request(request * 1_000 / demand, 0);
        }
        assert!(service.breakers.iter().all(|(_, until_ms)| *until_ms == 0), "seed {seed}");
        assert_eq!(service.changes, 3, "seed {seed}: each closes once and stays closed");
    }
}

#[test]
fn where_all_fail_no_more_than_the_budget_is_added() {
    for seed in 0..5 {
        let mut service = Simulated::new(seed);
        let (demand, seconds) = (500, 60);
        for request in 0..demand * seconds {
            service.request(request * 1_000 / demand, 10);
        }
        let ratio = service.offered as f64 / (demand * seconds) as f64;
        assert!(ratio < 1.25, "seed {seed}: {ratio}");
    }
}

#[test]
fn verdicts_tell_the_way_there_from_the_application() {
    for (status, grpc_code, expected) in [
        (200, None, Success),
        (404, None, Success),
        (429, None, Success),
        (500, None, Failure),
        (501, None, Success),
        (503, None, Failure),
        (200, Some(0), Success),
        (200, Some(5), Success),
        (200, Some(12), Success),
        (200, Some(14), Failure),
        (200, Some(13), Failure),
    ] {
        let status = StatusCode::from_u16(status).expect("a status");
        assert_eq!(Verdict::of_response(status, grpc_code), expected, "{status} {grpc_code:?}");
    }
    for (reason, expected) in [
        (Reason::ConnectRefused, Some(Lost)),
        (Reason::ConnectionLost, Some(Lost)),
        (Reason::AttemptTimeout, Some(Lost)),
        (Reason::RequestTimeout, Some(Lost)),
        (Reason::DeadlineExceeded, None),
        (Reason::RequestBodyBroken, None),
        (Reason::ServiceLimit, None),
    ] {
        assert_eq!(Verdict::of_failure(reason), expected, "{reason}");
    }
}
