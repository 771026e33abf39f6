//! What a workload outside Kubernetes registers: its ports, and where others dial its sidecar.
//!
//! Comes in: settings and the bound inbound address. Goes out: the `Register` message. The control plane
//! allows it only where an operator's `Workload` object does.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
};

use weft_proto::discovery::{Interception, Register, RegisteredPort};

use super::{Lookup, Settings};
use crate::{
    clock,
    config::{self, Config},
    dns::Resolver,
};

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
            incarnation: incarnation(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            zone: config.zone.clone(),
            admin_address: admin,
            interception: match config.interception {
                config::Interception::Explicit => Interception::Explicit,
                config::Interception::Transparent => Interception::Transparent,
            },
            registration: (!ports.is_empty()).then_some(Register { ports }),
            lookup: Lookup::by_system(Arc::default()),
        }
    }
}

/// The address that others dial for inbound: the configured one, the one that is listened on, or, when that
/// is every address of the machine, the machine's address towards the control plane. Looks the control plane's
/// name up, so it may block for as long as DNS does: asked once, at the start, of a proxy that registers something.
///
/// # Errors
/// The control plane's name has no address, or the machine no route there; then the address has to be configured.
pub fn advertised_address(config: &Config, bound: SocketAddr) -> io::Result<SocketAddr> {
    if let Some(configured) = config.inbound_advertise {
        return Ok(configured);
    }
    if !bound.ip().is_unspecified() {
        return Ok(bound);
    }
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for control_plane in look_up(&config.control_plane)? {
        // An IPv4 port is not reached by IPv6; the IPv6 port that stands for every address is by both.
        if bound.is_ipv4() && control_plane.is_ipv6() {
            continue;
        }
        match address_towards(control_plane) {
            Ok(address) => return Ok(SocketAddr::new(address, bound.port())),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Looks `HOST:PORT` up, on a thread of its own: the caller may be on a runtime, where nothing else may block.
fn look_up(authority: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = authority.parse() {
        return Ok(vec![address]);
    }
    let look_up = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(Resolver::from_system().authority(authority))
    };
    let ended = std::thread::scope(|scope| scope.spawn(look_up).join());
    ended.unwrap_or_else(|_| Err(io::Error::other("the look-up has panicked")))
}

/// This machine's address on the way to another one.
fn address_towards(other: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match other {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connecting a UDP socket sends nothing; it asks the kernel for the route.
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(other)?;
    Ok(socket.local_addr()?.ip().to_canonical())
}

/// Unique for each start of a proxy: the time and a random number.
fn incarnation() -> String {
    format!("{:x}-{:x}", clock::since_epoch().as_nanos(), fastrand::u64(..))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        config: Config,
    }

    fn config(flags: &[&str]) -> Config {
        let fixed = ["weft-proxy", "--workload", "shop/cart", "--control-plane", "127.0.0.1:4480"];
        let flags = fixed.iter().chain(flags);
        Command::try_parse_from(flags).expect("good flags").config
    }

    #[test]
    fn others_dial_an_address_that_leads_here() {
        let advertise = ["--inbound-advertise", "192.0.2.1:4143"];
        for (flags, bound, advertised) in [
            (&advertise[..], "0.0.0.0:4143", "192.0.2.1:4143"),
            (&[], "10.0.0.5:4143", "10.0.0.5:4143"),
            // The control plane is on this machine: so are all who can reach it.
            (&[], "0.0.0.0:4143", "127.0.0.1:4143"),
        ] {
            let bound = bound.parse().expect("an address");
            let address = advertised_address(&config(flags), bound).expect("a route");
            assert_eq!(address, advertised.parse().expect("an address"), "{flags:?} {bound}");
        }
    }

    #[test]
    fn every_port_of_the_application_is_registered_at_the_inbound_address() {
        let inbound = "10.0.0.5:4143".parse().expect("an address");
        let settings =
            Settings::new(&config(&["--app-port", "http=8080,grpc=50051"]), inbound, None);
        let ports = settings.registration.expect("ports are set").ports;
        let port = |name: &str, app_port| RegisteredPort {
            name: name.to_owned(),
            app_port,
            address: "10.0.0.5:4143".to_owned(),
        };
        assert_eq!(ports, [port("http", 8080), port("grpc", 50_051)]);
        assert_eq!(Settings::new(&config(&[]), inbound, None).registration, None);
    }
}
