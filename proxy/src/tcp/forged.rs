//! Whether opaque bytes name the field by which an application knows its caller.
//!
//! In come a client's bytes, in any pieces; out goes whether `weft-client-id` stands in them, in any case and with
//! any separators (CGI and its heirs turn them all into underscores). Where no protocol is declared, what begins
//! like no HTTP goes on unread, and some servers answer requests that begin like none. Whatever else such a server
//! reads into the bytes, it cannot see a field whose name is not there.

use memchr::memchr2;

use crate::http::side;

/// Looks through one direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// The end of what was seen: the name may have begun in it.
    tail: Vec<u8>,
}

impl Scanner {
    /// Whether the name stands in what was seen, these bytes included.
    pub(super) fn finds_name(&mut self, bytes: &[u8]) -> bool {
        let field = side::CLIENT_ID;
        let name = field.as_str().as_bytes();
        let overlap = name.len() - 1;
        let seam = bytes.len().min(overlap);
        self.tail.extend_from_slice(&bytes[..seam]);
        let found = contains(&self.tail, name) || contains(bytes, name);
        if bytes.len() >= overlap {
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[bytes.len() - overlap..]);
        } else {
            self.tail.drain(..self.tail.len().saturating_sub(overlap));
        }
        found
    }
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
    fn the_name_is_found_however_it_is_written_and_cut() {
        for text in [
            "weft-client-id: x",
            "GET /x\r\nWEFT_CLIENT.ID: x",
            "wweweft-client-id",
            "weft-client-weft-client-id",
        ] {
            assert!(Scanner::default().finds_name(text.as_bytes()), "{text}");
            for step in 1..text.len() {
                let mut scanner = Scanner::default();
                let found = text.as_bytes().chunks(step).any(|piece| scanner.finds_name(piece));
                assert!(found, "{text} in pieces of {step}");
            }
        }
    }

    #[test]
    fn other_bytes_are_not_taken_for_it() {
        let text =
            "weft-client-i weftclient-id weft-clientaid w W we WEFT\r\n weft--client-id".repeat(9);
        for step in [1, 2, 5, 13, 14, 15, 1000] {
            let mut scanner = Scanner::default();
            let found = text.as_bytes().chunks(step).any(|piece| scanner.finds_name(piece));
            assert!(!found, "in pieces of {step}");
        }
    }
}
