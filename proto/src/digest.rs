//! Content digests: the version of a resource and the digest of an endpoint.
//!
//! A digest must be equal in two processes that hold the same content, also after a restart, so it is
//! computed over the message's encoded bytes with a fixed function (64-bit FNV-1a). It detects change; it
//! protects against nobody. Messages with maps are generated with ordered maps, so that equal content has
//! equal bytes.

use prost::Message;

const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The digest of some bytes.
#[must_use]
pub fn of_bytes(bytes: &[u8]) -> u64 {
    bytes.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// The digest of a message's content.
#[must_use]
pub fn of_message(message: &impl Message) -> u64 {
    of_bytes(&message.encode_to_vec())
}

/// The version of a resource with this digest, as it travels: 16 hexadecimal digits.
#[must_use]
pub fn version(digest: u64) -> String {
    format!("{digest:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::Endpoint;

    #[test]
    fn equal_content_has_an_equal_digest_whatever_the_order_of_insertion() {
        let endpoint = |labels: &[(&str, &str)]| Endpoint {
            id: "shop/cart/0:8080".into(),
            labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            ..Endpoint::default()
        };
        let one = endpoint(&[("a", "1"), ("b", "2")]);
        let other = endpoint(&[("b", "2"), ("a", "1")]);
        assert_eq!(of_message(&one), of_message(&other));
        assert_ne!(of_message(&one), of_message(&endpoint(&[("a", "1")])));
    }

    #[test]
    fn the_function_is_fnv_1a() {
        // Published test vectors of FNV-1a 64.
        assert_eq!(of_bytes(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(of_bytes(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(of_bytes(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
