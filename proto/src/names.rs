//! The names that Weft's processes share, each parsed once where it enters.
//!
//! Comes in: text from objects, certificates, TLS ClientHellos and command lines. Goes out: typed names
//! that are valid by construction. An error names the value and what would be right.

use std::{fmt, num::NonZeroU16, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// A name that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a valid {what}: {why}")]
pub struct NameError {
    /// What was being parsed, as a user calls it: "SPIFFE ID".
    pub what: &'static str,
    /// The text that was given.
    pub value: String,
    /// What would be right.
    pub why: &'static str,
}

impl NameError {
    fn new(what: &'static str, value: &str, why: &'static str) -> Self {
        Self { what, value: value.to_owned(), why }
    }
}

const LABEL_RULE: &str =
    "use 1 to 63 lower-case letters, digits and '-', beginning and ending with a letter or digit";

/// Whether `text` is a DNS label (RFC 1123), the form of namespaces and service names.
#[must_use]
pub fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    !bytes.is_empty()
        && bytes.len() <= 63
        && bytes.iter().all(inner)
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

/// Whether `text` is a DNS subdomain (RFC 1123): labels joined by dots, at most 253 bytes; the form of
/// objects' names and service accounts.
#[must_use]
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// A TCP port, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Port(NonZeroU16);

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl serde::de::Visitor<'_> for Number {
            type Value = Port;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port number from 1 to 65535")
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Port, E> {
                let port = u16::try_from(number).ok().and_then(Port::new);
                port.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Unsigned(number), &self))
            }
        }
        deserializer.deserialize_u16(Number)
    }
}

impl Port {
    /// `None` for 0.
    #[must_use]
    pub const fn new(port: u16) -> Option<Self> {
        match NonZeroU16::new(port) {
            Some(port) => Some(Self(port)),
            None => None,
        }
    }

    /// The number, 1 to 65535.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Port {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        // Digits, the first of them no zero: a port has one form, and so has a name that holds one.
        let digits = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
        let port = if digits { text.parse().ok().and_then(Self::new) } else { None };
        port.ok_or_else(|| NameError::new("port", text, "use a number from 1 to 65535"))
    }
}

impl TryFrom<u32> for Port {
    type Error = NameError;
    fn try_from(number: u32) -> Result<Self, NameError> {
        u16::try_from(number).ok().and_then(Self::new).ok_or_else(|| {
            NameError::new("port", &number.to_string(), "use a number from 1 to 65535")
        })
    }
}

impl From<Port> for u32 {
    fn from(port: Port) -> Self {
        u32::from(port.number())
    }
}

/// A SPIFFE trust domain (SPIFFE-ID 2.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The name, "weft.local".
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TrustDomain {
    fn default() -> Self {
        Self("weft.local".into())
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        if text.is_empty() || text.len() > 255 || !text.bytes().all(inner) {
            let why = "use 1 to 255 lower-case letters, digits, '.', '-' and '_'";
            return Err(NameError::new("trust domain", text, why));
        }
        Ok(Self(text.into()))
    }
}

/// A workload identity, `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT` (SPIFFE-ID 2).
///
/// Cheap to clone and to compare; the text is kept whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    text: Arc<str>,
    /// Where the trust domain, the namespace and the service account end in `text`.
    domain_end: u16,
    namespace_end: u16,
}

const SCHEME: &str = "spiffe://";
const NAMESPACE_MARK: &str = "/ns/";
const ACCOUNT_MARK: &str = "/sa/";

impl SpiffeId {
    /// The identity of a service account.
    ///
    /// # Errors
    /// When the namespace is no DNS label or the service account no DNS subdomain.
    pub fn new(domain: &TrustDomain, namespace: &str, account: &str) -> Result<Self, NameError> {
        format!("{SCHEME}{domain}{NAMESPACE_MARK}{namespace}{ACCOUNT_MARK}{account}").parse()
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain's name.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..usize::from(self.domain_end)]
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.text
            [usize::from(self.domain_end) + NAMESPACE_MARK.len()..usize::from(self.namespace_end)]
    }

    /// The service account.
    #[must_use]
    pub fn service_account(&self) -> &str {
        &self.text[usize::from(self.namespace_end) + ACCOUNT_MARK.len()..]
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for SpiffeId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        const FORM: &str = "use spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT";
        let error = || NameError::new("SPIFFE ID", text, FORM);
        let rest = text.strip_prefix(SCHEME).ok_or_else(error)?;
        let (domain, path) = rest.split_once('/').ok_or_else(error)?;
        let path = path.strip_prefix("ns/").ok_or_else(error)?;
        let (namespace, path) = path.split_once('/').ok_or_else(error)?;
        let account = path.strip_prefix("sa/").ok_or_else(error)?;
        domain.parse::<TrustDomain>().map_err(|_| error())?;
        if !is_label(namespace) || !is_subdomain(account) {
            return Err(error());
        }
        let domain_end = SCHEME.len() + domain.len();
        let namespace_end = domain_end + NAMESPACE_MARK.len() + namespace.len();
        // Domain, namespace and account are at most 255, 63 and 253 bytes: the ends fit 16 bits.
        Ok(Self {
            text: text.into(),
            domain_end: u16::try_from(domain_end).map_err(|_| error())?,
            namespace_end: u16::try_from(namespace_end).map_err(|_| error())?,
        })
    }
}

/// `NAMESPACE/NAME`, the form that services and workloads share.
fn parse_namespaced(
    what: &'static str,
    text: &str,
    valid_name: fn(&str) -> bool,
) -> Result<(Arc<str>, Arc<str>), NameError> {
    let (namespace, name) =
        text.split_once('/').ok_or_else(|| NameError::new(what, text, "use NAMESPACE/NAME"))?;
    if !is_label(namespace) || !valid_name(name) {
        return Err(NameError::new(what, text, LABEL_RULE));
    }
    Ok((namespace.into(), name.into()))
}

/// A service, `NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// The namespace, a DNS label.
    pub namespace: Arc<str>,
    /// The service's name, a DNS label.
    pub name: Arc<str>,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for ServiceName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (namespace, name) = parse_namespaced("service", text, is_label)?;
        Ok(Self { namespace, name })
    }
}

/// A port of a service, `NAMESPACE/NAME:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePort {
    /// The service.
    pub service: ServiceName,
    /// The port that callers name.
    pub port: Port,
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.port)
    }
}

impl FromStr for ServicePort {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (service, port) = text
            .rsplit_once(':')
            .ok_or_else(|| NameError::new("service port", text, "use NAMESPACE/NAME:PORT"))?;
        Ok(Self { service: service.parse()?, port: port.parse()? })
    }
}

/// A workload, `NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadName {
    /// The namespace, a DNS label.
    pub namespace: Arc<str>,
    /// The workload's name, a DNS subdomain.
    pub name: Arc<str>,
}

impl fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for WorkloadName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (namespace, name) = parse_namespaced("workload", text, is_subdomain)?;
        Ok(Self { namespace, name })
    }
}

/// The TLS server name between sidecars: `PORT[.SERVICE.NAMESPACE].weft.internal`.
///
/// Today the port alone is used; the service and its namespace are reserved for gateways.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MeshServerName {
    /// The application's port at the server.
    pub port: Port,
    /// The service, where one is named.
    pub service: Option<ServiceName>,
}

/// What every server name between sidecars ends in.
pub const MESH_SUFFIX: &str = ".weft.internal";

impl MeshServerName {
    /// Whether a ClientHello with this server name comes from a sidecar.
    #[must_use]
    pub fn is_mesh(server_name: &str) -> bool {
        let bytes = server_name.as_bytes();
        bytes.len() > MESH_SUFFIX.len()
            && bytes[bytes.len() - MESH_SUFFIX.len()..].eq_ignore_ascii_case(MESH_SUFFIX.as_bytes())
    }

    /// The name of a port alone.
    #[must_use]
    pub const fn of_port(port: Port) -> Self {
        Self { port, service: None }
    }
}

impl fmt::Display for MeshServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            Some(service) => {
                write!(f, "{}.{}.{}{MESH_SUFFIX}", self.port, service.name, service.namespace)
            }
            None => write!(f, "{}{MESH_SUFFIX}", self.port),
        }
    }
}

impl FromStr for MeshServerName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || {
            NameError::new("mesh server name", text, "use PORT[.SERVICE.NAMESPACE].weft.internal")
        };
        if !Self::is_mesh(text) {
            return Err(error());
        }
        let lower = text[..text.len() - MESH_SUFFIX.len()].to_ascii_lowercase();
        let mut labels = lower.split('.');
        let port = labels.next().unwrap_or_default().parse().map_err(|_| error())?;
        let service = match (labels.next(), labels.next(), labels.next()) {
            (None, None, None) => None,
            (Some(name), Some(namespace), None) if is_label(name) && is_label(namespace) => {
                Some(ServiceName { namespace: namespace.into(), name: name.into() })
            }
            _ => return Err(error()),
        };
        Ok(Self { port, service })
    }
}

/// Serializes a name as its text, and parses it on the way in.
macro_rules! serde_as_text {
    ($($name:ty),+) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
serde_as_text!(TrustDomain, SpiffeId, ServiceName, ServicePort, WorkloadName);

#[cfg(test)]
mod tests;
