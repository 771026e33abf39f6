//! A Kubernetes API server in memory, for tests of what reads and writes Kubernetes: strict about what a real one
//! refuses.
//!
//! In come HTTPS requests of any Kubernetes client, out come the answers of a Kubernetes 1.36 API server that no
//! controller, scheduler or kubelet stands behind: nothing happens by itself. Tests may wish for faults. What is
//! served is the table in `kinds`, the custom resources of the definitions applied, TokenRequest and the reviews.
//!
//! What it must never do is to accept what a real server refuses. Where it knows less, it says so: CEL rules
//! (`x-kubernetes-validations`, `matchConditions`) are not evaluated; Pod Security, quotas and the prevention of
//! escalation by RBAC objects are not enforced; `/scale`, `/eviction`, `/exec` and validating webhooks are not served,
//! nor the Table and protobuf forms. The suite in `tests/kubernetes` holds it to a real server when `KUBECONFIG` is
//! set.

pub mod addresses;
pub mod admission;
pub mod apply;
pub mod binding;
pub mod body;
pub mod caller;
pub mod cluster;
pub mod defaults;
pub mod delete;
pub mod discovery;
pub mod failure;
pub mod faults;
pub mod kinds;
pub mod listener;
pub mod lists;
pub mod metadata;
pub mod ownership;
pub mod patch;
pub mod quantity;
pub mod rbac;
pub mod read;
pub mod request;
pub mod reviews;
pub mod schema;
pub mod selector;
pub mod server;
pub mod store;
pub mod tokens;
pub mod validate;
pub mod watch;
pub mod write;

pub use cluster::Cluster;
pub use listener::Api;
