//! The client of the cluster's API: from the pod's own service account, or from a kubeconfig.

use std::time::Duration;

use kube::{Client, Config, config::KubeConfigOptions};

/// An answer that somebody waits for takes no longer.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);
/// A watch that is silent for so long is taken for dead, and resumed where it was: an API server tells of progress
/// about once a minute.
const SILENCE: Duration = Duration::from_secs(150);
const CONNECT: Duration = Duration::from_secs(10);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Neither in a pod nor with a kubeconfig.
    #[error(
        "no Kubernetes API is known: this is no pod with a service account ({in_cluster}), and no kubeconfig \
         names one ({kubeconfig})"
    )]
    Unknown {
        /// Why not by the pod.
        in_cluster: String,
        /// Why not by the kubeconfig.
        kubeconfig: String,
    },
    /// What is configured cannot be used.
    #[error("the Kubernetes API cannot be used as configured: {0}")]
    Unusable(String),
}

/// A client of the API: the pod's own where this is a pod with a service account, else that of the kubeconfig which
/// `KUBECONFIG` or `~/.kube/config` names.
///
/// # Errors
/// When there is none, or it cannot be used.
pub async fn connect() -> Result<Client, ClientError> {
    let mut config =
        match Config::incluster() {
            Ok(config) => config,
            Err(in_cluster) => Config::from_kubeconfig(&KubeConfigOptions::default())
                .await
                .map_err(|kubeconfig| ClientError::Unknown {
                    in_cluster: in_cluster.to_string(),
                    kubeconfig: kubeconfig.to_string(),
                })?,
        };
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    Client::try_from(config).map_err(|error| ClientError::Unusable(error.to_string()))
}
