//! More than a service takes, from h2load: each request is answered once, and the answers add up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::process::Command;
use weft_tests::{
    apps::{App, echo},
    program::{installed, succeed},
};

use super::{
    local,
    policies::{Shop, traffic},
};

/// So many requests are sent.
const REQUESTS: u32 = 2000;

/// What an application has seen.
#[derive(Debug, Default)]
struct Seen {
    requests: AtomicU32,
    now: AtomicU32,
    most_at_once: AtomicU32,
}

/// An application that takes a moment for each request.
async fn slow(seen: Arc<Seen>) -> App {
    App::http_at(local(0), move |request| {
        let seen = seen.clone();
        async move {
            seen.requests.fetch_add(1, SeqCst);
            seen.most_at_once.fetch_max(seen.now.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::time::sleep(Duration::from_millis(2)).await;
            seen.now.fetch_sub(1, SeqCst);
            echo("server", request).await
        }
    })
    .await
}

/// The number before a word in what h2load prints.
fn number(out: &str, line: &str, word: &str) -> u32 {
    let line = out.lines().find_map(|found| found.strip_prefix(line));
    let part = line.and_then(|line| line.split(',').find_map(|part| part.strip_suffix(word)));
    let number: Option<u32> = part.and_then(|number| number.trim().parse().ok());
    assert!(number.is_some(), "no number of {word}: {out}");
    number.unwrap_or_default()
}

/// How the requests fared.
#[derive(Debug)]
struct Fared {
    served: u32,
    too_many: u32,
    unavailable: u32,
    most_at_once: u32,
}

/// Floods a service under these sections of a policy, over HTTP/2 or HTTP/1.
async fn flood(sections: &str, over_http2: bool) -> Fared {
    let seen = Arc::new(Seen::default());
    let app = slow(seen.clone()).await;
    let (protocol, how): (_, &[&str]) =
        if over_http2 { ("http2", &["-c10", "-m8"]) } else { ("http", &["--h1", "-c40"]) };
    let policies = traffic("server-v1", sections);
    let shop = Shop::start(protocol, [app.address, app.address], &policies).await;
    let url = format!("http://{}/x", shop.reaches("server-v1"));
    let mut h2load = Command::new("h2load");
    let out = succeed(h2load.arg(format!("-n{REQUESTS}")).args(how).arg(url)).await;

    assert_eq!(number(&out, "requests:", " done"), REQUESTS, "{out}");
    assert_eq!(number(&out, "requests:", " errored") + number(&out, "requests:", " timeout"), 0);
    let [served, too_many, unavailable] =
        [" 2xx", " 4xx", " 5xx"].map(|class| number(&out, "status codes:", class));
    assert_eq!(served + too_many + unavailable, REQUESTS, "{out}");
    // The application, and the sidecar's counters, say the same.
    assert_eq!(seen.requests.load(SeqCst), served, "{out}");
    let service = "service=\"shop/server-v1:80\"";
    for (status, count) in [("200", served), ("429", too_many), ("503", unavailable)] {
        let status = format!("status=\"{status}\"");
        let labels = ["direction=\"outbound\"", service, &status];
        let counted = shop.web.count("weft_requests_total", &labels).await;
        assert!((counted - f64::from(count)).abs() < 0.5, "{status} {counted}: {out}");
    }
    let in_flight = shop.web.count("weft_requests_in_flight", &[service]).await;
    assert!(in_flight.abs() < 0.5, "{in_flight} in flight");
    Fared { served, too_many, unavailable, most_at_once: seen.most_at_once.load(SeqCst) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_on_few_places_is_answered_whole_and_the_places_hold() {
    if !installed("h2load under policies", "h2load") {
        return;
    }
    let places = [
        "  concurrency: {maxInFlight: 2, maxPending: 4, maxWait: 5ms}",
        "  limits: {maxInFlight: 2, maxPending: 4, maxWait: 5ms}",
    ];
    for sections in places {
        for over_http2 in [false, true] {
            let fared = flood(sections, over_http2).await;
            assert!(fared.served > 0 && fared.unavailable > 0, "{sections}: {fared:?}");
            assert_eq!(fared.too_many, 0, "{sections}: {fared:?}");
            assert_eq!(fared.most_at_once, 2, "{sections}: {fared:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_gets_what_a_rate_allows_and_not_one_more() {
    if !installed("h2load under policies", "h2load") {
        return;
    }
    for over_http2 in [false, true] {
        let fared = flood("  rateLimits: [{requests: 100, per: 10h}]", over_http2).await;
        assert_eq!((fared.served, fared.too_many), (100, REQUESTS - 100), "{fared:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_on_all_limits_at_once_adds_up() {
    if !installed("h2load under policies", "h2load") {
        return;
    }
    let sections = "  rateLimits: [{requests: 500, per: 10h}]
  concurrency: {maxInFlight: 2, maxPending: 4, maxWait: 5ms}
  limits: {maxInFlight: 6, maxPending: 10, maxWait: 10ms}";
    for over_http2 in [false, true] {
        let fared = flood(sections, over_http2).await;
        assert!(fared.served <= 500 && fared.unavailable > 0, "{fared:?}");
        assert!(fared.most_at_once <= 2, "{fared:?}");
    }
}
