//! The store of a single machine: a directory of YAML files, watched.
//!
//! ```text
//! shop.yaml            made by hand: any *.yaml, *.yml, *.json; several documents; read-only to the API
//! managed/             what the API writes, one object a file
//! state/last-good/     each file's objects when it was last right, with uid, generation and version
//! state/status/        each object's status
//! state/version        no version at or below this one is ever given out again
//! state/lock           held by the one control plane that has this store
//! ```
//!
//! A hand edit takes effect within a second: the directory is watched, and looked through now and then in
//! case the system lost a notice. A file that is broken is reported, and what it said when it was last
//! right stays in force, over a restart too. Where two files hold one object, the first is in force: files
//! made by hand by their names, then those of the API.
//!
//! What the API acknowledged is on the disk: file and folder are synced, and a file is replaced as a
//! whole. Once it is open, everything that touches the disk runs on a blocking thread, one call at a time.

mod disk;
mod files;
mod follow;
mod known;
mod places;
mod stamp;
mod state;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::task::JoinHandle;

use self::disk::Disk;
pub use self::files::is_object_file;
use super::{List, Store, StoreError, Version, Watch, Written, log::Log};
use crate::model::{Object, ObjectKey, Status};

/// A directory of YAML files as a store. Dropping it ends the watching; calls under way come to their end.
#[derive(Debug)]
pub struct DirStore {
    inner: Arc<Inner>,
    follower: JoinHandle<()>,
}

#[derive(Debug)]
struct Inner {
    disk: Mutex<Disk>,
    log: Arc<Log>,
    problems: Mutex<Vec<String>>,
}

impl DirStore {
    /// Opens a directory, creates what it lacks, reads it, and follows it from then on.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it; [`StoreError::Io`]. A broken file is no error:
    /// see [`Store::problems`].
    pub async fn open(root: &Path) -> Result<Self, StoreError> {
        let (disk, objects, version) = Disk::open(root).await?;
        let inner = Arc::new(Inner {
            disk: Mutex::new(disk),
            log: Arc::new(Log::new(objects, version)),
            problems: Mutex::default(),
        });
        inner.run(|disk, log| disk.rescan(log)).await?;
        let follower = tokio::spawn(follow::follow(Arc::downgrade(&inner), root.to_owned()));
        Ok(Self { inner, follower })
    }
}

impl Drop for DirStore {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Inner {
    /// Does something on the disk, off the runtime's own threads.
    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(&mut Disk, &Log) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            // A panic while it was held left at most a file unread: the next rescan reads it.
            let mut disk = inner.disk.lock().unwrap_or_else(PoisonError::into_inner);
            let result = act(&mut disk, &inner.log);
            if let Some(problems) = disk.changed_problems() {
                inner.report(problems);
            }
            result
        });
        done.await.map_err(|_| StoreError::Closing)?
    }

    /// Remembers what is broken, and logs what is newly so.
    fn report(&self, now: Vec<String>) {
        let mut known = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        for problem in now.iter().filter(|problem| !known.contains(problem)) {
            tracing::warn!(%problem, "the last good state stays in force");
        }
        for problem in known.iter().filter(|problem| !now.contains(problem)) {
            tracing::info!(%problem, "resolved");
        }
        *known = now;
    }
}

#[tonic::async_trait]
impl Store for DirStore {
    async fn list(&self) -> Result<List, StoreError> {
        Ok(self.inner.log.list())
    }

    async fn watch(&self, since: Option<Version>) -> Result<Watch, StoreError> {
        self.inner.log.watch(since)
    }

    async fn write(&self, object: Object, dry_run: bool) -> Result<Written, StoreError> {
        self.inner.run(move |disk, log| disk.write(log, object, dry_run)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<Option<Arc<Object>>, StoreError> {
        let key = key.clone();
        self.inner.run(move |disk, log| disk.delete(log, &key)).await
    }

    async fn write_status(
        &self,
        key: &ObjectKey,
        uid: &str,
        status: Status,
    ) -> Result<(), StoreError> {
        let (key, uid) = (key.clone(), uid.to_owned());
        self.inner.run(move |disk, log| disk.write_status(log, &key, &uid, status)).await
    }

    fn problems(&self) -> Vec<String> {
        self.inner.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Objects by their keys.
type Objects = BTreeMap<ObjectKey, Arc<Object>>;

#[cfg(test)]
mod tests;
