//! The counters of routes: what their rules sent to which backend, and what became of copies.
//!
//! Comes in: the end of each routed request, and of each copy. Goes out: samples by service, rule and backend. A
//! handle is made once for a backend of a snapshot and found again by its labels, so that counts outlive snapshots.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::{MetricType, counter::Counter, family::Family},
    registry::{Registry, Unit},
};

use super::{RequestOutcome, histogram::Histogram, traffic::StatusCounts};

/// Backends of rules beyond this many share one handle: rules come and go.
const MAX_BACKENDS: usize = 4096;
const OTHER: &str = "other";

/// A backend of a rule of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    service: Arc<str>,
    route: Arc<str>,
    backend: Arc<str>,
}

/// All handles of the process.
#[derive(Debug, Default)]
pub(super) struct Backends {
    handles: Mutex<BTreeMap<Key, Arc<BackendMetrics>>>,
}

/// The counters of one backend of one rule.
#[derive(Debug, Default)]
pub struct BackendMetrics {
    requests: StatusCounts,
    grpc_failures: AtomicU64,
    duration: Histogram,
}

impl BackendMetrics {
    /// A request that the rule had sent to the backend ended.
    pub fn request(&self, outcome: &RequestOutcome) {
        self.requests.add(outcome.status);
        self.duration.observe(outcome.duration);
        if outcome.grpc_status.is_some_and(|status| status != 0) {
            self.grpc_failures.fetch_add(1, Relaxed);
        }
    }
}

impl Backends {
    pub(super) fn handle(
        &self,
        service: &Arc<str>,
        route: &Arc<str>,
        backend: &Arc<str>,
    ) -> Arc<BackendMetrics> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let [service, route, backend] = [service, route, backend].map(Arc::clone);
        let key = Key { service, route, backend };
        if let Some(handle) = handles.get(&key) {
            return Arc::clone(handle);
        }
        let other = || Key { service: OTHER.into(), route: OTHER.into(), backend: OTHER.into() };
        let key = if handles.len() < MAX_BACKENDS { key } else { other() };
        Arc::clone(handles.entry(key).or_default())
    }
}

impl Collector for Backends {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let handles: Vec<_> = {
            let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
            handles.iter().map(|(key, handle)| (key.clone(), Arc::clone(handle))).collect()
        };
        let help = "Requests that rules of routes sent to backends, by status";
        let kind = MetricType::Counter;
        let mut family = encoder.encode_descriptor("backend_requests", help, None, kind)?;
        for (key, handle) in &handles {
            for (status, count) in handle.requests.occurred() {
                let labels = (labels(key), [("status", status)]);
                let mut sample = family.encode_family(&labels)?;
                sample.encode_counter::<NoLabelSet, _, f64>(&count, None)?;
            }
        }
        let help = "gRPC requests among them that ended with another status than 0";
        let mut family = encoder.encode_descriptor("backend_grpc_failures", help, None, kind)?;
        for (key, handle) in &handles {
            let count = handle.grpc_failures.load(Relaxed);
            if count > 0 {
                let labels = labels(key);
                let mut sample = family.encode_family(&labels)?;
                sample.encode_counter::<NoLabelSet, _, f64>(&count, None)?;
            }
        }
        let help = "From the head of a request that was sent to a backend to its response's end";
        let (unit, kind) = (Some(&Unit::Seconds), MetricType::Histogram);
        let name = "backend_request_duration";
        let mut family = encoder.encode_descriptor(name, help, unit, kind)?;
        for (key, handle) in handles.iter().filter(|(_, handle)| !handle.duration.is_empty()) {
            handle.duration.encode(family.encode_family(&labels(key))?)?;
        }
        Ok(())
    }
}

fn labels(key: &Key) -> [(&'static str, &str); 3] {
    [("service", &key.service), ("route", &key.route), ("backend", &key.backend)]
}

/// What became of a copy of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mirrored {
    /// It was answered, whatever the answer.
    Answered,
    /// It was sent, and not answered; or it could not be sent.
    Failed,
    /// There was no room for another copy under way.
    NoRoom,
    /// The request's body is too long to be copied, was not read to its end, or the request is an Upgrade.
    NotWhole,
}

impl Mirrored {
    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::NoRoom => "no-room",
            Self::NotWhole => "not-whole",
        }
    }
}

/// Counters of copies of requests.
#[derive(Debug, Clone, Default)]
pub struct MirrorMetrics(Family<[(&'static str, &'static str); 1], Counter>);

impl MirrorMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let help =
            "Copies of requests by what became of them (answered, failed, no-room, not-whole)";
        registry.register("mirrored_requests", help, new.0.clone());
        new
    }

    /// A copy came to this.
    pub fn note(&self, result: Mirrored) {
        self.0.get_or_create(&[("result", result.as_str())]).inc();
    }
}
