//! How a port's bytes are to be read, and who may send them: the words that operators use, and the
//! messages that proxies get.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use weft_proto::discovery;

use super::text;

/// What an operator declares of a port. A port without a declaration is detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(extend("enum" = ["http", "http2", "h2c", "kubernetes.io/h2c", "grpc", "tcp", "tls", "https"]))]
pub enum AppProtocol {
    /// HTTP/1.
    Http,
    /// HTTP/2 with prior knowledge; also `h2c`, `kubernetes.io/h2c`.
    #[serde(alias = "h2c", alias = "kubernetes.io/h2c")]
    Http2,
    /// gRPC.
    Grpc,
    /// Opaque bytes.
    Tcp,
    /// The application's own TLS, passed through; also `https`.
    #[serde(alias = "https")]
    Tls,
}

impl AppProtocol {
    /// As it travels; an undeclared protocol is left unspecified.
    #[must_use]
    pub const fn to_wire(protocol: Option<Self>) -> discovery::Protocol {
        match protocol {
            None => discovery::Protocol::Unspecified,
            Some(Self::Http) => discovery::Protocol::Http1,
            Some(Self::Http2) => discovery::Protocol::Http2,
            Some(Self::Grpc) => discovery::Protocol::Grpc,
            Some(Self::Tcp) => discovery::Protocol::Tcp,
            Some(Self::Tls) => discovery::Protocol::Tls,
        }
    }

    /// Reads Kubernetes' `appProtocol`, if there is one.
    pub(super) fn lenient<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error> {
        Ok(Option::<Lenient>::deserialize(from)?.and_then(|Lenient(protocol)| protocol))
    }

    /// Kubernetes' `appProtocol` holds a name of IANA's registry of services, or one with a prefix. One that Weft
    /// does not know declares nothing here. The protocols in which a server speaks first, or that begin with a few
    /// bytes of their own, are opaque.
    fn from_kubernetes(text: &str) -> Result<Option<Self>, String> {
        const OPAQUE: [&str; 14] = [
            "amqp",
            "ftp",
            "imap",
            "kafka",
            "ldap",
            "memcache",
            "mongo",
            "mongodb",
            "mqtt",
            "mysql",
            "pop3",
            "postgresql",
            "redis",
            "smtp",
        ];
        let known: Result<Self, de::value::Error> =
            Self::deserialize(de::value::StrDeserializer::new(text));
        Ok(match (known, text) {
            (Ok(protocol), _) => Some(protocol),
            (Err(_), "kubernetes.io/ws") => Some(Self::Http),
            (Err(_), "kubernetes.io/wss") => Some(Self::Tls),
            (Err(_), opaque) if OPAQUE.contains(&opaque) => Some(Self::Tcp),
            (Err(_), _) => None,
        })
    }
}

struct Lenient(Option<AppProtocol>);

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parsed(deserializer, AppProtocol::from_kubernetes).map(Self)
    }
}

/// Whether a port takes traffic from outside the mesh.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum PortMode {
    /// Mutual TLS from the mesh only.
    #[default]
    Strict,
    /// Also plaintext, and the application's own TLS.
    Permissive,
}

impl From<PortMode> for discovery::InboundMode {
    fn from(mode: PortMode) -> Self {
        match mode {
            PortMode::Strict => Self::Strict,
            PortMode::Permissive => Self::Permissive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_calls_a_protocol_is_taken_as_far_as_it_is_known() {
        for (text, protocol) in [
            ("http", Some(AppProtocol::Http)),
            ("https", Some(AppProtocol::Tls)),
            ("kubernetes.io/h2c", Some(AppProtocol::Http2)),
            ("kubernetes.io/ws", Some(AppProtocol::Http)),
            ("grpc", Some(AppProtocol::Grpc)),
            ("mysql", Some(AppProtocol::Tcp)),
            ("dns", None),
            ("example.com/own", None),
        ] {
            assert_eq!(AppProtocol::from_kubernetes(text), Ok(protocol), "{text}");
        }
    }
}
