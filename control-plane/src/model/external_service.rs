//! `ExternalService` (weft.dev/v1alpha1): hosts outside the mesh that applications call, by name or by address. Sidecars
//! resolve the names themselves, and policies hold for them as for any service.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use weft_proto::{Port, names::is_label};

use super::{
    crd::{Column, fields},
    kinds::Kind,
    matching::{Host, check_length},
    metadata::{Metadata, bad_name},
    object::{FieldError, Spec},
    protocol::AppProtocol,
    text,
};

/// How long the lists may be.
const MOST_HOSTS: usize = 64;
const MOST_PORTS: usize = 16;

/// What an ExternalService says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalServiceSpec {
    /// Names outside, such as `api.example.com`, or `*.example.com` for every name below; or addresses.
    #[schemars(schema_with = "hosts")]
    pub hosts: Vec<ExternalHost>,
    /// Where they listen.
    #[schemars(length(min = 1, max = MOST_PORTS), extend("x-kubernetes-validations" = port_rules()))]
    pub ports: Vec<ExternalPort>,
}

/// A host outside: a name, all below one ("*.example.com"), or an address. An address stands in the form that has no
/// other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExternalHost(String);

impl ExternalHost {
    fn parse(text: &str) -> Result<Self, String> {
        let Ok(address) = text.parse::<IpAddr>() else {
            return Host::parse(text).map(|host| Self(host.as_str().to_owned())).map_err(|error| {
                format!("{error}; or use an address such as 192.0.2.1 or 2001:db8::1")
            });
        };
        let address = address.to_canonical();
        if address.is_unspecified() || address.is_multicast() {
            return Err(format!("{text:?} is no address of one host: use one such as 192.0.2.1"));
        }
        Ok(Self(address.to_string()))
    }

    /// As it is compared.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for ExternalHost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parsed(deserializer, Self::parse)
    }
}

/// A port of hosts outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalPort {
    /// Its name; may be empty when it is the only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "fields::optional_label")]
    pub name: String,
    /// Its number.
    #[schemars(schema_with = "fields::port")]
    pub port: Port,
    /// How its bytes are to be read; undeclared: detected. `tls` is for what the application encrypts itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<AppProtocol>,
}

impl Spec for ExternalServiceSpec {
    const KIND: Kind = Kind::ExternalService;
    const COLUMNS: &'static [Column] = &[Column {
        name: "Hosts",
        r#type: "string",
        path: ".spec.hosts[*]",
        description: "The names and addresses outside.",
    }];

    fn validate(&self, metadata: &Metadata) -> Result<(), FieldError> {
        if !is_label(&metadata.name) {
            return Err(bad_name("metadata.name", &metadata.name));
        }
        for (field, length, right) in [
            ("spec.hosts", self.hosts.len(), "name a host, such as api.example.com"),
            ("spec.ports", self.ports.len(), "name a port, such as {port: 443, protocol: tls}"),
        ] {
            if length == 0 {
                return Err(FieldError::new(field, format!("is empty: {right}")));
            }
        }
        check_length("spec.hosts", self.hosts.len(), MOST_HOSTS)?;
        check_length("spec.ports", self.ports.len(), MOST_PORTS)?;
        for (index, host) in self.hosts.iter().enumerate() {
            if self.hosts[..index].contains(host) {
                let message = format!("{:?} stands twice: leave one out", host.as_str());
                return Err(FieldError::new(format!("spec.hosts[{index}]"), message));
            }
        }
        self.validate_ports()
    }
}

impl ExternalServiceSpec {
    fn validate_ports(&self) -> Result<(), FieldError> {
        for (index, port) in self.ports.iter().enumerate() {
            let field = format!("spec.ports[{index}]");
            if port.name.is_empty() && self.ports.len() > 1 {
                let message = "one of several ports has no name: give each a name";
                return Err(FieldError::new(field, message));
            }
            if !port.name.is_empty() && !is_label(&port.name) {
                return Err(bad_name(&format!("{field}.name"), &port.name));
            }
            for earlier in &self.ports[..index] {
                if earlier.port == port.port {
                    let message = format!("{} stands twice: use another number", port.port);
                    return Err(FieldError::new(format!("{field}.port"), message));
                }
                if earlier.name == port.name {
                    let message = format!("{:?} names two ports: use another name", port.name);
                    return Err(FieldError::new(format!("{field}.name"), message));
                }
            }
        }
        Ok(())
    }
}

/// A name or an address, as a schema: that each part of an address is small enough cannot be said there.
fn host() -> schemars::Schema {
    let name = "([*][.])?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
    schemars::json_schema!({
        "type": "string",
        "maxLength": 255,
        "pattern": format!("^({name}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$"),
        "x-kubernetes-validations": [{
            "rule": "!self.matches('^([*][.])?[0-9.]+$') || self.matches('^[0-9]+([.][0-9]+){3}$')",
            "message": "it is neither a name nor an address",
        }],
    })
}

fn hosts(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let host = host();
    schemars::json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": MOST_HOSTS,
        "items": host,
        "x-kubernetes-validations": [{
            "rule": "self.all(one, self.exists_one(two, two == one))",
            "message": "a host stands twice: leave one out",
        }],
    })
}

fn port_rules() -> Value {
    json!([
        {
            "rule": "size(self) <= 1 || self.all(port, has(port.name) && size(port.name) > 0)",
            "message": "one of several ports has no name: give each a name",
        },
        {
            "rule": "self.all(one, self.exists_one(two, two.port == one.port))",
            "message": "a port stands twice: use another number",
        },
        {
            "rule": "self.all(one, self.exists_one(two, \
                     (has(two.name) ? two.name : '') == (has(one.name) ? one.name : '')))",
            "message": "two ports have one name: use another name",
        },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_in_one_form() {
        for (text, expected) in [
            ("api.example.com", "api.example.com"),
            ("*.example.com", "*.example.com"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8:0::1", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(ExternalHost::parse(text), Ok(ExternalHost(expected.into())), "{text}");
        }
        for text in
            ["192.0.2", "192.0.2.256", "*.0.2.1", "0.0.0.0", "::", "224.0.0.1", "[::1]", "a:80"]
        {
            let error = ExternalHost::parse(text).expect_err(text);
            assert!(error.contains("192.0.2.1"), "{error}");
        }
    }
}
