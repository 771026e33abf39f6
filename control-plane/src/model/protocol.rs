//! How a port's bytes are to be read, and who may send them: the words that operators use, and the
//! messages that proxies get.

use serde::{Deserialize, Deserializer, Serialize, de};
use weft_proto::discovery;

use super::text;

/// What an operator declares of a port. A port without a declaration is detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppProtocol {
    /// HTTP/1.
    Http,
    /// HTTP/2 with prior knowledge.
    #[serde(alias = "h2c", alias = "kubernetes.io/h2c")]
    Http2,
    /// gRPC.
    Grpc,
    /// Opaque bytes.
    Tcp,
    /// The application's own TLS, passed through.
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

    /// A domain-prefixed name that Weft does not know is another implementation's and declares nothing
    /// here; an unprefixed one is a mistake.
    fn from_kubernetes(text: &str) -> Result<Option<Self>, String> {
        let known: Result<Self, de::value::Error> =
            Self::deserialize(de::value::StrDeserializer::new(text));
        match (known, text) {
            (Ok(protocol), _) => Ok(Some(protocol)),
            (Err(_), "kubernetes.io/ws") => Ok(Some(Self::Http)),
            (Err(_), "kubernetes.io/wss") => Ok(Some(Self::Tls)),
            (Err(_), foreign) if foreign.contains('/') => Ok(None),
            (Err(_), _) => {
                let right = "use http, http2, grpc, tcp or tls, or leave it out";
                Err(format!("{text:?} is no known protocol: {right}"))
            }
        }
    }
}

struct Lenient(Option<AppProtocol>);

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parsed(deserializer, AppProtocol::from_kubernetes).map(Self)
    }
}

/// Whether a port takes traffic from outside the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
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
