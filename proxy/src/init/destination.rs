//! Where a probe connection goes: to an address that nobody has, but to which there is a route.
//!
//! Comes in: what is left out of interception, and this network namespace's routes. Goes out: an address and a port.
//! A connection is routed before it is redirected, so an address without a route proves nothing. A pod without a
//! default route still has one to its own network: then an address there is taken, at the port of the discard
//! service, so that a packet that does leave disturbs nobody.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use super::{
    rules::Table,
    skip::{Key, number},
};

/// Nobody serves it (RFC 863), and where somebody does, it does nothing.
const DISCARD: u16 = 9;

/// Documentation's addresses, which nobody has (RFC 5737, RFC 3849).
const NOBODYS_IPV4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(203, 0, 113, 1)];
const NOBODYS_IPV6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// Flags of a route (linux/route.h): it is in force, and it refuses.
const RTF_UP: u32 = 0x1;
const RTF_REJECT: u32 = 0x200;

/// Whether there is a destination that tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// This one.
    At(SocketAddr),
    /// All that is reachable is left out of interception.
    Skipped,
    /// There is no route of this family but to this network namespace itself.
    NoRoute,
}

/// Chooses a destination of a family.
pub(crate) fn choose(table: &Table, family: Key) -> Destination {
    let is_skipped =
        |key, value| table.skipped_outbound(key).is_some_and(|skipped| skipped.contains(value));
    let port = std::iter::once(DISCARD).chain(1..=u16::MAX);
    let Some(port) = port.into_iter().find(|&port| !is_skipped(Key::Port, port.into())) else {
        return Destination::Skipped;
    };
    let candidates = nobodys(family).into_iter().chain(on_routes(family));
    let mut routed = candidates.map(|ip| SocketAddr::new(ip, port)).filter(is_routed).peekable();
    if routed.peek().is_none() {
        return Destination::NoRoute;
    }
    let open = routed.find(|address| !is_skipped(family, number(address.ip())));
    open.map_or(Destination::Skipped, Destination::At)
}

fn nobodys(family: Key) -> Vec<IpAddr> {
    match family {
        Key::Ipv6 => vec![NOBODYS_IPV6.into()],
        Key::Ipv4 | Key::Port => NOBODYS_IPV4.map(IpAddr::from).to_vec(),
    }
}

/// Whether there is a route that leads out of this network namespace; no packet is sent.
fn is_routed(address: &SocketAddr) -> bool {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let Ok(socket) = UdpSocket::bind(SocketAddr::new(any, 0)) else { return false };
    // A connection from an address to itself does not leave, nor does one from loopback.
    socket.connect(address).is_ok()
        && socket
            .local_addr()
            .is_ok_and(|local| local.ip() != address.ip() && !local.ip().is_loopback())
}

/// The first addresses of the networks that routes lead to.
fn on_routes(family: Key) -> Vec<IpAddr> {
    let networks: Vec<u128> = match family {
        Key::Ipv6 => read("/proc/self/net/ipv6_route", ipv6_route),
        Key::Ipv4 | Key::Port => read("/proc/self/net/route", ipv4_route),
    };
    // The network's own number is no host's; the first two host addresses, for one may be this namespace's.
    let hosts = networks.into_iter().flat_map(|network| [network | 1, network | 2]);
    hosts.map(|host| family.address(host)).filter(|address| !address.is_multicast()).collect()
}

fn read(file: &str, route: fn(&str) -> Option<u128>) -> Vec<u128> {
    fs::read_to_string(file).unwrap_or_default().lines().filter_map(route).collect()
}

/// A line such as `eth0 00004D0A 00000000 0001 0 0 0 00FFFFFF 0 0 0`: the network and the mask are in the byte order
/// of the network, as a number of this machine's.
fn ipv4_route(line: &str) -> Option<u128> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [interface, network, _gateway, flags, _, _, _, mask, ..] = fields[..] else { return None };
    let hex = |text| u32::from_str_radix(text, 16).ok();
    let (network, flags, mask) = (hex(network)?, hex(flags)?, hex(mask)?);
    let has_hosts = u32::from_be(mask).trailing_zeros() >= 2 && mask != 0;
    is_usable(interface, flags, has_hosts).then(|| u32::from_be(network).into())
}

/// A line such as `fd77…00 40 000…0 00 000…0 00000100 00000001 00000000 00000001 eth0`: network, length of the prefix,
/// source, its length, next hop, metric, references, uses, flags, interface.
fn ipv6_route(line: &str) -> Option<u128> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [network, prefix, _, _, _, _, _, _, flags, interface] = fields[..] else { return None };
    let network = u128::from_str_radix(network, 16).ok()?;
    let prefix = u32::from_str_radix(prefix, 16).ok()?;
    let flags = u32::from_str_radix(flags, 16).ok()?;
    // Link-local networks are never intercepted.
    let has_hosts = (1..=126).contains(&prefix) && network >> 118 != 0x3fa;
    is_usable(interface, flags, has_hosts).then_some(network)
}

fn is_usable(interface: &str, flags: u32, has_hosts: bool) -> bool {
    has_hosts && interface != "lo" && flags & RTF_UP != 0 && flags & RTF_REJECT == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_to_networks_are_found_among_all_others() {
        let of_ipv4 = |line| ipv4_route(line).map(|network| Key::Ipv4.address(network).to_string());
        for (line, network) in [
            ("Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT", None),
            ("eth0 00000000 014D0A0A 0003 0 0 0 00000000 0 0 0", None),
            ("eth0 00004D0A 00000000 0001 0 0 0 00FFFFFF 0 0 0", Some("10.77.0.0")),
            ("eth0 01014D0A 00000000 0005 0 0 0 FFFFFFFF 0 0 0", None),
            ("* 00004D0A 00000000 0201 0 0 0 00FFFFFF 0 0 0", None),
        ] {
            let expected = if cfg!(target_endian = "little") { network } else { continue };
            assert_eq!(of_ipv4(line).as_deref(), expected, "{line}");
        }
        let zeros = "0".repeat(32);
        let of_ipv6 = |network: &str, prefix: &str, flags: &str, interface: &str| {
            let rest = format!("{zeros} 00 {zeros} 00000100 00000001 00000000 {flags}");
            let line = format!("{network} {prefix} {rest} {interface}");
            ipv6_route(&line).map(|network| Key::Ipv6.address(network).to_string())
        };
        let ours = "fd770000000000000000000000000000";
        let link_local = "fe800000000000000000000000000000";
        assert_eq!(of_ipv6(ours, "40", "00000001", "eth0").as_deref(), Some("fd77::"));
        assert_eq!(of_ipv6(link_local, "40", "00000001", "eth0"), None, "link-local");
        assert_eq!(of_ipv6(&zeros, "00", "00000003", "eth0"), None, "the default route");
        assert_eq!(of_ipv6(ours, "80", "80200001", "lo"), None, "its own address");
        assert_eq!(of_ipv6(&zeros, "00", "00200200", "lo"), None, "what refuses");
    }
}
