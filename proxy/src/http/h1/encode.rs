//! Heads, chunks and trailers as bytes: one framing, chosen here, and fields in the case they came in.
//!
//! What goes in is free of hop-by-hop fields; what this connection needs is added. Framing fields of the
//! head are never copied: Content-Length is written from the framing that the body will really have.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};

use super::framing::BodyLength;
use crate::http::{Body, HeaderCase, RequestHead, ResponseHead, message::is_written_as};

/// The last chunk of a body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// How the body of a request is sent: by its length where that is known and no trailers are announced.
#[must_use]
pub fn request_length(head: &RequestHead, body: &Body) -> BodyLength {
    length_of(&head.headers, body)
}

/// Writes a request's head for a server.
pub fn request_head(out: &mut Vec<u8>, head: &RequestHead, length: BodyLength) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    target(out, head);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if !head.headers.contains_key(header::HOST) {
        let authority = head.target.authority().map_or("", http::uri::Authority::as_str);
        line(out, b"Host", authority.as_bytes());
    }
    let wrote_length = fields(out, &head.headers, &head.case, length);
    match length {
        BodyLength::Chunked => line(out, b"Transfer-Encoding", b"chunked"),
        BodyLength::Exact(size) if !wrote_length => content_length(out, b"Content-Length", size),
        BodyLength::Empty if !wrote_length && anticipates_content(&head.method) => {
            content_length(out, b"Content-Length", 0);
        }
        BodyLength::Empty | BodyLength::Exact(_) | BodyLength::UntilClose => {}
    }
    request_connection(out, head, length);
    out.extend_from_slice(b"\r\n");
}

/// How the body of a final response is sent to a client.
#[must_use]
pub fn response_length(
    head: &ResponseHead,
    body: &Body,
    method: &Method,
    version: Version,
) -> BodyLength {
    let is_tunnel = *method == Method::CONNECT && head.status.is_success();
    if *method == Method::HEAD || is_tunnel || has_no_content(head.status) {
        return BodyLength::Empty;
    }
    match length_of(&head.headers, body) {
        BodyLength::Chunked if version == Version::HTTP_11 => BodyLength::Chunked,
        BodyLength::Chunked => {
            body.exact_length().map_or(BodyLength::UntilClose, BodyLength::Exact)
        }
        length @ (BodyLength::Empty | BodyLength::Exact(_) | BodyLength::UntilClose) => length,
    }
}

/// What a response's head says of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// HTTP/1.1's default: it goes on.
    Implied,
    /// `Connection: keep-alive`, for HTTP/1.0.
    KeepAlive,
    /// `Connection: close`.
    Close,
}

/// Writes a response's head for a client. `method` is the request's.
pub fn response_head(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    length: BodyLength,
    persistence: Persistence,
    method: &Method,
) {
    status_line(out, head);
    let describes_other = *method == Method::HEAD || head.status == StatusCode::NOT_MODIFIED;
    let is_tunnel = *method == Method::CONNECT && head.status.is_success();
    if describes_other {
        fields(out, &head.headers, &head.case, BodyLength::UntilClose);
        described_length(out, head);
    } else if is_tunnel || has_no_content(head.status) {
        fields(out, &head.headers, &head.case, BodyLength::UntilClose);
    } else {
        let wrote_length = fields(out, &head.headers, &head.case, length);
        match length {
            BodyLength::Chunked => line(out, b"Transfer-Encoding", b"chunked"),
            BodyLength::Exact(size) if !wrote_length => {
                content_length(out, b"Content-Length", size);
            }
            BodyLength::Empty if !wrote_length => content_length(out, b"Content-Length", 0),
            BodyLength::Empty | BodyLength::Exact(_) | BodyLength::UntilClose => {}
        }
    }
    response_connection(out, head, persistence);
    out.extend_from_slice(b"\r\n");
}

/// Writes an informational response's head.
pub fn interim_head(out: &mut Vec<u8>, head: &ResponseHead) {
    status_line(out, head);
    fields(out, &head.headers, &head.case, BodyLength::UntilClose);
    out.extend_from_slice(b"\r\n");
}

/// Writes what stands in front of a chunk's data.
pub fn chunk_size(out: &mut Vec<u8>, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(DIGITS[(size >> (digit * 4)) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk with trailers.
pub fn trailers(out: &mut Vec<u8>, trailers: &HeaderMap) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        if !super::hop::is_forbidden_in_trailers(name) {
            line(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The target in origin-form, asterisk-form, or for CONNECT in authority-form.
fn target(out: &mut Vec<u8>, head: &RequestHead) {
    match (head.target.path_and_query(), head.target.authority()) {
        (None, Some(authority)) if head.method == Method::CONNECT => {
            out.extend_from_slice(authority.as_str().as_bytes());
        }
        (None, _) => out.push(b'/'),
        (Some(path), _) => {
            // `http://host?query` has no path of its own.
            if path.as_str().starts_with('?') {
                out.push(b'/');
            }
            out.extend_from_slice(path.as_str().as_bytes());
        }
    }
}

/// By length where the body knows it and the head announces no trailers, else by chunks.
fn length_of(headers: &HeaderMap, body: &Body) -> BodyLength {
    match body.exact_length() {
        _ if body.is_end() => BodyLength::Empty,
        Some(0) => BodyLength::Empty,
        Some(length) if !headers.contains_key(header::TRAILER) => BodyLength::Exact(length),
        Some(_) | None => BodyLength::Chunked,
    }
}

/// Writes the end-to-end fields; `true` when Content-Length was among them and was written, with the length
/// that the body really has, in its place.
fn fields(out: &mut Vec<u8>, headers: &HeaderMap, case: &HeaderCase, length: BodyLength) -> bool {
    let mut names = Names { case, next: 0 };
    let mut wrote_length = false;
    for (name, value) in headers {
        match name.as_str() {
            "content-length" => {
                let written = names.written(name);
                match length {
                    BodyLength::Exact(size) if !wrote_length => content_length(out, written, size),
                    BodyLength::Empty if !wrote_length => content_length(out, written, 0),
                    BodyLength::Empty | BodyLength::Exact(_) => {}
                    BodyLength::Chunked | BodyLength::UntilClose => continue,
                }
                wrote_length = true;
            }
            "cookie" => cookie(out, names.written(name), headers, value),
            "trailer" if length != BodyLength::Chunked => {}
            "connection" | "transfer-encoding" | "keep-alive" | "proxy-connection" | "upgrade"
            | "te" => {}
            _ => line(out, names.written(name), value.as_bytes()),
        }
    }
    wrote_length
}

/// Several Cookie lines, as HTTP/2 has them, become one (RFC 9113 section 8.2.3), without empty ones.
fn cookie(out: &mut Vec<u8>, written: &[u8], headers: &HeaderMap, value: &HeaderValue) {
    let mut values = headers.get_all(header::COOKIE).iter();
    if values.next().is_some_and(|first| !std::ptr::eq(first, value)) {
        return;
    }
    out.extend_from_slice(written);
    out.push(b':');
    let crumbs = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    for (index, crumb) in crumbs.filter(|crumb| !crumb.is_empty()).enumerate() {
        out.extend_from_slice(if index == 0 { b" " } else { b"; " });
        out.extend_from_slice(crumb);
    }
    out.extend_from_slice(b"\r\n");
}

/// The names as they were written. They come in the order of the fields, so the next one is tried first.
struct Names<'a> {
    case: &'a HeaderCase,
    next: usize,
}

impl<'a> Names<'a> {
    fn written(&mut self, name: &'a HeaderName) -> &'a [u8] {
        let lower = name.as_str().as_bytes();
        match self.case.names.get(self.next) {
            Some(written) if is_written_as(lower, written) => {
                self.next += 1;
                written
            }
            Some(_) | None => self.case.original(name.as_str()).unwrap_or(lower),
        }
    }
}

fn status_line(out: &mut Vec<u8>, head: &ResponseHead) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    match &head.reason_phrase {
        Some(phrase) => out.extend(phrase.iter().filter(|byte| is_phrase(**byte))),
        None => out.extend_from_slice(head.status.canonical_reason().unwrap_or("").as_bytes()),
    }
    out.extend_from_slice(b"\r\n");
}

const fn is_phrase(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

/// `Connection` with what it nominates: an Upgrade offer, and `TE: trailers`.
fn request_connection(out: &mut Vec<u8>, head: &RequestHead, length: BodyLength) {
    // Bytes behind a head with an offer must not be taken for the new protocol's.
    let upgrade = head.upgrade.as_ref().filter(|_| length == BodyLength::Empty);
    if let Some(protocols) = upgrade {
        line(out, b"Upgrade", protocols);
    }
    if head.accepts_trailers {
        line(out, b"TE", b"trailers");
    }
    match (upgrade.is_some(), head.accepts_trailers) {
        (true, true) => line(out, b"Connection", b"Upgrade, TE"),
        (true, false) => line(out, b"Connection", b"Upgrade"),
        (false, true) => line(out, b"Connection", b"TE"),
        (false, false) => {}
    }
}

/// `Connection`, and the protocol that it nominates.
fn response_connection(out: &mut Vec<u8>, head: &ResponseHead, persistence: Persistence) {
    if let Some(protocol) = &head.upgrade {
        line(out, b"Upgrade", protocol);
    }
    match (head.upgrade.is_some(), persistence) {
        (true, Persistence::Close) => line(out, b"Connection", b"Upgrade, close"),
        (true, Persistence::Implied | Persistence::KeepAlive) => {
            line(out, b"Connection", b"Upgrade");
        }
        (false, Persistence::KeepAlive) => line(out, b"Connection", b"keep-alive"),
        (false, Persistence::Close) => line(out, b"Connection", b"close"),
        (false, Persistence::Implied) => {}
    }
}

/// The Content-Length that a response to HEAD, or a 304, says a response with content would have had.
fn described_length(out: &mut Vec<u8>, head: &ResponseHead) {
    let Some(value) = head.headers.get(header::CONTENT_LENGTH) else { return };
    if !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit) {
        let name = head.case.original("content-length").unwrap_or(b"Content-Length");
        line(out, name, value.as_bytes());
    }
}

/// Whether a request of this method without content says so (RFC 9110 section 8.6).
fn anticipates_content(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Whether responses of this status never have content.
fn has_no_content(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn content_length(out: &mut Vec<u8>, name: &[u8], length: u64) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    let mut rest = length;
    while rest > 0 || first == digits.len() {
        first -= 1;
        digits[first] += u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
    line(out, name, &digits[first..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_written_in_decimal() {
        for length in [0, 9, 10, 1_024, u64::MAX] {
            let mut out = Vec::new();
            content_length(&mut out, b"Content-Length", length);
            assert_eq!(String::from_utf8_lossy(&out), format!("Content-Length: {length}\r\n"));
        }
    }
}
