//! `MeshConfig` (weft.dev/v1alpha1): the mesh's own settings, in one object that is named `mesh`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_proto::{NameError, TrustDomain, names::is_subdomain};

use super::{
    access_policy::AccessAction,
    crd::{Column, Rule, fields},
    kinds::Kind,
    metadata::Metadata,
    object::{FieldError, Spec},
    protocol::PortMode,
    text,
    traffic_policy::{TrafficDefaults, validate_sections},
};

/// The name of the one object.
pub const MESH: &str = "mesh";

/// What a MeshConfig says. Without the object, all defaults hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshConfigSpec {
    /// The trust domain; must be the one that the control plane was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "fields::trust_domain")]
    pub trust_domain: Option<TrustDomain>,
    /// How meshed ports treat traffic, unless they say it themselves.
    #[serde(default, skip_serializing_if = "InboundDefaults::is_default")]
    pub inbound: InboundDefaults,
    /// Suffixes under which services have names, lower-case; by default `svc.cluster.local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "fields::subdomains")]
    name_suffixes: Option<Vec<String>>,
    /// In which services and workloads have their addresses, such as `10.0.0.0/8` or `fd00::/8`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "fields::ranges")]
    pub address_ranges: Vec<Cidr>,
    /// What becomes of traffic to where nobody is registered, in the mesh or by an ExternalService; by default it
    /// goes out as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    /// How traffic is treated of which no TrafficPolicy says otherwise.
    #[serde(default, skip_serializing_if = "TrafficDefaults::is_empty")]
    pub defaults: TrafficDefaults,
    /// Who may do what where no AccessPolicy says it.
    #[serde(default, skip_serializing_if = "AccessDefaults::is_empty")]
    pub access: AccessDefaults,
    /// Why the object cannot be read, where this only stands for it; see `stand_in`.
    #[serde(skip)]
    pub unread: Option<String>,
}

/// What becomes of traffic to where nobody is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Egress {
    /// It goes out as it is.
    Allow,
    /// It is refused, but for the hosts of an ExternalService.
    RegisteredOnly,
}

/// Access where no AccessPolicy says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessDefaults {
    /// What becomes of who is taken by no rule; by default it passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<AccessAction>,
}

impl AccessDefaults {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Defaults of inbound ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InboundDefaults {
    /// Whether they take traffic from outside the mesh. Where it is not said, the control plane's own default
    /// holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<PortMode>,
}

impl InboundDefaults {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl MeshConfigSpec {
    /// Suffixes under which services have names, lower-case; by default "svc.cluster.local".
    #[must_use]
    pub fn suffixes(&self) -> Vec<String> {
        match &self.name_suffixes {
            None => vec!["svc.cluster.local".to_owned()],
            Some(suffixes) => suffixes.clone(),
        }
    }
}

impl Spec for MeshConfigSpec {
    const KIND: Kind = Kind::MeshConfig;
    const COLUMNS: &'static [Column] = &[
        Column {
            name: "Trust domain",
            r#type: "string",
            path: ".spec.trustDomain",
            description: "The trust domain of every identity.",
        },
        Column {
            name: "Inbound",
            r#type: "string",
            path: ".spec.inbound.mode",
            description: "Whether meshed ports take traffic from outside the mesh.",
        },
    ];
    const RULES: &'static [Rule] = &[Rule {
        rule: "self.metadata.name == 'mesh'",
        message: "the one MeshConfig is named mesh",
    }];

    fn validate(&self, metadata: &Metadata) -> Result<(), FieldError> {
        if metadata.name != MESH {
            let message =
                format!("{:?} is not used: the one MeshConfig is named {MESH:?}", metadata.name);
            return Err(FieldError::new("metadata.name", message));
        }
        for (index, suffix) in self.name_suffixes.iter().flatten().enumerate() {
            if !is_subdomain(suffix) {
                let right = "use lower-case labels joined by dots, such as \"svc.cluster.local\"";
                let message = format!("{suffix:?} is no suffix of names: {right}");
                return Err(FieldError::new(format!("spec.nameSuffixes[{index}]"), message));
            }
        }
        validate_sections("spec.defaults", &self.defaults)
    }
}

/// A range of addresses, "10.0.0.0/8" or "fd00::/8".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The range of one address.
    #[must_use]
    pub const fn host(address: IpAddr) -> Self {
        Self { address, prefix: width(address) }
    }

    /// The network of a link that has this address: so large are they by custom.
    #[must_use]
    pub const fn around(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Self { address: IpAddr::V4(Ipv4Addr::new(a, b, c, 0)), prefix: 24 }
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self { address: IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)), prefix: 64 }
            }
        }
    }

    /// Whether all of the other range lies within.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }

    /// Whether the address lies within.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && masked(address, self.prefix) == masked(self.address, self.prefix)
    }
}

const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The network's bits of an address, at the upper end of 128 bits.
fn masked(address: IpAddr, prefix: u8) -> u128 {
    let bits = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    bits & u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = |why| NameError { what: "address range", value: text.to_owned(), why };
        let form = "use ADDRESS/BITS, such as 10.0.0.0/8 or fd00::/8";
        let (address, prefix) = text.split_once('/').ok_or_else(|| error(form))?;
        let address: IpAddr = address.parse().map_err(|_| error(form))?;
        let prefix: u8 = prefix.parse().map_err(|_| error(form))?;
        if prefix > width(address) {
            return Err(error("use at most 32 bits for IPv4 and 128 for IPv6"));
        }
        if masked(address, prefix) != masked(address, width(address)) {
            return Err(error("use the range's first address: all bits behind the prefix are 0"));
        }
        Ok(Self { address, prefix })
    }
}

impl Serialize for Cidr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parsed(deserializer, str::parse)
    }
}
