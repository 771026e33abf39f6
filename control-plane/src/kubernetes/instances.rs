//! Pods and endpoint slices into the catalog.
//!
//! Comes in: the API's list and watch of both. Goes out: the index's changes. [`Instances::synced`] resolves when both
//! have been read once: before that nobody must be told what is in the mesh.

use std::{collections::HashSet, sync::Arc};

use kube::{Api, Client};
use tokio::{sync::watch, task::JoinSet};

use super::{
    follow::{Sink, follow},
    observed::{SeenPod, SeenSlice},
};
use crate::{catalog::Catalog, model::NamespacedName};

/// Whether pods and slices have been read once.
pub struct Instances {
    pods: watch::Receiver<bool>,
    slices: watch::Receiver<bool>,
}

impl Instances {
    /// Follows pods and slices in tasks, which end with the set.
    pub fn follow(client: &Client, catalog: &Arc<Catalog>, tasks: &mut JoinSet<()>) -> Self {
        let (pods_read, pods) = watch::channel(false);
        let (slices_read, slices) = watch::channel(false);
        let sink = Pods { catalog: catalog.clone(), read: pods_read };
        tasks.spawn(follow(Api::<SeenPod>::all(client.clone()), "pods", sink));
        let sink = Slices { catalog: catalog.clone(), read: slices_read };
        tasks.spawn(follow(Api::<SeenSlice>::all(client.clone()), "endpointslices", sink));
        Self { pods, slices }
    }

    /// Resolves when both have been read. Cancel-safe.
    pub async fn synced(mut self) {
        // The senders go only with the tasks, and those with the control plane.
        let _ = self.pods.wait_for(|read| *read).await;
        let _ = self.slices.wait_for(|read| *read).await;
    }
}

struct Pods {
    catalog: Arc<Catalog>,
    read: watch::Sender<bool>,
}

impl Sink<SeenPod> for Pods {
    fn replace(&mut self, all: Vec<SeenPod>) {
        let pods: Vec<_> = all.into_iter().filter_map(SeenPod::into_pod).collect();
        let present: HashSet<NamespacedName> = pods.iter().map(|pod| pod.key.clone()).collect();
        self.catalog.change(|index| {
            let known = index.pods().map(|pod| pod.key.clone());
            let gone: Vec<_> = known.filter(|key| !present.contains(key)).collect();
            let mut changes = index.apply_cluster(pods, []);
            for key in gone {
                changes.merge(index.remove_pod(&key));
            }
            changes
        });
        self.read.send_replace(true);
    }

    fn apply(&mut self, one: SeenPod) {
        if let Some(pod) = one.into_pod() {
            self.catalog.change(|index| index.apply_pod(pod));
        }
    }

    fn remove(&mut self, one: SeenPod) {
        if let Some(key) = one.key() {
            self.catalog.change(|index| index.remove_pod(&key));
        }
    }
}

struct Slices {
    catalog: Arc<Catalog>,
    read: watch::Sender<bool>,
}

impl Sink<SeenSlice> for Slices {
    fn replace(&mut self, all: Vec<SeenSlice>) {
        let slices: Vec<_> = all.into_iter().filter_map(SeenSlice::into_slice).collect();
        let present: HashSet<NamespacedName> =
            slices.iter().map(|slice| slice.key.clone()).collect();
        self.catalog.change(|index| {
            let gone: Vec<_> =
                index.slices().filter(|key| !present.contains(*key)).cloned().collect();
            let mut changes = index.apply_cluster([], slices);
            for key in gone {
                changes.merge(index.remove_slice(&key));
            }
            changes
        });
        self.read.send_replace(true);
    }

    fn apply(&mut self, one: SeenSlice) {
        let key = one.key();
        match (one.into_slice(), key) {
            (Some(slice), _) => self.catalog.change(|index| index.apply_slice(slice)),
            // It was one of a service, and its label was taken away.
            (None, Some(key)) => self.catalog.change(|index| index.remove_slice(&key)),
            (None, None) => {}
        }
    }

    fn remove(&mut self, one: SeenSlice) {
        if let Some(key) = one.key() {
            self.catalog.change(|index| index.remove_slice(&key));
        }
    }
}
