//! Which kinds the API serves: a table of the built-in ones, joined by those of the custom resource definitions.
//!
//! In comes a group, version and resource of a path, out goes what the server must know of the kind: its names, its
//! scope, its subresources, and how an object's shape is checked. Built-in shapes are those of `k8s-openapi`'s types.

use std::sync::{Arc, LazyLock};

use k8s_openapi::{
    Resource,
    api::{
        admissionregistration::v1::MutatingWebhookConfiguration,
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::{CronJob, Job},
        coordination::v1::Lease,
        core::v1::{
            ConfigMap, Event, Namespace, Node, Pod, ResourceQuota, Secret, Service, ServiceAccount,
        },
        discovery::v1::EndpointSlice,
        events::v1::Event as NewEvent,
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// How the shape of a kind's objects is checked.
#[derive(Debug, Clone)]
pub enum Shape {
    /// By a type: what it keeps of an object is what is known.
    Typed(fn(Value) -> Result<Value, serde_json::Error>),
    /// By a definition's `openAPIV3Schema`.
    Schema(Arc<Value>),
}

/// One served kind in one version.
#[derive(Debug, Clone)]
pub struct Kind {
    /// The API group; empty for core.
    pub group: String,
    /// The version, as `v1`.
    pub version: String,
    /// The kind, as `EndpointSlice`.
    pub kind: String,
    /// The resource, as `endpointslices`.
    pub plural: String,
    /// One of it, as `endpointslice`.
    pub singular: String,
    /// Other names for the command line.
    pub short_names: Vec<String>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Subresources besides `status`, which [`Kind::has_status`] says.
    pub subresources: &'static [&'static str],
    /// Whether `/status` is apart.
    pub has_status: bool,
    /// Whether `metadata.generation` counts changes of what is wanted.
    pub has_generation: bool,
    /// How its objects' shape is checked.
    pub shape: Shape,
}

impl Kind {
    /// `pods`, `deployments.apps`: the key under which objects of all versions lie, and the name in messages.
    #[must_use]
    pub fn qualified(&self) -> String {
        match self.group.as_str() {
            "" => self.plural.clone(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// `v1`, `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// Whether a definition made it.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        matches!(self.shape, Shape::Schema(_))
    }

    /// Whether it is this built-in kind, as `is("pods")`.
    #[must_use]
    pub fn is(&self, qualified: &str) -> bool {
        !self.is_custom() && self.qualified() == qualified
    }

    /// Whether there is this subresource.
    #[must_use]
    pub fn has_subresource(&self, name: &str) -> bool {
        (name == "status" && self.has_status) || self.subresources.contains(&name)
    }

    fn built_in<K>(names: &[&str], namespaced: bool, traits: &[&str]) -> Self
    where
        K: Resource + Serialize + DeserializeOwned,
    {
        let singular = K::KIND.to_lowercase();
        Self {
            group: K::GROUP.to_owned(),
            version: K::VERSION.to_owned(),
            kind: K::KIND.to_owned(),
            plural: names[0].to_owned(),
            singular,
            short_names: names[1..].iter().map(|&name| name.to_owned()).collect(),
            namespaced,
            subresources: match names[0] {
                "pods" => &["binding"],
                "serviceaccounts" => &["token"],
                "namespaces" => &["finalize"],
                _ => &[],
            },
            has_status: traits.contains(&"status"),
            has_generation: traits.contains(&"generation"),
            shape: Shape::Typed(through::<K>),
        }
    }

    /// The kinds that a definition makes, one for each served version.
    #[must_use]
    pub fn of_definition(definition: &Value) -> Vec<Self> {
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let versions = spec["versions"].as_array().into_iter().flatten();
        let served = versions.filter(|version| version["served"] == true);
        let names = &spec["names"];
        served
            .map(|version| Self {
                group: text(&spec["group"]),
                version: text(&version["name"]),
                kind: text(&names["kind"]),
                plural: text(&names["plural"]),
                singular: names["singular"]
                    .as_str()
                    .map_or_else(|| text(&names["kind"]).to_lowercase(), str::to_owned),
                short_names: names["shortNames"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(text)
                    .collect(),
                namespaced: spec["scope"] == "Namespaced",
                subresources: &[],
                has_status: version["subresources"].get("status").is_some(),
                has_generation: true,
                shape: Shape::Schema(Arc::new(version["schema"]["openAPIV3Schema"].clone())),
            })
            .collect()
    }
}

/// What a type keeps of an object, after it was read and written again.
fn through<K: Serialize + DeserializeOwned>(value: Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(serde_json::from_value::<K>(value)?)
}

/// The built-in kinds.
pub static BUILT_IN: LazyLock<Vec<Arc<Kind>>> = LazyLock::new(|| {
    let both = &["status", "generation"];
    let kinds = vec![
        Kind::built_in::<Namespace>(&["namespaces", "ns"], false, &["status"]),
        Kind::built_in::<Node>(&["nodes", "no"], false, &["status"]),
        Kind::built_in::<Pod>(&["pods", "po"], true, both),
        Kind::built_in::<Service>(&["services", "svc"], true, &["status"]),
        Kind::built_in::<ServiceAccount>(&["serviceaccounts", "sa"], true, &[]),
        Kind::built_in::<ConfigMap>(&["configmaps", "cm"], true, &[]),
        Kind::built_in::<ResourceQuota>(&["resourcequotas", "quota"], true, &["status"]),
        Kind::built_in::<Secret>(&["secrets"], true, &[]),
        Kind::built_in::<Event>(&["events", "ev"], true, &[]),
        Kind::built_in::<NewEvent>(&["events", "ev"], true, &[]),
        Kind::built_in::<EndpointSlice>(&["endpointslices"], true, &["generation"]),
        Kind::built_in::<Deployment>(&["deployments", "deploy"], true, both),
        Kind::built_in::<StatefulSet>(&["statefulsets", "sts"], true, both),
        Kind::built_in::<DaemonSet>(&["daemonsets", "ds"], true, both),
        Kind::built_in::<ReplicaSet>(&["replicasets", "rs"], true, both),
        Kind::built_in::<Job>(&["jobs"], true, both),
        Kind::built_in::<CronJob>(&["cronjobs", "cj"], true, both),
        Kind::built_in::<MutatingWebhookConfiguration>(
            &["mutatingwebhookconfigurations"],
            false,
            &["generation"],
        ),
        Kind::built_in::<ClusterRole>(&["clusterroles"], false, &[]),
        Kind::built_in::<ClusterRoleBinding>(&["clusterrolebindings"], false, &[]),
        Kind::built_in::<Role>(&["roles"], true, &[]),
        Kind::built_in::<RoleBinding>(&["rolebindings"], true, &[]),
        Kind::built_in::<PodDisruptionBudget>(&["poddisruptionbudgets", "pdb"], true, both),
        Kind::built_in::<NetworkPolicy>(&["networkpolicies", "netpol"], true, &["generation"]),
        Kind::built_in::<Lease>(&["leases"], true, &[]),
        Kind::built_in::<CustomResourceDefinition>(
            &["customresourcedefinitions", "crd", "crds"],
            false,
            both,
        ),
    ];
    kinds.into_iter().map(Arc::new).collect()
});

/// Objects that are only asked for and never kept, with where they are served.
pub const REVIEWS: &[(&str, &str, &str)] = &[
    ("authentication.k8s.io", "tokenreviews", "TokenReview"),
    ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
    ("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    ("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    ("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"),
];

/// A built-in kind by its qualified name.
///
/// # Panics
/// When there is no such kind.
#[must_use]
pub fn built_in(qualified: &str) -> Arc<Kind> {
    let found = BUILT_IN.iter().find(|kind| kind.qualified() == qualified);
    Arc::clone(found.unwrap_or_else(|| panic!("no built-in kind {qualified}")))
}
