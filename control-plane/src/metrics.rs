//! The control plane's metrics, as Prometheus reads them from the admin port.
//!
//! Comes in: what the parts count. Goes out: one OpenMetrics text. Labels are of small fixed sets, never
//! names of workloads. docs/metrics.md lists them.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssueLabels {
    proof: &'static str,
    result: &'static str,
}

/// All metrics of one control plane.
pub struct Metrics {
    registry: Mutex<Registry>,
    certificates: Family<IssueLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("weft_cp");
        let certificates = Family::default();
        registry.register(
            "certificates_issued",
            "Requests for a certificate, by proof and result",
            certificates.clone(),
        );
        Self { registry: Mutex::new(registry), certificates }
    }
}

impl Metrics {
    /// A certificate was issued, or refused.
    pub(crate) fn issued(&self, proof: &'static str, granted: bool) {
        let result = if granted { "issued" } else { "refused" };
        self.certificates.get_or_create(&IssueLabels { proof, result }).inc();
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
