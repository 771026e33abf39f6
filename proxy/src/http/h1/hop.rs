//! Hop-by-hop fields: what concerns one connection only (RFC 9110 section 7.6.1, RFC 9112).
//!
//! On entry they are taken out of a head and understood here; the exit's encoder writes its own. What the
//! Connection field nominates is removed too, but never what routing and framing rest on.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderName;

use super::error::HeadError;
use crate::http::{Fields, side};

/// What the hop-by-hop fields of one head said.
#[derive(Debug, Default)]
pub(super) struct Hop {
    /// `Connection: close`.
    pub close: bool,
    /// `Connection: keep-alive`.
    pub keep_alive: bool,
    /// `TE: trailers`.
    pub accepts_trailers: bool,
    /// `Keep-Alive: timeout=5`, in seconds (RFC 2068 section 19.7.1.1; servers still send it).
    pub idle_timeout: Option<Duration>,
    upgrade_nominated: bool,
    protocols: BytesMut,
    nominated: Vec<HeaderName>,
}

impl Hop {
    /// Takes in a field if it is hop-by-hop: `true`, and it must not stay in the head.
    ///
    /// Proxy-Authorization and its answers are for the next proxy alone, which this one is (RFC 9110 section
    /// 11.7); it asks for no credentials.
    pub(super) fn take(&mut self, name: &HeaderName, value: &[u8]) -> Result<bool, HeadError> {
        match name.as_str() {
            "connection" => self.connection(value)?,
            "te" => self.accepts_trailers |= tokens(value).any(is_trailers),
            "upgrade" => self.upgrade(value),
            "keep-alive" => {
                self.idle_timeout = tokens(value).find_map(timeout).or(self.idle_timeout)
            }
            "proxy-connection"
            | "http2-settings"
            | "proxy-authorization"
            | "proxy-authenticate"
            | "proxy-authentication-info" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Removes the fields that Connection nominated. It may nominate as many as there is room for in a head, so they are put
    /// in order first: all fields together cost no more than to sort them.
    pub(super) fn remove_nominated(&mut self, headers: &mut Fields) {
        if self.nominated.is_empty() {
            return;
        }
        self.nominated.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        headers.retain(|name| {
            let place = self.nominated.binary_search_by(|other| other.as_str().cmp(name.as_str()));
            place.is_err()
        });
    }

    /// The protocols of an Upgrade field, without `h2c`; `None` when nothing is left, or when Connection did
    /// not nominate it.
    pub(super) fn upgrade_offer(&mut self) -> Option<Bytes> {
        let offered = self.upgrade_nominated && !self.protocols.is_empty();
        offered.then(|| std::mem::take(&mut self.protocols).freeze())
    }

    fn connection(&mut self, value: &[u8]) -> Result<(), HeadError> {
        for token in tokens(value) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade_nominated = true;
            } else {
                let name = HeaderName::from_bytes(token)
                    .map_err(|_| HeadError::Malformed("Connection lists no field name"))?;
                if !is_kept_though_nominated(&name) {
                    self.nominated.push(name);
                }
            }
        }
        Ok(())
    }

    fn upgrade(&mut self, value: &[u8]) {
        for protocol in tokens(value) {
            let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
            if name.eq_ignore_ascii_case(b"h2c") {
                continue;
            }
            if !self.protocols.is_empty() {
                self.protocols.put_slice(b", ");
            }
            self.protocols.put_slice(protocol);
        }
    }
}

/// Whether a field must not be sent as a trailer, nor merged from one (RFC 9110 section 6.5.1): framing,
/// routing, authentication, request modifiers, response control, how the content is read; and Weft's own.
pub(super) fn is_forbidden_in_trailers(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "transfer-encoding"
            | "content-length"
            | "host"
            | "trailer"
            | "te"
            | "connection"
            | "keep-alive"
            | "proxy-connection"
            | "upgrade"
            | "http2-settings"
            | "authorization"
            | "proxy-authorization"
            | "www-authenticate"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "authentication-info"
            | "cookie"
            | "set-cookie"
            | "cache-control"
            | "expect"
            | "max-forwards"
            | "pragma"
            | "range"
            | "if-match"
            | "if-none-match"
            | "if-modified-since"
            | "if-unmodified-since"
            | "if-range"
            | "age"
            | "expires"
            | "date"
            | "location"
            | "retry-after"
            | "vary"
            | "warning"
            | "content-encoding"
            | "content-type"
            | "content-range"
            | "forwarded"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-proto"
    ) || side::is_side_header(name)
}

/// Host and Content-Length say where a request goes and where it ends: a Connection field cannot take them
/// away (RFC 9110 section 7.6.1 forbids to nominate them).
fn is_kept_though_nominated(name: &HeaderName) -> bool {
    *name == http::header::HOST || *name == http::header::CONTENT_LENGTH
}

/// The seconds of a `timeout` parameter.
fn timeout(parameter: &[u8]) -> Option<Duration> {
    let (name, value) = std::str::from_utf8(parameter).ok()?.split_once('=')?;
    let seconds = value.trim_ascii().trim_matches('"').parse().ok()?;
    name.trim_ascii().eq_ignore_ascii_case("timeout").then(|| Duration::from_secs(seconds))
}

fn is_trailers(token: &[u8]) -> bool {
    token.eq_ignore_ascii_case(b"trailers")
}

/// The elements of a comma-separated list, without white space and empty ones.
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}
