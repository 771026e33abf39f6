//! The address to which a rule redirects a request.
//!
//! Comes in: a request's head and host, and the port of the service that it was sent to. Goes out: the value of
//! `Location`. What the filter does not name is as the request has it; a port that is its scheme's own is left out
//! (Gateway API, `HTTPRequestRedirectFilter`).

use http::{StatusCode, uri::Authority};
use weft_proto::Port;

use super::rewrite::PathRewrite;
use crate::http::RequestHead;

/// Where to, and with which status.
#[derive(Debug)]
pub struct Redirect {
    /// The scheme.
    pub scheme: Option<Scheme>,
    /// The host, without port.
    pub host: Option<Box<str>>,
    /// The path; the query stays.
    pub path: Option<PathRewrite>,
    /// The port.
    pub port: Option<Port>,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// The schemes that a redirect may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// http
    Http,
    /// https
    Https,
}

impl Scheme {
    const fn text(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn own_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// What the application spoke: the proxy reads no TLS of applications, so it is `http` unless the request itself
    /// says otherwise.
    fn of_request(head: &RequestHead) -> Self {
        let is_https = head.target.scheme() == Some(&http::uri::Scheme::HTTPS);
        if is_https { Self::Https } else { Self::Http }
    }
}

impl Redirect {
    /// The address for a request to this authority whose path begins with a prefix of so many bytes, sent to this
    /// port of a service.
    #[must_use]
    pub fn location(
        &self,
        head: &RequestHead,
        authority: &Authority,
        prefix: usize,
        service: Option<Port>,
    ) -> String {
        let scheme = self.scheme.unwrap_or_else(|| Scheme::of_request(head));
        let host = self.host.as_deref().unwrap_or_else(|| authority.host());
        let port = match (self.port, self.scheme) {
            (Some(port), _) => Some(port.number()),
            (None, Some(_)) => None,
            (None, None) => service.map(Port::number).or_else(|| authority.port_u16()),
        };
        let path = head.target.path();
        let path = if path.starts_with('/') { path } else { "/" };
        let path = match &self.path {
            Some(rewrite) => rewrite.apply(path, prefix),
            None => path.into(),
        };
        let mut location = format!("{}://{host}", scheme.text());
        if let Some(port) = port.filter(|port| *port != scheme.own_port()) {
            location.push_str(&format!(":{port}"));
        }
        location.push_str(&path);
        if let Some(query) = head.target.query() {
            location.push('?');
            location.push_str(query);
        }
        location
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Version};

    use super::*;
    use crate::http::Fields;

    fn redirect() -> Redirect {
        Redirect { scheme: None, host: None, path: None, port: None, status: StatusCode::FOUND }
    }

    fn location(redirect: &Redirect, target: &str, authority: &str, service: u16) -> String {
        let head = RequestHead {
            method: Method::GET,
            target: target.parse().expect("a URI"),
            version: Version::HTTP_11,
            headers: Fields::new(),
            upgrade: None,
            accepts_trailers: false,
        };
        let authority = authority.parse().expect("an authority");
        redirect.location(&head, &authority, "/old".len(), Port::new(service))
    }

    #[test]
    fn what_the_filter_does_not_name_is_as_the_request_has_it() {
        let host = Redirect { host: Some("example.org".into()), ..redirect() };
        let port = Redirect { port: Port::new(8083), ..redirect() };
        let https = Redirect { scheme: Some(Scheme::Https), ..redirect() };
        let https_port =
            Redirect { port: Port::new(8443), scheme: Some(Scheme::Https), ..redirect() };
        let http_443 = Redirect { port: Port::new(443), scheme: Some(Scheme::Http), ..redirect() };
        for (filter, authority, service, expected) in [
            (redirect(), "cart", 80, "http://cart/old/x?q=1"),
            (redirect(), "cart:8080", 8080, "http://cart:8080/old/x?q=1"),
            (redirect(), "[fd00::1]:8080", 8080, "http://[fd00::1]:8080/old/x?q=1"),
            (host, "cart:8080", 8080, "http://example.org:8080/old/x?q=1"),
            (port, "cart", 80, "http://cart:8083/old/x?q=1"),
            (https, "cart:8080", 8080, "https://cart/old/x?q=1"),
            (https_port, "cart", 80, "https://cart:8443/old/x?q=1"),
            (http_443, "cart", 80, "http://cart:443/old/x?q=1"),
        ] {
            assert_eq!(location(&filter, "/old/x?q=1", authority, service), expected);
        }
    }

    #[test]
    fn a_port_that_is_the_schemes_own_is_left_out() {
        for (scheme, port, expected) in [
            (Scheme::Http, 80, "http://cart/old"),
            (Scheme::Https, 443, "https://cart/old"),
            (Scheme::Https, 80, "https://cart:80/old"),
        ] {
            let filter = Redirect { scheme: Some(scheme), port: Port::new(port), ..redirect() };
            assert_eq!(location(&filter, "/old", "cart:1", 1), expected);
        }
    }

    #[test]
    fn paths_are_replaced_whole_or_by_prefix() {
        let full = Redirect { path: Some(PathRewrite::Full("/new".into())), ..redirect() };
        assert_eq!(location(&full, "/old/x?q=1", "cart", 80), "http://cart/new?q=1");
        let prefix = Redirect { path: Some(PathRewrite::Prefix("/new/".into())), ..redirect() };
        assert_eq!(location(&prefix, "/old/x", "cart", 80), "http://cart/new/x");
        assert_eq!(location(&prefix, "/old", "cart", 80), "http://cart/new");
        assert_eq!(location(&redirect(), "*", "cart", 80), "http://cart/");
        assert_eq!(location(&redirect(), "https://cart/a", "cart", 443), "https://cart/a");
    }
}
