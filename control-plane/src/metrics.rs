//! The control plane's metrics, as Prometheus reads them from the admin port.
//!
//! Comes in: what the parts count. Goes out: one OpenMetrics text. Labels are of small fixed sets, never
//! names of workloads. docs/control-plane.md lists them; a test holds the two equal.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssueLabels {
    proof: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    kind: &'static str,
    answer: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    outcome: &'static str,
}

/// What the injection webhook may do with a pod.
const REVIEW_OUTCOMES: [&str; 4] = ["injected", "left", "refused", "failed"];

/// All metrics of one control plane.
pub struct Metrics {
    registry: Mutex<Registry>,
    certificates: Family<IssueLabels, Counter>,
    updates: Family<KindLabels, Counter>,
    answers: Family<AnswerLabels, Counter>,
    reviews: Family<ReviewLabels, Counter>,
    subscriptions: Gauge,
    proxies: Gauge,
    change_to_ack: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("weft_cp");
        let this = Self {
            registry: Mutex::default(),
            certificates: Family::default(),
            updates: Family::default(),
            answers: Family::default(),
            reviews: Family::default(),
            subscriptions: Gauge::default(),
            proxies: Gauge::default(),
            // From 1 ms, below which nobody notices, to 16 s, where something is wrong.
            change_to_ack: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
        };
        registry.register(
            "certificates_issued",
            "Requests for a certificate, by proof and result",
            this.certificates.clone(),
        );
        registry.register(
            "updates_sent",
            "Discovery updates sent, by kind of resource",
            this.updates.clone(),
        );
        registry.register(
            "updates_answered",
            "Discovery updates acknowledged and refused, by kind of resource",
            this.answers.clone(),
        );
        registry.register(
            "pods_reviewed",
            "Pods that the injection webhook was shown, by outcome",
            this.reviews.clone(),
        );
        // An alert on failures needs a 0 before the first one.
        for outcome in REVIEW_OUTCOMES {
            drop(this.reviews.get_or_create(&ReviewLabels { outcome }));
        }
        registry.register(
            "subscriptions",
            "Resources that proxies are subscribed to",
            this.subscriptions.clone(),
        );
        registry.register("proxies_connected", "Discovery streams open", this.proxies.clone());
        registry.register_with_unit(
            "change_to_ack",
            "From a change of the mesh to a proxy's acknowledgement of it",
            Unit::Seconds,
            this.change_to_ack.clone(),
        );
        Self { registry: Mutex::new(registry), ..this }
    }
}

impl Metrics {
    /// A certificate was issued, or refused.
    pub(crate) fn issued(&self, proof: &'static str, granted: bool) {
        let result = if granted { "issued" } else { "refused" };
        self.certificates.get_or_create(&IssueLabels { proof, result }).inc();
    }

    /// An update was sent.
    pub(crate) fn update_sent(&self, kind: &'static str) {
        self.updates.get_or_create(&KindLabels { kind }).inc();
    }

    /// An update was acknowledged, or refused.
    pub(crate) fn answered(&self, kind: &'static str, accepted: bool) {
        let answer = if accepted { "ack" } else { "nack" };
        self.answers.get_or_create(&AnswerLabels { kind, answer }).inc();
    }

    /// The injection webhook was shown a pod: one of [`REVIEW_OUTCOMES`].
    pub(crate) fn reviewed(&self, outcome: &'static str) {
        debug_assert!(REVIEW_OUTCOMES.contains(&outcome), "{outcome}");
        self.reviews.get_or_create(&ReviewLabels { outcome }).inc();
    }

    /// Subscriptions came or went.
    pub(crate) fn subscriptions(&self, more: i64) {
        self.subscriptions.inc_by(more);
    }

    /// Streams came or went.
    pub(crate) fn proxies(&self, more: i64) {
        self.proxies.inc_by(more);
    }

    /// A change reached a proxy.
    pub(crate) fn change_acknowledged(&self, after: Duration) {
        self.change_to_ack.observe(after.as_secs_f64());
    }

    /// The OpenMetrics text.
    ///
    /// # Errors
    /// Never in practice: only when a string cannot be written to.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(text)
    }
}
