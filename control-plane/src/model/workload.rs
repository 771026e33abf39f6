//! `Workload` (weft.dev/v1alpha1): what runs outside Kubernetes. It is an operator's word that instances of
//! a service exist, how to start them, which identity they have and which ports they may serve.
//!
//! Fields are optional wherever a default exists; callers ask the accessors, which know the defaults.

mod rules;
mod validate;

use std::{net::IpAddr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use weft_proto::{Port, ServiceName, names::is_label};

use super::{
    crd::fields,
    protocol::{AppProtocol, PortMode},
    text,
};

/// How long the lists may be: an API server refuses rules over lists without a bound.
const MOST_PORTS: usize = 16;
const MOST_UPSTREAMS: usize = 64;
const MOST_ADDRESSES: usize = 256;

/// What a Workload says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::spec()))]
pub struct WorkloadSpec {
    /// The service, in the same namespace, that it belongs to. Without a Service object of that name, the
    /// workload's ports make one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "fields::label")]
    pub service: Option<String>,
    /// The service account that it acts as; by default the service's name, or its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "fields::subdomain")]
    service_account: Option<String>,
    /// How many instances run; 1 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replicas: Option<u32>,
    /// The program and its arguments; empty: something else starts it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "fields::command")]
    pub command: Vec<String>,
    /// Environment of the program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// Where the program starts; relative to the file that holds the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Where the app listens: short for one entry of `ports`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "fields::port")]
    port: Option<Port>,
    /// How the bytes of its one port are to be read: short for one entry of `ports`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocol: Option<AppProtocol>,
    /// Every port that it serves, each with a name of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_PORTS), extend("x-kubernetes-validations" = rules::ports()))]
    ports: Vec<WorkloadPort>,
    /// What it calls by a local port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_UPSTREAMS), extend("x-kubernetes-validations" = rules::upstreams()))]
    pub upstreams: Vec<Upstream>,
    /// How to see that the app is ready; by default its first port takes a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    readiness: Option<ReadinessSpec>,
    /// Addresses of instances that have no sidecar.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_ADDRESSES))]
    pub addresses: Vec<StaticAddress>,
    /// Where it runs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
}

/// A variable of a program's environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvVar {
    /// Its name.
    #[schemars(schema_with = "fields::variable")]
    pub name: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
}

/// A port that a workload serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadPort {
    /// Its name; may be empty when it is the only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "fields::optional_label")]
    pub name: String,
    /// Where the app listens. Absent: the runner finds a free one and tells the app by `PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "fields::port")]
    pub port: Option<Port>,
    /// The port by which callers name it at the service that the workload implies; by default `port`, or 80.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "fields::port")]
    service_port: Option<Port>,
    /// How its bytes are to be read; undeclared: detected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<AppProtocol>,
    /// Whether it takes traffic from outside the mesh; absent: the mesh's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<PortMode>,
}

impl WorkloadPort {
    /// The port by which callers name it at the service that the workload implies: said, or the app's own,
    /// or 80.
    #[must_use]
    pub fn service_port(&self) -> Port {
        self.service_port.or(self.port).unwrap_or(HTTP)
    }

    /// The variable that tells the app its port: "PORT", or "PORT_NAME" for a named one.
    #[must_use]
    pub fn env_name(&self) -> String {
        if self.name.is_empty() { "PORT".into() } else { format!("PORT_{}", shouted(&self.name)) }
    }
}

/// The port that is meant where none is given.
const HTTP: Port = match Port::new(80) {
    Some(port) => port,
    None => unreachable!(),
};

/// A service that the workload calls through a local port of its sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upstream {
    /// The service: NAME in the workload's own namespace, or NAME.NAMESPACE.
    #[schemars(schema_with = "fields::service")]
    pub service: ServiceRef,
    /// The service's port; 80 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "fields::port")]
    port: Option<Port>,
    /// Where the sidecar listens on loopback; absent: a free port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "fields::port")]
    pub local_port: Option<Port>,
    /// The variable that tells the app where; by default the service's name in capitals and `_ADDR`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    env: Option<String>,
}

impl Upstream {
    /// The service's port; 80 unless said.
    #[must_use]
    pub fn port(&self) -> Port {
        self.port.unwrap_or(HTTP)
    }

    /// The variable that tells the app "127.0.0.1:PORT"; "NAME_ADDR" unless said.
    #[must_use]
    pub fn env_name(&self) -> String {
        self.env.clone().unwrap_or_else(|| format!("{}_ADDR", shouted(&self.service.name)))
    }
}

fn shouted(name: &str) -> String {
    name.to_ascii_uppercase().replace(['-', '.'], "_")
}

/// A service as a workload names it: "name" in its own namespace, or "name.namespace".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRef {
    /// The service's name.
    pub name: String,
    /// Its namespace, where it is named.
    pub namespace: Option<String>,
}

impl ServiceRef {
    /// The service, seen from a namespace.
    #[must_use]
    pub fn resolve(&self, namespace: &str) -> ServiceName {
        ServiceName {
            namespace: self.namespace.as_deref().unwrap_or(namespace).into(),
            name: self.name.as_str().into(),
        }
    }
}

impl Serialize for ServiceRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.namespace {
            Some(namespace) => serializer.collect_str(&format_args!("{}.{namespace}", self.name)),
            None => serializer.serialize_str(&self.name),
        }
    }
}

impl<'de> Deserialize<'de> for ServiceRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parsed(deserializer, |text| {
            let (name, namespace) = match text.split_once('.') {
                Some((name, namespace)) => (name, Some(namespace)),
                None => (text, None),
            };
            if !is_label(name) || !namespace.is_none_or(is_label) {
                return Err(format!("{text:?} is no service: use NAME or NAME.NAMESPACE"));
            }
            Ok(Self { name: name.to_owned(), namespace: namespace.map(str::to_owned) })
        })
    }
}

/// How to see that the app is ready, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::readiness()))]
struct ReadinessSpec {
    /// A GET is answered with 2xx or 3xx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<HttpProbe>,
    /// The port takes a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tcp: Option<TcpProbe>,
    /// The name of the port that is tried; by default the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "fields::optional_label")]
    port: Option<String>,
    /// From one try to the next; 1 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "fields::positive")]
    interval_seconds: Option<u32>,
    /// For one try; 1 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "fields::positive")]
    timeout_seconds: Option<u32>,
    /// How many failures in a row make a ready app unready; 3 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "fields::positive")]
    failure_threshold: Option<u32>,
}

/// A GET that is answered with 2xx or 3xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HttpProbe {
    /// What is asked for; begins with `/`.
    #[schemars(schema_with = "fields::path")]
    path: String,
}

/// A connection that is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TcpProbe {}

/// How to see that the app is ready, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// What is tried.
    pub probe: Probe,
    /// The name of the port that is tried.
    pub port: String,
    /// From one try to the next.
    pub interval: Duration,
    /// For one try.
    pub timeout: Duration,
    /// How many failures in a row make a ready app unready.
    pub failures: u32,
}

/// What is tried to see that the app is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// The port takes a connection.
    Tcp,
    /// A GET of this path is answered with 2xx or 3xx.
    Http {
        /// Begins with "/".
        path: String,
    },
}

/// The address of an instance without a sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StaticAddress {
    /// Where it is.
    #[schemars(schema_with = "fields::address")]
    pub address: IpAddr,
    /// Ports that differ from the workload's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_PORTS))]
    pub ports: Vec<StaticPort>,
}

/// A port at an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StaticPort {
    /// The workload's port by name; empty for the only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "fields::optional_label")]
    pub name: String,
    /// Its number there.
    #[schemars(schema_with = "fields::port")]
    pub port: Port,
}

impl StaticAddress {
    /// Where this instance serves a port of the workload.
    #[must_use]
    pub fn port_of(&self, port: &WorkloadPort) -> Option<Port> {
        let own = self.ports.iter().find(|own| own.name == port.name);
        own.map(|own| own.port).or(port.port)
    }
}

impl WorkloadSpec {
    /// Every port that the workload serves. One that belongs to a service and names no port has one, which
    /// the runner assigns; one without a service has none.
    #[must_use]
    pub fn ports(&self) -> Vec<WorkloadPort> {
        if !self.ports.is_empty() {
            return self.ports.clone();
        }
        if self.port.is_none() && self.protocol.is_none() && self.service.is_none() {
            return Vec::new();
        }
        vec![WorkloadPort { port: self.port, protocol: self.protocol, ..WorkloadPort::default() }]
    }

    /// Whom it acts as: said, or its service's name, or its own.
    #[must_use]
    pub fn service_account<'a>(&'a self, workload: &'a str) -> &'a str {
        self.service_account.as_deref().or(self.service.as_deref()).unwrap_or(workload)
    }

    /// How many instances run; 1 unless said.
    #[must_use]
    pub fn replicas(&self) -> u32 {
        self.replicas.unwrap_or(1)
    }

    /// How to see that the app is ready: unless said, its first port takes a connection. `None` when it
    /// serves no port: then it is ready as soon as it runs.
    #[must_use]
    pub fn readiness(&self) -> Option<Readiness> {
        let first = self.ports().into_iter().next()?;
        let said = self.readiness.clone().unwrap_or_default();
        let seconds = |said: Option<u32>| Duration::from_secs(u64::from(said.unwrap_or(1)));
        Some(Readiness {
            probe: said.http.map_or(Probe::Tcp, |http| Probe::Http { path: http.path }),
            port: said.port.unwrap_or(first.name),
            interval: seconds(said.interval_seconds),
            timeout: seconds(said.timeout_seconds),
            failures: said.failure_threshold.unwrap_or(3),
        })
    }
}
