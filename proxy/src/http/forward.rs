//! Who the caller is, said to the application: `weft-client-id`, `Forwarded` and `X-Forwarded-*`.
//!
//! One rule, which docs/forwarded.md states for users and the test below as a table: an identity is said by the
//! mesh alone, and what a caller says of *its* caller passes where the caller itself is verified. In come a
//! request's fields after [`super::side::strip`], so that every field of Weft's own is gone, however spelt, and
//! after the codec has taken out hop-by-hop fields, so that nothing the client nominated in `Connection` can
//! take out what is set here. It must run before the request is sent anywhere, and set nothing on a request
//! that leaves the local application.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderName, HeaderValue, header};
use weft_proto::SpiffeId;

use super::{Fields, side};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// For a request of the local application: what it says of its own client passes, and the one that verifies is
/// the server's sidecar. What would pass for an identity does not.
pub fn outbound(fields: &mut Fields) {
    remove_identities(fields);
}

/// For a request to the local application: `peer` is the verified caller, `remote` where an unverified one
/// comes from.
pub fn inbound(fields: &mut Fields, peer: Option<&SpiffeId>, remote: Option<SocketAddr>) {
    remove_identities(fields);
    match peer {
        Some(peer) => {
            // A SPIFFE ID is ASCII by construction.
            if let Ok(id) = HeaderValue::from_str(peer.as_str()) {
                fields.insert(side::CLIENT_ID, id);
            }
        }
        None => {
            fields.retain(|name| !says_origin(name));
            if let Some(remote) = remote {
                put_address(fields, remote.ip().to_canonical());
            }
        }
    }
}

/// Weft's own field should be gone already; Envoy's would be believed by applications that knew Envoy.
fn remove_identities(fields: &mut Fields) {
    fields.retain(|name| {
        let plain = name.as_str();
        !is_spelt(plain, side::CLIENT_ID.as_str())
            && !is_spelt(plain, X_FORWARDED_CLIENT_CERT.as_str())
    });
}

/// Whether a field says where a request came from: `Forwarded`, `X-Forwarded-*`, `X-Real-IP`.
fn says_origin(name: &HeaderName) -> bool {
    const PREFIX: &str = "x-forwarded";
    let name = name.as_str();
    is_spelt(name, "forwarded")
        || is_spelt(name, "x-real-ip")
        || name.get(..PREFIX.len()).is_some_and(|prefix| is_spelt(prefix, PREFIX))
}

/// Whether a field's name is this one to an application: CGI and its heirs cannot tell `_` from `-`, and PHP none of
/// them from `.` and the like.
fn is_spelt(name: &str, expected: &str) -> bool {
    let hyphens = name.bytes().map(|byte| if byte.is_ascii_alphanumeric() { byte } else { b'-' });
    hyphens.eq(expected.bytes())
}

/// RFC 7239 section 4, and its predecessor.
fn put_address(fields: &mut Fields, address: IpAddr) {
    let forwarded = match address {
        IpAddr::V4(address) => format!("for={address}"),
        IpAddr::V6(address) => format!("for=\"[{address}]\""),
    };
    if let Ok(value) = HeaderValue::try_from(forwarded) {
        fields.insert(header::FORWARDED, value);
    }
    if let Ok(value) = HeaderValue::try_from(address.to_string()) {
        fields.insert(X_FORWARDED_FOR, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a caller may try, with whether it reaches the other side: of a local application outbound, of a
    /// verified peer inbound, of a stranger inbound.
    const TABLE: &[(&str, bool, bool, bool)] = &[
        ("forwarded", true, true, false),
        ("x-forwarded-for", true, true, false),
        ("x-forwarded-proto", true, true, false),
        ("x-forwarded-host", true, true, false),
        ("x-forwarded-port", true, true, false),
        ("x-forwarded-anything-later", true, true, false),
        ("x_forwarded_for", true, true, false),
        ("x-forwarded_for", true, true, false),
        ("x.forwarded.for", true, true, false),
        ("x-real-ip", true, true, false),
        ("x.real|ip", true, true, false),
        ("x_real_ip", true, true, false),
        ("x-forwarded-client-cert", false, false, false),
        ("x_forwarded-client_cert", false, false, false),
        ("weft-client-id", false, false, false),
        ("weft_client_id", false, false, false),
        ("weft.client.id", false, false, false),
        ("x.forwarded.client.cert", false, false, false),
        ("weft-client_id", false, false, false),
        ("via", true, true, true),
        ("x-forward", true, true, true),
        ("accept", true, true, true),
    ];

    const CLAIM: &str = "a claim";

    fn claims(name: &'static str) -> Fields {
        let mut fields = Fields::new();
        fields.append(name, HeaderValue::from_static(CLAIM));
        fields.append(name, HeaderValue::from_static(CLAIM));
        fields
    }

    fn passed(fields: &Fields) -> bool {
        fields.values().any(|value| value == CLAIM)
    }

    #[test]
    fn claims_pass_by_who_makes_them() {
        let peer: SpiffeId = "spiffe://weft.local/ns/shop/sa/web".parse().expect("valid");
        let remote = SocketAddr::from(([192, 0, 2, 7], 4711));
        for &(name, local, verified, stranger) in TABLE {
            let mut fields = claims(name);
            outbound(&mut fields);
            assert_eq!(passed(&fields), local, "{name} of the application");

            let mut fields = claims(name);
            inbound(&mut fields, Some(&peer), Some(remote));
            assert_eq!(passed(&fields), verified, "{name} of a peer");
            let ids: Vec<_> = fields.get_all("weft-client-id").collect();
            assert_eq!(ids, [peer.as_str()], "{name}");

            let mut fields = claims(name);
            inbound(&mut fields, None, Some(remote));
            assert_eq!(passed(&fields), stranger, "{name} of a stranger");
            assert!(!fields.contains_key("weft-client-id"), "{name}");
            assert_eq!(fields["x-forwarded-for"], "192.0.2.7", "{name}");
            assert_eq!(fields["forwarded"], "for=192.0.2.7", "{name}");
        }
    }

    #[test]
    fn addresses_are_written_as_rfc_7239_wants_them() {
        for (remote, forwarded, plain) in [
            ("[2001:db8::1]:80", "for=\"[2001:db8::1]\"", "2001:db8::1"),
            ("[::ffff:192.0.2.7]:80", "for=192.0.2.7", "192.0.2.7"),
        ] {
            let mut fields = Fields::new();
            inbound(&mut fields, None, Some(remote.parse().expect("an address")));
            assert_eq!(
                (&fields["forwarded"], &fields["x-forwarded-for"]),
                (&HeaderValue::from_static(forwarded), &HeaderValue::from_static(plain))
            );
        }
        let mut fields = claims("x-forwarded-for");
        inbound(&mut fields, None, None);
        assert!(fields.is_empty(), "without an address nothing is said");
    }
}
