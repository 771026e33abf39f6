//! What a pod says of its sidecar, in annotations `weft.dev/…`; a namespace's annotations are the defaults of
//! its pods. Maps of annotations come in, typed settings or every mistake by name go out.
//!
//! [`TABLE`] is the one list of the names; docs/injection.md shows it, and a test holds the two equal.

mod port_ranges;
mod quantity;
mod values;

use std::{collections::BTreeMap, time::Duration};

use weft_proto::{Port, names::is_subdomain};

use self::values::{cidrs, few_ports, image, log_level, permissive, sidecar, switch};
use super::{mesh_config::Cidr, object::FieldError, text::duration};

pub use port_ranges::PortRanges;
pub use quantity::Quantity;

/// What every name of ours begins with.
pub const PREFIX: &str = "weft.dev/";
/// Label of a namespace or a pod (there an annotation as well): "enabled" or "disabled".
pub const INJECT: &str = "weft.dev/inject";
/// Set by the injector: the version of Weft that injected the pod.
pub const INJECTED: &str = "weft.dev/injected";
/// Set by the injector: the pod's workload; see [`super::pod::workload_name`].
pub const WORKLOAD: &str = "weft.dev/workload";
/// Set by the injector: what it replaced in the pod, so that it can be put back.
pub const REPLACED: &str = "weft.dev/replaced";

/// The annotations that the injector sets on a pod. On a namespace they mean nothing.
const WRITTEN: &[&str] = &[INJECTED, WORKLOAD, REPLACED];

/// A setting's annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Its name behind [`PREFIX`].
    pub name: &'static str,
    /// The form of its value.
    pub form: &'static str,
    /// What it does, in one line.
    pub meaning: &'static str,
}

/// Every setting's annotation, in the order in which people read of them.
pub const TABLE: &[Setting] = &[
    setting(
        "skip-inbound-ports",
        "ports",
        "Connections to these ports of the pod go around the sidecar",
    ),
    setting(
        "skip-outbound-ports",
        "ports",
        "Connections from the pod to these ports go around the sidecar",
    ),
    setting(
        "skip-inbound-cidrs",
        "ranges",
        "Connections from these addresses go around the sidecar; not for addresses of meshed pods, whose TLS would \
         reach the app",
    ),
    setting(
        "skip-outbound-cidrs",
        "ranges",
        "Connections to these addresses go around the sidecar",
    ),
    setting(
        "opaque-ports",
        "up to 1,000 ports",
        "What comes in on these ports is passed on as bytes, not read as HTTP",
    ),
    setting(
        "permissive-ports",
        "up to 1,000 ports, or `all`",
        "These ports also take connections from outside the mesh",
    ),
    setting("proxy-cpu-request", "amount", "The CPU that the sidecar requests"),
    setting("proxy-cpu-limit", "amount", "The most CPU that the sidecar gets"),
    setting("proxy-memory-request", "amount", "The memory that the sidecar requests"),
    setting("proxy-memory-limit", "amount", "The most memory that the sidecar gets"),
    setting("log-level", "level, or TARGET=LEVEL,…", "What the sidecar logs"),
    setting(
        "access-log",
        "`true` or `false`",
        "Whether the sidecar logs a line for every request and connection",
    ),
    setting(
        "drain-time",
        "duration",
        "How long open requests and connections get when the pod ends",
    ),
    setting(
        "sidecar",
        "`native` or `classic`",
        "Whether the sidecar is an init container that stays, or a container beside the app's",
    ),
    setting("proxy-image", "image", "The image of the sidecar"),
];

const fn setting(name: &'static str, form: &'static str, meaning: &'static str) -> Setting {
    Setting { name, form, meaning }
}

/// How a pod wants its sidecar. What is `None` is left to the injector's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodSettings {
    /// Ports of the pod whose connections go around the sidecar.
    pub skip_inbound_ports: PortRanges,
    /// Ports of others to which connections go around the sidecar.
    pub skip_outbound_ports: PortRanges,
    /// Addresses whose connections to the pod go around the sidecar.
    pub skip_inbound_cidrs: Vec<Cidr>,
    /// Addresses to which connections go around the sidecar.
    pub skip_outbound_cidrs: Vec<Cidr>,
    /// Ports of the pod that carry no HTTP.
    pub opaque_ports: PortRanges,
    /// Ports of the pod that also take connections from outside the mesh.
    pub permissive_ports: PermissivePorts,
    /// CPU requested.
    pub cpu_request: Option<Quantity>,
    /// CPU at most.
    pub cpu_limit: Option<Quantity>,
    /// Memory requested.
    pub memory_request: Option<Quantity>,
    /// Memory at most.
    pub memory_limit: Option<Quantity>,
    /// The log filter.
    pub log_level: Option<String>,
    /// Whether there is an access log.
    pub access_log: Option<bool>,
    /// How long a drain may take.
    pub drain_time: Option<Duration>,
    /// Which kind of container the sidecar is.
    pub sidecar: Sidecar,
    /// The sidecar's image.
    pub proxy_image: Option<String>,
}

/// Ports that also take connections from outside the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PermissivePorts {
    /// These.
    Listed(PortRanges),
    /// Every port of the pod.
    All,
}

impl Default for PermissivePorts {
    fn default() -> Self {
        Self::Listed(PortRanges::default())
    }
}

impl PermissivePorts {
    /// Whether the port is one of them.
    #[must_use]
    pub fn contains(&self, port: Port) -> bool {
        match self {
            Self::Listed(ranges) => ranges.contains(port),
            Self::All => true,
        }
    }

    /// Whether every port is one of them.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    /// Those that are listed.
    pub fn ports(&self) -> impl Iterator<Item = Port> + '_ {
        let listed = match self {
            Self::Listed(ranges) => Some(ranges),
            Self::All => None,
        };
        listed.into_iter().flat_map(PortRanges::ports)
    }
}

/// Which kind of container the sidecar is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sidecar {
    /// An init container with `restartPolicy: Always` (Kubernetes 1.29): starts before the app, ends after it.
    #[default]
    Native,
    /// A container beside the app's.
    Classic,
}

impl PodSettings {
    /// Reads a pod's annotations; what the pod does not say, its namespace's say.
    ///
    /// # Errors
    /// Every unknown name below `weft.dev/` and every value that is not what it should be.
    pub fn parse(
        pod: &BTreeMap<String, String>,
        namespace: &BTreeMap<String, String>,
    ) -> Result<Self, Vec<FieldError>> {
        let (settings, errors) = Self::read_all(pod, namespace);
        if errors.is_empty() { Ok(settings) } else { Err(errors) }
    }

    /// Reads the annotations of a pod that runs. A mistake among them was refused when the pod was made, or was made
    /// since: it takes nothing from the others.
    #[must_use]
    pub fn of_running(pod: &BTreeMap<String, String>) -> Self {
        Self::read_all(pod, &BTreeMap::new()).0
    }

    fn read_all(
        pod: &BTreeMap<String, String>,
        namespace: &BTreeMap<String, String>,
    ) -> (Self, Vec<FieldError>) {
        let mut settings = Self::default();
        let mut errors = Vec::new();
        // A namespace's value is checked even where the pod says otherwise: the mistake is there for others.
        for (holder, annotations) in [(Holder::Namespace, namespace), (Holder::Pod, pod)] {
            for (annotation, value) in annotations {
                let Some(name) = annotation.strip_prefix(PREFIX) else { continue };
                if let Err(message) = settings.read(holder, name, value) {
                    errors.push(FieldError::new(holder.field(annotation), message));
                }
            }
        }
        settings.check_amounts(&mut errors);
        (settings, errors)
    }

    fn read(&mut self, holder: Holder, name: &str, value: &str) -> Result<(), String> {
        match name {
            "skip-inbound-ports" => self.skip_inbound_ports = value.parse()?,
            "skip-outbound-ports" => self.skip_outbound_ports = value.parse()?,
            "skip-inbound-cidrs" => self.skip_inbound_cidrs = cidrs(value)?,
            "skip-outbound-cidrs" => self.skip_outbound_cidrs = cidrs(value)?,
            "opaque-ports" => self.opaque_ports = few_ports(value)?,
            "permissive-ports" => self.permissive_ports = permissive(value)?,
            "proxy-cpu-request" => self.cpu_request = Some(value.parse()?),
            "proxy-cpu-limit" => self.cpu_limit = Some(value.parse()?),
            "proxy-memory-request" => self.memory_request = Some(value.parse()?),
            "proxy-memory-limit" => self.memory_limit = Some(value.parse()?),
            "log-level" => self.log_level = Some(log_level(value)?),
            "access-log" => self.access_log = Some(switch(value)?),
            "drain-time" => self.drain_time = Some(duration(value)?),
            "sidecar" => self.sidecar = sidecar(value)?,
            "proxy-image" => self.proxy_image = Some(image(value)?),
            _ => return holder.check_other(name, value),
        }
        Ok(())
    }

    /// Kubernetes refuses a request above its limit, and would name a container that the user never wrote.
    fn check_amounts(&self, errors: &mut Vec<FieldError>) {
        for (name, request, limit) in [
            ("cpu", &self.cpu_request, &self.cpu_limit),
            ("memory", &self.memory_request, &self.memory_limit),
        ] {
            let (Some(request), Some(limit)) = (request, limit) else { continue };
            if request > limit {
                let field = Holder::Pod.field(&format!("{PREFIX}proxy-{name}-request"));
                let message =
                    format!("\"{request}\" is more than the limit \"{limit}\": use at most that");
                errors.push(FieldError::new(field, message));
            }
        }
    }
}

/// Whose annotation it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Namespace,
    Pod,
}

impl Holder {
    fn field(self, annotation: &str) -> String {
        match self {
            Self::Namespace => format!("the namespace's metadata.annotations[{annotation}]"),
            Self::Pod => format!("metadata.annotations[{annotation}]"),
        }
    }

    /// An annotation that is no setting: one of the injector's, or a mistake.
    fn check_other(self, name: &str, value: &str) -> Result<(), String> {
        let annotation = format!("{PREFIX}{name}");
        match self {
            Self::Pod if annotation == INJECT => return inject_word(value).map(drop),
            Self::Namespace if annotation == INJECT => {
                return Err(format!(
                    "{value:?}: on a namespace this is a label, not an annotation"
                ));
            }
            Self::Pod if annotation == WORKLOAD && !is_subdomain(value) => {
                return Err(format!(
                    "{value:?} is no workload's name: use lower-case letters, digits, '-' and '.'"
                ));
            }
            Self::Pod if WRITTEN.contains(&annotation.as_str()) => return Ok(()),
            Self::Namespace if WRITTEN.contains(&annotation.as_str()) => {
                return Err("stands on pods alone, written by the injector: remove it".to_owned());
            }
            Self::Pod | Self::Namespace => {}
        }
        let known: Vec<_> = TABLE.iter().map(|setting| setting.name).collect();
        Err(format!("is no setting of Weft's: use one of {PREFIX}{{{}}}", known.join(", ")))
    }
}

/// Reads the value of [`INJECT`]: whether a sidecar is wanted.
///
/// # Errors
/// When it is neither of the two words.
pub fn inject_word(value: &str) -> Result<bool, String> {
    match value {
        "enabled" => Ok(true),
        "disabled" => Ok(false),
        _ => Err(format!("{value:?}: use \"enabled\" or \"disabled\"")),
    }
}

#[cfg(test)]
mod tests;
