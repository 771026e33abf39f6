//! Whether bytes begin with an HTTP/1 request line (RFC 9112 3): `METHOD SP TARGET SP HTTP/1.x CRLF`.
//!
//! Comes in: a growing prefix. Goes out: `Http1` once the whole line stands, `Opaque` at the first byte that
//! cannot be part of one. Many protocols send lines of words (Redis `SET key value`, memcached, SMTP, IMAP,
//! SSH, NATS); none has a target that begins like HTTP's and then the version. A line of HTTP/0.9 and other
//! protocols with HTTP's look (RTSP, SIP) are opaque.
//!
//! The line's end may be a bare LF: no other protocol has that line, and whether to bear with it is the
//! codec's to decide.

use super::Detected;

/// The most bytes of a method. The longest registered one has 17.
pub const MAX_METHOD_BYTES: usize = 32;

/// A target that is still good after so many bytes is HTTP's: no other protocol writes a word, a space and
/// then 8 KiB of a path. Whether it is too long is the codec's to decide.
pub const MAX_TARGET_BYTES: usize = 8 * 1024;

/// A host name of 255 bytes with its port, and room to spare.
const MAX_AUTHORITY_BYTES: usize = 300;

/// The version, up to the minor digit that stands before the line's end.
const VERSION: &[u8] = b"HTTP/1.";

/// Decides for a stream whose first bytes are neither TLS nor HTTP/2.
pub(super) fn detect(bytes: &[u8]) -> Detected {
    let method_length =
        bytes.iter().take(MAX_METHOD_BYTES + 1).take_while(|&&byte| is_token(byte)).count();
    if method_length == 0 || method_length > MAX_METHOD_BYTES {
        return Detected::Opaque;
    }
    let (method, rest) = bytes.split_at(method_length);
    match rest.split_first() {
        None => Detected::NeedMore,
        Some((b' ', after)) => detect_target(method, after),
        Some(_) => Detected::Opaque,
    }
}

fn detect_target(method: &[u8], rest: &[u8]) -> Detected {
    let length = rest.iter().take_while(|&&byte| is_target(byte)).count();
    let (target, rest) = rest.split_at(length);
    let shape = if method == b"CONNECT" { authority_shape(target) } else { target_shape(target) };
    match (shape, rest.split_first()) {
        (Shape::Wrong, _) => Detected::Opaque,
        (Shape::Good, _) if length > MAX_TARGET_BYTES => Detected::Http1,
        (Shape::Unfinished, _) if length > MAX_TARGET_BYTES => Detected::Opaque,
        (_, None) => Detected::NeedMore,
        (Shape::Good, Some((b' ', after))) => detect_version(after),
        _ => Detected::Opaque,
    }
}

fn detect_version(rest: &[u8]) -> Detected {
    if VERSION.starts_with(rest) {
        return Detected::NeedMore;
    }
    match rest.strip_prefix(VERSION) {
        Some([minor]) | Some([minor, b'\r']) if minor.is_ascii_digit() => Detected::NeedMore,
        Some([minor, b'\r', b'\n', ..] | [minor, b'\n', ..]) if minor.is_ascii_digit() => {
            Detected::Http1
        }
        _ => Detected::Opaque,
    }
}

/// What a target looks like so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A target, if it ends here.
    Good,
    /// None yet, but more bytes may make it one.
    Unfinished,
    Wrong,
}

/// origin-form `/…`, asterisk-form `*`, or absolute-form `scheme://…` (RFC 9112 3.2).
fn target_shape(target: &[u8]) -> Shape {
    match target.split_first() {
        None => Shape::Unfinished,
        Some((b'/', _)) | Some((b'*', [])) => Shape::Good,
        Some((first, _)) if first.is_ascii_alphabetic() => absolute_shape(target),
        Some(_) => Shape::Wrong,
    }
}

fn absolute_shape(target: &[u8]) -> Shape {
    let scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    let length = target.iter().take_while(|&byte| scheme(byte)).count();
    let rest = &target[length..];
    if length > MAX_METHOD_BYTES {
        Shape::Wrong
    } else if rest.starts_with(b"://") && rest.len() > 3 {
        Shape::Good
    } else if b"://".starts_with(rest) {
        Shape::Unfinished
    } else {
        Shape::Wrong
    }
}

/// authority-form `HOST:PORT`, of CONNECT alone (RFC 9112 3.2.3).
fn authority_shape(target: &[u8]) -> Shape {
    let host = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%[]:".contains(byte);
    if target.len() > MAX_AUTHORITY_BYTES || !target.iter().all(host) {
        return Shape::Wrong;
    }
    let port = target.rsplit(|&byte| byte == b':').next().unwrap_or_default();
    let finished = port.len() + 1 < target.len() && !port.is_empty();
    if finished && port.iter().all(u8::is_ascii_digit) { Shape::Good } else { Shape::Unfinished }
}

/// tchar (RFC 9110 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What may stand in a target: no blank and no control character. Bytes above ASCII occur in the wild.
fn is_target(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f
}
