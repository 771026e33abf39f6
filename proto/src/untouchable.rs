//! Headers that no filter of a route may touch: what concerns one connection, what frames one message, and what sidecars
//! say to each other.
//!
//! The control plane says so to the operator and sends no such filter; a sidecar refuses one that comes all the same.

/// Why no filter may touch a header, whatever the case of its name; `None` for all others.
#[must_use]
pub fn why_untouchable(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    if name.starts_with("weft-") {
        return Some("headers that begin with weft- are the sidecars' own; use another name");
    }
    match name.as_str() {
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "te"
        | "trailer"
        | "upgrade"
        | "http2-settings"
        | "proxy-authenticate"
        | "proxy-authorization"
        | "proxy-authentication-info" => {
            Some("it concerns one connection, not the message; leave it out")
        }
        "content-length" | "transfer-encoding" => {
            Some("it says where the message ends; leave it out")
        }
        "host" => Some("use a URLRewrite filter with hostname"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_connection_or_to_the_mesh_is_untouchable() {
        for name in ["Connection", "content-length", "host", "Weft-Deadline", "upgrade", "te"] {
            assert!(why_untouchable(name).is_some(), "{name}");
        }
        for name in ["x-request-id", "content-type", "authorization", "cookie", "weftwork"] {
            assert_eq!(why_untouchable(name), None, "{name}");
        }
    }
}
