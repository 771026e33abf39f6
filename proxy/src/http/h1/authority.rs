//! Whether a Host field, or the authority of a target, is one host and perhaps a port.
//!
//! Stricter than RFC 3986: no user information, no empty port, and no comma (which would be a list to
//! somebody else).

/// Whether these bytes are `uri-host [ ":" port ]` (RFC 9110 section 4.2.1).
pub(crate) fn is_valid(authority: &[u8]) -> bool {
    let (host_is_valid, rest) = match authority.split_first() {
        Some((b'[', literal)) => match literal.iter().position(|byte| *byte == b']') {
            Some(end) => (is_ip_literal(&literal[..end]), &literal[end + 1..]),
            None => return false,
        },
        _ => {
            let is_beyond = |byte: &u8| !OF_REGISTERED_NAMES[usize::from(*byte)];
            let end = authority.iter().position(is_beyond).unwrap_or(authority.len());
            (end > 0, &authority[end..])
        }
    };
    host_is_valid
        && match rest.split_first() {
            None => true,
            Some((b':', port)) => is_port(port),
            Some(_) => false,
        }
}

/// Whether it ends with a port: what CONNECT must name (RFC 9112 section 3.2.3).
pub(super) fn has_port(authority: &[u8]) -> bool {
    let after_literal = authority.iter().rposition(|byte| *byte == b']').unwrap_or(0);
    authority[after_literal..].contains(&b':')
}

fn is_port(port: &[u8]) -> bool {
    (1..=5).contains(&port.len())
        && port.iter().all(u8::is_ascii_digit)
        && port.iter().fold(0_u32, |number, digit| number * 10 + u32::from(digit - b'0')) <= 65535
}

fn is_ip_literal(literal: &[u8]) -> bool {
    literal.len() >= 2
        && literal.iter().all(|byte| byte.is_ascii_alphanumeric() || b":.%-_~".contains(byte))
        && literal.contains(&b':')
}

/// The bytes that a registered name may have (RFC 3986 section 3.2.2), but for the comma.
static OF_REGISTERED_NAMES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-._~%!$&'()*+;=";
    let mut place = 0;
    while place < others.len() {
        table[others[place] as usize] = true;
        place += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_one_host_and_perhaps_a_port() {
        for valid in [
            "a",
            "catalog.shop",
            "a:80",
            "a_b:1",
            "127.0.0.1:65535",
            "[::1]",
            "[::1]:443",
            "[fe80::1%25eth0]:80",
            "xn--bcher-kva.example",
            "a.",
            "%41",
        ] {
            assert!(is_valid(valid.as_bytes()), "{valid}");
        }
        for invalid in [
            "", ":80", "a:", "a:b", "a:65536", "a:123456", "a b", "a,b", "user@a", "a/b", "a?b",
            "a#b", "[::1", "::1", "[]", "[::1]x", "[::1]:", "a:80:80", "a\\b", "a\"", "<a>",
            "a\u{e4}",
        ] {
            assert!(!is_valid(invalid.as_bytes()), "{invalid}");
        }
    }

    #[test]
    fn a_port_is_told_from_the_colons_of_an_address() {
        for (authority, expected) in
            [("a:1", true), ("a", false), ("[::1]", false), ("[::1]:1", true), ("1.2.3.4", false)]
        {
            assert_eq!(has_port(authority.as_bytes()), expected, "{authority}");
        }
    }
}
