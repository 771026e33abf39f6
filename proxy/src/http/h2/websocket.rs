//! WebSockets over HTTP/2 (RFC 8441), translated at the codec: the rest of the proxy knows them as HTTP/1's Upgrade.
//!
//! Comes in: the head of a client's extended CONNECT, and later the 101 of whoever serves it. Goes out: the GET with which
//! HTTP/1 asks for the same (RFC 6455 section 4.1), with a key of our own, and the 200 that the client waits for. The
//! server must have understood the key: else nothing is opened. Towards an application of HTTP/2 it is the other way round.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use bytes::Bytes;
use http::{
    HeaderValue, Method, StatusCode,
    header::{CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY},
};

use crate::http::{RequestHead, ResponseHead};

/// The protocol's name in `:protocol` and in `Upgrade`.
pub(super) const PROTOCOL: &str = "websocket";

/// What a server adds to the key (RFC 6455 section 1.3).
const SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Makes of an extended CONNECT for a WebSocket the request with which HTTP/1 asks for one.
pub(super) fn into_upgrade(head: &mut RequestHead) {
    head.method = Method::GET;
    head.upgrade = Some(Bytes::from_static(PROTOCOL.as_bytes()));
    head.headers.remove(CONTENT_LENGTH);
    let key = base64(&fastrand::u128(..).to_be_bytes());
    // Base64 is ASCII by construction.
    if let Ok(key) = HeaderValue::from_str(&key) {
        head.headers.insert(SEC_WEBSOCKET_KEY, key);
    }
}

/// The key that a request asks with, if it asks for a WebSocket.
pub(super) fn key(head: &RequestHead) -> Option<HeaderValue> {
    let protocol = head.upgrade.as_ref()?;
    let is_websocket = protocol.eq_ignore_ascii_case(PROTOCOL.as_bytes());
    is_websocket.then(|| head.headers.get(SEC_WEBSOCKET_KEY).cloned()).flatten()
}

/// Whether a request asks for a WebSocket, which HTTP/2 can say; of other protocols it cannot.
pub(crate) fn is_asked_for(head: &RequestHead) -> bool {
    key(head).is_some()
}

/// Makes of the response that opens a WebSocket in HTTP/1 the one that does in HTTP/2.
///
/// # Errors
/// The server has not understood the request, and why.
pub(super) fn opened(head: &mut ResponseHead, key: &HeaderValue) -> Result<(), &'static str> {
    let protocol = head.upgrade.take().unwrap_or_default();
    if !protocol.eq_ignore_ascii_case(PROTOCOL.as_bytes()) {
        return Err("101 with another protocol than websocket");
    }
    let accepted = head.headers.remove(SEC_WEBSOCKET_ACCEPT);
    if accepted.is_none_or(|accepted| accepted.as_bytes() != accept(key).as_bytes()) {
        return Err("101 with a Sec-WebSocket-Accept that is none for the key");
    }
    head.status = StatusCode::OK;
    head.reason_phrase = None;
    Ok(())
}

/// Makes of the response that opens a WebSocket in HTTP/2 the one that answers this key in HTTP/1.
pub(super) fn switched(head: &mut ResponseHead, key: &HeaderValue) {
    head.status = StatusCode::SWITCHING_PROTOCOLS;
    head.upgrade = Some(Bytes::from_static(PROTOCOL.as_bytes()));
    head.headers.remove(CONTENT_LENGTH);
    // Base64 is ASCII by construction.
    if let Ok(accept) = HeaderValue::from_str(&accept(key)) {
        head.headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
}

/// What a server answers to a key (RFC 6455 section 4.2.2).
pub(crate) fn accept(key: &HeaderValue) -> String {
    let joined = [key.as_bytes(), SUFFIX].concat();
    base64(digest(&SHA1_FOR_LEGACY_USE_ONLY, &joined).as_ref())
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let digit = usize::try_from(bits >> (18 - 6 * index) & 63).unwrap_or(0);
            let is_padding = index > group.len();
            text.push(if is_padding { '=' } else { char::from(DIGITS[digit]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_rfc_4648_has_it() {
        for (plain, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn only_the_servers_word_for_this_very_key_opens_a_websocket() {
        // The example of RFC 6455 section 1.3.
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        let right = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        for (protocol, accept, is_right) in [
            ("websocket", Some(right), true),
            ("WebSocket", Some(right), true),
            ("chat", Some(right), false),
            ("websocket", Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOO="), false),
            ("websocket", None, false),
        ] {
            let mut head = ResponseHead::new(StatusCode::SWITCHING_PROTOCOLS);
            head.upgrade = Some(Bytes::from_static(protocol.as_bytes()));
            if let Some(accept) = accept {
                head.headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(opened(&mut head, &key).is_ok(), is_right, "{protocol} {accept:?}");
            if is_right {
                assert_eq!((head.status, head.headers.len()), (StatusCode::OK, 0));
            }
        }
    }
}
