//! What workers share of breakers: who may begin, what counts as ejected, and what ends with a policy or an endpoint.

use weft_proto::Port;

use super::*;
use crate::discovery::ServiceState;

const SUCCESS: Option<Verdict> = Some(Verdict::Success);
const FAILURE: Option<Verdict> = Some(Verdict::ApplicationFailure);

/// A service whose endpoints are ejected after one failure, for this long.
fn service(endpoints: u16, base_ejection: Duration) -> Arc<Destination> {
    let port = Port::new(80).expect("a port");
    let endpoint = |number| {
        let address = ([10, 0, 0, 1], 8_000 + number).into();
        Arc::new(Endpoint::plain(address, port))
    };
    Arc::new(Destination {
        endpoints: (0..endpoints).map(endpoint).collect(),
        breaking: Some(Arc::new(BreakerSettings {
            consecutive_failures: 1,
            base_ejection,
            panic_percent: 0,
            ..BreakerSettings::default()
        })),
        ..Destination::empty("shop/cart:80".into())
    })
}

/// Long enough for every test.
const LONG: Duration = Duration::from_secs(600);
/// Over in a moment.
const SHORT: Duration = Duration::from_millis(1);

fn begin(destination: &Arc<Destination>, index: usize) -> Result<Trial, Rejected> {
    let metrics = Arc::new(TrafficMetrics::default());
    let trial = Trial::begin(destination, &destination.endpoints[index], &metrics)?;
    Ok(trial.expect("there is a policy"))
}

fn fail(destination: &Arc<Destination>, index: usize) {
    begin(destination, index).expect("it takes requests").judge(FAILURE);
}

fn ejected(destination: &Destination) -> usize {
    destination.state.breaking.ejected(clock::process_ms())
}

fn availability(destination: &Destination, index: usize) -> Availability {
    destination.endpoints[index].health.breaker.availability(clock::process_ms())
}

fn until_half_open(destination: &Destination, index: usize) {
    while availability(destination, index) == Availability::Ejected {
        std::thread::yield_now();
    }
}

#[test]
fn failures_that_two_workers_see_eject_once() {
    let service = service(4, LONG);
    let both = [begin(&service, 0), begin(&service, 0)].map(|trial| trial.expect("closed"));
    let now_ms = clock::process_ms();
    both.into_iter().for_each(|trial| trial.judge(FAILURE));
    let until_ms = service.endpoints[0].health.breaker.until_ms.load(Relaxed);
    assert!(until_ms < now_ms + 2 * 600_000, "no second ejection, twice as long");
    assert_eq!(ejected(&service), 1);
}

#[test]
fn one_probe_begins_however_many_have_seen_that_it_may() {
    let service = service(4, SHORT);
    fail(&service, 0);
    until_half_open(&service, 0);
    let probe = begin(&service, 0).expect("the first");
    assert_eq!(availability(&service, 0), Availability::Ejected);
    begin(&service, 0).expect_err("it has no place for another");
    drop(probe);
    assert_eq!(availability(&service, 0), Availability::HalfOpen);
    begin(&service, 0).expect("the place is free").judge(SUCCESS);
    assert_eq!(
        (availability(&service, 0), service.state.breaking.out.load(Relaxed)),
        (Availability::Good, 0)
    );
}

#[test]
fn a_late_answer_neither_closes_a_new_phase_nor_frees_a_place_of_it() {
    let service = service(4, SHORT);
    fail(&service, 0);
    until_half_open(&service, 0);
    let mut answered = begin(&service, 0).expect("a probe");
    answered.answered();
    begin(&service, 0).expect("another probe").judge(FAILURE);
    until_half_open(&service, 0);
    let probe = begin(&service, 0).expect("a probe of the new phase");
    answered.judge(SUCCESS);
    assert_eq!(availability(&service, 0), Availability::Ejected, "its one place is taken");
    probe.judge(SUCCESS);
    assert_eq!(availability(&service, 0), Availability::Good);
}

#[test]
fn endpoints_that_are_tried_out_count_among_those_that_may_be_left_alone() {
    let service = service(4, SHORT);
    fail(&service, 0);
    fail(&service, 1);
    until_half_open(&service, 0);
    until_half_open(&service, 1);
    assert_eq!(ejected(&service), 0, "the metric has those that are not tried out yet");
    fail(&service, 2);
    assert_eq!(availability(&service, 2), Availability::Good, "half of them are out already");
}

#[test]
fn an_endpoint_that_is_gone_is_no_longer_ejected() {
    let service = service(4, LONG);
    let late = begin(&service, 3).expect("closed");
    fail(&service, 0);
    fail(&service, 1);
    let next =
        Arc::new(Destination { endpoints: service.endpoints[1..3].to_vec(), ..(*service).clone() });
    service.state.breaking.follow(&service.endpoints, &next.endpoints, next.breaking.as_deref());
    assert_eq!((ejected(&next), next.state.breaking.out.load(Relaxed)), (1, 1));
    late.judge(FAILURE);
    assert_eq!(ejected(&next), 1, "it was gone when it failed");
    fail(&next, 1);
    assert_eq!(availability(&next, 1), Availability::Good, "one of two is left alone");
}

#[test]
fn what_a_policy_has_ejected_is_used_again_when_it_is_deleted() {
    let service = service(4, LONG);
    let late = begin(&service, 1).expect("closed");
    fail(&service, 0);
    let next = Destination { breaking: None, ..(*service).clone() };
    service.state.breaking.follow(&service.endpoints, &next.endpoints, None);
    assert_eq!((availability(&next, 0), ejected(&next)), (Availability::Good, 0));
    late.judge(FAILURE);
    assert_eq!((availability(&next, 1), ejected(&next)), (Availability::Good, 0));
    // Another policy begins with nothing.
    service.state.breaking.follow(&next.endpoints, &next.endpoints, service.breaking.as_deref());
    fail(&service, 0);
    assert_eq!(ejected(&service), 1);
}

#[test]
fn below_the_panic_threshold_ejected_endpoints_are_used_and_say_nothing() {
    let settings = BreakerSettings {
        consecutive_failures: 1,
        max_ejected_percent: 100,
        panic_percent: 50,
        base_ejection: LONG,
        ..BreakerSettings::default()
    };
    let all = service(3, LONG);
    let service = Arc::new(Destination {
        breaking: Some(Arc::new(settings)),
        state: Arc::new(ServiceState::default()),
        ..(*all).clone()
    });
    let now_ms = clock::process_ms();
    fail(&service, 0);
    assert!(service.is_ejected(&service.endpoints[0], now_ms), "two of three are left");
    begin(&service, 0).expect_err("ejected");
    fail(&service, 1);
    assert!(!service.is_ejected(&service.endpoints[0], now_ms), "one of three is not enough");
    let metrics = Arc::new(TrafficMetrics::default());
    let trial = Trial::begin(&service, &service.endpoints[0], &metrics);
    assert!(trial.expect("all are used").is_none());
}
