//! The trust roots in every namespace that has, or is to have, sidecars: a ConfigMap, from which a pod's sidecar knows
//! its control plane before it has a certificate.
//!
//! Comes in: the roots in force, and the mesh's namespaces and pods. Goes out: ConfigMaps, put right when the roots
//! change, when a namespace comes, and from time to time, in case somebody changed one. It never deletes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{
    sync::{broadcast::error::RecvError, watch},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{FIELD_MANAGER, MANAGED_BY, ROOTS, ROOTS_KEY, client::ANSWER};
use crate::{
    ca::{Authority, Bundle},
    catalog::Catalog,
    model::pod_settings::INJECT,
    push::view::View as _,
};

/// All are looked at this often, whatever happened.
const LOOK_AGAIN: Duration = Duration::from_secs(5 * 60);
/// Namespaces that could not be written are tried again after this.
const RETRY: Duration = Duration::from_secs(5);
/// Changes that come together are taken together.
const GATHER: Duration = Duration::from_millis(200);

/// Keeps the ConfigMaps right for as long as it is polled.
pub async fn keep(client: Client, authority: Arc<Authority>, catalog: Arc<Catalog>) {
    let mut bundle = authority.watch();
    let mut changes = catalog.changes();
    let mut written: BTreeMap<String, Arc<Bundle>> = BTreeMap::new();
    // Those that could not be written, and when they are tried again: not with each pod that comes or goes.
    let mut failing: BTreeMap<String, Instant> = BTreeMap::new();
    let mut look_again = Instant::now() + LOOK_AGAIN;
    loop {
        let now_in_force = bundle.borrow_and_update().clone();
        let wanted = namespaces(&catalog);
        written.retain(|namespace, _| wanted.contains(namespace));
        failing.retain(|namespace, _| wanted.contains(namespace));
        for namespace in wanted {
            let done = written.get(&namespace).is_some_and(|held| Arc::ptr_eq(held, &now_in_force));
            let later = failing.get(&namespace).is_some_and(|again| *again > Instant::now());
            if done || later {
                continue;
            }
            match write(&client, &namespace, &now_in_force).await {
                Ok(Written::Yes) => {
                    if failing.remove(&namespace).is_some() {
                        tracing::info!(namespace, "the ConfigMap {ROOTS} is written");
                    }
                    written.insert(namespace, now_in_force.clone());
                }
                Ok(Written::NamespaceEnds) => {
                    failing.insert(namespace, Instant::now() + RETRY);
                }
                Err(why) => {
                    let again = Instant::now() + RETRY;
                    if failing.insert(namespace.clone(), again).is_none() {
                        tracing::warn!(
                            namespace,
                            why,
                            "cannot write the ConfigMap {ROOTS}; pods there do not start"
                        );
                    }
                }
            }
        }
        let retry = failing.values().min().copied();
        let deadline = retry.map_or(look_again, |retry| retry.min(look_again));
        wait(&mut bundle, &mut changes, deadline).await;
        if Instant::now() >= look_again {
            written.clear();
            look_again = Instant::now() + LOOK_AGAIN;
        }
    }
}

/// Waits for anything that could matter, or the deadline.
async fn wait(
    bundle: &mut watch::Receiver<Arc<Bundle>>,
    changes: &mut tokio::sync::broadcast::Receiver<Arc<crate::push::view::Changed>>,
    deadline: Instant,
) {
    let relevant = async {
        loop {
            match changes.recv().await {
                Ok(changed) if changed.changes.mesh || !changed.changes.pods.is_empty() => return,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    };
    let something = async {
        tokio::select! {
            _ = bundle.changed() => {}
            () = relevant => {}
        }
    };
    if timeout_at(deadline, something).await.is_ok() {
        sleep(GATHER).await;
    }
}

/// The namespaces whose label asks for sidecars, and those with pods that have one.
fn namespaces(catalog: &Catalog) -> BTreeSet<String> {
    let index = catalog.read();
    let asked = index.namespaces_labelled(INJECT, "enabled").map(str::to_owned);
    let meshed = index.pods().filter(|pod| pod.meshed).map(|pod| pod.key.namespace.to_string());
    asked.chain(meshed).collect()
}

/// What became of a ConfigMap.
enum Written {
    Yes,
    /// It takes nothing new.
    NamespaceEnds,
}

async fn write(client: &Client, namespace: &str, bundle: &Bundle) -> Result<Written, String> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let (label, value) = MANAGED_BY;
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": ROOTS, "namespace": namespace, "labels": { label: value } },
        "data": { ROOTS_KEY: bundle.pem() },
    });
    let settings = PatchParams::apply(FIELD_MANAGER).force();
    match timeout(ANSWER, api.patch(ROOTS, &settings, &Patch::Apply(object))).await {
        Ok(Ok(_)) => Ok(Written::Yes),
        Ok(Err(error)) if is_going(&error) => Ok(Written::NamespaceEnds),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the API does not answer within {}s", ANSWER.as_secs())),
    }
}

/// Whether the namespace ends.
fn is_going(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    status.code == 404 || (status.code == 403 && status.message.contains("being terminated"))
}

#[cfg(test)]
mod tests;
