//! HPACK (RFC 7541): the fields of a head as bytes, and back.
//!
//! In come a head's fields, out goes one header block, and the reverse. Each direction of a connection has its
//! own state ([`Encoder`], [`Decoder`]) that every block moves on: a block that is not decoded to its end leaves
//! the connection unusable, whatever is wanted of its fields.

mod decoder;
mod encoder;
mod huffman;

#[cfg(test)]
mod tests;

pub(super) use decoder::{Decoder, Field};
pub(super) use encoder::Encoder;

use http::{HeaderName, HeaderValue, header};

/// What an entry counts beside its bytes (RFC 7541 section 4.1).
const ENTRY_OVERHEAD: usize = 32;

/// Bytes of a dynamic table, where nobody has said otherwise (RFC 9113 section 6.5.2).
const DEFAULT_TABLE_SIZE: usize = 4096;

/// Why a block cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("HPACK: {0}")]
pub(super) struct HpackError(pub &'static str);

/// The name of a field, or of what stands before the fields (RFC 9113 section 8.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Authority,
    Method,
    Path,
    Protocol,
    Scheme,
    Status,
    Field(HeaderName),
    /// One that no message may have: an unknown pseudo-header, a capital, another character that no name has; with its length.
    Invalid(usize),
}

impl Name {
    /// The name as a block spells it.
    fn read(bytes: &[u8]) -> Self {
        match bytes {
            b":authority" => Self::Authority,
            b":method" => Self::Method,
            b":path" => Self::Path,
            b":protocol" => Self::Protocol,
            b":scheme" => Self::Scheme,
            b":status" => Self::Status,
            _ => HeaderName::from_lowercase(bytes).map_or(Self::Invalid(bytes.len()), Self::Field),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Authority => ":authority".len(),
            Self::Method => ":method".len(),
            Self::Path => ":path".len(),
            Self::Protocol => ":protocol".len(),
            Self::Scheme => ":scheme".len(),
            Self::Status => ":status".len(),
            Self::Field(name) => name.as_str().len(),
            Self::Invalid(len) => *len,
        }
    }
}

/// The static table (RFC 7541 appendix A): index 1 first.
static STATIC_TABLE: [(Name, HeaderValue); 61] = {
    const fn field(name: HeaderName) -> (Name, HeaderValue) {
        with(name, "")
    }
    const fn with(name: HeaderName, value: &'static str) -> (Name, HeaderValue) {
        (Name::Field(name), HeaderValue::from_static(value))
    }
    const fn pseudo(name: Name, value: &'static str) -> (Name, HeaderValue) {
        (name, HeaderValue::from_static(value))
    }
    [
        pseudo(Name::Authority, ""),
        pseudo(Name::Method, "GET"),
        pseudo(Name::Method, "POST"),
        pseudo(Name::Path, "/"),
        pseudo(Name::Path, "/index.html"),
        pseudo(Name::Scheme, "http"),
        pseudo(Name::Scheme, "https"),
        pseudo(Name::Status, "200"),
        pseudo(Name::Status, "204"),
        pseudo(Name::Status, "206"),
        pseudo(Name::Status, "304"),
        pseudo(Name::Status, "400"),
        pseudo(Name::Status, "404"),
        pseudo(Name::Status, "500"),
        field(header::ACCEPT_CHARSET),
        with(header::ACCEPT_ENCODING, "gzip, deflate"),
        field(header::ACCEPT_LANGUAGE),
        field(header::ACCEPT_RANGES),
        field(header::ACCEPT),
        field(header::ACCESS_CONTROL_ALLOW_ORIGIN),
        field(header::AGE),
        field(header::ALLOW),
        field(header::AUTHORIZATION),
        field(header::CACHE_CONTROL),
        field(header::CONTENT_DISPOSITION),
        field(header::CONTENT_ENCODING),
        field(header::CONTENT_LANGUAGE),
        field(header::CONTENT_LENGTH),
        field(header::CONTENT_LOCATION),
        field(header::CONTENT_RANGE),
        field(header::CONTENT_TYPE),
        field(header::COOKIE),
        field(header::DATE),
        field(header::ETAG),
        field(header::EXPECT),
        field(header::EXPIRES),
        field(header::FROM),
        field(header::HOST),
        field(header::IF_MATCH),
        field(header::IF_MODIFIED_SINCE),
        field(header::IF_NONE_MATCH),
        field(header::IF_RANGE),
        field(header::IF_UNMODIFIED_SINCE),
        field(header::LAST_MODIFIED),
        field(header::LINK),
        field(header::LOCATION),
        field(header::MAX_FORWARDS),
        field(header::PROXY_AUTHENTICATE),
        field(header::PROXY_AUTHORIZATION),
        field(header::RANGE),
        field(header::REFERER),
        field(header::REFRESH),
        field(header::RETRY_AFTER),
        field(header::SERVER),
        field(header::SET_COOKIE),
        field(header::STRICT_TRANSPORT_SECURITY),
        field(header::TRANSFER_ENCODING),
        field(header::USER_AGENT),
        field(header::VARY),
        field(header::VIA),
        field(header::WWW_AUTHENTICATE),
    ]
};
