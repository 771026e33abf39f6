//! Who is connected, and holds what: for operators, and to know whether everybody has a new root.
//!
//! Comes in: streams' beginnings, updates, answers and ends. Goes out: the table. An instance has one stream:
//! a new one replaces the old one, which is told to end. A proxy that took its leave goes from the table; one
//! that went without a word stays in it for a while.
//!
//! A sidecar that was replaced by another and comes back shows that both live and claim one instance. They
//! would push each other out for ever: it is said aloud, and whoever is pushed out is told by whom.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use weft_proto::{
    SpiffeId,
    api::HeldResource,
    discovery::{Goodbye, Hello},
};

use super::{StreamId, ejections::Reported, resource::Key};
use crate::{clock, model::InstanceKey};

/// How long a proxy that went is shown.
const SHOWN_AFTER_END: Duration = Duration::from_secs(5 * 60);

/// How often it is said that two sidecars claim one instance.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Every proxy that is connected, or was a short while ago.
#[derive(Default)]
pub struct Proxies {
    inner: Mutex<HashMap<InstanceKey, Entry>>,
    /// What is refused, and a number that grows with each change of it.
    refusals: Mutex<BTreeMap<(InstanceKey, Key), String>>,
    refusals_changed: watch::Sender<u64>,
}

/// A resource that a connected proxy refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The proxy's instance.
    pub key: InstanceKey,
    /// "service", "inbound".
    pub kind: &'static str,
    /// The resource's name.
    pub name: String,
    /// The proxy's reason.
    pub reason: String,
}

struct Entry {
    stream: StreamId,
    record: Arc<Record>,
    ended_at: Option<Instant>,
    /// The sidecar that this one pushed out.
    pushed_out: Option<Arc<str>>,
    /// When it was last said that two claim the instance.
    said_at: Option<Instant>,
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
    /// Which start of the sidecar.
    incarnation: Arc<str>,
    /// Where its connection comes from.
    from: Option<SocketAddr>,
    resources: Mutex<BTreeMap<Key, Held>>,
    ejections: Reported,
    replaced: Notify,
    goodbye: OnceLock<Goodbye>,
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
        from: Option<SocketAddr>,
        hello: &Hello,
    ) -> Self {
        Self {
            key,
            spiffe_id,
            version: hello.version.clone(),
            admin_address: hello.admin_address.clone(),
            connected_since: clock::now(),
            incarnation: hello.incarnation.as_str().into(),
            from,
            resources: Mutex::default(),
            ejections: Reported::default(),
            replaced: Notify::new(),
            goodbye: OnceLock::new(),
        }
    }

    /// Where the proxy is: "10.0.0.7:51234 (admin 127.0.0.1:4191)".
    fn place(&self) -> String {
        let from = self.from.map_or_else(|| "an unknown address".into(), |from| from.to_string());
        match self.admin_address.as_str() {
            "" => from,
            admin => format!("{from} (admin {admin})"),
        }
    }

    /// Tells the stream to end, because this other one has begun.
    fn replace_by(&self, other: &Self) {
        let replaced = self.incarnation != other.incarnation;
        let reason = if replaced {
            format!(
                "another sidecar, at {}, says that it is instance {:?} of {}: unless it is a restart, give \
                 each its own --instance",
                other.place(),
                self.key.instance,
                self.key.workload
            )
        } else {
            "another stream of the same instance has begun".into()
        };
        // Only the first who takes the instance over is told of; the stream ends with it.
        let _ = self.goodbye.set(Goodbye { reason, replaced });
        self.replaced.notify_one();
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

    /// Resolves when another stream has taken the instance over. Cancel-safe.
    pub(super) async fn replaced(&self) -> Goodbye {
        self.replaced.notified().await;
        self.goodbye.get().cloned().unwrap_or_default()
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

    /// What its breakers have ejected, as it says.
    pub(super) const fn ejections(&self) -> &Reported {
        &self.ejections
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
        self.forget_refusals(&record.key);
        if let Some(other) = self.take_over(stream, &record, Instant::now()) {
            tracing::warn!(
                workload = %record.key.workload,
                instance = &*record.key.instance,
                one = record.place(),
                other = other.place(),
                "two sidecars say that they are the same instance and push each other out: give each its own \
                 --instance (WEFT_INSTANCE)"
            );
        }
    }

    /// Returns the other sidecar when both live, and that is to be said.
    fn take_over(
        &self,
        stream: StreamId,
        record: &Arc<Record>,
        now: Instant,
    ) -> Option<Arc<Record>> {
        let mut inner = self.lock();
        forget_ended(&mut inner);
        let record = record.clone();
        let entry = Entry {
            stream,
            record: record.clone(),
            ended_at: None,
            pushed_out: None,
            said_at: None,
        };
        let old = inner.insert(record.key.clone(), entry)?;
        let entry = inner.get_mut(&record.key)?;
        entry.said_at = old.said_at;
        if old.ended_at.is_some() {
            return None;
        }
        old.record.replace_by(&record);
        if old.record.incarnation == record.incarnation {
            entry.pushed_out = old.pushed_out;
            return None;
        }
        entry.pushed_out = Some(old.record.incarnation.clone());
        let is_back = old.pushed_out.as_ref() == Some(&record.incarnation);
        let is_due = old.said_at.is_none_or(|said_at| now >= said_at + SAY_AGAIN_AFTER);
        (is_back && is_due).then(|| {
            entry.said_at = Some(now);
            old.record
        })
    }

    /// A stream has ended without a word.
    pub(super) fn detach(&self, stream: StreamId, key: &InstanceKey) {
        let mut inner = self.lock();
        if let Some(entry) = inner.get_mut(key).filter(|entry| entry.stream == stream) {
            entry.ended_at = Some(Instant::now());
            self.forget_refusals(key);
        }
    }

    /// A stream has ended after its proxy took its leave. Whether it was the instance's latest.
    pub(super) fn leave(&self, stream: StreamId, key: &InstanceKey) -> bool {
        let mut inner = self.lock();
        let is_latest = inner.get(key).is_some_and(|entry| entry.stream == stream);
        if is_latest {
            inner.remove(key);
            self.forget_refusals(key);
        }
        is_latest
    }

    /// A proxy refuses a resource, or with `None` does so no longer.
    pub(super) fn refuses(&self, proxy: &InstanceKey, resource: &Key, reason: Option<&str>) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (proxy.clone(), resource.clone());
        let before = match reason {
            Some(reason) => refusals.insert(key, reason.to_owned()),
            None => refusals.remove(&key),
        };
        if before.as_deref() != reason {
            self.refusals_changed.send_modify(|number| *number += 1);
        }
    }

    fn forget_refusals(&self, proxy: &InstanceKey) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let before = refusals.len();
        refusals.retain(|(of, _), _| of != proxy);
        if refusals.len() != before {
            self.refusals_changed.send_modify(|number| *number += 1);
        }
    }

    /// What connected proxies refuse now.
    #[must_use]
    pub fn refusals(&self) -> Vec<Refusal> {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let each = refusals.iter().map(|((proxy, resource), reason)| Refusal {
            key: proxy.clone(),
            kind: resource.kind(),
            name: resource.name().to_owned(),
            reason: reason.clone(),
        });
        each.collect()
    }

    /// A number that grows whenever [`Proxies::refusals`] says something else.
    #[must_use]
    pub fn refusals_changed(&self) -> watch::Receiver<u64> {
        self.refusals_changed.subscribe()
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

    /// Every proxy that is connected.
    #[must_use]
    pub fn live(&self) -> Vec<Arc<Record>> {
        let inner = self.lock();
        let live = inner.values().filter(|entry| entry.ended_at.is_none());
        live.map(|entry| entry.record.clone()).collect()
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

#[cfg(test)]
mod tests;
