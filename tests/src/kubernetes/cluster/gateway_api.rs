//! The Gateway API's definitions, as far as Weft reads their kinds: the names, the versions, a status apart. Their
//! schemas say nothing of the specs: what a cluster would refuse is no matter here.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api as Objects,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};

use super::Cluster;

const GROUP: &str = "gateway.networking.k8s.io";

/// The kinds with their versions, the one first in which a cluster keeps them.
const KINDS: [(&str, &str, &[&str]); 5] = [
    ("HTTPRoute", "httproutes", &["v1", "v1beta1"]),
    ("GRPCRoute", "grpcroutes", &["v1"]),
    ("TLSRoute", "tlsroutes", &["v1alpha3"]),
    ("TCPRoute", "tcproutes", &["v1alpha2"]),
    ("ReferenceGrant", "referencegrants", &["v1beta1"]),
];

/// The definitions of routes and grants.
///
/// # Panics
/// Never: they are well-formed.
#[must_use]
pub fn gateway_api() -> Vec<CustomResourceDefinition> {
    let definitions = KINDS.iter().map(|(kind, plural, versions)| {
        let versions = versions.iter().enumerate().map(|(index, version)| {
            version_of(version, index == 0, *kind != "ReferenceGrant")
        });
        let definition = json!({
            "metadata": {"name": format!("{plural}.{GROUP}")},
            "spec": {
                "group": GROUP, "scope": "Namespaced",
                "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")},
                "versions": versions.collect::<Vec<Value>>(),
            },
        });
        serde_json::from_value(definition).expect("a definition")
    });
    definitions.collect()
}

fn version_of(name: &str, stored: bool, has_status: bool) -> Value {
    let free = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let mut schema = json!({"type": "object", "properties": {"spec": free}});
    let mut version = json!({"name": name, "served": true, "storage": stored});
    if has_status {
        // As in the real definition, the list is there, and one value as a whole.
        let parents = json!({"type": "array", "x-kubernetes-list-type": "atomic", "items": free});
        schema["properties"]["status"] =
            json!({"type": "object", "required": ["parents"], "properties": {"parents": parents}});
        version["subresources"] = json!({"status": {}});
    }
    version["schema"] = json!({"openAPIV3Schema": schema});
    version
}

impl Cluster {
    /// The objects of one of the Gateway API's kinds in a namespace, in the version in which the cluster keeps them.
    ///
    /// # Panics
    /// When there is no such kind.
    #[must_use]
    pub fn gateway_objects(&self, kind: &str, namespace: &str) -> Objects<DynamicObject> {
        let known = KINDS.iter().find(|(name, ..)| *name == kind);
        let (kind, plural, versions) = known.expect("one of the Gateway API's kinds");
        let kind = GroupVersionKind::gvk(GROUP, versions[0], kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, plural);
        Objects::namespaced_with(self.client(), namespace, &resource)
    }
}
