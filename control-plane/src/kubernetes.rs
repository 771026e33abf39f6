//! Kubernetes as the ground that a mesh stands on: who is there, who may be whom, where secrets lie.
//!
//! Comes in: a client of the cluster's API. Goes out: pods and endpoint slices for the index, checked tokens for the
//! certificate authority, the trust roots for every namespace that needs them. The operator's objects come by
//! [`crate::store::kubernetes`]. It must never ask the API in a storm, nor lose a change because the API went away.
//!
//! - [`client`](mod@client): the API's client, from the pod's own account or a kubeconfig;
//! - `follow`: a list and its changes, without gap, whatever the API does;
//! - `observed`: pods and slices as they are read: only the fields used;
//! - [`instances`]: these, into the catalog;
//! - [`tokens`]: a pod's projected token, checked by TokenReview;
//! - [`roots`]: the ConfigMap with the trust roots in every namespace with sidecars;
//! - [`vault`]: the authority's state in a Secret.

pub mod client;
pub(crate) mod follow;
pub mod instances;
mod observed;
pub mod roots;
pub mod tokens;
pub mod vault;

/// As whom the control plane changes fields of objects (server-side apply).
pub const FIELD_MANAGER: &str = "weft-control-plane";
/// Whom a sidecar's token is for.
pub const TOKEN_AUDIENCE: &str = "weft.dev";
/// The ConfigMap of trust roots.
pub const ROOTS: &str = "weft-roots";
/// Its key.
pub const ROOTS_KEY: &str = "roots.pem";
/// The Secret of the control plane's state.
pub const STATE: &str = "weft-control-plane-state";
/// The label of what Weft makes at run time.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "weft");
