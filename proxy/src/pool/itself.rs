//! An endpoint that is this very instance: a pod that calls itself by its service.
//!
//! In a pod a caller dials the application's own port, and the other pod's rules lead it to the sidecar there. The
//! sidecar's own connections are not led anywhere: its mutual TLS would reach its application. So it dials its own
//! inbound port instead, and is served there like any caller, with its identity, under the port's policy.

use std::net::{IpAddr, SocketAddr};

use crate::discovery::Endpoint;

/// Knows this instance among endpoints.
#[derive(Debug, Clone, Default)]
pub struct Itself {
    /// The pod's own; none outside a pod, where endpoints are dialled at the sidecar's port anyway.
    ips: Vec<IpAddr>,
    inbound_port: u16,
}

impl Itself {
    /// An instance that has these addresses, whose sidecar's inbound port is this one.
    #[must_use]
    pub fn new(ips: &[IpAddr], inbound_port: u16) -> Self {
        Self { ips: ips.iter().map(IpAddr::to_canonical).collect(), inbound_port }
    }

    /// Where to dial an endpoint at which a sidecar stands.
    #[must_use]
    pub fn address_of(&self, endpoint: &Endpoint) -> SocketAddr {
        if self.ips.contains(&endpoint.address.ip().to_canonical()) {
            return SocketAddr::new(endpoint.address.ip(), self.inbound_port);
        }
        endpoint.address
    }
}

#[cfg(test)]
mod tests {
    use weft_proto::Port;

    use super::*;

    #[test]
    fn only_this_instance_is_dialled_at_its_sidecars_port() {
        let ips = ["10.0.0.5", "fd00::5"].map(|ip| ip.parse().expect("an address"));
        let pod = Itself::new(&ips, 4143);
        let nowhere = Itself::default();
        for (endpoint, dialled) in [
            ("10.0.0.5:8080", "10.0.0.5:4143"),
            ("[fd00::5]:8080", "[fd00::5]:4143"),
            ("[::ffff:10.0.0.5]:8080", "[::ffff:10.0.0.5]:4143"),
            ("10.0.0.6:8080", "10.0.0.6:8080"),
            ("[fd00::6]:8080", "[fd00::6]:8080"),
        ] {
            let address: SocketAddr = endpoint.parse().expect("an address");
            let endpoint = Endpoint::plain(address, Port::new(8080).expect("a port"));
            assert_eq!(pod.address_of(&endpoint), dialled.parse().expect("an address"));
            assert_eq!(nowhere.address_of(&endpoint), address);
        }
    }
}
