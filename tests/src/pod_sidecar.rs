//! The settings of a sidecar as it stands in a pod: who it is by its projected token, whom it trusts by the roots.

use std::{
    fs::Permissions,
    net::IpAddr,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
};

use tempfile::TempDir;
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
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str, mode| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("the folder is writable");
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("it is ours");
            path.display().to_string()
        };
        let token = write("token", token, 0o644);
        let roots = write("roots.pem", roots, 0o644);
        let arguments = vec![
            format!("--workload={workload}"),
            format!("--instance={pod}"),
            format!("--service-account-token-file={token}"),
            format!("--roots-file={roots}"),
            "--app-probe=none".to_owned(),
            "--outbound-listen=127.0.0.1:0".to_owned(),
            "--inbound-listen=127.0.0.1:0".to_owned(),
            "--admin-listen=127.0.0.1:0".to_owned(),
        ];
        Self { folder, arguments }
    }

    /// With a control plane at this `HOST:PORT`.
    #[must_use]
    pub fn control_plane(self, address: &str) -> Self {
        self.with(&format!("--control-plane={address}"))
    }

    /// Behind the rules of `weft-proxy init`, in a pod with these addresses; its user may read the files.
    ///
    /// # Panics
    /// When the files cannot be handed over.
    #[must_use]
    pub fn intercepting(self, addresses: &[IpAddr]) -> Self {
        hand_over(self.folder.path());
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        self.with("--interception=transparent")
            .with(&format!("--pod-ips={}", addresses.join(",")))
            .with("--outbound-listen=[::]:4140")
            .with("--inbound-listen=[::]:4143")
            .with("--admin-listen=[::]:4191")
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
