//! Who is connected, and holds what: for operators, and to know whether everybody has a new root.
//!
//! Comes in: streams' beginnings, updates, answers and ends. Goes out: the table. An instance has one stream:
//! a new one replaces the old one, which is told to end. A proxy that went stays in the table for a while.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{sync::Notify, time::Instant};
use weft_proto::{SpiffeId, api::HeldResource};

use super::{StreamId, resource::Key};
use crate::{clock, model::InstanceKey};

/// How long a proxy that went is shown.
const SHOWN_AFTER_END: Duration = Duration::from_secs(5 * 60);

/// Every proxy that is connected, or was a short while ago.
#[derive(Default)]
pub struct Proxies {
    inner: Mutex<HashMap<InstanceKey, Entry>>,
}

struct Entry {
    stream: StreamId,
    record: Arc<Record>,
    ended_at: Option<Instant>,
}

/// One proxy's stream.
pub struct Record {
    /// The instance.
    pub key: InstanceKey,
    /// The identity in its certificate.
    pub spiffe_id: SpiffeId,
    /// Its build.
    pub version: String,
    /// Where its admin port listens.
    pub admin_address: String,
    /// When the stream began.
    pub connected_since: SystemTime,
    resources: Mutex<BTreeMap<Key, Held>>,
    replaced: Notify,
}

#[derive(Debug, Default)]
struct Held {
    sent_version: String,
    acked_version: String,
    /// When the update was sent that is not answered yet.
    unanswered_since: Option<Instant>,
    last_nack: String,
}

impl Record {
    pub(super) fn new(
        key: InstanceKey,
        spiffe_id: SpiffeId,
        version: String,
        admin_address: String,
    ) -> Self {
        Self {
            key,
            spiffe_id,
            version,
            admin_address,
            connected_since: clock::now(),
            resources: Mutex::default(),
            replaced: Notify::new(),
        }
    }

    /// What the proxy holds of each resource, and how far it lags.
    #[must_use]
    pub fn resources(&self, now: Instant) -> Vec<HeldResource> {
        let held = self.lock();
        held.iter()
            .map(|(key, held)| {
                let lag = held.unanswered_since.map(|since| now.saturating_duration_since(since));
                HeldResource {
                    kind: key.kind().to_owned(),
                    name: key.name().to_owned(),
                    sent_version: held.sent_version.clone(),
                    acked_version: held.acked_version.clone(),
                    lag_ms: lag.map_or(0, |lag| i64::try_from(lag.as_millis()).unwrap_or(i64::MAX)),
                    last_nack: held.last_nack.clone(),
                }
            })
            .collect()
    }

    /// Resolves when another stream has taken the instance over.
    pub(super) async fn replaced(&self) {
        self.replaced.notified().await;
    }

    pub(super) fn holds(&self, key: &Key, version: &str) {
        let mut held = self.lock();
        let entry = held.entry(key.clone()).or_default();
        version.clone_into(&mut entry.sent_version);
        version.clone_into(&mut entry.acked_version);
    }

    pub(super) fn sent(&self, key: &Key, version: &str, now: Instant) {
        let mut held = self.lock();
        let entry = held.entry(key.clone()).or_default();
        version.clone_into(&mut entry.sent_version);
        entry.unanswered_since = Some(now);
    }

    pub(super) fn acked(&self, key: &Key, version: &str) {
        if let Some(entry) = self.lock().get_mut(key) {
            version.clone_into(&mut entry.acked_version);
            entry.unanswered_since = None;
            entry.last_nack.clear();
        }
    }

    pub(super) fn nacked(&self, key: &Key, reason: &str) {
        if let Some(entry) = self.lock().get_mut(key) {
            entry.unanswered_since = None;
            reason.clone_into(&mut entry.last_nack);
        }
    }

    pub(super) fn dropped(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn acked_version(&self, key: &Key) -> Option<String> {
        self.lock().get(key).map(|held| held.acked_version.clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Held>> {
        self.resources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxies {
    /// A stream begins; an earlier one of the same instance is told to end.
    pub(super) fn attach(&self, stream: StreamId, record: Arc<Record>) {
        let mut inner = self.lock();
        forget_ended(&mut inner);
        let entry = Entry { stream, record: record.clone(), ended_at: None };
        if let Some(old) = inner.insert(record.key.clone(), entry)
            && old.ended_at.is_none()
        {
            old.record.replaced.notify_one();
        }
    }

    /// A stream has ended.
    pub(super) fn detach(&self, stream: StreamId, key: &InstanceKey) {
        let mut inner = self.lock();
        if let Some(entry) = inner.get_mut(key).filter(|entry| entry.stream == stream) {
            entry.ended_at = Some(Instant::now());
        }
    }

    /// Every proxy with whether it is connected, in the order of their names.
    #[must_use]
    pub fn all(&self) -> Vec<(Arc<Record>, bool)> {
        let mut inner = self.lock();
        forget_ended(&mut inner);
        let mut all: Vec<_> =
            inner.values().map(|entry| (entry.record.clone(), entry.ended_at.is_none())).collect();
        all.sort_by(|(one, _), (other, _)| one.key.cmp(&other.key));
        all
    }

    /// How many are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.lock().values().filter(|entry| entry.ended_at.is_none()).count()
    }

    /// Whether every connected proxy that follows the bundle has acknowledged this version of it.
    #[must_use]
    pub fn all_trust(&self, version: &str) -> bool {
        self.lock().values().filter(|entry| entry.ended_at.is_none()).all(|entry| {
            entry.record.acked_version(&Key::TRUST).is_none_or(|acked| acked == version)
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InstanceKey, Entry>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget_ended(entries: &mut HashMap<InstanceKey, Entry>) {
    let now = Instant::now();
    entries.retain(|_, entry| entry.ended_at.is_none_or(|at| now < at + SHOWN_AFTER_END));
}
