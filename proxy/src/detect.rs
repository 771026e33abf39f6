//! What a connection is, from its first bytes: TLS, HTTP/1, HTTP/2 with prior knowledge, or opaque.
//!
//! Comes in: all bytes seen so far, a growing prefix of the stream. Goes out: an answer, or that more bytes
//! are needed. Sans-io: who speaks first and how long to wait is the caller's business. It never panics on
//! any input, never consumes a byte, and never changes an answer once given as the stream grows.
//!
//! `Opaque` is said as early as the bytes disprove all others, because a wrong choice breaks an application. What looks
//! like TLS and is malformed is opaque too; what some server could take for HTTP is HTTP, for the codec to refuse.

mod client_hello;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod request_line;

pub use client_hello::{ClientHello, HANDSHAKE_RECORD, MAX_HELLO_BYTES, MAX_RECORDS_BYTES};
pub use request_line::MAX_LINE_BYTES;

/// The most bytes that [`detect`] ever asks for before it decides.
pub const MAX_DETECT_BYTES: usize = MAX_RECORDS_BYTES;

/// What HTTP/2 begins with (RFC 9113 3.4).
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection's first bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detected {
    /// Nothing else is excluded yet.
    NeedMore,
    /// A whole TLS ClientHello.
    Tls(ClientHello),
    /// An HTTP/1 request line.
    Http1,
    /// The HTTP/2 preface.
    Http2,
    /// None of the others.
    Opaque,
}

/// Decides what begins with `bytes`.
#[must_use]
pub fn detect(bytes: &[u8]) -> Detected {
    match bytes.first() {
        None => Detected::NeedMore,
        Some(&client_hello::HANDSHAKE_RECORD) => client_hello::detect(bytes),
        Some(_) if bytes.starts_with(HTTP2_PREFACE) => Detected::Http2,
        Some(_) if HTTP2_PREFACE.starts_with(bytes) => Detected::NeedMore,
        Some(_) => request_line::detect(bytes),
    }
}

/// What begins with `bytes`, which are not enough to tell, when no more may be waited for: what could still become
/// a request is one, and a TLS hello that does not come is opaque.
#[must_use]
pub fn unfinished(bytes: &[u8]) -> Detected {
    match bytes.first() {
        Some(&client_hello::HANDSHAKE_RECORD) => Detected::Opaque,
        _ => Detected::Http1,
    }
}

/// Whether `bytes`, a server's first, begin the SETTINGS with which servers of HTTP/2 begin (RFC 9113 3.4), which they
/// may send before they have heard anything; `None` when they are too few to tell.
#[must_use]
pub fn is_http2_server(bytes: &[u8]) -> Option<bool> {
    // The header of a frame (RFC 9113 4.1): three bytes of length, the type, the flags, the stream.
    let header = [Some(0), None, None, Some(4), Some(0), Some(0), Some(0), Some(0), Some(0)];
    let is_other = |(byte, expected): (&u8, &Option<u8>)| expected.is_some_and(|it| it != *byte);
    if bytes.iter().zip(&header).any(is_other) || bytes.get(1).is_some_and(|&high| high > 3) {
        return Some(false);
    }
    let length = u16::from_be_bytes([*bytes.get(1)?, *bytes.get(2)?]);
    // Each setting has six bytes (RFC 9113 6.5.1).
    if length % 6 != 0 {
        return Some(false);
    }
    (bytes.len() >= header.len()).then_some(true)
}

#[cfg(test)]
mod tests;
