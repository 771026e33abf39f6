//! Weft against the Kubernetes API: the one in memory, or the real one that `KUBECONFIG` names.

mod api;
mod endpoints;
mod identity;
mod inject;
mod install;
mod pods;
mod rolling;
mod routes;

/// Held by whoever makes the webhook's configuration, which has one name in a cluster.
static INJECTOR: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
