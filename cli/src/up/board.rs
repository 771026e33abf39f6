//! How each replica goes, for those who look on: readiness, the live table.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{plan::ReplicaName, ports::SidecarPorts};

/// How it goes with one process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It waits for what it needs.
    #[default]
    Starting,
    /// It runs.
    Running,
    /// It ended, for this reason, and will be started again.
    Ended(String),
    /// It was ended.
    Stopped,
}

/// One replica's two processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ReplicaState {
    pub(crate) service: Option<String>,
    pub(crate) app: Phase,
    pub(crate) sidecar: Phase,
    /// What the sidecar bound, once it has.
    pub(crate) ports: Option<SidecarPorts>,
    /// The last lines of whichever process ended last.
    pub(crate) last_lines: Vec<String>,
}

/// Every replica's state. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board(Arc<Mutex<BTreeMap<ReplicaName, ReplicaState>>>);

impl Board {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ReplicaName, ReplicaState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a replica on the board, or changes what stands there.
    pub(crate) fn change(&self, name: &ReplicaName, change: impl FnOnce(&mut ReplicaState)) {
        change(self.lock().entry(name.clone()).or_default());
    }

    pub(crate) fn remove(&self, name: &ReplicaName) {
        self.lock().remove(name);
    }

    /// Everything as it is now.
    pub(crate) fn all(&self) -> BTreeMap<ReplicaName, ReplicaState> {
        self.lock().clone()
    }
}
