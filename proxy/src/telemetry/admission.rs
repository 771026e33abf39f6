//! What policies at the server's side refused, or would have: by policy, for operators.
//!
//! Comes in: each refusal, with whose word it was. Goes out: counters. Only refusals come here, so that a look-up of
//! labels is no burden; the number of labels is bounded, whatever comes and goes in a long life.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::reason::Reason;

type ByPolicy = [(&'static str, Arc<str>); 1];
type ByReason = [(&'static str, &'static str); 1];

/// Policies beyond this many share one label.
const MAX_POLICIES: usize = 4096;
const OTHER: &str = "other";
/// What has nobody's name.
const NOBODY: &str = "none";

/// Lines about audit that the log gets in a second, at most: the metric counts all.
const AUDIT_LINES: u64 = 20;

/// Of policies at the server's side.
#[derive(Debug, Default)]
pub struct AdmissionMetrics {
    refused: Family<(ByPolicy, ByReason), Counter>,
    audited: Family<ByPolicy, Counter>,
    waiting: Family<ByPolicy, Gauge>,
    policies: Mutex<BTreeSet<Arc<str>>>,
    /// The second of the last line about audit, and how many it had: 16 bits.
    lines: AtomicU64,
}

impl AdmissionMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let help = "Requests and connections that a policy refused at the server's side, by policy and reason";
        registry.register("policy_refusals", help, new.refused.clone());
        let help = "Requests and connections that passed, and that an AccessPolicy in Audit mode would have refused";
        registry.register("authz_audited", help, new.audited.clone());
        let help = "Requests that wait for their turn at the application";
        registry.register("concurrency_waiting", help, new.waiting.clone());
        new
    }

    /// A policy refused a request or a connection.
    pub fn refused(&self, policy: &Arc<str>, reason: Reason) {
        let labels = (self.label(policy), [("reason", reason.code())]);
        self.refused.get_or_create(&labels).inc();
    }

    /// A policy in audit mode would have. Says whether there is room in the log for a line about it.
    pub fn audited(&self, policy: &Arc<str>, second: u64) -> bool {
        self.audited.get_or_create(&self.label(policy)).inc();
        let line = |state: u64| match state & 0xffff {
            _ if state >> 16 != second => Some(second << 16 | 1),
            written if written < AUDIT_LINES => Some(state + 1),
            _ => None,
        };
        self.lines.fetch_update(Relaxed, Relaxed, line).is_ok()
    }

    /// How many requests wait under a policy: a handle to be kept.
    #[must_use]
    pub fn waiting(&self, policy: &Arc<str>) -> Gauge {
        self.waiting.get_or_create(&self.label(policy)).clone()
    }

    fn label(&self, policy: &Arc<str>) -> ByPolicy {
        if policy.is_empty() {
            return [("policy", NOBODY.into())];
        }
        let mut policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        if policies.len() >= MAX_POLICIES && !policies.contains(policy) {
            return [("policy", OTHER.into())];
        }
        policies.insert(Arc::clone(policy));
        [("policy", Arc::clone(policy))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_bounded_and_the_log_gets_so_many_lines_a_second() {
        let metrics = AdmissionMetrics::default();
        for number in 0..MAX_POLICIES + 2 {
            let _ = metrics.label(&format!("AccessPolicy shop/{number}").into());
        }
        assert_eq!(metrics.label(&"AccessPolicy shop/new".into()), [("policy", OTHER.into())]);
        let policy: Arc<str> = "AccessPolicy shop/0".into();
        for second in [7, 8] {
            let lines = (0..100).filter(|_| metrics.audited(&policy, second)).count();
            assert_eq!(lines as u64, AUDIT_LINES);
        }
    }
}
