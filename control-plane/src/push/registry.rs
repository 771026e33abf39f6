//! Registrations of workloads outside Kubernetes: they come and go with their sidecars' streams.
//!
//! Comes in: what a stream says of its instance, and the streams' ends. Goes out: the registrations in force,
//! and word when they change. A registration belongs to the latest stream of its instance; what an earlier
//! one says or how it ends counts for nothing. Pure but for its lock: time is an argument.
//!
//! ```text
//!  (none) ──register──► held by a stream ──stream ends──► orphaned ──grace──► (none)
//!            ▲                 │   ▲                          │
//!            └──deregister─────┘   └───────register───────────┘
//! ```

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use weft_proto::WorkloadName;

use super::StreamId;
use crate::model::{InstanceKey, RegisteredPort, Registration};

/// How registrations end.
#[derive(Debug, Clone, Copy)]
pub struct RegistryConfig {
    /// From a stream's end to the end of its registration.
    pub grace: Duration,
    /// After the start, for so long nothing is withdrawn of instances that have not reported.
    pub settle: Duration,
}

/// Where registrations go. Called in the order in which things happen, under the registry's lock: it must
/// not call back.
pub trait Sink: Send + Sync {
    /// A registration is new or different.
    fn registered(&self, registration: &Registration);
    /// A registration has ended.
    fn ended(&self, registration: &Registration);
}

/// The registrations.
pub struct Registry {
    config: RegistryConfig,
    started: Instant,
    inner: Mutex<Inner>,
    sink: Arc<dyn Sink>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<InstanceKey, Entry>,
    /// Instances that told this process how they are. Needed while the start settles.
    reported: HashSet<InstanceKey>,
}

struct Entry {
    owner: StreamId,
    registration: Option<Registration>,
    /// Set while no stream holds it.
    orphaned_at: Option<Instant>,
}

impl Registry {
    /// An empty registry of a control plane that starts now.
    #[must_use]
    pub fn new(config: RegistryConfig, sink: Arc<dyn Sink>, now: Instant) -> Self {
        Self { config, started: now, inner: Mutex::default(), sink }
    }

    /// A stream takes its instance over from any earlier one.
    pub fn attach(&self, key: &InstanceKey, stream: StreamId) {
        let mut inner = self.lock();
        let entry = inner.entries.entry(key.clone()).or_insert(Entry {
            owner: stream,
            registration: None,
            orphaned_at: None,
        });
        entry.owner = entry.owner.max(stream);
    }

    /// An instance serves these ports. Its health is kept if its sidecar is the same as before.
    pub fn register(&self, stream: StreamId, mut new: Registration) {
        let mut inner = self.lock();
        let Some(entry) = inner.owned_by(stream, &new.key) else { return };
        entry.orphaned_at = None;
        if let Some(known) = &entry.registration
            && known.incarnation == new.incarnation
        {
            new.ready = known.ready;
            new.detail.clone_from(&known.detail);
        }
        if entry.registration.as_ref() != Some(&new) {
            self.sink.registered(entry.registration.insert(new));
        }
    }

    /// An instance's health.
    pub fn health(&self, stream: StreamId, key: &InstanceKey, ready: bool, detail: &str) {
        let mut inner = self.lock();
        let Some(entry) = inner.owned_by(stream, key) else { return };
        let Some(registration) = &mut entry.registration else { return };
        if registration.ready != ready || registration.detail != detail {
            registration.ready = ready;
            detail.clone_into(&mut registration.detail);
            self.sink.registered(registration);
        }
        self.has_reported(&mut inner, key);
    }

    /// An instance leaves.
    pub fn deregister(&self, stream: StreamId, key: &InstanceKey) {
        let mut inner = self.lock();
        let Some(entry) = inner.owned_by(stream, key) else { return };
        if let Some(registration) = entry.registration.take() {
            self.has_reported(&mut inner, key);
            self.sink.ended(&registration);
        }
    }

    /// A stream ended without a word: its registration stays for the grace period.
    pub fn detach(&self, stream: StreamId, key: &InstanceKey, now: Instant) {
        let mut inner = self.lock();
        let Some(entry) = inner.entries.get_mut(key).filter(|entry| entry.owner == stream) else {
            return;
        };
        if entry.registration.is_some() {
            entry.orphaned_at.get_or_insert(now);
        } else {
            inner.entries.remove(key);
        }
    }

    /// Drops the registrations whose grace is over. Returns when the next one is due.
    pub fn reap(&self, now: Instant) -> Option<Instant> {
        let grace = self.config.grace;
        let mut inner = self.lock();
        let due = |entry: &Entry| entry.orphaned_at.is_some_and(|at| now >= at + grace);
        for (_, entry) in inner.entries.extract_if(|_, entry| due(entry)) {
            if let Some(registration) = entry.registration {
                tracing::info!(proxy = %registration.key, "its sidecar did not come back");
                self.sink.ended(&registration);
            }
        }
        let next = inner.entries.values().filter_map(|entry| entry.orphaned_at).min();
        next.map(|at| at + grace)
    }

    /// Every registration in force.
    #[must_use]
    pub fn all(&self) -> Vec<Registration> {
        self.lock().entries.values().filter_map(|entry| entry.registration.clone()).collect()
    }

    /// An instance's registration.
    #[must_use]
    pub fn of(&self, key: &InstanceKey) -> Option<Registration> {
        self.lock().entries.get(key).and_then(|entry| entry.registration.clone())
    }

    /// When the start has settled.
    #[must_use]
    pub fn settled_at(&self) -> Instant {
        self.started + self.config.settle
    }

    /// Whether an endpoint of this id that a proxy holds must not be withdrawn yet: the control plane has
    /// just started, and the endpoint's instance has not told it how it is. Only instances of workloads that
    /// `registers` tell it; of pods the cluster has told it all.
    #[must_use]
    pub fn withholds(
        &self,
        endpoint_id: &str,
        now: Instant,
        registers: impl Fn(&WorkloadName) -> bool,
    ) -> bool {
        if !self.is_settling(now) {
            return false;
        }
        // "NAMESPACE/WORKLOAD/INSTANCE:PORT"
        let instance = endpoint_id.rsplit_once(':').map_or(endpoint_id, |(instance, _)| instance);
        let mut parts = instance.splitn(3, '/');
        let (Some(namespace), Some(name), Some(instance)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return true;
        };
        let workload = WorkloadName { namespace: namespace.into(), name: name.into() };
        if !registers(&workload) {
            return false;
        }
        let key = InstanceKey { workload, instance: instance.into() };
        !self.lock().reported.contains(&key)
    }

    /// Whether the start has not settled.
    #[must_use]
    pub fn is_settling(&self, now: Instant) -> bool {
        now < self.settled_at()
    }

    /// Remembered only while it matters.
    fn has_reported(&self, inner: &mut Inner, key: &InstanceKey) {
        if self.is_settling(Instant::now()) {
            inner.reported.insert(key.clone());
        } else if !inner.reported.is_empty() {
            inner.reported = HashSet::new();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn owned_by(&mut self, stream: StreamId, key: &InstanceKey) -> Option<&mut Entry> {
        self.entries.get_mut(key).filter(|entry| entry.owner == stream)
    }
}

/// Reads a registered port from its message.
///
/// # Errors
/// Which field has which wrong value.
pub(super) fn port(
    message: weft_proto::discovery::RegisteredPort,
) -> Result<RegisteredPort, String> {
    let name = message.name;
    let app_port = message
        .app_port
        .try_into()
        .map_err(|error| format!("ports[{name:?}].app_port: {error}"))?;
    let address = message.address.parse().map_err(|_| {
        format!("ports[{name:?}].address: {:?} is no address; use IP:PORT", message.address)
    })?;
    Ok(RegisteredPort { name, app_port, address })
}

/// Names an instance, from its text.
///
/// # Errors
/// What is wrong with the workload's or the instance's name.
pub(super) fn instance_key(workload: &str, instance: &str) -> Result<InstanceKey, String> {
    let workload = workload.parse().map_err(|error| format!("workload: {error}"))?;
    if !weft_proto::names::is_subdomain(instance) {
        return Err(format!(
            "instance: {instance:?} is not valid; use lower-case letters, digits, '-' and '.'"
        ));
    }
    Ok(InstanceKey { workload, instance: Arc::from(instance) })
}

#[cfg(test)]
mod tests;
