//! Never above the limit, never below while there are tokens, and nobody starves.

use std::collections::BTreeMap;

use http::{Method, Version};
use proptest::prelude::*;

use super::*;
use crate::{
    http::{Fields, RequestHead},
    policy::operation::PathMatch,
};

const SECOND: u64 = 1_000_000_000;

fn head(path: &str) -> RequestHead {
    RequestHead {
        method: Method::GET,
        target: path.parse().expect("a path"),
        version: Version::HTTP_11,
        headers: Fields::new(),
        upgrade: None,
        accepts_trailers: false,
    }
}

fn settings(requests: u64, per: u64, burst: u64, key: Key) -> Settings {
    let rate = Rate::new(requests, per, burst).expect("not zero");
    Settings { policy: "TrafficPolicy shop/cart".into(), rate, operations: Box::default(), key }
}

fn limits(settings: impl IntoIterator<Item = Settings>) -> Arc<RateLimits> {
    let limits = settings.into_iter().map(RateLimit::new).collect();
    RateLimits::new(limits).expect("some")
}

fn from(address: [u8; 4]) -> Source<'static> {
    Source { identity: None, address: Some(address.into()) }
}

fn take(limits: &RateLimits, source: Source<'_>, now: u64) -> Result<Option<Quota>, Refused> {
    limits.take(Some(&RequestFacts::new(&head("/"))), source, now)
}

#[test]
fn a_burst_passes_at_once_and_then_what_the_rate_gives() {
    let limits = limits([settings(2, SECOND, 3, Key::All)]);
    let me = from([10, 0, 0, 1]);
    let remaining = |taken: Result<Option<Quota>, _>| {
        taken.expect("it passes").expect("it is counted").remaining
    };
    for expected in [2, 1, 0] {
        assert_eq!(remaining(take(&limits, me, 0)), expected);
    }
    let refused = take(&limits, me, 0).expect_err("used up");
    assert_eq!(refused.retry_after, Duration::from_millis(500));
    let quota = Quota { limit: 3, remaining: 0, reset: Duration::from_millis(1500) };
    assert_eq!((refused.quota, &*refused.policy), (quota, "TrafficPolicy shop/cart"));
    assert!(take(&limits, me, SECOND / 2 - 1).is_err());
    assert_eq!(remaining(take(&limits, me, SECOND / 2)), 0);
    assert_eq!(remaining(take(&limits, me, 100 * SECOND)), 2);
}

#[test]
fn all_limits_must_let_pass_and_none_is_charged_when_one_refuses() {
    let only_a = Settings {
        operations: Box::new([Operation {
            paths: Box::new([PathMatch::Exact("/a".into())]),
            ..Operation::default()
        }]),
        ..settings(1, SECOND, 1, Key::All)
    };
    let limits = limits([settings(10, SECOND, 10, Key::All), only_a]);
    let take =
        |path: &str| limits.take(Some(&RequestFacts::new(&head(path))), from([1, 1, 1, 1]), 0);
    let tightest = take("/a").expect("it passes").expect("it is counted");
    assert_eq!((tightest.limit, tightest.remaining), (1, 0));
    for _ in 0..5 {
        assert_eq!(take("/%61").expect_err("used up").quota.limit, 1);
    }
    let wide = take("/b").expect("it passes").expect("it is counted");
    assert_eq!((wide.limit, wide.remaining), (10, 8));
}

#[test]
fn each_key_has_a_bucket_of_its_own() {
    let by_address = limits([settings(1, SECOND, 1, Key::Address)]);
    assert!(take(&by_address, from([10, 0, 0, 1]), 0).is_ok());
    assert!(take(&by_address, from([10, 0, 0, 1]), 0).is_err());
    assert!(take(&by_address, from([10, 0, 0, 2]), 0).is_ok());
    let v6 = |text: &str| Source { identity: None, address: Some(text.parse().expect("valid")) };
    assert!(take(&by_address, v6("fd00::1"), 0).is_ok());
    assert!(take(&by_address, v6("fd00::2"), 0).is_err(), "one /64, one client");
    assert!(take(&by_address, v6("fd00:0:0:1::1"), 0).is_ok());

    let by_identity = limits([settings(1, SECOND, 1, Key::Identity)]);
    let id = |name: &str| format!("spiffe://weft.local/ns/shop/sa/{name}").parse().expect("valid");
    let (web, job) = (id("web"), id("job"));
    let named = |identity| Source { identity: Some(identity), ..from([10, 0, 0, 1]) };
    assert!(take(&by_identity, named(&web), 0).is_ok());
    assert!(take(&by_identity, named(&web), 0).is_err());
    assert!(take(&by_identity, named(&job), 0).is_ok());
    assert!(take(&by_identity, from([10, 0, 0, 1]), 0).is_ok());
}

/// Takes one with this value of the header that is the key.
fn take_keyed(limits: &RateLimits, key: &str, source: Source<'_>, now: u64) -> bool {
    let mut head = head("/");
    head.headers.insert("x-user", key.parse().expect("text"));
    limits.take(Some(&RequestFacts::new(&head)), source, now).is_ok()
}

fn by_header() -> Arc<RateLimits> {
    limits([settings(1, 3600 * SECOND, 1, Key::Header(HeaderName::from_static("x-user")))])
}

fn keys(limits: &RateLimits) -> usize {
    match &limits.0[0].buckets {
        Buckets::Keyed(keyed) => locked(keyed).len(),
        Buckets::Fair(fair) => locked(fair).len(),
        Buckets::One(_) => 1,
    }
}

#[test]
fn a_caller_that_invents_keys_takes_no_bucket_from_anybody() {
    let limits = by_header();
    let (attacker, client) = (from([10, 6, 6, 6]), from([10, 0, 0, 1]));
    assert!(take_keyed(&limits, "known", client, 0));
    let passed = (0..50_000).filter(|n| take_keyed(&limits, &n.to_string(), attacker, 1)).count();
    assert_eq!(passed, 1025, "an eighth of the table, and one bucket for the rest");
    assert_eq!(keys(&limits), 1026);
    assert!(!take_keyed(&limits, "known", client, 2), "what it used is not forgotten");
    for n in 0..500 {
        assert!(take_keyed(&limits, &format!("new-{n}"), client, 3), "{n}");
    }
}

#[test]
fn the_table_is_bounded_and_full_buckets_make_room() {
    let limits = by_header();
    for n in 0..60_000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        let _ = take_keyed(&limits, &n.to_string(), from([10, a, b, c]), 0);
    }
    assert_eq!(keys(&limits), 8192);
    assert!(!take_keyed(&limits, "one more", from([9, 9, 9, 9]), 1), "the last bucket is used up");
    assert!(take_keyed(&limits, "one more", from([9, 9, 9, 9]), 3600 * SECOND + 1));
    assert!(keys(&limits) < 8192, "those that are full again are gone");
}

#[test]
fn an_opaque_connection_is_a_request_without_fields() {
    let search = Settings {
        operations: Box::new([Operation::default()]),
        ..settings(1, SECOND, 1, Key::All)
    };
    let limits = limits([
        search,
        settings(3, SECOND, 3, Key::All),
        settings(2, SECOND, 2, Key::Header(HeaderName::from_static("x-user"))),
    ]);
    assert!(limits.has_operations());
    let connect = || limits.take(None, from([10, 0, 0, 1]), 0);
    assert_eq!(connect().expect("it passes").expect("it is counted").limit, 2);
    assert!(take(&limits, from([10, 0, 0, 1]), 0).is_ok(), "without the header it counts alike");
    assert_eq!(connect().expect_err("used up").quota.limit, 2);
    assert!(take_keyed(&limits, "ann", from([10, 0, 0, 1]), 0).then_some(()).is_none());
}

#[test]
fn fair_callers_are_bounded() {
    let limits = limits([settings(1, SECOND, 1, Key::Fair)]);
    for n in 0..5_000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        let _ = take(&limits, from([10, a, b, c]), 0);
    }
    assert_eq!(keys(&limits), 1025, "as many as are known, and all others");
    // When they come back no more, they make room one by one.
    for n in 0..3_000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        let _ = take(&limits, from([11, a, b, c]), 20_000 * SECOND + u64::from(n) * SECOND);
        assert!(keys(&limits) <= 1025);
    }
    assert_eq!(take(&limits, from([12, 0, 0, 1]), 30_000 * SECOND).map(|_| ()), Ok(()));
}

/// A caller in a simulation.
#[derive(Debug, Clone)]
struct Client {
    /// Nanoseconds between its requests while they pass.
    every: u64,
    /// When refused it comes back after what it was told, or keeps trying.
    patient: bool,
}

/// How many requests of each client passed until `end`.
fn simulate(limits: &RateLimits, clients: &[Client], end: u64) -> Vec<u64> {
    let mut passed = vec![0; clients.len()];
    let mut next: BTreeMap<(u64, usize), ()> = (0..clients.len()).map(|n| ((0, n), ())).collect();
    while let Some(((now, who), ())) = next.pop_first() {
        if now >= end {
            break;
        }
        let client = &clients[who];
        let source = from([10, 0, 0, u8::try_from(who).expect("few")]);
        let after = match take(limits, source, now) {
            Ok(_) => {
                passed[who] += 1;
                client.every
            }
            Err(refused) if client.patient => {
                u64::try_from(refused.retry_after.as_nanos()).expect("soon").max(1)
            }
            Err(_) => client.every,
        };
        next.insert((now + after, who), ());
    }
    passed
}

fn clients() -> impl Strategy<Value = Vec<Client>> {
    let client = (1..2_000_u64, any::<bool>())
        .prop_map(|(ms, patient)| Client { every: ms * SECOND / 1000 + ms, patient });
    prop::collection::vec(client, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn never_more_than_the_limit_passes_and_never_less_while_it_is_asked_for(
        requests in 1..50_u64,
        per_ms in 1..5_000_u64,
        burst in 1..20_u64,
        gaps in prop::collection::vec(0..400_000_000_u64, 1..400),
    ) {
        let per = per_ms * 1_000_000;
        let limits = limits([settings(requests, per, burst, Key::All)]);
        let mut passes: Vec<u64> = Vec::new();
        let mut now = 0;
        for gap in gaps {
            now += gap;
            let passed = take(&limits, from([1, 1, 1, 1]), now).is_ok();
            // Since any pass: no more than the burst and what came in since.
            let bound = |since: u64| u128::from(burst) * u128::from(per)
                + u128::from(now - since) * u128::from(requests);
            let used = |from: usize| (passes.len() - from + 1) as u128 * u128::from(per);
            let fits = passes.iter().enumerate().all(|(n, &at)| used(n) <= bound(at));
            prop_assert_eq!(passed, fits, "at {} after {:?}", now, passes);
            if passed {
                passes.push(now);
            }
        }
    }

    #[test]
    fn over_any_window_no_bucket_gives_more_than_its_rate(
        fair: bool,
        requests in 1..50_u64,
        burst in 1..10_u64,
        asks in prop::collection::vec((0..60_000_000_u64, 0..5_u8), 1..300),
    ) {
        let key = if fair { Key::Fair } else { Key::Address };
        let limits = limits([settings(requests, SECOND, burst, key)]);
        let mut passes: Vec<(u64, u8)> = Vec::new();
        let mut now = 0;
        for (gap, who) in asks {
            now += gap;
            if take(&limits, from([10, 0, 0, who]), now).is_err() {
                continue;
            }
            passes.push((now, who));
            // Of one bucket: everybody's, or each caller's own.
            let same = passes.iter().filter(|(_, other)| fair || *other == who);
            for (passed, (since, _)) in same.rev().enumerate() {
                let tokens = (passed as u128 + 1) * u128::from(SECOND);
                let most = u128::from(burst * SECOND) + u128::from((now - since) * requests);
                prop_assert!(tokens <= most, "{} since {since} at {now}", passed + 1);
            }
        }
    }

    #[test]
    fn nobody_starves_where_callers_take_turns(
        clients in clients(),
        requests in 1..40_u64,
        burst in 2..10_u64,
    ) {
        let end = 120 * SECOND;
        let limits = limits([settings(requests, SECOND, burst, Key::Fair)]);
        let passed = simulate(&limits, &clients, end);
        let total: u64 = passed.iter().sum();
        let limit = burst + 120 * requests;
        prop_assert!(total <= limit, "{total} of {limit}");
        let share = limit / clients.len() as u64;
        for (client, &passed) in clients.iter().zip(&passed) {
            // One that is refused has its turn when it asks again; one that asks seldom may find others before it.
            let due = (end / client.every / 2).min(share);
            let asks_as_told = client.patient || client.every <= SECOND / requests;
            // With fewer tokens at once than callers, not every claim can be kept.
            let tenths = match (burst >= clients.len() as u64, asks_as_told) {
                (true, true) => 8,
                (true, false) => 5,
                (false, _) => 1,
            };
            prop_assert!(passed * 10 >= due * tenths, "{passed} of {due}: {client:?} among {clients:?}");
        }
    }

    #[test]
    fn callers_that_all_want_more_than_there_is_get_the_same(
        intervals in prop::collection::vec(1..20_u64, 2..8),
        burst in 2..10_u64,
    ) {
        let clients: Vec<_> = intervals
            .iter()
            .map(|ms| Client { every: ms * 1_000_000, patient: false })
            .collect();
        let limits = limits([settings(10, SECOND, burst, Key::Fair)]);
        let passed = simulate(&limits, &clients, 100 * SECOND);
        let (least, most) = (passed.iter().min().expect("some"), passed.iter().max().expect("some"));
        prop_assert!(most - least <= burst + 2, "{passed:?}");
        let total: u64 = passed.iter().sum();
        prop_assert!(total >= 990, "{total} of 1000: some were lost");
    }
}

#[test]
fn who_is_new_is_served_next_however_much_another_takes() {
    let limits = limits([settings(10, SECOND, 2, Key::Fair)]);
    let (hog, new) = (from([10, 0, 0, 1]), from([10, 0, 0, 2]));
    let mut now = 0;
    while now < 10 * SECOND {
        let _ = take(&limits, hog, now);
        now += 1_000_000;
    }
    let refused = take(&limits, new, now).err();
    let mut tried = 0;
    if let Some(refused) = refused {
        let back = now + u64::try_from(refused.retry_after.as_nanos()).expect("soon");
        while now < back + SECOND / 20 {
            let _ = take(&limits, hog, now);
            now += 1_000_000;
            tried += 1;
        }
        assert!(take(&limits, new, now).is_ok(), "its token was taken in {tried} tries");
    }
}

#[test]
fn who_asks_seldom_and_never_comes_back_in_time_costs_nobody_a_token() {
    for burst in [1, 2, 5] {
        let limits = limits([settings(6, SECOND, burst, Key::Fair)]);
        let seldom = Client { every: 4 * SECOND / 3, patient: false };
        let mut clients = vec![seldom; 4];
        clients.push(Client { every: SECOND / 1000, patient: false });
        let total: u64 = simulate(&limits, &clients, 100 * SECOND).iter().sum();
        assert!(total >= 590, "{total} of 600, {burst} at once");
    }
}
