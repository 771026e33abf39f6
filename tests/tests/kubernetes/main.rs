//! Weft against the Kubernetes API: the one in memory, or the real one that `KUBECONFIG` names.

mod api;
mod endpoints;
mod identity;
mod inject;
mod install;
mod rolling;
