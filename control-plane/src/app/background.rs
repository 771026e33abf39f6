//! The loops that run beside the ports: objects into the catalog, ended registrations, roots.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    ca::Authority,
    catalog::Catalog,
    clock,
    model::{Object, ObjectKey},
    push::{proxies::Proxies, registry::Registry, trust_version, view::View as _},
    status::{self, refused::Refused},
    store::{Event, Store, StoreError, Watch},
};

/// A store that fails is asked again after this.
const RETRY: Duration = Duration::from_secs(1);

/// Takes every object into the catalog, then follows the changes in a task.
pub(super) async fn follow_objects(
    store: Arc<dyn Store>,
    catalog: Arc<Catalog>,
    tasks: &mut JoinSet<()>,
) -> Result<(), StoreError> {
    let mut follower = Follower { catalog, known: HashSet::new() };
    let mut watch = store.watch(None).await?;
    follower.take_all(&mut watch).await?;
    tasks.spawn(async move {
        loop {
            let error = follower.follow(&mut watch).await;
            if matches!(error, StoreError::Closing) {
                return;
            }
            tracing::warn!(%error, "the objects are read anew");
            watch = loop {
                match store.watch(None).await {
                    Ok(watch) => break watch,
                    Err(StoreError::Closing) => return,
                    Err(error) => tracing::error!(%error, "the objects cannot be read"),
                }
                sleep(RETRY).await;
            };
            if let Err(error) = follower.take_all(&mut watch).await {
                tracing::warn!(%error, "the objects are not all read");
            }
        }
    });
    Ok(())
}

struct Follower {
    catalog: Arc<Catalog>,
    known: HashSet<ObjectKey>,
}

impl Follower {
    /// Takes the present state in; what is known and not in it is gone.
    async fn take_all(&mut self, watch: &mut Watch) -> Result<(), StoreError> {
        let mut present = HashMap::new();
        loop {
            match watch.next().await? {
                Event::Applied(object) => {
                    present.insert(object.key(), object);
                }
                Event::Deleted(object) => {
                    present.remove(&object.key());
                }
                Event::Synced(_) => break,
            }
        }
        // All at once: a service is built once, not once for each of its workloads.
        self.catalog.change(|index| index.apply_all(present.values().map(|object| &**object)));
        let seen: HashSet<ObjectKey> = present.into_keys().collect();
        for gone in self.known.difference(&seen) {
            self.catalog.change(|index| index.remove(gone));
        }
        self.known = seen;
        Ok(())
    }

    /// Takes changes in until the watch fails.
    async fn follow(&mut self, watch: &mut Watch) -> StoreError {
        loop {
            match watch.next().await {
                Ok(Event::Applied(object)) => {
                    self.known.insert(object.key());
                    self.catalog.change(|index| index.apply(&object));
                }
                Ok(Event::Deleted(object)) => {
                    let key = object.key();
                    self.known.remove(&key);
                    self.catalog.change(|index| index.remove(&key));
                }
                Ok(Event::Synced(_)) => {}
                Err(error) => return error,
            }
        }
    }
}

/// Says of every object whether it took effect.
pub(super) fn keep_statuses(
    store: Arc<dyn Store>,
    catalog: Arc<Catalog>,
    proxies: Arc<Proxies>,
    tasks: &mut JoinSet<()>,
) {
    let changes = catalog.changes();
    let refusals = proxies.refusals_changed();
    let begin = move || {
        let catalog = catalog.clone();
        let refused = Refused::new(&proxies.refusals(), &catalog.read());
        move |object: &Object| status::judge(object, &catalog.read(), &refused)
    };
    tasks.spawn(status::keep(store, begin, changes, refusals));
}

/// Ends registrations whose sidecars have not come back.
pub(super) fn reap_registrations(
    registry: Arc<Registry>,
    grace: Duration,
    tasks: &mut JoinSet<()>,
) {
    // A registration that is orphaned later than we looked cannot be due before this.
    let longest = grace.max(Duration::from_millis(10));
    tasks.spawn(async move {
        loop {
            let now = Instant::now();
            let next = registry.reap(now).unwrap_or(now + longest);
            tokio::time::sleep_until(next.min(now + longest)).await;
        }
    });
}

/// Takes the steps of a rotation when they are due.
pub(super) fn rotate_roots(
    authority: Arc<Authority>,
    proxies: Arc<Proxies>,
    propagation: Duration,
    tasks: &mut JoinSet<()>,
) {
    let pause = (propagation / 4).clamp(Duration::from_millis(20), Duration::from_secs(1));
    tasks.spawn(async move {
        loop {
            sleep(pause).await;
            if !authority.is_rotating() {
                continue;
            }
            let distributed = proxies.all_trust(&trust_version(&authority.bundle()));
            let (authority, now) = (authority.clone(), clock::now());
            let step = tokio::task::spawn_blocking(move || authority.advance(now, distributed));
            match step.await {
                Ok(Ok(true)) => tracing::info!("the roots have changed"),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::error!(%error, "the roots cannot be changed"),
                Err(error) => tracing::error!(%error, "the roots' change was interrupted"),
            }
        }
    });
}
