//! The breaker's criteria one by one, its phases, and a seeded sweep over all of it.

use http::StatusCode;

use super::*;
use crate::reason::Reason;

use Verdict::{ApplicationFailure as Failure, PathFailure as Lost, Success};

fn settings() -> BreakerSettings {
    BreakerSettings {
        base_ejection: Duration::from_millis(100),
        max_ejection: Duration::from_millis(1_000),
        ..BreakerSettings::default()
    }
}

/// A request that begins and ends at this time.
fn record(
    breaker: &mut Breaker,
    verdict: Verdict,
    settings: &BreakerSettings,
    now_ms: u64,
) -> Step {
    let ticket = breaker.enter(now_ms).expect("it takes requests");
    breaker.leave(ticket);
    breaker.record(verdict, ticket, settings, now_ms)
}

fn eject(breaker: &mut Breaker, settings: &BreakerSettings, now_ms: u64) -> u64 {
    breaker.eject(breaker.phase(), settings, now_ms).expect("nobody was faster")
}

/// The step of the last of these verdicts.
fn steps(settings: &BreakerSettings, verdicts: &[Verdict]) -> Step {
    let mut breaker = Breaker::default();
    let step = |step, verdict: &Verdict| match step {
        Step::Stay => record(&mut breaker, *verdict, settings, 1),
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
        assert_eq!(record(&mut breaker, Failure, &settings, now_ms), Step::Stay);
    }
    assert_eq!(breaker.window.counts(settings.window, 1_499), (3, 3));
    assert_eq!(breaker.window.counts(settings.window, 1_500), (0, 0));
    assert_eq!(record(&mut breaker, Failure, &settings, 1_500), Step::Stay, "one of one");
}

#[test]
fn ejections_grow_up_to_their_cap_and_an_endpoint_that_held_is_new() {
    let settings = BreakerSettings { consecutive_failures: 1, ..settings() };
    let mut breaker = Breaker::default();
    let mut now_ms = 5_000;
    for expected in [100, 200, 400, 800, 1_000, 1_000] {
        let until_ms = eject(&mut breaker, &settings, now_ms);
        assert_eq!(until_ms - now_ms, expected);
        assert_eq!(breaker.enter(until_ms - 1), None, "ejected is ejected");
        now_ms = until_ms;
        assert_eq!(record(&mut breaker, Success, &settings, now_ms), Step::Close);
    }
    assert_eq!(eject(&mut breaker, &settings, now_ms + 1_000) - now_ms - 1_000, 100);
}

#[test]
fn probes_close_the_breaker_in_a_row_and_one_that_fails_trips_it() {
    let settings = BreakerSettings { probes: 3, ..settings() };
    let mut breaker = Breaker::default();
    let until_ms = eject(&mut breaker, &settings, 0);
    let mut probe = |verdict| record(&mut breaker, verdict, &settings, until_ms);
    assert_eq!([probe(Success), probe(Success)], [Step::Stay; 2]);
    assert_eq!(probe(Lost), Step::Trip(Cause::Probe));
    assert_eq!(
        [probe(Success), probe(Success), probe(Success)],
        [Step::Stay, Step::Stay, Step::Close]
    );
}

#[test]
fn no_more_probes_begin_than_may_try_it_out_at_once() {
    let settings = BreakerSettings { probes: 2, ..settings() };
    let mut breaker = Breaker::default();
    let until_ms = eject(&mut breaker, &settings, 0);
    let first = breaker.enter(until_ms).expect("the first");
    assert!(first.is_probe() && !breaker.is_full());
    assert!(breaker.enter(until_ms).is_some());
    assert!(breaker.is_full());
    assert_eq!(breaker.enter(until_ms), None);
    breaker.leave(first);
    assert!(breaker.enter(until_ms).is_some(), "its place is free");
}

#[test]
fn what_began_in_another_phase_says_nothing_and_frees_no_place() {
    let settings = BreakerSettings { consecutive_failures: 1, ..settings() };
    let mut breaker = Breaker::default();
    let early = breaker.enter(0).expect("closed");
    let until_ms = eject(&mut breaker, &settings, 0);
    let probe = breaker.enter(until_ms).expect("half open");
    assert_eq!(breaker.record(Success, early, &settings, until_ms), Step::Stay, "no probe");
    // A second probe that the first one's failure has overtaken.
    breaker.leave(probe);
    let late = breaker.enter(until_ms).expect("half open");
    assert_eq!(breaker.record(Failure, probe, &settings, until_ms), Step::Trip(Cause::Probe));
    let again_ms = eject(&mut breaker, &settings, until_ms);
    assert_eq!(breaker.record(Success, late, &settings, again_ms), Step::Stay, "it is late");
    let third = breaker.enter(again_ms).expect("half open");
    breaker.leave(late);
    assert!(breaker.is_full(), "an old phase's place is none of this one's");
    assert_eq!(breaker.record(Success, third, &settings, again_ms), Step::Close);
    assert_eq!(breaker.record(Failure, third, &settings, again_ms), Step::Stay, "closed since");
    assert_eq!(breaker.record(Failure, early, &settings, again_ms), Step::Stay, "closed anew");
}

#[test]
fn what_two_have_seen_ejects_once() {
    let settings = BreakerSettings { consecutive_failures: 1, ..settings() };
    let mut breaker = Breaker::default();
    let tickets = [breaker.enter(0), breaker.enter(0)].map(|ticket| ticket.expect("closed"));
    let steps = tickets.map(|ticket| breaker.record(Failure, ticket, &settings, 0));
    assert_eq!(steps, [Step::Trip(Cause::ConsecutiveFailures); 2]);
    let ejected = tickets.map(|ticket| breaker.eject(ticket.phase(), &settings, 0));
    assert_eq!(ejected, [Some(100), None]);
    assert_eq!(breaker.until_ms(), Some(100), "and for no longer");
}

#[test]
fn a_reset_breaker_is_new() {
    let settings = settings();
    let mut breaker = Breaker::default();
    let early = breaker.enter(0).expect("closed");
    eject(&mut breaker, &settings, 0);
    eject(&mut breaker, &settings, 0);
    breaker.reset();
    assert_eq!((breaker.until_ms(), breaker.is_full()), (None, false));
    let failed = BreakerSettings { consecutive_failures: 1, ..settings.clone() };
    assert_eq!(breaker.record(Failure, early, &failed, 0), Step::Stay);
    assert_eq!(eject(&mut breaker, &settings, 0), 100, "the first ejection again");
}

#[test]
fn an_endpoint_that_succeeds_less_than_its_siblings_is_an_outlier() {
    let none: &[usize] = &[];
    for (rates, success_rate_deviation, min_requests, expected) in [
        (&[1.0, 1.0, 0.98, 1.0, 0.5][..], 1_900, 20, &[4][..]),
        (&[1.0, 1.0, 0.98, 1.0, 0.5], 0, 20, none),
        // Few can be told apart,
        (&[1.0, 0.0, 1.0], 1_900, 20, &[1]),
        (&[0.98, 0.99, 1.0, 0.4], 3_000, 20, &[3]),
        // but not two.
        (&[1.0, 0.0], 500, 20, none),
        // What is alike, but for a little or for chance, has no outlier.
        (&[0.9; 5], 1_900, 20, none),
        (&[1.0, 1.0, 1.0, 0.95], 1_900, 20, none),
        (&[0.5, 0.5, 0.5, 0.35], 1_900, 20, none),
        (&[0.5, 0.5, 0.5, 0.35], 1_900, 500, &[3]),
        // Whether many fail is not a question of siblings, nor is doing better a failure.
        (&[1.0, 1.0, 0.0, 0.0], 1_900, 20, none),
        (&[0.0, 0.0, 0.0, 1.0], 1_900, 20, none),
    ] {
        let settings = BreakerSettings { success_rate_deviation, min_requests, ..settings() };
        assert_eq!(outliers(rates, &settings), expected, "{rates:?} {success_rate_deviation}");
    }
    let mut breaker = Breaker::default();
    let settings = BreakerSettings { min_requests: 2, ..settings() };
    record(&mut breaker, Success, &settings, 1);
    assert_eq!(breaker.success_rate(&settings, 1), None, "too few");
    record(&mut breaker, Failure, &settings, 1);
    assert_eq!(breaker.success_rate(&settings, 1), Some(0.5));
}

#[test]
fn no_more_than_the_share_is_ejected_and_one_always_may_be() {
    for (total, percent, expected) in [(1, 50, 1), (10, 50, 5), (10, 0, 1), (3, 50, 1), (4, 100, 4)]
    {
        let settings = BreakerSettings { max_ejected_percent: percent, ..settings() };
        let mut ejections = Ejections::default();
        for number in 0..20 {
            if ejections.allows(&number, total, &settings) {
                ejections.note(number, 10);
            }
        }
        assert_eq!((ejections.len(), ejections.ejected(9)), (expected, expected));
        assert_eq!(ejections.ejected(10), 0);
        assert!(!ejections.allows(&99, total, &settings), "half open they count still");
        assert!(ejections.allows(&0, total, &settings), "one that failed its trying out");
        ejections.forget(&0);
        assert!(ejections.allows(&99, total, &settings));
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
        let mut under_way = Vec::new();
        for _ in 0..500 {
            now_ms += random.u64(0..100);
            under_way.extend(breaker.enter(now_ms));
            let probes = |ticket: &&Ticket| ticket.is_probe() && ticket.phase() == breaker.phase();
            assert!(under_way.iter().filter(probes).count() <= settings.probes as usize);
            if under_way.is_empty() || random.bool() {
                continue;
            }
            let ticket = under_way.swap_remove(random.usize(..under_way.len()));
            breaker.leave(ticket);
            let verdict = [Success, Failure, Lost][random.usize(..3)];
            match breaker.record(verdict, ticket, &settings, now_ms) {
                Step::Trip(_) if random.u8(..4) > 0 => {
                    let until_ms = eject(&mut breaker, &settings, now_ms);
                    assert!(until_ms > now_ms, "seed {seed}");
                    assert!(until_ms <= now_ms + 1_000, "seed {seed}");
                }
                Step::Trip(_) | Step::Stay => {}
                Step::Close => assert_eq!(verdict, Success, "seed {seed}"),
            }
            assert!(breaker.check_invariants(), "seed {seed}");
        }
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

#[test]
fn a_time_that_is_over_speaks_of_an_endpoint_that_had_half_of_it() {
    let millis = Duration::from_millis;
    for (waited, passed, expected) in
        [(100, 100, Some(Lost)), (50, 100, Some(Lost)), (49, 100, None), (0, 100, None)]
    {
        assert_eq!(Verdict::of_cut(millis(waited), millis(passed)), expected, "{waited} {passed}");
    }
    for (waited, passed, given, expected) in [
        (99, 99, 100, Some(Lost)),
        (90, 90, 100, Some(Lost)),
        (89, 89, 100, None),
        (40, 99, 100, None),
        (120, 120, 100, Some(Lost)),
    ] {
        let found = Verdict::of_leaving(millis(waited), millis(passed), millis(given));
        assert_eq!(found, expected, "{waited} {passed} {given}");
    }
}
