//! Services whose endpoints are hosts outside the mesh: which name is looked up, and what becomes of the answer.
//!
//! Comes in: the hosts that an ExternalService registers, the name that the application used, addresses. Goes out: the
//! names to ask DNS for, and endpoints. Who names one of the hosts gets that host and no other: its server may be the
//! only one that knows the name. Who names the service otherwise gets all hosts that are named whole.
//!
//! Pure.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use weft_proto::Port;

use super::{Endpoint, EndpointHealth, snapshot::OutsideScope};

/// The most endpoints that one name stands for: what DNS says is not ours to bound otherwise.
const MOST: usize = 256;

/// Hosts outside the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// In lower case: a name, an address, or "*." and a suffix.
    pub hosts: Vec<String>,
    /// Where they listen.
    pub port: Port,
}

impl External {
    /// The names, or addresses, that `destination` (`HOST:PORT`, as the application named it) stands for.
    #[must_use]
    pub fn names<'a>(&'a self, destination: &'a str) -> Vec<&'a str> {
        let named = host_of(destination);
        if let Some(host) = self.at_address(named) {
            return vec![host];
        }
        if self.hosts.iter().any(|host| matches(host, named)) {
            return vec![named];
        }
        self.hosts.iter().map(String::as_str).filter(|host| !host.starts_with("*.")).collect()
    }

    /// The host that is this address, in whichever form the application wrote it.
    fn at_address(&self, named: &str) -> Option<&str> {
        let address = named.parse::<IpAddr>().ok()?.to_canonical();
        let mut hosts = self.hosts.iter().map(String::as_str);
        hosts.find(|host| host.parse() == Ok(address))
    }
}

impl OutsideScope {
    /// Whether somebody registers this host, on some port.
    #[must_use]
    pub fn registers(&self, host: &str) -> bool {
        self.hosts.iter().any(|registered| matches(registered, host))
    }

    /// Whether somebody registers this address, on some port.
    #[must_use]
    pub fn registers_address(&self, address: IpAddr) -> bool {
        let mut addresses = self.hosts.iter().filter_map(|host| host.parse::<IpAddr>().ok());
        addresses.any(|registered| registered == address)
    }

    /// Whether a connection to an address outside may be for a host that is registered by its name, and so is to be
    /// looked at. A registered address has been found by then.
    #[must_use]
    pub fn may_register(&self, port: u16) -> bool {
        let mut names = self.hosts.iter().filter(|host| host.parse::<IpAddr>().is_err());
        (self.ports.is_empty() || self.ports.contains(&port)) && names.next().is_some()
    }
}

/// A host in the form in which it is compared; `None` when it is none: no name, no address, not "*." and a suffix.
pub(super) fn canonical(host: &str) -> Option<String> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Some(address.to_canonical().to_string());
    }
    let name = host.strip_prefix("*.").unwrap_or(host);
    let is_label = |label: &str| {
        let of_names = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() < 64 && label.bytes().all(of_names)
    };
    (name.len() < 254 && name.split('.').all(is_label)).then(|| host.to_ascii_lowercase())
}

/// Whether a registered host, which may be "*." and a suffix, is this one.
fn matches(registered: &str, host: &str) -> bool {
    match registered.strip_prefix('*') {
        // At least one label stands before the suffix.
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => registered == host,
    }
}

/// The host of `HOST:PORT`; an IPv6 address without its brackets.
fn host_of(destination: &str) -> &str {
    let host = destination.rsplit_once(':').map_or(destination, |(host, _port)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The endpoints at these addresses, in a fixed order. Those that were there before keep what is known of them; each has
/// an address of the other family beside it, where the answer has one.
pub(super) fn endpoints(
    mut addresses: Vec<IpAddr>,
    port: Port,
    before: &[Arc<Endpoint>],
    now_ms: u64,
) -> Vec<Arc<Endpoint>> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MOST);
    let known: HashMap<SocketAddr, &Arc<EndpointHealth>> =
        before.iter().map(|endpoint| (endpoint.address, &endpoint.health)).collect();
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|ip| ip.is_ipv4());
    let mut made = Vec::with_capacity(addresses.len());
    for (family, others) in [(&v4, &v6), (&v6, &v4)] {
        for (index, ip) in family.iter().enumerate() {
            let address = SocketAddr::new(*ip, port.number());
            let alternate = others.get(index % others.len().max(1));
            let mut endpoint = Endpoint::plain(address, port);
            endpoint.alternate = alternate.map(|ip| SocketAddr::new(*ip, port.number()));
            match known.get(&address) {
                Some(health) => endpoint.health = Arc::clone(health),
                None if !before.is_empty() => endpoint.health.arrived(now_ms),
                None => {}
            }
            made.push(Arc::new(endpoint));
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_matched_whole_or_below_a_suffix() {
        for (registered, host, expected) in [
            ("api.example.com", "api.example.com", true),
            ("api.example.com", "www.api.example.com", false),
            ("*.example.com", "api.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "badexample.com", false),
            ("*.example.com", "api.example.com.evil.test", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("fd00::1", "fd00::1", true),
        ] {
            assert_eq!(matches(registered, host), expected, "{registered} {host}");
        }
    }

    #[test]
    fn who_names_a_host_gets_that_one_and_who_names_the_service_all() {
        let hosts = ["api.example.com", "*.example.org", "192.0.2.1"].map(str::to_owned).to_vec();
        let external = External { hosts, port: Port::new(443).expect("a port") };
        for (destination, expected) in [
            ("api.example.com:443", &["api.example.com"][..]),
            ("www.example.org:443", &["www.example.org"]),
            ("192.0.2.1:443", &["192.0.2.1"]),
            ("[::ffff:192.0.2.1]:443", &["192.0.2.1"]),
            ("shop/payments:443", &["api.example.com", "192.0.2.1"]),
            ("example.org:443", &["api.example.com", "192.0.2.1"]),
        ] {
            assert_eq!(external.names(destination), expected, "{destination}");
        }
    }

    #[test]
    fn only_where_a_name_may_be_registered_is_a_connection_looked_at() {
        let hosts = vec!["api.example.com".to_owned()];
        for (hosts, ports, expected) in [
            (vec![], vec![], false),
            (vec![], vec![443], false),
            (hosts.clone(), vec![443], true),
            (hosts.clone(), vec![80], false),
            (hosts, vec![], true),
            (vec!["192.0.2.7".to_owned(), "2001:db8::7".to_owned()], vec![], false),
            (vec!["192.0.2.7".to_owned(), "*.example.com".to_owned()], vec![443], true),
        ] {
            let scope = OutsideScope { hosts, ports, registered_only: false };
            assert_eq!(scope.may_register(443), expected, "{scope:?}");
        }
    }

    #[test]
    fn endpoints_keep_what_is_known_of_them_and_have_the_other_family_beside_them() {
        let ips = |texts: &[&str]| texts.iter().map(|ip| ip.parse().expect("an address")).collect();
        let port = Port::new(443).expect("a port");
        let first = endpoints(ips(&["192.0.2.2", "fd00::1", "192.0.2.1"]), port, &[], 7);
        let shown: Vec<_> = first
            .iter()
            .map(|endpoint| (&*endpoint.id, endpoint.alternate.map(|other| other.to_string())))
            .collect();
        let expected = [
            ("192.0.2.1:443", Some("[fd00::1]:443".to_owned())),
            ("192.0.2.2:443", Some("[fd00::1]:443".to_owned())),
            ("[fd00::1]:443", Some("192.0.2.1:443".to_owned())),
        ];
        assert_eq!(shown, expected);
        let next = endpoints(ips(&["192.0.2.3", "192.0.2.2"]), port, &first, 9);
        assert!(Arc::ptr_eq(&next[0].health, &first[1].health));
        assert_eq!(next[0].alternate, None, "no other family is left");
        assert_eq!((next[0].health.age_ms(10), next[1].health.age_ms(10)), (None, Some(1)));
    }
}
