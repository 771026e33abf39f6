//! What a workload outside Kubernetes registers: its ports, and where others dial its sidecar.
//!
//! Comes in: settings and the bound inbound address. Goes out: the `Register` message. The control plane
//! allows it only where an operator's `Workload` object does.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::net::UdpSocket;
use weft_proto::discovery::{Interception, Register, RegisteredPort};

use super::Settings;
use crate::config::{self, Config};

impl Settings {
    /// Settings of a proxy with this configuration, whose inbound port others dial at `inbound` (see
    /// [`advertised_address`]) and whose admin port listens on `admin`.
    #[must_use]
    pub fn new(config: &Config, inbound: SocketAddr, admin: Option<SocketAddr>) -> Self {
        let ports: Vec<_> = config
            .app_ports
            .iter()
            .map(|port| RegisteredPort {
                name: port.name.clone(),
                app_port: port.port.into(),
                address: inbound.to_string(),
            })
            .collect();
        Self {
            workload: config.workload.clone(),
            instance: config.instance.clone(),
            incarnation: format!("{:016x}", fastrand::u64(..)),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            zone: config.zone.clone(),
            admin_address: admin,
            interception: match config.interception {
                config::Interception::Explicit => Interception::Explicit,
                config::Interception::Transparent => Interception::Transparent,
            },
            registration: (!ports.is_empty()).then_some(Register { ports }),
        }
    }
}

/// The address that others dial for inbound: the configured one, the one that is listened on, or, when that
/// is every address of the machine, the machine's address towards the control plane.
///
/// # Errors
/// The machine has no route to the control plane; then the address has to be configured.
pub async fn advertised_address(config: &Config, bound: SocketAddr) -> io::Result<SocketAddr> {
    if let Some(configured) = config.inbound_advertise {
        return Ok(configured);
    }
    if !bound.ip().is_unspecified() {
        return Ok(bound);
    }
    // Connecting a UDP socket sends nothing; it asks the kernel for the route.
    let any: IpAddr = match bound {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(&config.control_plane).await?;
    let address = socket.local_addr()?.ip().to_canonical();
    Ok(SocketAddr::new(address, bound.port()))
}
