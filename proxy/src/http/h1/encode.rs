//! Heads, chunks and trailers as bytes: one framing, chosen here, and fields in the case they came in.
//!
//! What goes in is free of hop-by-hop fields; what this connection needs is added. Framing fields of the
//! head are never copied: Content-Length is written from the framing that the body will really have.

use http::{Method, StatusCode, Version, header};

use super::framing::BodyLength;
use crate::http::{Body, Fields, RequestHead, ResponseHead, fields::Field};

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
    let wrote_length = fields(out, &head.headers, length);
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
        fields(out, &head.headers, BodyLength::UntilClose);
        described_length(out, head);
    } else if is_tunnel || has_no_content(head.status) {
        fields(out, &head.headers, BodyLength::UntilClose);
    } else {
        let wrote_length = fields(out, &head.headers, length);
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
    fields(out, &head.headers, BodyLength::UntilClose);
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
pub fn trailers(out: &mut Vec<u8>, trailers: &Fields) {
    out.extend_from_slice(b"0\r\n");
    for field in trailers {
        if !super::hop::is_forbidden_in_trailers(field.name()) {
            end_to_end(out, field);
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
fn length_of(headers: &Fields, body: &Body) -> BodyLength {
    match body.exact_length() {
        _ if body.is_end() => BodyLength::Empty,
        Some(0) => BodyLength::Empty,
        Some(length) if !headers.contains_key(header::TRAILER) => BodyLength::Exact(length),
        Some(_) | None => BodyLength::Chunked,
    }
}

/// Writes the end-to-end fields; `true` when Content-Length was among them and was written, with the length
/// that the body really has, in its place.
fn fields(out: &mut Vec<u8>, headers: &Fields, length: BodyLength) -> bool {
    let (mut wrote_length, mut wrote_cookies) = (false, false);
    for field in headers {
        match field.name().as_str() {
            "content-length" => {
                match length {
                    BodyLength::Exact(size) if !wrote_length => own_length(out, field, size),
                    BodyLength::Empty if !wrote_length => own_length(out, field, 0),
                    BodyLength::Empty | BodyLength::Exact(_) => {}
                    BodyLength::Chunked | BodyLength::UntilClose => continue,
                }
                wrote_length = true;
            }
            "cookie" if wrote_cookies => {}
            "cookie" => {
                cookies(out, field, headers);
                wrote_cookies = true;
            }
            "trailer" if length != BodyLength::Chunked => {}
            "connection" | "transfer-encoding" | "keep-alive" | "proxy-connection" | "upgrade"
            | "te" => {}
            _ => end_to_end(out, field),
        }
    }
    wrote_length
}

/// Several Cookie lines, as HTTP/2 has them, become one (RFC 9113 section 8.2.3), without empty ones, where the first stood.
fn cookies(out: &mut Vec<u8>, first: &Field, headers: &Fields) {
    first.spelt().write(out);
    out.push(b':');
    let crumbs = headers.get_all(header::COOKIE).map(http::HeaderValue::as_bytes);
    for (index, crumb) in crumbs.filter(|crumb| !crumb.is_empty()).enumerate() {
        out.extend_from_slice(if index == 0 { b" " } else { b"; " });
        out.extend_from_slice(crumb);
    }
    out.extend_from_slice(b"\r\n");
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
    let Some(field) = head.headers.field(header::CONTENT_LENGTH) else { return };
    let value = field.value();
    if !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit) {
        match field.spelt().is_lower() {
            true => line(out, b"Content-Length", value.as_bytes()),
            false => end_to_end(out, field),
        }
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

/// A field as it came.
fn end_to_end(out: &mut Vec<u8>, field: &Field) {
    field.spelt().write(out);
    value(out, field.value().as_bytes());
}

fn line(out: &mut Vec<u8>, name: &[u8], text: &[u8]) {
    out.extend_from_slice(name);
    value(out, text);
}

fn value(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(b": ");
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

/// A Content-Length that came, with the length that the body really has.
fn own_length(out: &mut Vec<u8>, field: &Field, length: u64) {
    field.spelt().write(out);
    decimal(length, |digits| value(out, digits));
}

fn content_length(out: &mut Vec<u8>, name: &[u8], length: u64) {
    decimal(length, |digits| line(out, name, digits));
}

fn decimal(number: u64, write: impl FnOnce(&[u8])) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    let mut rest = number;
    while rest > 0 || first == digits.len() {
        first -= 1;
        digits[first] += u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
    write(&digits[first..]);
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
