//! A sidecar as a process of its own: for what is measured per process, such as memory.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::OnceCell,
};

use crate::{
    client::get_once,
    mesh::{Mesh, SidecarSpec},
    wait,
};

/// A `weft-proxy` that runs; it is killed when dropped.
#[derive(Debug)]
pub struct ProxyProcess {
    /// The bound ports of destinations.
    pub upstreams: BTreeMap<String, SocketAddr>,
    child: Child,
    _folder: TempDir,
}

impl ProxyProcess {
    /// Starts a sidecar, and waits until it is ready.
    pub async fn start(mesh: &Mesh, spec: SidecarSpec) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("ports.json");
        let mut command = Command::new(program().await);
        command
            .args(mesh.sidecar_arguments(spec).await)
            .arg(format!("--ports-file={}", file.display()))
            .arg("--log=error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        let child = command.spawn().expect("the program starts");
        let ports = wait::until("the proxy's ports", || async { read(&file) }).await;
        let address = |value: &serde_json::Value| -> SocketAddr {
            value.as_str().and_then(|text| text.parse().ok()).expect("an address")
        };
        let admin = address(&ports["admin"]);
        wait::until_true("the proxy to be ready", || async {
            get_once(admin, "/ready").await.status == http::StatusCode::OK
        })
        .await;
        let upstreams = ports["upstreams"].as_object().expect("an object of addresses");
        let upstreams = upstreams.iter().map(|(name, value)| (name.clone(), address(value)));
        Self { upstreams: upstreams.collect(), child, _folder: folder }
    }

    /// The peak of its resident memory in bytes, since its start or [`ProxyProcess::forget_peak`].
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(self.proc("status")).expect("the proxy runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux");
        let kibibytes = line.trim().trim_end_matches(" kB");
        kibibytes.parse::<u64>().expect("a number of KiB") * 1024
    }

    /// Lets the peak begin anew at what is resident now.
    pub fn forget_peak(&self) {
        std::fs::write(self.proc("clear_refs"), "5").expect("our own process");
    }

    fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.child.id().expect("it runs"))).join(file)
    }
}

fn read(file: &Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// `weft-proxy`, which lies beside the tests; built now, once in a process.
///
/// # Panics
/// When it cannot be built.
pub async fn program() -> PathBuf {
    static PROGRAM: OnceCell<PathBuf> = OnceCell::const_new();
    PROGRAM.get_or_init(build).await.clone()
}

async fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let program = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST").join("weft-proxy");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "-p", "weft-proxy"]);
    if program.parent().is_some_and(|folder| folder.ends_with("release")) {
        build.arg("--release");
    }
    // Always: what lies there may be older than the sources.
    let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().await;
    assert!(built.is_ok_and(|status| status.success()), "cargo build -p weft-proxy has failed");
    assert!(program.is_file(), "{} was built", program.display());
    program
}
