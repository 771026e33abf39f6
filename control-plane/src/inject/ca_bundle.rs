//! How the API server knows the webhook: `caBundle` of the `MutatingWebhookConfiguration` is kept equal to the roots.
//!
//! Comes in: the configuration, as it is and as it changes; the roots. Goes out: a patch of that one field. The object
//! may be absent, made anew, or written over by whoever installs Weft again: it is watched, so that all of them
//! are put right at once, and never more often than once a second.
//!
//! A new root is announced before it signs, and what it signs carries it cross-signed by the old one: the API server
//! trusts the webhook throughout a rotation, also where a patch comes late.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use json_patch::Patch as Operations;
use k8s_openapi::{ByteString, api::admissionregistration::v1::MutatingWebhookConfiguration};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher::watch_object},
};
use rustls_pki_types::CertificateDer;
use serde_json::json;

use crate::ca::{Authority, pem};

/// The configuration's name.
pub const NAME: &str = "weft-injector";
/// Between two patches: somebody who writes the field, too, is no reason for a storm.
const PAUSE: Duration = Duration::from_secs(1);
/// After a patch that failed.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps it so until the future is dropped, or the authority is gone.
pub async fn keep_ca_bundle(client: Client, authority: Arc<Authority>) {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client);
    let mut objects = pin!(watch_object(api.clone(), NAME).default_backoff());
    let mut roots = authority.watch();
    drop(authority);
    let mut present: Option<MutatingWebhookConfiguration> = None;
    loop {
        let wanted = bundle(&roots.borrow_and_update().roots);
        let operations = present.as_ref().and_then(|object| patch(object, &wanted));
        let failed = match operations {
            Some(operations) => {
                let done = apply(&api, operations).await;
                tokio::time::sleep(PAUSE).await;
                !done
            }
            None => false,
        };
        tokio::select! {
            seen = objects.next() => match seen {
                Some(Ok(object)) => {
                    if object.is_none() {
                        tracing::info!(name = NAME, "there is no webhook configuration: no pod is injected");
                    }
                    present = object;
                }
                Some(Err(error)) => tracing::warn!(%error, name = NAME, "the webhook configuration cannot be watched"),
                None => return,
            },
            changed = roots.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            // The patch is tried again with what is known; a watch that shows another object comes first.
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

/// Returns whether it is done. What the API server made of it comes by the watch.
async fn apply(api: &Api<MutatingWebhookConfiguration>, operations: Operations) -> bool {
    let patch = Patch::<()>::Json(operations);
    match api.patch(NAME, &PatchParams::default(), &patch).await {
        Ok(_) => {
            tracing::info!(name = NAME, "the roots are written into the webhook configuration");
            true
        }
        Err(error) => {
            tracing::warn!(%error, name = NAME, "the webhook configuration cannot be patched");
            false
        }
    }
}

fn bundle(roots: &[CertificateDer<'_>]) -> ByteString {
    ByteString(pem(roots).into_bytes())
}

/// What makes the object right; none when it is. Each webhook is tested by name, since others may reorder them.
fn patch(object: &MutatingWebhookConfiguration, wanted: &ByteString) -> Option<Operations> {
    let mut operations = Vec::new();
    for (index, webhook) in object.webhooks.iter().flatten().enumerate() {
        if webhook.client_config.ca_bundle.as_ref() == Some(wanted) {
            continue;
        }
        let at = format!("/webhooks/{index}");
        operations.push(json!({"op": "test", "path": format!("{at}/name"), "value": webhook.name}));
        let path = format!("{at}/clientConfig/caBundle");
        operations.push(json!({"op": "add", "path": path, "value": wanted}));
    }
    if operations.is_empty() {
        return None;
    }
    serde_json::from_value(operations.into()).ok()
}

#[cfg(test)]
mod tests;
