//! Custom resource definitions: applied, and waited for.
//!
//! In come definitions, out go served kinds. Definitions are the whole cluster's and are not deleted at the end, as
//! tests that run side by side may share them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api as Objects,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};

use super::Cluster;
use crate::wait;

impl Cluster {
    /// Applies custom resource definitions, and waits until they are served.
    ///
    /// # Panics
    /// When one is refused.
    pub async fn apply_definitions(&self, definitions: &[CustomResourceDefinition]) {
        let objects: Objects<CustomResourceDefinition> = Objects::all(self.client());
        for definition in definitions {
            self.apply(&objects, definition).await;
            self.until_served(definition).await;
        }
    }

    /// A real server takes a moment from a definition's being there to serving it.
    async fn until_served(&self, definition: &CustomResourceDefinition) {
        let (group, names) = (&definition.spec.group, &definition.spec.names);
        for version in definition.spec.versions.iter().filter(|version| version.served) {
            let kind = GroupVersionKind::gvk(group, &version.name, &names.kind);
            let resource = ApiResource::from_gvk_with_plural(&kind, &names.plural);
            let objects: Objects<DynamicObject> = Objects::all_with(self.client(), &resource);
            wait::until_true("a definition is served", || async {
                objects.list(&ListParams::default().limit(1)).await.is_ok()
            })
            .await;
        }
    }
}
