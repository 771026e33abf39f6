//! Where the operator's objects live: one trait, so that the rest does not know whether they lie in files,
//! in etcd or in a cluster.
//!
//! A store gives its state as a list, or as a watch: first the present state, then a mark, then every
//! change, without a gap. It completes what it is given (uid, generation, resource version, creation time)
//! and refuses what it must (another's file, an outdated version). It never judges a spec: an object that
//! reaches it has been parsed.

pub mod dir;
pub mod kubernetes;
pub mod log;

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use tokio::sync::watch;

use crate::model::{Kind, Object, ObjectKey, Status};

pub use dir::{DirStore, is_object_file};
pub use kubernetes::KubernetesStore;
pub use log::Watch;

/// A store of objects. Its futures may be dropped; a write that was begun then still happens or not as a
/// whole.
#[tonic::async_trait]
pub trait Store: Send + Sync + 'static {
    /// Every object, in the order of their keys, and the version at which that was so.
    async fn list(&self) -> Result<List, StoreError>;

    /// The present state, a [`Event::Synced`], then changes; or with `since` only what changed after that
    /// version, the mark, then changes.
    ///
    /// # Errors
    /// [`StoreError::TooOld`], here or from the watch itself, when what changed since is no longer known:
    /// begin again without `since`.
    async fn watch(&self, since: Option<Version>) -> Result<Watch, StoreError>;

    /// Creates or replaces an object. Where `metadata.resourceVersion` is set it must be the present one.
    /// The given status is ignored. A `dry_run` says what would happen and changes nothing.
    async fn write(&self, object: Object, dry_run: bool) -> Result<Written, StoreError>;

    /// Deletes an object. `None`: there was none.
    async fn delete(&self, key: &ObjectKey) -> Result<Option<Arc<Object>>, StoreError>;

    /// Whether the status of this kind's objects is ours to write.
    fn keeps_status(&self, kind: Kind) -> bool {
        let _ = kind;
        true
    }

    /// Replaces the status of an object, unless it has been replaced by another of the same name (`uid`).
    /// An object that is gone is no error.
    async fn write_status(
        &self,
        key: &ObjectKey,
        uid: &str,
        status: Status,
    ) -> Result<(), StoreError>;

    /// What of the store could not be read, for people: the last good state of it is in force.
    fn problems(&self) -> Vec<String>;

    /// Objects that cannot be read, but whose status can be written all the same; and every change of that.
    fn unreadable(&self) -> watch::Receiver<Vec<Unreadable>> {
        watch::channel(Vec::new()).1
    }
}

/// An object that cannot be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Unreadable {
    /// Its metadata and its status; of its spec nothing, but for a route's parents.
    pub outline: Arc<Object>,
    /// What is wrong with it, for people.
    pub problem: String,
}

/// Every object at one version.
#[derive(Debug, Clone)]
pub struct List {
    /// In the order of their keys.
    pub objects: Vec<Arc<Object>>,
    /// The version of the last change.
    pub version: Version,
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The object exists, in this form.
    Applied(Arc<Object>),
    /// The object is gone; this was its last form.
    Deleted(Arc<Object>),
    /// Everything before this was the state at this version; what follows are changes.
    Synced(Version),
}

/// What a write did.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// The object as it is now (or would be).
    pub object: Arc<Object>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a written object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is new.
    Created,
    /// It was changed.
    Configured,
    /// It was so already.
    Unchanged,
}

/// The version of a store's state: greater after every change, also over a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Version {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The object comes from a file that a person made: only that person changes it.
    #[error("{object} stands in {}, which is made by hand: change it there", file.display())]
    HandMade {
        /// Which.
        object: ObjectKey,
        /// Where.
        file: PathBuf,
    },
    /// The writer has not seen the present state.
    #[error(
        "{object}: metadata.resourceVersion is {given:?}, but {present}: get the object again, or leave \
         the field out"
    )]
    Conflict {
        /// Which.
        object: ObjectKey,
        /// What the writer believes.
        given: String,
        /// What is so.
        present: String,
    },
    /// What changed since is no longer known.
    #[error("version {since} is too old to resume from: list the objects again")]
    TooOld {
        /// The version asked for.
        since: Version,
    },
    /// Another process has the store.
    #[error("{} is in use by another control plane: stop it, or name another directory", path.display())]
    InUse {
        /// The store's directory.
        path: PathBuf,
    },
    /// The disk.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// "read", "write", …
        action: &'static str,
        /// What file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Objects of this kind are another's to change.
    #[error("{object} is only read here: change it with {with}")]
    ReadOnly {
        /// Which.
        object: ObjectKey,
        /// What changes it.
        with: &'static str,
    },
    /// The control plane has no right to change it.
    #[error("the control plane may not {action} {object}: do it yourself, with {with} ({message})")]
    NotAllowed {
        /// "apply", "delete".
        action: &'static str,
        /// Which.
        object: ObjectKey,
        /// The API's words.
        message: String,
        /// What changes it.
        with: &'static str,
    },
    /// The cluster's API refused, or did not answer.
    #[error("cannot {action} {object}: {message}")]
    Cluster {
        /// "apply", "delete", …
        action: &'static str,
        /// Which.
        object: ObjectKey,
        /// The API's words.
        message: String,
    },
    /// The store is being closed.
    #[error("the store is closing")]
    Closing,
}
