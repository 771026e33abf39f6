//! Which sidecars are listed, and when two that claim one instance are told of.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn key() -> InstanceKey {
    InstanceKey { workload: "shop/cart".parse().unwrap(), instance: "0".into() }
}

fn record(incarnation: &str, port: u16) -> Arc<Record> {
    let hello = Hello { incarnation: incarnation.to_owned(), ..Hello::default() };
    let from = SocketAddr::from(([10, 0, 0, 7], port));
    let identity = "spiffe://weft.local/ns/shop/sa/cart".parse().unwrap();
    Arc::new(Record::new(key(), identity, Some(from), &hello))
}

/// Streams that begin one after the other: which of them lets it be said that two claim the instance.
fn said(proxies: &Proxies, begin: &[(&str, Instant)]) -> Vec<bool> {
    let streams = begin.iter().zip(1..);
    streams
        .map(|((incarnation, at), stream)| {
            proxies.take_over(StreamId(stream), &record(incarnation, 1), *at).is_some()
        })
        .collect()
}

#[test]
fn only_a_sidecar_that_comes_back_after_it_was_pushed_out_shows_that_two_live() {
    let now = Instant::now();
    for (begin, expected) in [
        (&["a", "a", "a"][..], &[false, false, false][..]),
        (&["a", "b", "c"], &[false, false, false]),
        (&["a", "b", "b"], &[false, false, false]),
        (&["a", "b", "a"], &[false, false, true]),
        (&["a", "b", "b", "a"], &[false, false, false, true]),
        (&["a", "b", "a", "b", "a"], &[false, false, true, false, false]),
    ] {
        let streams: Vec<_> = begin.iter().map(|incarnation| (*incarnation, now)).collect();
        assert_eq!(said(&Proxies::default(), &streams), expected, "{begin:?}");
    }
}

#[test]
fn a_fight_is_said_once_a_minute() {
    let now = Instant::now();
    let begin = [("a", now), ("b", now), ("a", now), ("b", now + MINUTE / 2), ("a", now + MINUTE)];
    assert_eq!(said(&Proxies::default(), &begin), [false, false, true, false, true]);
}

#[tokio::test]
async fn who_is_pushed_out_learns_by_whom_and_who_reconnects_does_not() {
    let (proxies, one) = (Proxies::default(), record("a", 1));
    proxies.attach(StreamId(1), one.clone());
    proxies.attach(StreamId(2), record("b", 4711));
    let goodbye = one.replaced().await;
    assert!(goodbye.replaced && goodbye.reason.contains("10.0.0.7:4711"), "{goodbye:?}");
    assert!(goodbye.reason.contains("--instance"), "{goodbye:?}");

    let (proxies, before) = (Proxies::default(), record("a", 1));
    proxies.attach(StreamId(1), before.clone());
    proxies.attach(StreamId(2), record("a", 2));
    assert!(!before.replaced().await.replaced);
}

#[test]
fn who_took_its_leave_goes_from_the_table_and_who_vanished_stays() {
    let proxies = Proxies::default();
    proxies.attach(StreamId(1), record("a", 1));
    proxies.detach(StreamId(1), &key());
    assert!(matches!(proxies.all().as_slice(), [(_, false)]));
    proxies.attach(StreamId(2), record("b", 1));
    assert!(!proxies.leave(StreamId(1), &key()), "an earlier stream has no say");
    assert!(matches!(proxies.all().as_slice(), [(_, true)]));
    assert!(proxies.leave(StreamId(2), &key()));
    assert!(proxies.all().is_empty());
}
