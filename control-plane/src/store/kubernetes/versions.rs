//! In which version the API serves a kind: those of the Gateway API come in several, by the age of the cluster's
//! definitions, and may come, go and change while the control plane runs.
//!
//! Comes in: a kind's entry in the table. Goes out: its objects, for as long as there is such a kind, into the sink. It
//! must never take an API that does not answer for one without the kind.

use std::time::Duration;

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
};
use tokio::time::sleep;

use super::OfKind;
use crate::{
    kubernetes::follow::{Sink as _, follow_while_served},
    model::KindInfo,
};

/// From one look for a kind to the next: whoever installs its definition waits so long.
const AGAIN: Duration = Duration::from_secs(3);

/// Follows a kind for ever, in whatever version it is served.
pub(super) async fn follow_kind(client: Client, info: &'static KindInfo, mut sink: OfKind) {
    let mut absent = false;
    loop {
        match served(&client, info).await {
            Ok(Some(version)) => {
                absent = false;
                sink.serve(version);
                let api = Api::<DynamicObject>::all_with(client.clone(), &resource(info, version));
                follow_while_served(api, info.plural, &mut sink).await;
            }
            Ok(None) if !absent => {
                absent = true;
                tracing::warn!(
                    what = info.plural,
                    "the cluster does not know this kind; install its definition, and it is used at once"
                );
                if !sink.is_read {
                    sink.replace(Vec::new());
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(what = info.plural, %error, "cannot ask in which version a kind is served");
            }
        }
        sleep(AGAIN).await;
    }
}

/// Where the API serves a kind in a version.
pub(super) fn resource(info: &KindInfo, version: &str) -> ApiResource {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let kind = GroupVersionKind::gvk(group, version, info.name);
    ApiResource::from_gvk_with_plural(&kind, info.plural)
}

/// The first version of the kind that the API serves.
async fn served(client: &Client, info: &KindInfo) -> Result<Option<&'static str>, kube::Error> {
    if info.api_version == crate::model::kinds::CORE {
        return Ok(Some(info.api_version));
    }
    for version in info.versions() {
        match client.list_api_group_resources(version).await {
            Ok(list) if list.resources.iter().any(|one| one.name == info.plural) => {
                return Ok(Some(version));
            }
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
