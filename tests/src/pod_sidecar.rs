//! The settings of a sidecar as it stands in a pod: who it is by its projected token, whom it trusts by the roots, and
//! for an injected pod what the environment of its container says.

use std::{
    fs::Permissions,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
};

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};
use kube::ResourceExt as _;
use tempfile::TempDir;
use weft_control_plane::inject::PROXY_CONTAINER;
use weft_proxy::config::Config;

use crate::{mesh::parse, namespace::User};

/// What is projected into a pod: it is there as long as this is.
#[derive(Debug)]
pub struct PodSidecar {
    folder: TempDir,
    arguments: Vec<String>,
}

impl PodSidecar {
    /// The sidecar of a pod, `NAMESPACE/WORKLOAD` and its name, with a token and roots.
    ///
    /// # Panics
    /// When the files cannot be written.
    #[must_use]
    pub fn new(workload: &str, pod: &str, token: &str, roots: &str) -> Self {
        Self::projected(token, roots)
            .with(&format!("--workload={workload}"))
            .with(&format!("--instance={pod}"))
            .with("--app-probe=none")
            .with("--outbound-listen=127.0.0.1:0")
            .with("--inbound-listen=127.0.0.1:0")
            .with("--admin-listen=127.0.0.1:0")
    }

    /// The sidecar of an injected pod that has its addresses, as its container says, with a token and roots.
    ///
    /// # Panics
    /// When the pod has no sidecar, or the files cannot be written or handed over.
    #[must_use]
    pub fn injected(pod: &Pod, token: &str, roots: &str) -> Self {
        let sidecar = Self::projected(token, roots);
        hand_over(sidecar.folder.path());
        let environment = container(pod, PROXY_CONTAINER).env.unwrap_or_default();
        let flags = environment.iter().filter_map(|variable| flag(pod, variable));
        flags.fold(sidecar, |sidecar, flag| sidecar.with(&flag))
    }

    /// What is projected into a pod, and nothing said of it.
    fn projected(token: &str, roots: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str, mode| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("the folder is writable");
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("it is ours");
            path.display().to_string()
        };
        let token = write("token", token, 0o644);
        let roots = write("roots.pem", roots, 0o644);
        let arguments =
            vec![format!("--service-account-token-file={token}"), format!("--roots-file={roots}")];
        Self { folder, arguments }
    }

    /// With a control plane at this `HOST:PORT`.
    #[must_use]
    pub fn control_plane(self, address: &str) -> Self {
        self.with(&format!("--control-plane={address}"))
    }

    /// With a further setting, `--name=value`; the last one of a name counts.
    #[must_use]
    pub fn with(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> Config {
        parse(&self.arguments)
    }
}

fn hand_over(folder: &Path) {
    chown(folder, Some(User::Proxy.uid()), None).expect("root may do so");
}

/// A container of a pod by its name, among those that begin before the application too.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn container(pod: &Pod, name: &str) -> Container {
    let spec = pod.spec.as_ref().expect("a pod has a spec");
    let mut all = spec.init_containers.iter().flatten().chain(&spec.containers);
    all.find(|container| container.name == name).cloned().unwrap_or_else(|| panic!("no {name}"))
}

/// The flag of a variable, with its value as a kubelet makes it; none for a variable that only others name, and for
/// the files, which lie elsewhere here.
fn flag(pod: &Pod, variable: &EnvVar) -> Option<String> {
    let value = match &variable.value {
        Some(value) => {
            let namespace = pod.namespace().unwrap_or_default();
            value.replace("$(WEFT_NAMESPACE)", &namespace).replace("$$", "$")
        }
        None => field(pod, variable),
    };
    match variable.name.as_str() {
        "WEFT_NAMESPACE" | "WEFT_SERVICE_ACCOUNT_TOKEN_FILE" | "WEFT_ROOTS_FILE" => None,
        "WEFT_ACCESS_LOG" => (value == "true").then(|| "--access-log".to_owned()),
        name => {
            let name = name.strip_prefix("WEFT_").expect("all are the sidecar's");
            Some(format!("--{}={value}", name.to_lowercase().replace('_', "-")))
        }
    }
}

/// A field of the pod that a variable refers to.
fn field(pod: &Pod, variable: &EnvVar) -> String {
    let source = variable.value_from.as_ref().and_then(|from| from.field_ref.as_ref());
    match source.map(|field| field.field_path.as_str()) {
        Some("metadata.namespace") => pod.namespace().unwrap_or_default(),
        Some("metadata.name") => pod.name_any(),
        Some("status.podIPs") => {
            let status = pod.status.as_ref().expect("it runs");
            let ips: Vec<_> = status.pod_ips.iter().flatten().map(|one| one.ip.clone()).collect();
            ips.join(",")
        }
        other => panic!("{}: {other:?}", variable.name),
    }
}
