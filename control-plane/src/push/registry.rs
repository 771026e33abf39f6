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

use tokio::{sync::watch, time::Instant};

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

/// The registrations.
pub struct Registry {
    config: RegistryConfig,
    started: Instant,
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
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
    pub fn new(config: RegistryConfig, now: Instant) -> Self {
        let changed = watch::Sender::new(0);
        Self { config, started: now, inner: Mutex::default(), changed }
    }

    /// Word of every change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
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
        self.change(stream, &new.key.clone(), |entry| {
            entry.orphaned_at = None;
            if let Some(known) = &entry.registration
                && known.incarnation == new.incarnation
            {
                new.ready = known.ready;
                new.detail.clone_from(&known.detail);
            }
            let changed = entry.registration.as_ref() != Some(&new);
            entry.registration = Some(new);
            changed
        });
    }

    /// An instance's health.
    pub fn health(&self, stream: StreamId, key: &InstanceKey, ready: bool, detail: &str) {
        let settling = self.is_settling(Instant::now());
        self.change(stream, key, |entry| {
            let Some(registration) = &mut entry.registration else { return false };
            let changed = registration.ready != ready || registration.detail != detail;
            registration.ready = ready;
            detail.clone_into(&mut registration.detail);
            changed
        });
        if settling {
            self.reported(stream, key);
        }
    }

    /// An instance leaves.
    pub fn deregister(&self, stream: StreamId, key: &InstanceKey) {
        self.change(stream, key, |entry| entry.registration.take().is_some());
        self.reported(stream, key);
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
        let before = inner.entries.len();
        inner.entries.retain(|_, entry| entry.orphaned_at.is_none_or(|at| now < at + grace));
        let removed = before != inner.entries.len();
        let next = inner.entries.values().filter_map(|entry| entry.orphaned_at).min();
        drop(inner);
        if removed {
            self.notify();
        }
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
    /// just started, and the endpoint's instance has not told it how it is.
    #[must_use]
    pub fn withholds(&self, endpoint_id: &str, now: Instant) -> bool {
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
        let workload = weft_proto::WorkloadName { namespace: namespace.into(), name: name.into() };
        let key = InstanceKey { workload, instance: instance.into() };
        !self.lock().reported.contains(&key)
    }

    /// Whether the start has not settled.
    #[must_use]
    pub fn is_settling(&self, now: Instant) -> bool {
        now < self.settled_at()
    }

    fn reported(&self, stream: StreamId, key: &InstanceKey) {
        let mut inner = self.lock();
        if inner.entries.get(key).is_some_and(|entry| entry.owner == stream) {
            inner.reported.insert(key.clone());
        }
    }

    /// Changes the entry that a stream owns; says so if `change` says so.
    fn change(&self, stream: StreamId, key: &InstanceKey, change: impl FnOnce(&mut Entry) -> bool) {
        let mut inner = self.lock();
        let entry = inner.entries.get_mut(key).filter(|entry| entry.owner == stream);
        let changed = entry.is_some_and(change);
        drop(inner);
        if changed {
            self.notify();
        }
    }

    fn notify(&self) {
        self.changed.send_modify(|generation| *generation += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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
