//! Ports: those that a sidecar bound by itself, as it reports them, and free ones for apps.
//!
//! A sidecar binds port 0 and writes what it got, so that nobody can take it in between. An app cannot be
//! asked to: its port is chosen below the range from which the kernel gives ports to clients, so that only
//! a server started at the same moment could take it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use serde::Deserialize;
use weft_proxy::clock;

/// The variable that names the file which a sidecar writes its ports to, as one JSON object, when all are
/// bound.
pub(crate) const REPORT_FILE: &str = "WEFT_PORTS_FILE";

/// What a sidecar bound.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct SidecarPorts {
    pub(crate) outbound: SocketAddr,
    pub(crate) inbound: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// By destination, "HOST:PORT".
    #[serde(default)]
    pub(crate) upstreams: BTreeMap<String, SocketAddr>,
}

/// Waits for a sidecar's report. Cancel-safe.
pub(crate) async fn report(file: &Path) -> SidecarPorts {
    loop {
        // A file that is being written is no JSON yet.
        let text = fs::read(file).unwrap_or_default();
        if let Ok(ports) = serde_json::from_slice(&text) {
            return ports;
        }
        clock::sleep(Duration::from_millis(10)).await;
    }
}

/// Below the kernel's usual range for clients (32768 and up), above well-known servers.
const FIRST: u16 = 20_000;
const LAST: u16 = 31_999;

/// Ports that were given to this run's apps.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port on loopback that nothing listens on, and that was given to nobody before.
pub(crate) fn free() -> anyhow::Result<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let count = LAST - FIRST + 1;
    let start = fastrand::u16(0..count);
    let mut candidates = (0..count).map(|step| FIRST + (start + step) % count);
    let port = candidates
        .find(|port| !given.contains(port) && is_free(*port))
        .with_context(|| format!("every port from {FIRST} to {LAST} is taken"))?;
    given.insert(port);
    Ok(port)
}

/// Whether an app could listen on the port now.
pub(crate) fn is_free(port: u16) -> bool {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    !matches!(bound, Err(error) if error.kind() == io::ErrorKind::AddrInUse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_given_once() {
        let ports: BTreeSet<u16> = (0..50).map(|_| free().expect("a port")).collect();
        assert_eq!(ports.len(), 50);
        assert!(ports.iter().all(|port| (FIRST..=LAST).contains(port)));
    }

    #[test]
    fn a_port_with_a_listener_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let port = listener.local_addr().expect("address").port();
        assert!(!is_free(port));
        drop(listener);
        assert!(is_free(port));
    }

    #[tokio::test]
    async fn a_report_is_taken_once_it_is_whole() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("ports.json");
        fs::write(&file, r#"{"outbound":"127.0.0.1:1","#).expect("written");
        let half = clock::timeout(Duration::from_millis(1), report(&file)).await;
        assert!(half.is_err());
        let whole = r#"{"outbound":"127.0.0.1:1","inbound":"127.0.0.1:2","admin":"127.0.0.1:3",
            "upstreams":{"cache.shop:6379":"127.0.0.1:4"}}"#;
        fs::write(&file, whole).expect("written");
        let ports = report(&file).await;
        assert_eq!(ports.admin.port(), 3);
        assert_eq!(ports.upstreams["cache.shop:6379"].port(), 4);
    }
}
