//! Weft in a cluster: `weft install`, `weft uninstall`, `weft check`.
//!
//! - [`manifests`]: the objects of an installation, embedded; one truth for all three commands.
//! - [`install`], [`uninstall`]: print objects for `kubectl`; they reach no cluster.
//! - [`cluster`]: the API server that the user means.
//! - [`check`]: asks it much, and changes nothing in it.

pub(super) mod check;
mod cluster;
pub(super) mod install;
mod manifests;
pub(super) mod uninstall;

/// Where the control plane runs.
const SYSTEM_NAMESPACE: &str = "weft-system";
/// The control plane's Deployment, Service and account.
const CONTROL_PLANE: &str = "weft-control-plane";
/// Says of a namespace or a pod whether it is meshed.
const INJECT: &str = "weft.dev/inject";
