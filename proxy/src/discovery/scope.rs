//! Could this destination be in the mesh? A pure question to the eager set.
//!
//! Comes in: a destination as the application named it, the mesh's scope, the proxy's own namespace. Goes
//! out: whether the control plane must be asked, or the destination is outside and passes through at once.
//! It must never call a mesh name outside: that would send plaintext around the mesh. The other mistake costs
//! one question, which the control plane answers with "not found".

use std::net::IpAddr;

use super::MeshScope;

/// Who may have a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Perhaps in the mesh, or registered outside: ask.
    Candidate,
    /// Nobody.
    Outside,
}

/// Where `destination`, "HOST:PORT" or "IP:PORT", may be.
pub(super) fn place(destination: &str, scope: &MeshScope) -> Place {
    if is_service_port(destination) {
        return Place::Candidate;
    }
    let host = destination.rsplit_once(':').map_or(destination, |(host, _port)| host);
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let candidate = match bare.parse::<IpAddr>() {
        Ok(address) => {
            let address = address.to_canonical();
            scope.contains(address) || scope.outside.registers_address(address)
        }
        Err(_) => is_mesh_name(bare, scope) || scope.outside.registers(bare),
    };
    if candidate { Place::Candidate } else { Place::Outside }
}

/// Whether this is no destination of an application but a service port, "NAMESPACE/NAME:PORT", which a route names: no
/// host and no address has a slash.
pub(super) fn is_service_port(destination: &str) -> bool {
    destination.contains('/')
}

/// `service`, `service.namespace`, `service.namespace.svc` and further, up to a whole suffix of the mesh.
fn is_mesh_name(host: &str, scope: &MeshScope) -> bool {
    let Some((first, rest)) = host.split_once('.') else {
        // A single label is a service of the proxy's own namespace; RFC 6761 keeps one for loopback.
        return !host.is_empty() && host != "localhost";
    };
    if first.is_empty() {
        return false;
    }
    if scope.suffixes.iter().any(|suffix| is_below(host, suffix)) {
        return true;
    }
    let (namespace, tail) = rest.split_once('.').unwrap_or((rest, ""));
    scope.namespaces.iter().any(|known| known == namespace)
        && (tail.is_empty() || scope.suffixes.iter().any(|suffix| begins(suffix, tail)))
}

/// Whether `host` is `suffix` with labels before it.
fn is_below(host: &str, suffix: &str) -> bool {
    host.strip_suffix(suffix).is_some_and(|labels| labels.len() > 1 && labels.ends_with('.'))
}

/// Whether `suffix` begins with the labels of `tail`: "svc" and "svc.cluster" begin "svc.cluster.local".
fn begins(suffix: &str, tail: &str) -> bool {
    suffix.strip_prefix(tail).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl MeshScope {
    /// Whether the address lies in the mesh's ranges.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|(network, prefix)| in_range(address, *network, *prefix))
    }
}

fn in_range(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let shift = 32 - u32::from(prefix.min(32));
            let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let shift = 128 - u32::from(prefix.min(128));
            let mask = u128::MAX.checked_shl(shift).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::OutsideScope;

    fn scope() -> MeshScope {
        let range = |ip: &str, prefix| (ip.parse().expect("an address"), prefix);
        MeshScope {
            trust_domain: "weft.local".parse().expect("a trust domain"),
            ranges: vec![range("10.96.0.0", 12), range("fd00:1::", 64), range("192.0.2.7", 32)],
            suffixes: vec!["svc.cluster.local".to_owned()],
            namespaces: vec!["shop".to_owned(), "default".to_owned()],
            outside: OutsideScope {
                hosts: ["api.example.net", "*.example.org", "203.0.113.7", "fd00:9::1"]
                    .map(str::to_owned)
                    .to_vec(),
                ..OutsideScope::default()
            },
        }
    }

    #[test]
    fn only_what_could_be_in_the_mesh_is_asked_for() {
        for (destination, expected) in [
            ("cart:80", Place::Candidate),
            ("cart.shop:80", Place::Candidate),
            ("unheard-of/cart:80", Place::Candidate),
            ("cart.shop.svc:80", Place::Candidate),
            ("cart.shop.svc.cluster:80", Place::Candidate),
            ("cart.shop.svc.cluster.local:80", Place::Candidate),
            ("cart.unheard-of.svc.cluster.local:80", Place::Candidate),
            ("pod-0.cart.shop.svc.cluster.local:80", Place::Candidate),
            ("10.96.0.1:80", Place::Candidate),
            ("10.111.255.255:80", Place::Candidate),
            ("[fd00:1::5]:80", Place::Candidate),
            ("[::ffff:10.96.0.1]:80", Place::Candidate),
            ("192.0.2.7:443", Place::Candidate),
            ("api.example.net:443", Place::Candidate),
            ("www.example.org:443", Place::Candidate),
            ("203.0.113.7:5432", Place::Candidate),
            ("[::ffff:203.0.113.7]:5432", Place::Candidate),
            ("[fd00:9::1]:5432", Place::Candidate),
            ("example.net:443", Place::Outside),
            ("example.org:443", Place::Outside),
            ("203.0.113.8:5432", Place::Outside),
            ("example.com:443", Place::Outside),
            ("cart.unheard-of:80", Place::Outside),
            ("cart.unheard-of.svc:80", Place::Outside),
            ("cart.shop.example.com:80", Place::Outside),
            ("cart.shop.sv:80", Place::Outside),
            ("svc.cluster.local:80", Place::Outside),
            (".svc.cluster.local:80", Place::Outside),
            ("notsvc.cluster.local:80", Place::Outside),
            ("localhost:80", Place::Outside),
            (":80", Place::Outside),
            (".shop:80", Place::Outside),
            ("10.112.0.0:80", Place::Outside),
            ("192.0.2.8:443", Place::Outside),
            ("[fd00:2::5]:80", Place::Outside),
        ] {
            assert_eq!(place(destination, &scope()), expected, "{destination}");
        }
    }

    #[test]
    fn a_prefix_of_zero_holds_every_address_of_its_family() {
        let all = MeshScope { ranges: vec![("0.0.0.0".parse().expect("valid"), 0)], ..scope() };
        assert!(all.contains("203.0.113.9".parse().expect("valid")));
        assert!(!all.contains("::1".parse().expect("valid")));
    }
}
