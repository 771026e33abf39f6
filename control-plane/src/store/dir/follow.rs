//! Sees that the directory changed. The system's notices say when; what changed is always found out by
//! looking, so that a lost, doubled or strange notice does no harm.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::{sync::Notify, time::timeout};

use super::{Inner, StoreError, files};

/// An editor writes a file in several steps: they are waited out for so long without a new one …
const QUIET: Duration = Duration::from_millis(60);
/// … but not longer than this, so that a busy directory is read, too.
const LATEST: Duration = Duration::from_millis(400);
/// How often the directory is looked through without a notice.
const SAFETY_NET: Duration = Duration::from_secs(5);
/// The same where the system gives no notices at all.
const POLL: Duration = Duration::from_millis(500);

/// Follows the directory for as long as the store lives.
pub(super) async fn follow(store: Weak<Inner>, root: PathBuf) {
    let notices = Arc::new(Notify::new());
    let watcher = watch(&root, &notices);
    // What happened before the watching began is seen by looking once more.
    notices.notify_one();
    let pause = match &watcher {
        Ok(_) => SAFETY_NET,
        Err(error) => {
            tracing::warn!(%error, directory = %root.display(), "no notices of changes: polling");
            POLL
        }
    };
    loop {
        if timeout(pause, notices.notified()).await.is_ok() {
            settle_down(&notices).await;
        }
        let Some(store) = store.upgrade() else { return };
        match store.run(|disk, log| disk.rescan(log)).await {
            Ok(()) => {}
            Err(StoreError::Closing) => return,
            Err(error) => tracing::error!(%error, "cannot read the objects' directory"),
        }
    }
}

async fn settle_down(notices: &Notify) {
    let quiet = async { while timeout(QUIET, notices.notified()).await.is_ok() {} };
    // Busy for the whole time: read it nevertheless.
    let _ = timeout(LATEST, quiet).await;
}

fn watch(root: &Path, notices: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let sender = Arc::clone(notices);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading must not wake us again.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            sender.notify_one();
        }
    })?;
    watcher.watch(root, RecursiveMode::NonRecursive)?;
    watcher.watch(&files::managed(root), RecursiveMode::NonRecursive)?;
    Ok(watcher)
}
