//! What was issued: for `weft identity`, and to know when an old root has no certificate left under it.
//!
//! Comes in: each certificate issued, renewed or seen on a connection, and the leave of instances. Goes out:
//! the last few per workload, with whose they are, and the certificates outstanding per root. Both are bounded and in memory: after a restart the record
//! fills again as sidecars connect and renew.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use rustls_pki_types::CertificateDer;
use weft_proto::{SpiffeId, WorkloadName};

use crate::model::InstanceKey;

/// Certificates kept per workload: each of its instances has one in force.
const PER_WORKLOAD: usize = 16;
/// Workloads kept.
const WORKLOADS: usize = 8 * 1024;

/// One certificate issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// The certificate, then those between it and a root.
    pub chain: Vec<CertificateDer<'static>>,
    /// When it was made.
    pub issued_at: SystemTime,
    /// When it ends.
    pub not_after: SystemTime,
}

/// The certificates last issued, per workload.
#[derive(Debug, Default)]
pub struct IssuedRecord {
    inner: Mutex<Recent>,
}

#[derive(Debug)]
struct Known {
    issued: Issued,
    /// The instance that has connected with it.
    instance: Option<Arc<str>>,
}

#[derive(Debug, Default)]
struct Recent {
    by_workload: HashMap<WorkloadName, VecDeque<Known>>,
    /// The order in which workloads came: the first one goes when there are too many.
    order: VecDeque<WorkloadName>,
}

impl IssuedRecord {
    /// Remembers a certificate, once.
    pub fn record(&self, workload: &WorkloadName, issued: Issued) {
        self.lock().remember(workload, issued, None);
    }

    /// An instance has connected with a certificate.
    pub fn connected(&self, key: &InstanceKey, issued: Issued) {
        self.lock().remember(&key.workload, issued, Some(&key.instance));
    }

    /// An instance took its leave: its certificates are no longer in use.
    pub fn left(&self, key: &InstanceKey) {
        if let Some(recent) = self.lock().by_workload.get_mut(&key.workload) {
            recent.retain(|known| known.instance.as_ref() != Some(&key.instance));
        }
    }

    /// A workload's certificates that are valid still, the newest first, with the instance of each that has
    /// connected with it.
    #[must_use]
    pub fn of(&self, workload: &WorkloadName, now: SystemTime) -> Vec<(Issued, Option<Arc<str>>)> {
        let inner = self.lock();
        let recent = inner.by_workload.get(workload).into_iter().flatten().rev();
        let valid = recent.filter(|known| known.issued.not_after > now);
        valid.map(|known| (known.issued.clone(), known.instance.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn remember(&mut self, workload: &WorkloadName, issued: Issued, by: Option<&Arc<str>>) {
        if !self.by_workload.contains_key(workload) {
            if self.order.len() >= WORKLOADS
                && let Some(first) = self.order.pop_front()
            {
                self.by_workload.remove(&first);
            }
            self.order.push_back(workload.clone());
        }
        let recent = self.by_workload.entry(workload.clone()).or_default();
        let same = |known: &&mut Known| known.issued.chain.first() == issued.chain.first();
        if let Some(known) = recent.iter_mut().find(same) {
            known.instance = by.cloned().or(known.instance.take());
            return;
        }
        if recent.len() >= PER_WORKLOAD {
            recent.pop_front();
        }
        recent.push_back(Known { issued, instance: by.cloned() });
    }
}

/// The certificates that are valid still and were not renewed, per root that signed them.
#[derive(Debug)]
pub(super) struct Outstanding {
    /// By serial number.
    certificates: HashMap<Vec<u8>, ([u8; 32], SystemTime)>,
    /// Until then there may be certificates of an earlier process, of which nothing is known.
    known_from: SystemTime,
    sweep_at: usize,
}

const FIRST_SWEEP: usize = 1024;

impl Outstanding {
    pub(super) fn new(known_from: SystemTime) -> Self {
        Self { certificates: HashMap::new(), known_from, sweep_at: FIRST_SWEEP }
    }

    pub(super) fn issued(&mut self, serial: Vec<u8>, root: [u8; 32], until: SystemTime) {
        self.certificates.insert(serial, (root, until));
    }

    pub(super) fn renewed(&mut self, serial: &[u8]) {
        self.certificates.remove(serial);
    }

    /// Whether no certificate under this root can be in use.
    pub(super) fn none_under(&self, root: &[u8; 32], now: SystemTime) -> bool {
        now >= self.known_from
            && !self.certificates.values().any(|(by, until)| by == root && *until > now)
    }

    /// Forgets what has expired, when much has gathered.
    pub(super) fn sweep(&mut self, now: SystemTime) {
        if self.certificates.len() >= self.sweep_at {
            self.certificates.retain(|_, (_, until)| *until > now);
            self.sweep_at = (self.certificates.len() * 2).max(FIRST_SWEEP);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn issued(byte: u8, now: SystemTime) -> Issued {
        Issued {
            spiffe_id: "spiffe://weft.local/ns/shop/sa/cart".parse().unwrap(),
            chain: vec![vec![byte].into()],
            issued_at: now,
            not_after: now + Duration::from_secs(60),
        }
    }

    #[test]
    fn a_workload_keeps_its_newest_certificates_and_each_once() {
        let (record, now) = (IssuedRecord::default(), SystemTime::now());
        let cart: WorkloadName = "shop/cart".parse().unwrap();
        for byte in 0..40 {
            record.record(&cart, issued(byte, now));
            record.record(&cart, issued(byte, now));
        }
        let kept = record.of(&cart, now);
        assert_eq!(kept.len(), PER_WORKLOAD);
        assert_eq!(kept[0].0.chain[0].as_ref(), [39]);
        assert!(record.of(&cart, now + Duration::from_secs(61)).is_empty());
    }

    #[test]
    fn an_instance_is_known_once_it_connects_and_forgotten_when_it_leaves() {
        let (record, now) = (IssuedRecord::default(), SystemTime::now());
        let key = |instance: &str| InstanceKey {
            workload: "shop/cart".parse().unwrap(),
            instance: instance.into(),
        };
        let cart = key("0").workload;
        for byte in 0..3 {
            record.record(&cart, issued(byte, now));
        }
        record.connected(&key("0"), issued(0, now));
        record.connected(&key("1"), issued(1, now));
        let instances = || -> Vec<Option<String>> {
            let of = record.of(&cart, now).into_iter();
            of.map(|(_, instance)| instance.map(|name| name.to_string())).collect()
        };
        assert_eq!(instances(), [None, Some("1".into()), Some("0".into())]);
        record.record(&cart, issued(1, now));
        record.left(&key("0"));
        assert_eq!(instances(), [None, Some("1".into())]);
    }

    #[test]
    fn a_root_is_free_when_its_certificates_are_renewed_or_expired() {
        let start = SystemTime::now();
        let minute = Duration::from_secs(60);
        let mut outstanding = Outstanding::new(start);
        outstanding.issued(vec![1], [1; 32], start + minute);
        outstanding.issued(vec![2], [1; 32], start + minute);
        outstanding.issued(vec![3], [2; 32], start + minute);
        outstanding.renewed(&[1]);
        assert!(!outstanding.none_under(&[1; 32], start));
        assert!(outstanding.none_under(&[1; 32], start + minute));
        outstanding.renewed(&[2]);
        assert!(outstanding.none_under(&[1; 32], start));
        assert!(!outstanding.none_under(&[2; 32], start));
        let restarted = Outstanding::new(start + minute);
        assert!(!restarted.none_under(&[1; 32], start), "an earlier process may have issued some");
    }
}
