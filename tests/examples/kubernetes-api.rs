//! The in-memory Kubernetes API as a program, to try `kubectl` and `weft` on where there is no cluster.
//!
//! In come where to write the admin's kubeconfig, and where Services with webhooks are served; out go the kubeconfig and
//! the API, until SIGINT or SIGTERM. Nothing stands behind it (see `weft_tests::kubernetes`), and nothing outlives it.
//!
//! ```text
//! cargo run -p weft-tests --example kubernetes-api -- --kubeconfig /tmp/kubeconfig \
//!     --service weft-system/weft-webhook:443=127.0.0.1:4443
//! ```

use std::{
    fs::OpenOptions,
    io::{Write as _, stdout},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    str::FromStr,
};

use anyhow::Context as _;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use weft_tests::kubernetes::Api;

/// The Kubernetes API in memory: no controllers, no scheduler, no kubelet
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the admin's kubeconfig is written
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Where a Service that a webhook stands behind is served; repeatable
    #[arg(long = "service", value_name = "NAMESPACE/NAME:PORT=ADDRESS:PORT")]
    services: Vec<Served>,
}

/// A Service's port, and where it is served.
#[derive(Debug, Clone)]
struct Served {
    namespace: String,
    name: String,
    port: u16,
    address: SocketAddr,
}

impl FromStr for Served {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (service, address) = text.split_once('=')?;
            let (namespace, port) = service.split_once('/')?;
            let (name, port) = port.split_once(':')?;
            Some(Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                port: port.parse().ok()?,
                address: address.parse().ok()?,
            })
        };
        parse().ok_or_else(|| "use weft-system/weft-webhook:443=127.0.0.1:4443".to_owned())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut stop = signal(SignalKind::terminate())?;
    let api = Api::start().await;
    for service in &arguments.services {
        api.resolve(&service.namespace, &service.name, service.port, service.address);
    }
    let path = &arguments.kubeconfig;
    let kubeconfig = serde_norway::to_string(&api.kubeconfig(api.admin_token()))?;
    // The admin's token is in it.
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(path)
        .and_then(|mut file| file.write_all(kubeconfig.as_bytes()))
        .with_context(|| format!("--kubeconfig {}", path.display()))?;
    writeln!(stdout(), "export KUBECONFIG={}", path.display())?;
    tokio::select! {
        _ = stop.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}
