//! What a user can type about a cluster: only declarations, as in `command.rs`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use weft_proto::TrustDomain;

use super::FormatArgs;

/// Which cluster.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClusterArgs {
    /// The file that says how to reach the cluster [default: $KUBECONFIG, or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Which of its contexts [default: its current one]
    #[arg(long)]
    pub(crate) context: Option<String>,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct InstallArgs {
    /// The control plane's image
    #[arg(long, value_parser = image)]
    pub(crate) image: Option<String>,
    /// The image of the sidecars, which the control plane puts into pods
    #[arg(long, value_parser = image)]
    pub(crate) proxy_image: Option<String>,
    /// The trust domain of every identity; one that runs must keep its own
    #[arg(long)]
    pub(crate) trust_domain: Option<TrustDomain>,
    /// Whether meshed pods take traffic from outside the mesh, where no MeshConfig says it
    #[arg(long, value_enum)]
    pub(crate) inbound_mode: Option<InboundMode>,
    /// Leave out the definitions of Weft's own kinds, where somebody else keeps them
    #[arg(long)]
    pub(crate) no_crds: bool,
}

/// Whether meshed pods take traffic from outside the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InboundMode {
    /// Mutual TLS from the mesh only
    Strict,
    /// Also plaintext
    Permissive,
}

impl InboundMode {
    /// As the control plane's flag takes it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Permissive => "permissive",
        }
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct UninstallArgs {
    /// Keep the definitions of Weft's own kinds, and with them every object of these kinds
    #[arg(long)]
    pub(crate) keep_crds: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Before the installation: whether the cluster, and your rights in it, are what it needs
    #[arg(long)]
    pub(crate) pre: bool,
    /// A namespace that you mean to mesh, beside those that are labelled; repeatable
    #[arg(short, long = "namespace", value_name = "NAMESPACE")]
    pub(crate) namespaces: Vec<String>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// The reference of an image.
fn image(text: &str) -> Result<String, String> {
    let graphic = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.is_empty() || !graphic || text.starts_with(['-', '/', ':']) {
        let right =
            "use [REGISTRY/]NAME[:TAG][@DIGEST], such as registry.example.org/weft/proxy:0.1.0";
        return Err(format!("{text:?} is no image: {right}"));
    }
    Ok(text.to_owned())
}
