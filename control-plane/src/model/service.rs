//! `Service` (v1): a named group of workloads, with the ports that callers name.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use serde::{Deserialize, Deserializer, Serialize, de};
use weft_proto::{Port, names::is_label};

use super::{
    kinds::Kind,
    metadata::{Metadata, bad_name, check_keys},
    object::{FieldError, Spec},
    protocol::AppProtocol,
    text,
};

/// What a Service says, as far as Weft uses it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// The labels that a workload of the service has; without any, workloads name the service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: BTreeMap<String, String>,
    /// The ports that callers name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePortSpec>,
    /// The cluster address, "None", or nothing.
    #[serde(default, rename = "clusterIP", skip_serializing_if = "Option::is_none")]
    cluster_ip: Option<ClusterIp>,
    /// All cluster addresses, of both families.
    #[serde(default, rename = "clusterIPs", skip_serializing_if = "Vec::is_empty")]
    cluster_ips: Vec<ClusterIp>,
    /// Another name that this one stands for, outside the mesh (`type: ExternalName`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    external_name: Option<String>,
    /// Instances are told of whether they are ready or not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub publish_not_ready_addresses: bool,
}

/// A port that callers name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePortSpec {
    /// Its name; may be empty when it is the only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its number.
    pub port: Port,
    /// The workload's port behind it; by default the one of the same number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<TargetPort>,
    /// How its bytes are to be read; undeclared: detected.
    #[serde(
        default,
        deserialize_with = "AppProtocol::lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub app_protocol: Option<AppProtocol>,
    /// Only TCP ports take part in the mesh.
    #[serde(default, skip_serializing_if = "Transport::is_tcp")]
    pub protocol: Transport,
}

/// The transport below a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "they say it themselves")]
pub enum Transport {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

impl Transport {
    /// Whether it is TCP.
    #[must_use]
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub const fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp)
    }
}

/// A workload's port, by number or by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum TargetPort {
    /// By number.
    Number(Port),
    /// By name.
    Name(String),
}

impl fmt::Display for TargetPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(port) => port.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for TargetPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrName;
        impl de::Visitor<'_> for NumberOrName {
            type Value = TargetPort;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port number from 1 to 65535, or a port's name")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<TargetPort, E> {
                let port = u16::try_from(number).ok().and_then(Port::new);
                let wrong = || E::invalid_value(de::Unexpected::Unsigned(number), &self);
                port.map(TargetPort::Number).ok_or_else(wrong)
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<TargetPort, E> {
                if !is_label(name) {
                    return Err(E::invalid_value(de::Unexpected::Str(name), &self));
                }
                Ok(TargetPort::Name(name.to_owned()))
            }
        }
        deserializer.deserialize_any(NumberOrName)
    }
}

/// A cluster address as Kubernetes writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ClusterIp {
    /// "None": a headless service; or "", not yet given.
    None,
    Address(IpAddr),
}

impl Serialize for ClusterIp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("None"),
            Self::Address(address) => serializer.collect_str(address),
        }
    }
}

impl<'de> Deserialize<'de> for ClusterIp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parsed(deserializer, |text| match text {
            "" | "None" => Ok(Self::None),
            text => text.parse().map(Self::Address).map_err(|_| {
                format!("{text:?} is no address: use an IPv4 or IPv6 address, or \"None\"")
            }),
        })
    }
}

impl ServiceSpec {
    /// The service's cluster addresses, each once.
    #[must_use]
    pub fn cluster_addresses(&self) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for ip in self.cluster_ip.iter().chain(&self.cluster_ips) {
            if let ClusterIp::Address(address) = ip
                && !addresses.contains(address)
            {
                addresses.push(*address);
            }
        }
        addresses
    }

    /// Whether the name only stands for another one, outside the mesh.
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.external_name.as_ref().is_some_and(|name| !name.is_empty())
    }

    /// Whether callers meet the service by IPv6 first.
    #[must_use]
    pub fn prefers_ipv6(&self) -> bool {
        self.cluster_addresses().first().is_some_and(IpAddr::is_ipv6)
    }

    /// Whether the selector, where there is one, matches these labels. A name for what is outside stands in front of
    /// nothing in the mesh, whatever else the object says.
    #[must_use]
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.is_external()
            && !self.selector.is_empty()
            && self.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl Spec for ServiceSpec {
    const KIND: Kind = Kind::Service;

    fn validate(&self, metadata: &Metadata) -> Result<(), FieldError> {
        if !is_label(&metadata.name) {
            return Err(bad_name("metadata.name", &metadata.name));
        }
        check_keys("spec.selector", &self.selector)?;
        for (index, port) in self.ports.iter().enumerate() {
            let path = format!("spec.ports[{index}]");
            if port.name.is_empty() && self.ports.len() > 1 {
                let right = "give each of several ports a name";
                return Err(FieldError::new(
                    path,
                    format!("port {} has no name: {right}", port.port),
                ));
            }
            if !port.name.is_empty() && !is_label(&port.name) {
                return Err(bad_name(&format!("{path}.name"), &port.name));
            }
            for earlier in &self.ports[..index] {
                if !port.name.is_empty() && earlier.name == port.name {
                    let message = format!("{:?} names two ports: use another name", port.name);
                    return Err(FieldError::new(format!("{path}.name"), message));
                }
                if earlier.port == port.port && earlier.protocol == port.protocol {
                    let message = format!("{} stands twice: use another number", port.port);
                    return Err(FieldError::new(format!("{path}.port"), message));
                }
            }
        }
        Ok(())
    }
}
