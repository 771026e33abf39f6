//! What the sidecars counted, by service: scrapes come in, numbers for people go out. Pure.
//!
//! Counted is what arrives at each service's sidecars (`direction="inbound"`). For a service of opaque TCP a
//! connection stands for a request, and its life for the latency.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use weft_proxy::clock::Instant;

use super::prometheus::Sample;
use crate::up::plan::ReplicaName;

/// A service's counters, or their growth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    requests: u64,
    mutual_requests: u64,
    failed_requests: u64,
    connections: u64,
    mutual_connections: u64,
    failed_connections: u64,
    /// Requests by the upper bound of their bucket in microseconds, not cumulative.
    buckets: BTreeMap<u64, u64>,
    /// Connections by the upper bound of their lifetime's bucket, likewise.
    lifetimes: BTreeMap<u64, u64>,
}

/// The bound of the last bucket.
const UNBOUND: u64 = u64::MAX;

/// One sidecar's counters by service.
pub(crate) type Scrape = BTreeMap<String, Counters>;

/// By service, then by bucket: how many were at most so long.
type Cumulative = BTreeMap<String, BTreeMap<u64, u64>>;

/// Sums up a sidecar's samples, by "NAME" of the service "NAMESPACE/NAME:PORT".
pub(crate) fn scrape(samples: &[Sample]) -> Scrape {
    let mut scrape = Scrape::new();
    let mut durations = Cumulative::new();
    let mut lifetimes = Cumulative::new();
    for sample in samples.iter().filter(|sample| sample.label("direction") == "inbound") {
        let Some(service) = service_name(sample.label("service")) else { continue };
        let counters = scrape.entry(service.to_owned()).or_default();
        let count = count(sample.value);
        let mutual = if sample.label("tls") == "mutual" { count } else { 0 };
        match sample.name.as_str() {
            "weft_requests_total" => {
                counters.requests += count;
                counters.mutual_requests += mutual;
                if sample.label("status").starts_with('5') {
                    counters.failed_requests += count;
                }
            }
            "weft_grpc_requests_total" if sample.label("grpc_status") != "0" => {
                counters.failed_requests += count;
            }
            "weft_connections_opened_total" => {
                counters.connections += count;
                counters.mutual_connections += mutual;
            }
            "weft_connections_failed_total" => counters.failed_connections += count,
            "weft_request_duration_seconds_bucket" => {
                let buckets = durations.entry(service.to_owned()).or_default();
                *buckets.entry(bound(sample.label("le"))).or_default() += count;
            }
            "weft_connection_duration_seconds_bucket" => {
                let buckets = lifetimes.entry(service.to_owned()).or_default();
                *buckets.entry(bound(sample.label("le"))).or_default() += count;
            }
            _ => {}
        }
    }
    for (service, buckets) in durations {
        scrape.entry(service).or_default().buckets = apart(&buckets);
    }
    for (service, buckets) in lifetimes {
        scrape.entry(service).or_default().lifetimes = apart(&buckets);
    }
    scrape
}

/// "cart" of "shop/cart:80"; `None` of what is no service's.
fn service_name(label: &str) -> Option<&str> {
    let (_, name) = label.split_once('/')?;
    Some(name.rsplit_once(':').map_or(name, |(name, _)| name))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are whole")]
fn count(value: f64) -> u64 {
    value as u64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounds are small")]
fn bound(le: &str) -> u64 {
    match le.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() => (seconds * 1e6).round() as u64,
        _ => UNBOUND,
    }
}

/// Cumulative buckets, each without those before it.
fn apart(cumulative: &BTreeMap<u64, u64>) -> BTreeMap<u64, u64> {
    let mut before = 0;
    let own = cumulative.iter().map(|(bound, count)| {
        let own = count.saturating_sub(before);
        before = *count;
        (*bound, own)
    });
    own.collect()
}

/// What each bucket has more than before.
fn grown(now: &BTreeMap<u64, u64>, before: &BTreeMap<u64, u64>) -> BTreeMap<u64, u64> {
    let grown = |(bound, count): (&u64, &u64)| {
        (*bound, count.saturating_sub(before.get(bound).copied().unwrap_or_default()))
    };
    now.iter().map(grown).collect()
}

impl Counters {
    /// What was counted since `earlier`. A sidecar that was started anew counts from zero.
    fn since(&self, earlier: &Self) -> Self {
        if self.requests < earlier.requests || self.connections < earlier.connections {
            return self.clone();
        }
        Self {
            requests: self.requests - earlier.requests,
            mutual_requests: self.mutual_requests.saturating_sub(earlier.mutual_requests),
            failed_requests: self.failed_requests.saturating_sub(earlier.failed_requests),
            connections: self.connections - earlier.connections,
            mutual_connections: self.mutual_connections.saturating_sub(earlier.mutual_connections),
            failed_connections: self.failed_connections.saturating_sub(earlier.failed_connections),
            buckets: grown(&self.buckets, &earlier.buckets),
            lifetimes: grown(&self.lifetimes, &earlier.lifetimes),
        }
    }

    fn add(&mut self, more: &Self) {
        self.requests += more.requests;
        self.mutual_requests += more.mutual_requests;
        self.failed_requests += more.failed_requests;
        self.connections += more.connections;
        self.mutual_connections += more.mutual_connections;
        self.failed_connections += more.failed_connections;
        for (bound, count) in &more.buckets {
            *self.buckets.entry(*bound).or_default() += count;
        }
        for (bound, count) in &more.lifetimes {
            *self.lifetimes.entry(*bound).or_default() += count;
        }
    }

    /// The numbers for people, of what was counted within `time`.
    pub(crate) fn numbers(&self, time: Duration) -> Numbers {
        // A service that was asked no request is one of opaque connections.
        let (count, failed, mutual, buckets) = if self.requests > 0 {
            (self.requests, self.failed_requests, self.mutual_requests, &self.buckets)
        } else {
            (self.connections, self.failed_connections, self.mutual_connections, &self.lifetimes)
        };
        let share = |part: u64| (count > 0).then(|| part.min(count) as f64 / count as f64);
        Numbers {
            requests: count,
            success_rate: share(count - failed.min(count)),
            rps: count as f64 / time.as_secs_f64().max(f64::EPSILON),
            p50_ms: quantile(buckets, 0.50),
            p95_ms: quantile(buckets, 0.95),
            p99_ms: quantile(buckets, 0.99),
            mtls_share: share(mutual),
        }
    }
}

/// What people read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Numbers {
    pub(crate) requests: u64,
    /// 0 to 1; none of nothing.
    pub(crate) success_rate: Option<f64>,
    pub(crate) rps: f64,
    /// None where nothing has a latency.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p95_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    /// 0 to 1; none of nothing.
    pub(crate) mtls_share: Option<f64>,
}

/// A quantile in milliseconds, interpolated within its bucket. In the last bucket, which has no bound: the bound
/// before it.
fn quantile(buckets: &BTreeMap<u64, u64>, quantile: f64) -> Option<f64> {
    let total: u64 = buckets.values().sum();
    if total == 0 {
        return None;
    }
    let wanted = quantile * total as f64;
    let (mut below, mut lower) = (0u64, 0u64);
    for (upper, count) in buckets {
        if *count > 0 && (below + count) as f64 >= wanted {
            if *upper == UNBOUND {
                break;
            }
            let within = ((wanted - below as f64) / *count as f64).clamp(0.0, 1.0);
            return Some((lower as f64 + within * (upper - lower) as f64) / 1_000.0);
        }
        below += count;
        lower = *upper;
    }
    Some(lower as f64 / 1_000.0)
}

/// Everything counted since the beginning, and the last moments of it.
#[derive(Debug)]
pub(crate) struct Recorder {
    began: Instant,
    last: BTreeMap<ReplicaName, Scrape>,
    total: Scrape,
    /// Totals as they were, oldest first.
    past: VecDeque<(Instant, Scrape)>,
}

/// The live table shows this much of the past.
const WINDOW: Duration = Duration::from_secs(10);

impl Recorder {
    /// Begins to count: what the sidecars counted before is left out.
    pub(crate) fn new(now: Instant, baseline: BTreeMap<ReplicaName, Scrape>) -> Self {
        let mut total = Scrape::new();
        // A service that is never asked is shown with zeros.
        for service in baseline.values().flat_map(BTreeMap::keys) {
            total.entry(service.clone()).or_default();
        }
        let past = VecDeque::from([(now, total.clone())]);
        Self { began: now, last: baseline, total, past }
    }

    /// Adds what the sidecars counted since the last time. A sidecar that did not answer keeps its former state.
    pub(crate) fn record(&mut self, now: Instant, scrapes: BTreeMap<ReplicaName, Scrape>) {
        for (replica, scrape) in scrapes {
            let earlier = self.last.entry(replica).or_default();
            for (service, counters) in &scrape {
                let before = earlier.get(service).cloned().unwrap_or_default();
                self.total.entry(service.clone()).or_default().add(&counters.since(&before));
            }
            *earlier = scrape;
        }
        self.past.push_back((now, self.total.clone()));
        while self.past.get(1).is_some_and(|(then, _)| now - *then >= WINDOW) {
            self.past.pop_front();
        }
    }

    /// Each service's numbers since the beginning.
    pub(crate) fn overall(&self) -> BTreeMap<String, Numbers> {
        let now = self.past.back().map_or(self.began, |(now, _)| *now);
        let numbers = |counters: &Counters| counters.numbers(now - self.began);
        self.total.iter().map(|(service, counters)| (service.clone(), numbers(counters))).collect()
    }

    /// Each service's numbers of the last moments.
    pub(crate) fn recent(&self) -> BTreeMap<String, Numbers> {
        let (Some((then, before)), Some((now, _))) = (self.past.front(), self.past.back()) else {
            return BTreeMap::new();
        };
        let none = Counters::default();
        let numbers = |service: &String, counters: &Counters| {
            counters.since(before.get(service).unwrap_or(&none)).numbers(*now - *then)
        };
        let services = self.total.iter();
        services.map(|(service, counters)| (service.clone(), numbers(service, counters))).collect()
    }
}

#[cfg(test)]
mod tests;
