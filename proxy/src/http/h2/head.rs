//! Heads between HTTP/2 and the seam: pseudo-header fields to targets and back (RFC 9113 8.2 and 8.3).
//!
//! What is a message of HTTP/2 and none for this proxy is refused here, with a reason. What goes out carries no field
//! that speaks about a connection, and `host` only where it is no `:authority`.

use http::{
    HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
        SEC_WEBSOCKET_KEY, TE, TRANSFER_ENCODING, UPGRADE,
    },
};

use super::{ServerSettings, hpack::Encoder, received::RequestParts, websocket};
use crate::{
    error::ProxyError,
    http::{Fields, RequestHead, ResponseHead, SendError, h1},
    reason::Reason,
};

pub(super) const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
pub(super) const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");

/// A client's request, as the seam has it, with the error that refuses it where it breaks the rules.
pub(super) fn from_client(
    parts: RequestParts,
    settings: &ServerSettings,
) -> (RequestHead, Result<(), ProxyError>) {
    let mut head = RequestHead {
        method: parts.method,
        target: parts.target,
        version: Version::HTTP_2,
        headers: parts.fields,
        upgrade: None,
        accepts_trailers: false,
    };
    head.headers.retain(|name| {
        // No other value was taken (RFC 9113 8.2.2).
        head.accepts_trailers |= *name == TE;
        // For the next proxy alone, which this one is (RFC 9110 11.7).
        *name != TE && *name != PROXY_AUTHORIZATION && *name != HTTP2_SETTINGS
    });
    // RFC 8441 section 4: in an extended CONNECT alone.
    let is_known = parts.protocol.map(|protocol| protocol == websocket::PROTOCOL);
    if is_known == Some(true) {
        websocket::into_upgrade(&mut head);
    }
    let checked = match is_known {
        Some(false) => {
            Err(bad_request("`:protocol` is not websocket, the only one that is supported"))
        }
        Some(true) | None => check(&head, parts.size, settings),
    };
    if checked.is_ok() {
        join_content_lengths(&mut head.headers);
    }
    (head, checked)
}

/// `size` is the whole head's, with what was too much to keep.
fn check(head: &RequestHead, size: usize, settings: &ServerSettings) -> Result<(), ProxyError> {
    if head.headers.len() > settings.max_headers {
        let detail = format!("{} fields, {} are allowed", head.headers.len(), settings.max_headers);
        return Err(ProxyError::new(Reason::HeadersTooLarge, detail));
    }
    if size > settings.max_header_bytes as usize {
        let detail = format!("{size} bytes of fields, {} are allowed", settings.max_header_bytes);
        return Err(ProxyError::new(Reason::HeadersTooLarge, detail));
    }
    if head.method == Method::CONNECT {
        return Err(bad_request("CONNECT over HTTP/2 is not supported; use HTTP/1.1 for tunnels"));
    }
    let path = head.target.path();
    let is_asterisk = path == "*" && head.method == Method::OPTIONS;
    if !path.starts_with('/') && !is_asterisk {
        return Err(bad_request("`:path` does not begin with a slash"));
    }
    // RFC 9113 8.3.1. That Host says the same as `:authority` is the exchange's to check, for all versions.
    if head.target.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(bad_request("`:authority` has user information"));
    }
    if head.headers.get_all(HOST).nth(1).is_some() {
        return Err(bad_request("more than one Host"));
    }
    // It goes on as one, or as the Host of HTTP/1, which may say no more.
    let host = head.headers.get(HOST).filter(|_| head.target.authority().is_none());
    if host.is_some_and(|host| !h1::authority::is_valid(host.as_bytes())) {
        return Err(bad_request("Host is no authority"));
    }
    Ok(())
}

fn bad_request(detail: &'static str) -> ProxyError {
    ProxyError::new(Reason::BadRequest, detail)
}

/// Content-Length fields that repeat each other become one; a head with those that differ was refused.
fn join_content_lengths(headers: &mut Fields) {
    if headers.get_all(CONTENT_LENGTH).nth(1).is_some()
        && let Some(length) = headers.remove(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, length);
    }
}

/// What the head announces of its body.
pub(super) fn content_length(headers: &Fields) -> Option<u64> {
    std::str::from_utf8(headers.get(CONTENT_LENGTH)?.as_bytes()).ok()?.parse().ok()
}

/// Where a request goes, as HTTP/2 says it.
#[derive(Debug)]
pub(super) struct Target<'a> {
    scheme: &'a str,
    authority: Option<&'a str>,
    path: &'a str,
    /// With which an extended CONNECT asks for a WebSocket (RFC 8441 section 4).
    protocol: Option<&'static str>,
}

impl<'a> Target<'a> {
    /// # Errors
    /// Its Host cannot be written as an authority.
    pub(super) fn of(head: &'a RequestHead) -> Result<Self, SendError> {
        let authority = match (head.target.authority(), head.headers.get(HOST)) {
            (Some(authority), _) => Some(authority.as_str()),
            (None, Some(host)) => {
                let host =
                    host.to_str().ok().filter(|host| h1::authority::is_valid(host.as_bytes()));
                let no_authority =
                    || SendError::undelivered(Reason::BadRequest, "Host is no authority");
                Some(host.ok_or_else(no_authority)?)
            }
            (None, None) => None,
        };
        // Without an authority there is no scheme either.
        let scheme = head.target.scheme_str().filter(|_| authority.is_some()).unwrap_or("http");
        let path = head.target.path_and_query().map_or("", |path| path.as_str());
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { scheme, authority, path, protocol: None })
    }

    /// Whether bytes follow instead of content.
    pub(super) const fn is_tunnel(&self) -> bool {
        self.protocol.is_some()
    }

    /// The same, asked for a WebSocket.
    pub(super) fn for_websocket(self) -> Self {
        Self { protocol: Some(websocket::PROTOCOL), ..self }
    }
}

/// Writes a request's head for an endpoint.
pub(super) fn encode_request(
    head: &RequestHead,
    target: &Target<'_>,
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
) {
    match target.protocol {
        None => encoder.method(&head.method, out),
        Some(protocol) => {
            encoder.method(&Method::CONNECT, out);
            encoder.protocol(protocol, out);
        }
    }
    encoder.scheme(target.scheme, out);
    if let Some(authority) = target.authority {
        encoder.authority(authority, out);
    }
    encoder.path(target.path, out);
    for (name, value) in head.headers.iter() {
        // A WebSocket's key is HTTP/1's (RFC 8441 section 5).
        let is_taken_out = name == HOST || target.protocol.is_some() && name == SEC_WEBSOCKET_KEY;
        if !is_taken_out {
            encode_field(name, value, encoder, out);
        }
    }
    if head.accepts_trailers {
        encoder.field(&TE, &HeaderValue::from_static("trailers"), out);
    }
}

/// Writes a response's head for a client. 101 does not exist in HTTP/2.
pub(super) fn encode_response(head: &ResponseHead, encoder: &mut Encoder, out: &mut Vec<u8>) {
    encoder.status(head.status, out);
    encode_fields(&head.headers, encoder, out);
}

/// Writes fields, without those that HTTP/2 forbids (RFC 9113 8.2.2).
pub(super) fn encode_fields(fields: &Fields, encoder: &mut Encoder, out: &mut Vec<u8>) {
    for (name, value) in fields.iter() {
        encode_field(name, value, encoder, out);
    }
}

fn encode_field(name: &HeaderName, value: &HeaderValue, encoder: &mut Encoder, out: &mut Vec<u8>) {
    const FORBIDDEN: [HeaderName; 6] =
        [CONNECTION, TRANSFER_ENCODING, UPGRADE, KEEP_ALIVE, PROXY_CONNECTION, TE];
    if !FORBIDDEN.contains(name) {
        encoder.field(name, value, out);
    }
}

/// An endpoint's response, final or informational, as the seam has it.
pub(super) fn from_endpoint(status: StatusCode, fields: Fields) -> ResponseHead {
    let mut head = ResponseHead::new(status);
    head.headers = fields;
    head.headers.retain(|name| *name != PROXY_AUTHENTICATE && *name != PROXY_AUTHENTICATION_INFO);
    join_content_lengths(&mut head.headers);
    head
}
