//! The network that the proxy stands on: the operating system's, or the simulator's under `--cfg weft_sim`.
//!
//! Every socket of the proxy is made from these types, so that a simulation can partition, delay and cut. Both
//! networks offer the same; only this file chooses.

use std::net::{IpAddr, SocketAddr};

#[cfg(weft_sim)]
mod simulated;
#[cfg(not(weft_sim))]
mod system;

#[cfg(weft_sim)]
pub use simulated::{
    Binding, TcpListener, TcpStream, bind, connect, connect_by_name, original_destination,
    reset_at_end,
};
#[cfg(weft_sim)]
pub(crate) use simulated::{failed, unacknowledged};
#[cfg(not(weft_sim))]
pub use system::{
    Binding, TcpListener, TcpStream, bind, connect, connect_by_name, original_destination,
    reset_at_end,
};
#[cfg(not(weft_sim))]
pub(crate) use system::{failed, unacknowledged};

/// The address that people know: an IPv4 peer of a dual-stack socket shows as `::ffff:10.0.0.1` otherwise.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        // As it was: a link-local address goes with its interface.
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_peer_of_a_dual_stack_socket_shows_as_one() {
        for (given, shown) in [
            ("[::ffff:10.77.0.2]:80", "10.77.0.2:80"),
            ("10.77.0.2:80", "10.77.0.2:80"),
            ("[fd77::2]:80", "[fd77::2]:80"),
            ("[fe80::1%3]:80", "[fe80::1%3]:80"),
        ] {
            let given: SocketAddr = given.parse().expect("an address");
            assert_eq!(canonical(given).to_string(), shown);
        }
    }
}
