//! Weft against the Kubernetes API: the one in memory, or the real one that `KUBECONFIG` names.

mod endpoints;
mod identity;
