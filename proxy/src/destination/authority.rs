//! The destination that a request names: from `:authority`, absolute-form or `Host` to `HOST:PORT`.
//!
//! An application may not name loopback, link-local or unspecified addresses, nor the proxy's own ports: a
//! proxy that could be told to connect there would open what only local processes may reach.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
};

use http::{Method, uri::Authority};

use crate::{
    error::ProxyError,
    http::{RequestHead, h1},
    reason::Reason,
};

/// The authority of a request: the target's where it has one, else `Host`.
///
/// # Errors
/// `bad-request` without one or with a malformed one; `authority-mismatch` when both are there and differ: in
/// HTTP/2 (RFC 9113 8.3.1), whatever version the other sidecar's client spoke. In HTTP/1 the codec has put an
/// absolute target's authority in the place of `Host` (RFC 9112 3.2.2); beside a CONNECT `Host` says nothing.
pub fn of_request(head: &RequestHead) -> Result<Authority, ProxyError> {
    let host = head.headers.get(http::header::HOST);
    if let Some(authority) = head.target.authority() {
        let differs = host.is_some_and(|host| {
            !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())
        });
        if differs && head.method != Method::CONNECT {
            let detail = format!("`:authority` is {authority}, `Host` is {host:?}");
            return Err(ProxyError::new(Reason::AuthorityMismatch, detail));
        }
        return Ok(authority.clone());
    }
    let Some(host) = host else {
        return Err(ProxyError::new(Reason::BadRequest, "the request names no host"));
    };
    Authority::try_from(host.as_bytes())
        .map_err(|_| ProxyError::new(Reason::BadRequest, format!("`Host` is malformed: {host:?}")))
}

/// Whether the request names a host, as [`of_request`] says, for who does not need it: the usual `Host` is not copied.
///
/// # Errors
/// See [`of_request`].
pub fn check(head: &RequestHead) -> Result<(), ProxyError> {
    let host = head.headers.get(http::header::HOST);
    if head.target.authority().is_none() && host.is_some_and(|host| is_usual(host.as_bytes())) {
        return Ok(());
    }
    of_request(head).map(drop)
}

/// A name or an IPv4 address, perhaps with a port: always an authority.
fn is_usual(host: &[u8]) -> bool {
    !host.starts_with(b"[") && !host.contains(&b'%') && h1::authority::is_valid(host)
}

/// `HOST:PORT` in the form of discovery's keys: lower case, no trailing dot, the port always there.
///
/// # Errors
/// `bad-request` for user information, a malformed or empty host, or port 0; `destination-forbidden` for addresses that no
/// application may name.
pub fn canonical(authority: &Authority, default_port: u16) -> Result<String, ProxyError> {
    let text = authority.as_str();
    let host = authority.host();
    let port = match authority.port() {
        Some(_) => authority.port_u16().filter(|port| *port != 0),
        None => Some(default_port),
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    // A name with an empty label would be another one to a resolver: `localhost.` behind `localhost..`.
    let is_valid = h1::authority::is_valid(text.as_bytes()) && !name.split('.').any(str::is_empty);
    let literal = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let ip = literal.unwrap_or(name).parse::<IpAddr>().ok();
    // What stands in brackets and is no address has a zone (`[::1%0]`), which is this host's alone.
    let is_valid = is_valid && (literal.is_none() || ip.is_some());
    let (Some(port), true) = (port, is_valid) else {
        return Err(ProxyError::new(Reason::BadRequest, format!("{text:?} is not HOST:PORT")));
    };
    if let Some(ip) = ip {
        let address = SocketAddr::new(ip, port);
        allowed(address)?;
        return Ok(SocketAddr::new(ip.to_canonical(), port).to_string());
    }
    if is_loopback_name(name) {
        return Err(forbidden(text));
    }
    let mut canonical = name.to_ascii_lowercase();
    // Writing to a String cannot fail.
    let _ = write!(canonical, ":{port}");
    Ok(canonical)
}

/// Whether an application may have its traffic sent to this address.
///
/// # Errors
/// `destination-forbidden`.
pub fn allowed(address: SocketAddr) -> Result<(), ProxyError> {
    let forbidden_ip = match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_multicast()
        }
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unicast_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
        }
    };
    if forbidden_ip { Err(forbidden(&address.to_string())) } else { Ok(()) }
}

fn is_loopback_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower == "localhost" || lower.ends_with(".localhost")
}

fn forbidden(text: &str) -> ProxyError {
    let detail =
        format!("{text} is loopback, link-local or no host's; applications may not name it");
    ProxyError::new(Reason::DestinationForbidden, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical_of(text: &str) -> Result<String, Reason> {
        let authority = text.parse().map_err(|_| Reason::BadRequest)?;
        canonical(&authority, 80).map_err(|error| error.reason)
    }

    #[test]
    fn names_become_discovery_keys() {
        for (text, expected) in [
            ("catalog", "catalog:80"),
            ("Catalog.Shop:8080", "catalog.shop:8080"),
            ("catalog.shop.svc.cluster.local.:80", "catalog.shop.svc.cluster.local:80"),
            ("10.0.0.1", "10.0.0.1:80"),
            ("[FD00::1]:443", "[fd00::1]:443"),
            ("[::ffff:10.0.0.1]:1", "10.0.0.1:1"),
        ] {
            assert_eq!(canonical_of(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_an_application_may_not_name_is_refused() {
        for text in [
            "localhost",
            "LOCALHOST:1",
            "a.localhost",
            "localhost.:80",
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]:80",
            "[::ffff:127.0.0.1]:80",
            "169.254.169.254",
            "[fe80::1]:80",
            "0.0.0.0:80",
            "[::]:80",
            "255.255.255.255:80",
            "224.0.0.1:80",
        ] {
            assert_eq!(canonical_of(text), Err(Reason::DestinationForbidden), "{text}");
        }
        for text in [
            "user@catalog",
            "catalog:0",
            ".",
            ":80",
            "a[::1]",
            "[::1]a:80",
            "a,b",
            "[v1.x]",
            "localhost..",
            "[::1%0]",
            "[fe80::1%25eth0]:80",
            "a..b:80",
        ] {
            assert_eq!(canonical_of(text), Err(Reason::BadRequest), "{text}");
        }
    }

    proptest::proptest! {
        /// What passes without being read as an authority would be one.
        #[test]
        fn a_usual_host_is_an_authority(host in "[A-Za-z0-9._~!$&'()*+;=%:@\\[\\]-]{0,12}(:[0-9]{0,6})?") {
            proptest::prop_assert!(!is_usual(host.as_bytes()) || Authority::try_from(&*host).is_ok());
        }
    }
}
