//! The state of a store in memory, and what changed lately: objects come in from the one place that keeps
//! them, lists and watches go out.
//!
//! Watchers hold no queue of their own: each reads the shared history at its own pace, so that a slow one
//! costs nothing. One that falls behind further than the history reaches is told so and begins again.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{Event, List, StoreError, Version};
use crate::model::{Object, ObjectKey};

/// How many changes a watcher may lie behind. A change is an `Arc`: this bounds the history at a few MiB.
const HISTORY: usize = 16_384;

/// Objects and their latest changes.
#[derive(Debug)]
pub struct Log {
    state: Mutex<State>,
    latest: watch::Sender<Version>,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    /// Ordered by version, without gaps from `oldest` on.
    history: VecDeque<(Version, Event)>,
    /// Changes after this version are in `history`.
    oldest: Version,
    version: Version,
}

impl Log {
    /// A state to begin with. Nothing before `version` can be resumed from.
    #[must_use]
    pub fn new(objects: BTreeMap<ObjectKey, Arc<Object>>, version: Version) -> Self {
        let state = State { objects, history: VecDeque::new(), oldest: version, version };
        Self { state: Mutex::new(state), latest: watch::Sender::new(version) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No holder can leave the state half changed: each only inserts what it was given.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object with this key.
    #[must_use]
    pub fn find(&self, key: &ObjectKey) -> Option<Arc<Object>> {
        self.lock().objects.get(key).cloned()
    }

    /// Every object.
    #[must_use]
    pub fn list(&self) -> List {
        let state = self.lock();
        List { objects: state.objects.values().cloned().collect(), version: state.version }
    }

    /// Takes a new or changed object in.
    pub fn apply(&self, version: Version, object: Arc<Object>) {
        let mut state = self.lock();
        state.objects.insert(object.key(), Arc::clone(&object));
        self.record(state, version, Event::Applied(object));
    }

    /// Forgets an object.
    pub fn remove(&self, version: Version, key: &ObjectKey) -> Option<Arc<Object>> {
        let mut state = self.lock();
        let object = state.objects.remove(key)?;
        self.record(state, version, Event::Deleted(Arc::clone(&object)));
        Some(object)
    }

    fn record(&self, mut state: MutexGuard<'_, State>, version: Version, event: Event) {
        state.history.push_back((version, event));
        state.version = version;
        if state.history.len() > HISTORY
            && let Some((dropped, _)) = state.history.pop_front()
        {
            state.oldest = dropped;
        }
        drop(state);
        self.latest.send_replace(version);
    }

    /// A watch from the present state, or from a version on.
    ///
    /// # Errors
    /// [`StoreError::TooOld`].
    pub fn watch(self: &Arc<Self>, since: Option<Version>) -> Result<Watch, StoreError> {
        let latest = self.latest.subscribe();
        let state = self.lock();
        let mut pending = VecDeque::new();
        if let Some(since) = since {
            pending.extend(state.after(since)?);
        } else {
            pending.extend(state.objects.values().cloned().map(Event::Applied));
        }
        pending.push_back(Event::Synced(state.version));
        let seen = state.version;
        drop(state);
        Ok(Watch { log: Arc::clone(self), latest, pending, seen })
    }
}

impl State {
    fn after(&self, since: Version) -> Result<Vec<Event>, StoreError> {
        if since < self.oldest || since > self.version {
            return Err(StoreError::TooOld { since });
        }
        let first = self.history.partition_point(|(version, _)| *version <= since);
        Ok(self.history.range(first..).map(|(_, event)| event.clone()).collect())
    }
}

/// The events of a store, one after the other.
#[derive(Debug)]
pub struct Watch {
    log: Arc<Log>,
    latest: watch::Receiver<Version>,
    pending: VecDeque<Event>,
    /// Everything up to here has been taken into `pending`.
    seen: Version,
}

impl Watch {
    /// The next event; waits for one. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError::TooOld`] when this watcher fell too far behind.
    pub async fn next(&mut self) -> Result<Event, StoreError> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(event);
            }
            if self.refill()? {
                continue;
            }
            // The log lives as long as this watch holds it, and with it the sender.
            self.latest.changed().await.map_err(|_| StoreError::Closing)?;
        }
    }

    fn refill(&mut self) -> Result<bool, StoreError> {
        // Marked as seen before the state is read: a change in between wakes us again.
        self.latest.mark_unchanged();
        let state = self.log.lock();
        self.pending.extend(state.after(self.seen)?);
        self.seen = state.version;
        Ok(!self.pending.is_empty())
    }
}
