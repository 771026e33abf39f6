//! The counters of requests and connections: atomics that the data path writes, read when they are scraped.
//!
//! Comes in: the end of each request and connection. Goes out: one sample for each combination that occurred.
//! Writing takes no lock, looks up no label and allocates once for each class of status (1xx to 5xx).

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use super::{Direction, RequestOutcome, TlsState, histogram::Histogram};
use crate::{
    clock::{self, Instant},
    discovery::ServiceBreaking,
    policy::{breaker::Cause, retry::Withheld},
    reason::Reason,
};

const REASONS: usize = Reason::ALL.len();
/// By reason, and beside them by status and by gRPC code.
const RETRIED: usize = REASONS + 2;
const STATES: usize = TlsState::ALL.len();
/// gRPC's status codes, 0 to 16, and one place for what is none.
const GRPC_CODES: usize = 18;
/// Labels beyond this many share one handle, so that no caller can make the metrics grow without bound.
const MAX_LABELS: usize = 4096;
const OTHER: &str = "other";
/// No labels beside those of the handle.
const NONE: [(&str, &str); 0] = [];

type Key = (Direction, Arc<str>);

/// All handles of the process, by direction and label.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    handles: Mutex<BTreeMap<Key, Arc<TrafficMetrics>>>,
}

impl Traffic {
    pub(super) fn handle(&self, direction: Direction, label: &str) -> Arc<TrafficMetrics> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (direction, label.into());
        if let Some(handle) = handles.get(&key) {
            return Arc::clone(handle);
        }
        let key = if handles.len() < MAX_LABELS { key } else { (direction, OTHER.into()) };
        Arc::clone(handles.entry(key).or_default())
    }
}

/// The counters of one direction of one service.
#[derive(Debug)]
pub struct TrafficMetrics {
    /// By protection, then by status.
    requests: [StatusCounts; STATES],
    grpc: [AtomicU64; GRPC_CODES],
    requests_failed: [AtomicU64; REASONS],
    duration: Histogram,
    in_flight: AtomicI64,
    retries: [AtomicU64; RETRIED],
    withheld: [AtomicU64; Withheld::ALL.len()],
    ejections: [AtomicU64; Cause::ALL.len()],
    /// Where endpoints were ejected: a service outside the mesh has a part for each name.
    breaking: Mutex<Vec<Weak<ServiceBreaking>>>,
    opened: [AtomicU64; STATES],
    closed: [AtomicU64; STATES],
    connections_failed: [AtomicU64; REASONS],
    /// Of opaque connections.
    lifetime: Histogram,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Default for TrafficMetrics {
    fn default() -> Self {
        Self {
            requests: Default::default(),
            grpc: zeros(),
            requests_failed: zeros(),
            duration: Histogram::default(),
            in_flight: AtomicI64::new(0),
            retries: zeros(),
            withheld: zeros(),
            ejections: zeros(),
            breaking: Mutex::default(),
            opened: zeros(),
            closed: zeros(),
            connections_failed: zeros(),
            lifetime: Histogram::default(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        }
    }
}

impl TrafficMetrics {
    /// A request began: it is in flight until the guard is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }

    /// One request ended.
    pub fn request(&self, outcome: &RequestOutcome) {
        self.requests[outcome.tls as usize].add(outcome.status);
        self.duration.observe(outcome.duration);
        if let Some(status) = outcome.grpc_status {
            self.grpc[usize::from(status).min(GRPC_CODES - 1)].fetch_add(1, Relaxed);
        }
        if let Some(reason) = outcome.reason {
            self.requests_failed[reason as usize].fetch_add(1, Relaxed);
        }
    }

    /// An opaque connection opened: it is counted as closed when the record is dropped.
    #[must_use]
    pub fn connection(self: &Arc<Self>, tls: TlsState) -> ConnectionRecord {
        self.opened[tls as usize].fetch_add(1, Relaxed);
        ConnectionRecord { metrics: Arc::clone(self), tls, began: clock::now(), reason: None }
    }

    /// Another attempt was made for a request.
    pub fn retried(&self, after: Retried) {
        self.retries[after.index()].fetch_add(1, Relaxed);
    }

    /// Another attempt was wanted for a request, and not made.
    pub fn withheld(&self, cause: Withheld) {
        self.withheld[cause as usize].fetch_add(1, Relaxed);
    }
}

impl TrafficMetrics {
    /// An endpoint was ejected; how many are now is asked of the service when the metrics are read.
    pub fn ejected(&self, cause: Cause, breaking: &Arc<ServiceBreaking>) {
        self.ejections[cause as usize].fetch_add(1, Relaxed);
        let breaking = Arc::downgrade(breaking);
        let mut known = self.breaking.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|it| it.strong_count() > 0);
        if !known.iter().any(|it| it.ptr_eq(&breaking)) {
            known.push(breaking);
        }
    }

    fn ejected_now(&self) -> i64 {
        let now_ms = clock::process_ms();
        let known = self.breaking.lock().unwrap_or_else(PoisonError::into_inner);
        let ejected = known.iter().filter_map(Weak::upgrade).map(|it| it.ejected(now_ms));
        i64::try_from(ejected.sum::<usize>()).unwrap_or(i64::MAX)
    }
}

/// What another attempt is made after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retried {
    /// An attempt without a response.
    Failed(Reason),
    /// A response whose status is to be tried again.
    Status,
    /// A gRPC response whose code is.
    GrpcCode,
}

impl Retried {
    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed(reason) => reason.code(),
            Self::Status => "response-status",
            Self::GrpcCode => "grpc-status",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Failed(reason) => reason as usize,
            Self::Status => REASONS,
            Self::GrpcCode => REASONS + 1,
        }
    }

    const fn at(index: usize) -> Self {
        match index {
            REASONS => Self::Status,
            index if index < REASONS => Self::Failed(Reason::ALL[index]),
            _ => Self::GrpcCode,
        }
    }
}

/// An opaque connection; closed once dropped, however it ended.
#[derive(Debug)]
pub struct ConnectionRecord {
    metrics: Arc<TrafficMetrics>,
    tls: TlsState,
    began: Instant,
    reason: Option<Reason>,
}

impl ConnectionRecord {
    /// It carried these bytes from and to the side that opened it.
    pub fn carried(&self, received: u64, sent: u64) {
        self.metrics.received.fetch_add(received, Relaxed);
        self.metrics.sent.fetch_add(sent, Relaxed);
    }

    /// The proxy itself ended it, or it broke.
    pub fn failed(&mut self, reason: Reason) {
        self.reason = Some(reason);
    }
}

impl Drop for ConnectionRecord {
    fn drop(&mut self) {
        let metrics = &self.metrics;
        metrics.closed[self.tls as usize].fetch_add(1, Relaxed);
        metrics.lifetime.observe(clock::now().saturating_duration_since(self.began));
        if let Some(reason) = self.reason {
            metrics.connections_failed[reason as usize].fetch_add(1, Relaxed);
        }
    }
}

/// A request on its way; not any more once dropped.
#[derive(Debug)]
pub struct InFlight(Arc<TrafficMetrics>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// Counts by status, 100 to 599, each class allocated when it first occurs.
#[derive(Debug, Default)]
pub(super) struct StatusCounts([OnceLock<Box<[AtomicU64; 100]>>; 5]);

impl StatusCounts {
    /// A status outside 100 to 599 is counted at the nearer end.
    pub(super) fn add(&self, status: u16) {
        let status = usize::from(status.clamp(100, 599));
        let class = self.0[status / 100 - 1].get_or_init(|| Box::new(zeros()));
        class[status % 100].fetch_add(1, Relaxed);
    }

    /// Every status that occurred, with its count.
    pub(super) fn occurred(&self) -> impl Iterator<Item = (usize, u64)> {
        self.0.iter().enumerate().flat_map(|(class, counts)| {
            let counts = counts.get().into_iter().flat_map(|counts| counts.iter().enumerate());
            counts.filter_map(move |(rest, count)| match count.load(Relaxed) {
                0 => None,
                count => Some(((class + 1) * 100 + rest, count)),
            })
        })
    }
}

fn zeros<const N: usize>() -> [AtomicU64; N] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

/// Every position that is not zero, with its count.
fn occurred(counts: &[AtomicU64]) -> impl Iterator<Item = (usize, u64)> {
    counts.iter().enumerate().filter_map(|(index, count)| match count.load(Relaxed) {
        0 => None,
        count => Some((index, count)),
    })
}

type Handles = [(Key, Arc<TrafficMetrics>)];

impl Collector for Traffic {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let handles: Vec<_> = {
            let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
            handles.iter().map(|(key, handle)| (key.clone(), Arc::clone(handle))).collect()
        };
        encode_requests(&mut encoder, &handles)?;
        encode_ejections(&mut encoder, &handles)?;
        encode_connections(&mut encoder, &handles)
    }
}

fn encode_requests(encoder: &mut DescriptorEncoder, handles: &Handles) -> fmt::Result {
    let mut family = Family::counter(encoder, "requests", "Requests that ended", None)?;
    for (key, handle) in handles {
        for (tls, counts) in TlsState::ALL.iter().zip(&handle.requests) {
            for (status, count) in counts.occurred() {
                let status = status.to_string();
                family.sample(key, [("tls", tls.as_str()), ("status", &status)], count)?;
            }
        }
    }
    let help = "gRPC requests that ended, by gRPC status";
    let mut family = Family::counter(encoder, "grpc_requests", help, None)?;
    for (key, handle) in handles {
        for (status, count) in occurred(&handle.grpc) {
            let status =
                if status < GRPC_CODES - 1 { status.to_string() } else { OTHER.to_owned() };
            family.sample(key, [("grpc_status", status.as_str())], count)?;
        }
    }
    let help = "Requests that the proxy itself ended, by reason";
    encode_reasons(encoder, handles, "requests_failed", help, |handle| &handle.requests_failed)?;
    let help = "Further attempts made for requests, by the reason of the one before";
    let mut family = Family::counter(encoder, "retries", help, None)?;
    for (key, handle) in handles {
        for (index, count) in occurred(&handle.retries) {
            family.sample(key, [("reason", Retried::at(index).as_str())], count)?;
        }
    }
    let help = "Further attempts that were wanted for requests and not made, by why";
    let mut family = Family::counter(encoder, "retries_withheld", help, None)?;
    for (key, handle) in handles {
        for (index, count) in occurred(&handle.withheld) {
            family.sample(key, [("cause", Withheld::ALL[index].as_str())], count)?;
        }
    }

    let help = "From a request's head to its response's end";
    encode_durations(encoder, handles, "request_duration", help, |handle| &handle.duration)?;
    let help = "Requests in flight";
    let mut gauge =
        encoder.encode_descriptor("requests_in_flight", help, None, MetricType::Gauge)?;
    for (key, handle) in handles {
        let value = handle.in_flight.load(Relaxed);
        gauge.encode_family(&labels(key))?.encode_gauge(&value)?;
    }
    Ok(())
}

fn encode_ejections(encoder: &mut DescriptorEncoder, handles: &Handles) -> fmt::Result {
    let help = "Endpoints ejected by circuit breaking, by why";
    let mut family = Family::counter(encoder, "ejections", help, None)?;
    for (key, handle) in handles {
        for (index, count) in occurred(&handle.ejections) {
            family.sample(key, [("cause", Cause::ALL[index].as_str())], count)?;
        }
    }
    let help = "Endpoints that are ejected now";
    let mut gauge =
        encoder.encode_descriptor("ejected_endpoints", help, None, MetricType::Gauge)?;
    for (key, handle) in handles.iter().filter(|(_, it)| occurred(&it.ejections).next().is_some()) {
        gauge.encode_family(&labels(key))?.encode_gauge(&handle.ejected_now())?;
    }
    Ok(())
}

fn encode_durations(
    encoder: &mut DescriptorEncoder,
    handles: &Handles,
    name: &str,
    help: &str,
    histogram: fn(&TrafficMetrics) -> &Histogram,
) -> fmt::Result {
    let kind = MetricType::Histogram;
    let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), kind)?;
    for (key, handle) in handles.iter().filter(|(_, handle)| !histogram(handle).is_empty()) {
        histogram(handle).encode(family.encode_family(&labels(key))?)?;
    }
    Ok(())
}

fn encode_connections(encoder: &mut DescriptorEncoder, handles: &Handles) -> fmt::Result {
    let help = "From an opaque connection's opening to its end";
    encode_durations(encoder, handles, "connection_duration", help, |handle| &handle.lifetime)?;
    let help = "Connections opened";
    let mut family = Family::counter(encoder, "connections_opened", help, None)?;
    for (key, handle) in handles {
        for (state, count) in occurred(&handle.opened) {
            family.sample(key, [("tls", TlsState::ALL[state].as_str())], count)?;
        }
    }
    let help = "Connections closed";
    let mut family = Family::counter(encoder, "connections_closed", help, None)?;
    for (key, handle) in handles {
        for (state, count) in occurred(&handle.closed) {
            family.sample(key, [("tls", TlsState::ALL[state].as_str())], count)?;
        }
    }
    let help = "Connections that the proxy itself ended, by reason";
    encode_reasons(encoder, handles, "connections_failed", help, |handle| {
        &handle.connections_failed
    })?;
    let help = "Bytes received from the side that opened the connections";
    let mut family = Family::counter(encoder, "received", help, Some(&Unit::Bytes))?;
    for (key, handle) in handles {
        family.sample(key, NONE, handle.received.load(Relaxed))?;
    }
    let help = "Bytes sent to the side that opened the connections";
    let mut family = Family::counter(encoder, "sent", help, Some(&Unit::Bytes))?;
    for (key, handle) in handles {
        family.sample(key, NONE, handle.sent.load(Relaxed))?;
    }
    Ok(())
}

fn encode_reasons(
    encoder: &mut DescriptorEncoder,
    handles: &Handles,
    name: &str,
    help: &str,
    counts: fn(&TrafficMetrics) -> &[AtomicU64; REASONS],
) -> fmt::Result {
    let mut family = Family::counter(encoder, name, help, None)?;
    for (key, handle) in handles {
        for (reason, count) in occurred(counts(handle)) {
            family.sample(key, [("reason", Reason::ALL[reason].code())], count)?;
        }
    }
    Ok(())
}

fn labels((direction, label): &Key) -> [(&'static str, &str); 2] {
    [("direction", direction.as_str()), ("service", label)]
}

/// A family of counters that is being encoded.
struct Family<'a>(MetricEncoder<'a>);

impl<'a> Family<'a> {
    fn counter(
        encoder: &'a mut DescriptorEncoder,
        name: &'a str,
        help: &str,
        unit: Option<&'a Unit>,
    ) -> Result<Self, fmt::Error> {
        Ok(Self(encoder.encode_descriptor(name, help, unit, MetricType::Counter)?))
    }

    fn sample(&mut self, key: &Key, more: impl EncodeLabelSet, count: u64) -> fmt::Result {
        let labels = (labels(key), more);
        self.0.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&count, None)
    }
}
