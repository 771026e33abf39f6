//! The client of the cluster's API: from the pod's own service account, or from a kubeconfig.

use std::time::Duration;

use kube::{Client, Config, config::KubeConfigOptions};

/// An answer other than a watch takes no longer.
const ANSWER: Duration = Duration::from_secs(30);
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

/// A client of the API: a kubeconfig's where `KUBECONFIG` or `~/.kube/config` names one, else the pod's own.
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
    // Watches are long; the API ends them by itself after some minutes and tells of progress before.
    config.read_timeout = Some(ANSWER.max(Duration::from_secs(295)));
    Client::try_from(config).map_err(|error| ClientError::Unusable(error.to_string()))
}
