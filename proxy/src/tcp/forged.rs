//! Whether opaque bytes may tell an application who its caller is.
//!
//! In come a client's bytes, in any pieces; out goes what stands in them that may: the field `weft-client-id`, in any
//! case and with any separators (CGI and its heirs turn them all into underscores), or the beginning of HTTP/2, which
//! can hide any field in its compression. Where no protocol is declared, what begins like no HTTP goes on unread, and
//! some servers answer requests that begin like none, or take HTTP/2 after something else: an upgrade, or a proxy's
//! preamble. Whatever else such a server reads into the bytes, it cannot see a field whose name is not there.

use memchr::{memchr2, memmem};

use crate::{detect::HTTP2_PREFACE, http::side};

/// Looks through one direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// The end of what was seen: what is looked for may have begun in it.
    tail: Vec<u8>,
}

/// So much of the end is kept: all but the last byte of the longer of the two.
const OVERLAP: usize = HTTP2_PREFACE.len() - 1;

impl Scanner {
    /// Whether the name, or the beginning of HTTP/2, stands in what was seen, these bytes included.
    pub(super) fn finds(&mut self, bytes: &[u8]) -> bool {
        let seam = bytes.len().min(OVERLAP);
        self.tail.extend_from_slice(&bytes[..seam]);
        let found = is_in(&self.tail) || is_in(bytes);
        if bytes.len() >= OVERLAP {
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[bytes.len() - OVERLAP..]);
        } else {
            self.tail.drain(..self.tail.len().saturating_sub(OVERLAP));
        }
        found
    }
}

fn is_in(bytes: &[u8]) -> bool {
    contains(bytes, side::CLIENT_ID.as_str().as_bytes())
        || memmem::find(bytes, HTTP2_PREFACE).is_some()
}

fn contains(bytes: &[u8], name: &[u8]) -> bool {
    let first = name[0];
    let mut rest = bytes;
    while let Some(at) = memchr2(first, first.to_ascii_uppercase(), rest) {
        rest = &rest[at..];
        if rest.len() < name.len() {
            return false;
        }
        if name.iter().zip(rest).all(|(&expected, &found)| is_written(expected, found)) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// A hyphen may be written as anything that is no letter and no digit.
const fn is_written(expected: u8, found: u8) -> bool {
    match expected {
        b'-' => !found.is_ascii_alphanumeric(),
        letter => letter.eq_ignore_ascii_case(&found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_and_http2_are_found_however_they_are_written_and_cut() {
        for text in [
            "weft-client-id: x",
            "GET /x\r\nWEFT_CLIENT.ID: x",
            "wweweft-client-id",
            "weft-client-weft-client-id",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "\r\n\r\n\0\r\nQUIT\nPRI * HTTP/2.0\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04",
        ] {
            assert!(Scanner::default().finds(text.as_bytes()), "{text}");
            for step in 1..text.len() {
                let mut scanner = Scanner::default();
                let found = text.as_bytes().chunks(step).any(|piece| scanner.finds(piece));
                assert!(found, "{text} in pieces of {step}");
            }
        }
    }

    #[test]
    fn other_bytes_are_not_taken_for_it() {
        let text =
            "weft-client-i weftclient-id weft-clientaid w W we WEFT\r\n weft--client-id PRI * HTTP/2.0\r\n\r\nSM\r\n\r".repeat(9);
        for step in [1, 2, 5, 13, 14, 15, 1000] {
            let mut scanner = Scanner::default();
            let found = text.as_bytes().chunks(step).any(|piece| scanner.finds(piece));
            assert!(!found, "in pieces of {step}");
        }
    }
}
