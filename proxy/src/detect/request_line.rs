//! Whether bytes begin with an HTTP/1 request line (RFC 9112 3), or with what a lenient server takes for one.
//!
//! Comes in: a growing prefix. Goes out: `Http1` once a line stands whose last word is HTTP's version, `Opaque` as
//! soon as the bytes disprove that.
//!
//! An opaque connection reaches the application as it is, and with it whatever fields the client made up. So all
//! that some server reads as a request must go to the codec, which refuses what is malformed: empty lines first
//! (servers skip them, RFC 9112 2.2), any number and kind of blanks between the words, any target, any version, a
//! bare LF. Many protocols begin with a line of words (Redis `SET key value`, memcached, SMTP, IMAP, NATS); none ends
//! it with `HTTP/` and a number. A line of HTTP/0.9 carries no fields; it, RTSP and SIP are opaque.

use super::Detected;

/// What could still become a request line after so many bytes is one: no other protocol writes that much text
/// without the end of a line. Whether it is too long is the codec's to decide.
pub const MAX_LINE_BYTES: usize = 16 * 1024;

/// Decides for a stream whose first bytes are neither TLS nor HTTP/2.
pub(super) fn detect(bytes: &[u8]) -> Detected {
    let bytes = &bytes[..bytes.len().min(MAX_LINE_BYTES)];
    let unfinished =
        || if bytes.len() < MAX_LINE_BYTES { Detected::NeedMore } else { Detected::Http1 };
    let blanks = bytes.iter().take_while(|&&byte| is_blank(byte) || is_line_end(byte)).count();
    let line = &bytes[blanks..];
    if line.is_empty() {
        return unfinished();
    }
    let method = line.iter().take_while(|&&byte| is_token(byte)).count();
    match line.get(method) {
        _ if method == 0 => Detected::Opaque,
        None => unfinished(),
        Some(&byte) if is_blank(byte) => match detect_rest(&line[method..]) {
            Detected::NeedMore => unfinished(),
            decided => decided,
        },
        Some(_) => Detected::Opaque,
    }
}

/// Decides by what follows the method.
fn detect_rest(rest: &[u8]) -> Detected {
    let end = rest.iter().position(|&byte| byte == b'\n');
    let line = &rest[..end.unwrap_or(rest.len())];
    if line.iter().any(|&byte| byte.is_ascii_control() && !is_blank(byte) && byte != b'\r') {
        return Detected::Opaque;
    }
    let mut words =
        line.split(|&byte| is_blank(byte) || byte == b'\r').filter(|word| !word.is_empty());
    match end {
        Some(_) if words.next_back().is_some_and(is_version) => Detected::Http1,
        Some(_) => Detected::Opaque,
        None => Detected::NeedMore,
    }
}

/// `HTTP/1.1`, and every other version that there is or is not.
fn is_version(word: &[u8]) -> bool {
    word.split_at_checked(5).is_some_and(|(name, number)| {
        name.eq_ignore_ascii_case(b"HTTP/")
            && number.first().is_some_and(u8::is_ascii_digit)
            && number.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
    })
}

/// tchar (RFC 9110 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What some server splits words at: RFC 9112 3 warns of tabs, VT and FF, and Python's `split` knows more.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0b | 0x0c | 0x1c..=0x1f | 0x85 | 0xa0)
}

const fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}
