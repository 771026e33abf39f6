//! What must hold of detection for any bytes: fuzzed, and run over the corpus by the tests.
//!
//! - An answer, once given, never changes as the stream grows, so it does not matter how the bytes arrive.
//! - It is given within [`MAX_DETECT_BYTES`], whatever follows.
//! - What the HTTP/1 codec reads as a request is HTTP/1.
//! - rustls, which takes the connection over, reads the same name and the same protocols.

use rustls::server::Acceptor;

use super::{ClientHello, Detected, MAX_DETECT_BYTES, MAX_LINE_BYTES, detect};
use crate::http::h1::{
    HeadLimits,
    parse::{self, Progress},
};

/// Prefixes that are looked at of a long input; of a short one, all.
const PREFIXES: usize = 64;

/// Checks all of it for a stream that begins with `bytes`.
pub fn check(bytes: &[u8]) {
    let answer = check_prefixes(bytes);
    if answer == Detected::NeedMore && !bytes.is_empty() {
        check_bound(bytes);
    }
    if is_request(bytes) {
        assert_eq!(answer, Detected::Http1, "the codec reads a request");
    }
    if let (Detected::Tls(ours), Some(theirs)) = (answer, read_by_rustls(bytes)) {
        check_against_rustls(&ours, &theirs);
    }
}

/// The answer for the whole, once no prefix had another.
fn check_prefixes(bytes: &[u8]) -> Detected {
    let whole = detect(bytes);
    let step = bytes.len() / PREFIXES + 1;
    let mut decided = false;
    for length in (0..bytes.len()).step_by(step) {
        let answer = detect(&bytes[..length]);
        assert!(!decided || answer != Detected::NeedMore, "withdrawn at byte {length}");
        decided = answer != Detected::NeedMore;
        assert!(!decided || answer == whole, "{answer:?} at byte {length}, then {whole:?}");
    }
    whole
}

/// However an undecided stream goes on, there is an answer in time.
fn check_bound(bytes: &[u8]) {
    for filler in [bytes, b"a", b"\0"] {
        let stream: Vec<u8> =
            bytes.iter().chain(filler.iter().cycle()).copied().take(MAX_DETECT_BYTES).collect();
        assert_ne!(detect(&stream), Detected::NeedMore, "no answer within the bound");
    }
}

/// Whether the HTTP/1 codec reads a request's head there.
fn is_request(bytes: &[u8]) -> bool {
    let limits = HeadLimits { bytes: MAX_LINE_BYTES, fields: 64 };
    let read = parse::request(&mut bytes.into(), &mut Progress::default(), limits);
    matches!(read, Ok(Some(_)))
}

/// What rustls reads in a whole hello.
fn read_by_rustls(mut bytes: &[u8]) -> Option<ClientHello> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            let hello = accepted.client_hello();
            return Some(ClientHello {
                server_name: hello.server_name().map(str::to_ascii_lowercase),
                alpn: hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect(),
            });
        }
    }
    None
}

/// rustls reads no host name that is no DNS name.
fn check_against_rustls(ours: &ClientHello, theirs: &ClientHello) {
    assert_eq!(ours.alpn, theirs.alpn);
    if theirs.server_name.is_some() {
        assert_eq!(ours.server_name, theirs.server_name);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_first_bytes_is_detected_alike_in_any_pieces() {
        crate::replay::corpus("client_hello", super::check);
    }
}
