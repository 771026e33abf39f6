//! Heads between HTTP/2 and the seam: pseudo-header fields to targets and back (RFC 9113 8.2 and 8.3).
//!
//! What the `h2` crate lets pass and the RFC does not is refused here. What goes out carries no field that
//! speaks about a connection, and `host` only where it is no `:authority`.

use h2::ext::Protocol;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
        TRANSFER_ENCODING, UPGRADE,
    },
    request, response,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::{ServerSettings, websocket};
use crate::{
    error::ProxyError,
    http::{HeaderCase, RequestHead, ResponseHead, SendError},
    reason::Reason,
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");

/// A client's request, as the seam has it, with the error that refuses it where it breaks the rules.
pub(super) fn from_client(
    mut parts: request::Parts,
    settings: &ServerSettings,
) -> (RequestHead, Result<(), ProxyError>) {
    let protocol = parts.extensions.remove::<Protocol>();
    let mut head = RequestHead {
        method: parts.method,
        target: parts.uri,
        version: Version::HTTP_2,
        headers: parts.headers,
        case: HeaderCase::default(),
        upgrade: None,
        accepts_trailers: false,
    };
    // The h2 crate has refused any other value (RFC 9113 8.2.2).
    head.accepts_trailers = head.headers.remove(TE).is_some();
    // For the next proxy alone, which this one is (RFC 9110 11.7).
    for name in [PROXY_AUTHORIZATION, HTTP2_SETTINGS] {
        head.headers.remove(name);
    }
    // RFC 8441 section 4: in an extended CONNECT alone.
    let is_known = protocol.as_ref().map(|protocol| protocol.as_str() == websocket::PROTOCOL);
    if is_known == Some(true) {
        websocket::into_upgrade(&mut head);
    }
    let checked = match is_known {
        Some(false) => {
            Err(bad_request("`:protocol` is not websocket, the only one that is supported"))
        }
        Some(true) | None => check(&head, settings),
    };
    if checked.is_ok() {
        join_content_lengths(&mut head.headers);
    }
    (head, checked)
}

fn check(head: &RequestHead, settings: &ServerSettings) -> Result<(), ProxyError> {
    if head.headers.len() > settings.max_headers {
        let detail = format!("{} fields, {} are allowed", head.headers.len(), settings.max_headers);
        return Err(ProxyError::new(Reason::HeadersTooLarge, detail));
    }
    let size = size(head);
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
    if head.headers.get_all(HOST).iter().nth(1).is_some() {
        return Err(bad_request("more than one Host"));
    }
    Ok(())
}

/// A head's bytes as HTTP/2 counts them: names, values, and 32 for each field (RFC 9113 6.5.2).
fn size(head: &RequestHead) -> usize {
    const FIELD: usize = 32;
    let path = head.target.path_and_query().map_or(0, |path| path.as_str().len());
    let authority = head.target.authority().map_or(0, |authority| authority.as_str().len());
    let pseudo = head.method.as_str().len() + path + authority + 4 * FIELD;
    let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD);
    pseudo + fields.sum::<usize>()
}

fn bad_request(detail: &'static str) -> ProxyError {
    ProxyError::new(Reason::BadRequest, detail)
}

/// Content-Length fields that repeat each other become one; the h2 crate has refused those that differ.
fn join_content_lengths(headers: &mut HeaderMap) {
    if headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some()
        && let Some(length) = headers.remove(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, length);
    }
}

/// What the head announces of its body.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    std::str::from_utf8(headers.get(CONTENT_LENGTH)?.as_bytes()).ok()?.parse().ok()
}

/// A request for an endpoint.
///
/// # Errors
/// Its target or Host cannot be written as HTTP/2.
pub(super) fn to_endpoint(head: &RequestHead) -> Result<Request<()>, SendError> {
    let mut headers = head.headers.clone();
    strip_connection_fields(&mut headers);
    if head.accepts_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    let authority = match head.target.authority() {
        Some(authority) => Some(authority.clone()),
        None => headers
            .get(HOST)
            .map(|host| Authority::try_from(host.as_bytes()))
            .transpose()
            .map_err(|_| SendError::undelivered(Reason::BadRequest, "Host is no authority"))?,
    };
    headers.remove(HOST);
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    // Without an authority h2 wants a request to call itself older; it then sends `:scheme` http alone.
    *request.version_mut() = if authority.is_some() { Version::HTTP_2 } else { Version::HTTP_11 };
    *request.uri_mut() = uri(head, authority)?;
    *request.headers_mut() = headers;
    Ok(request)
}

fn uri(head: &RequestHead, authority: Option<Authority>) -> Result<Uri, SendError> {
    let mut parts = http::uri::Parts::default();
    if authority.is_some() {
        parts.scheme = Some(head.target.scheme().cloned().unwrap_or(Scheme::HTTP));
    }
    parts.authority = authority;
    parts.path_and_query =
        Some(head.target.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")));
    Uri::from_parts(parts)
        .map_err(|_| SendError::undelivered(Reason::BadRequest, "the target is no URI"))
}

/// A response for a client. A final response cannot be informational; 101 does not exist in HTTP/2.
pub(super) fn to_client(mut head: ResponseHead) -> Response<()> {
    strip_connection_fields(&mut head.headers);
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

/// An endpoint's response, final or informational, as the seam has it.
pub(super) fn from_endpoint(parts: response::Parts) -> ResponseHead {
    let mut head = ResponseHead::new(parts.status);
    head.headers = parts.headers;
    for name in [PROXY_AUTHENTICATE, PROXY_AUTHENTICATION_INFO] {
        head.headers.remove(name);
    }
    join_content_lengths(&mut head.headers);
    head
}

/// Takes out what HTTP/2 forbids (RFC 9113 8.2.2).
pub(super) fn strip_connection_fields(headers: &mut HeaderMap) {
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE, KEEP_ALIVE, PROXY_CONNECTION, TE] {
        headers.remove(name);
    }
}
