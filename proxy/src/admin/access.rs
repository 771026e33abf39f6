//! Who may see the configuration and change anything: this machine, and no browser's page.
//!
//! A page of a foreign site can make a browser on this machine send requests to loopback. It cannot help but
//! send `Origin` or `Sec-Fetch-Site` with what changes anything, and to read answers it needs a name of its own
//! for the address (DNS rebinding), which `Host` shows.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, Request, connect_info::Connected},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
    serve::IncomingStream,
};

use crate::net::TcpListener;

/// Who has connected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(IpAddr);

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self(stream.remote_addr().ip())
    }
}

pub(super) async fn this_machine_only(
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    match refusal(peer, request.headers()) {
        Some(why) => (StatusCode::FORBIDDEN, format!("{why}\n")).into_response(),
        None => next.run(request).await,
    }
}

/// Why the request may not do more than ask for readiness and metrics.
fn refusal(peer: IpAddr, headers: &HeaderMap) -> Option<&'static str> {
    if !peer.to_canonical().is_loopback() {
        return Some("only this machine may do that: call from loopback");
    }
    if headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site") {
        return Some("a browser's page may not do that");
    }
    let host = headers.get(header::HOST).map_or(&b""[..], |host| host.as_bytes());
    if !std::str::from_utf8(host).is_ok_and(names_this_machine) {
        return Some("the Host header must be an IP address or localhost");
    }
    None
}

/// An IP address or localhost, with or without a port; HTTP/1.0 names nothing.
fn names_this_machine(host: &str) -> bool {
    let address = |text: &str| text.parse::<IpAddr>().is_ok();
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if host.is_empty() || host.parse::<SocketAddr>().is_ok() || in_brackets.is_some_and(address) {
        return true;
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    name.eq_ignore_ascii_case("localhost") || address(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_and_no_page_gets_further() {
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], bool);
        let table: &[Case<'_>] = &[
            ("127.0.0.1", &[("host", "127.0.0.1:4191")], true),
            ("127.0.0.1", &[("host", "localhost:4191")], true),
            ("127.0.0.1", &[("host", "LOCALHOST")], true),
            ("::1", &[("host", "[::1]:4191")], true),
            ("::1", &[("host", "[::1]")], true),
            ("::ffff:127.0.0.1", &[("host", "127.0.0.1")], true),
            ("127.0.0.1", &[], true),
            ("10.0.0.5", &[("host", "127.0.0.1:4191")], false),
            ("::ffff:10.0.0.5", &[("host", "127.0.0.1")], false),
            ("127.0.0.1", &[("host", "rebound.example.com:4191")], false),
            ("127.0.0.1", &[("host", "127.0.0.1.example.com")], false),
            ("127.0.0.1", &[("host", "127.0.0.1"), ("origin", "http://example.com")], false),
            ("127.0.0.1", &[("host", "127.0.0.1"), ("origin", "null")], false),
            ("127.0.0.1", &[("host", "localhost"), ("sec-fetch-site", "cross-site")], false),
        ];
        for (peer, headers, allowed) in table {
            let mut map = HeaderMap::new();
            for (name, value) in *headers {
                map.insert(*name, value.parse().expect("a value"));
            }
            let refused = refusal(peer.parse().expect("an address"), &map);
            assert_eq!(refused.is_none(), *allowed, "{peer} {headers:?}: {refused:?}");
        }
    }
}
