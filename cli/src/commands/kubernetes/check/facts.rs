//! The questions that `weft check` asks the API server, and the answers as they came.
//!
//! Each answer stands by itself: a right that is missing spoils one check and no other.

use futures_util::future::join_all;
use k8s_openapi::{
    api::{
        admissionregistration::v1::MutatingWebhookConfiguration,
        apps::v1::Deployment,
        authorization::v1::{
            ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
        },
        core::v1::{ConfigMap, Namespace, Pod},
        discovery::v1::EndpointSlice,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};

use crate::command::InstallArgs;
use crate::commands::kubernetes::{
    CONTROL_PLANE, SYSTEM_NAMESPACE,
    cluster::{Answer, ask, get, list},
    manifests,
};

/// The webhook's configuration.
pub(super) const INJECTOR: &str = "weft-injector";
/// The ConfigMap with the mesh's roots, in every namespace that has meshed pods.
pub(super) const ROOTS: &str = "weft-roots";

/// What there is in the cluster.
#[derive(Debug)]
pub(super) struct Facts {
    /// The system namespace.
    pub(super) system: Answer<Option<Namespace>>,
    pub(super) deployment: Answer<Option<Deployment>>,
    /// Of the system namespace's Services.
    pub(super) slices: Answer<Vec<EndpointSlice>>,
    pub(super) webhook: Answer<Option<MutatingWebhookConfiguration>>,
    /// Each definition that is to be there, by name.
    pub(super) definitions: Vec<(String, Answer<Option<CustomResourceDefinition>>)>,
    pub(super) namespaces: Answer<Vec<Namespace>>,
    /// Of all namespaces.
    pub(super) pods: Answer<Vec<Pod>>,
    /// Of all namespaces.
    pub(super) roots: Answer<Vec<ConfigMap>>,
}

/// Asks all questions side by side.
pub(super) async fn gather(client: &Client) -> Facts {
    let roots = ListParams::default().fields(&format!("metadata.name={ROOTS}"));
    let (namespace, deployment, slices, webhook, definitions, namespaces, pods, roots) = futures_util::join!(
        get(Api::all(client.clone()), SYSTEM_NAMESPACE),
        get(Api::namespaced(client.clone(), SYSTEM_NAMESPACE), CONTROL_PLANE),
        list(Api::namespaced(client.clone(), SYSTEM_NAMESPACE), ListParams::default()),
        get(Api::all(client.clone()), INJECTOR),
        definitions(client),
        list(Api::all(client.clone()), ListParams::default()),
        list(Api::all(client.clone()), ListParams::default()),
        list(Api::all(client.clone()), roots),
    );
    Facts { system: namespace, deployment, slices, webhook, definitions, namespaces, pods, roots }
}

async fn definitions(client: &Client) -> Vec<(String, Answer<Option<CustomResourceDefinition>>)> {
    let ours = weft_control_plane::model::crd::all();
    let names = ours.iter().filter_map(|ours| ours["metadata"]["name"].as_str());
    join_all(
        names.map(
            |name| async move { (name.to_owned(), get(Api::all(client.clone()), name).await) },
        ),
    )
    .await
}

/// A right that the installation needs, and whether the user has it.
#[derive(Debug)]
pub(super) struct Right {
    /// "create deployments.apps in weft-system".
    pub(super) what: String,
    pub(super) allowed: Answer<bool>,
}

/// Asks for every right that `kubectl apply` of the manifests needs.
pub(super) async fn rights(client: &Client) -> Vec<Right> {
    let needed = needed();
    join_all(needed.into_iter().map(|attributes| async move {
        let what = describe(&attributes);
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
        let asked = PostParams::default();
        let answer = ask(Box::pin(api.create(&asked, &review))).await;
        Right { what, allowed: answer.map(|a| a.status.is_some_and(|status| status.allowed)) }
    }))
    .await
}

/// Which rights: to read, make and change every kind of object that is installed.
fn needed() -> Vec<ResourceAttributes> {
    let objects = manifests::objects(&InstallArgs::default()).unwrap_or_default();
    let mut needed: Vec<ResourceAttributes> = Vec::new();
    for object in &objects {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let group = text("apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
        let namespace = object["metadata"]["namespace"].as_str();
        for verb in ["get", "create", "patch"] {
            let attributes = ResourceAttributes {
                group: Some(group.to_owned()),
                resource: Some(plural(text("kind"))),
                namespace: namespace.map(str::to_owned),
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            };
            if !needed.contains(&attributes) {
                needed.push(attributes);
            }
        }
    }
    needed
}

/// A kind's name in URLs: all that are installed follow the rule.
fn plural(kind: &str) -> String {
    let lower = kind.to_ascii_lowercase();
    lower.strip_suffix('y').map_or_else(|| format!("{lower}s"), |stem| format!("{stem}ies"))
}

fn describe(attributes: &ResourceAttributes) -> String {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (verb, resource) = (text(&attributes.verb), text(&attributes.resource));
    let group = attributes.group.as_deref().filter(|group| !group.is_empty());
    let group = group.map(|group| format!(".{group}")).unwrap_or_default();
    let place = attributes.namespace.as_ref().map(|name| format!(" in {name}")).unwrap_or_default();
    format!("{verb} {resource}{group}{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_installed_kind_is_asked_for_once() {
        let needed: Vec<String> = needed().iter().map(describe).collect();
        for expected in [
            "create namespaces",
            "patch customresourcedefinitions.apiextensions.k8s.io",
            "create deployments.apps in weft-system",
            "create networkpolicies.networking.k8s.io in weft-system",
            "create clusterroles.rbac.authorization.k8s.io",
            "patch mutatingwebhookconfigurations.admissionregistration.k8s.io",
            "get poddisruptionbudgets.policy in weft-system",
        ] {
            let found = needed.iter().filter(|right| *right == expected).count();
            assert_eq!(found, 1, "{expected}: {needed:#?}");
        }
    }
}
