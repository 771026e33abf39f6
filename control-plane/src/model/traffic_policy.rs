//! `TrafficPolicy` (weft.dev/v1alpha1): how traffic to a service, a port, a route or a namespace is treated.
//!
//! Everything is optional; what no policy says is the proxy's default. The sections also stand in
//! `MeshConfig.spec.defaults`, for the whole mesh.
//!
//! - [`attempts`]: timeouts and retries. [`endpoints`]: circuit breaking, limits, balancing.
//! - [`server`]: rate limits, concurrency, faults.
//! - [`merge`]: a more specific policy over a less specific one, field by field.
//! - [`wire`]: what proxies are told. `validate`, `rules`: what is checked, here and by an API server.

pub mod attempts;
pub mod endpoints;
pub mod merge;
mod rules;
pub mod server;
mod validate;
pub mod wire;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    protocol::AppProtocol,
    target_ref::{self, MOST_TARGETS, TargetRef},
};

pub(super) use validate::validate_sections;

use attempts::{Retry, Timeouts};
use endpoints::{CircuitBreaking, Limits, LoadBalancing};
use server::{Concurrency, Fault, RateLimit};

/// How long the lists of a policy may be.
pub(super) const MOST_ENTRIES: usize = 16;

/// A struct with the sections, and fields of its own before them.
macro_rules! with_sections {
    (
        $(#[$meta:meta])*
        pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)* }
    ) => {
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        $(#[$meta])*
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
            /// How long things may take.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub timeouts: Option<Timeouts>,
            /// When a request is tried again.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub retry: Option<Retry>,
            /// When an endpoint is left alone.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub circuit_breaking: Option<CircuitBreaking>,
            /// How much one sidecar asks of the service at once.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub limits: Option<Limits>,
            /// Which endpoint a request goes to.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub load_balancing: Option<LoadBalancing>,
            /// How many requests each instance takes in a time. Each entry must let a request pass.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(max = MOST_ENTRIES))]
            pub rate_limits: Option<Vec<RateLimit>>,
            /// How many requests each instance takes at once.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub concurrency: Option<Concurrency>,
            /// What goes wrong on purpose.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(max = MOST_ENTRIES))]
            pub faults: Option<Vec<Fault>>,
        }

        impl $name {
            /// The sections alone.
            #[must_use]
            pub fn sections(&self) -> Sections {
                Sections {
                    timeouts: self.timeouts.clone(),
                    retry: self.retry.clone(),
                    circuit_breaking: self.circuit_breaking.clone(),
                    limits: self.limits.clone(),
                    load_balancing: self.load_balancing.clone(),
                    rate_limits: self.rate_limits.clone(),
                    concurrency: self.concurrency.clone(),
                    faults: self.faults.clone(),
                }
            }
        }
    };
}

with_sections! {
    /// What a TrafficPolicy says.
    #[schemars(extend("x-kubernetes-validations" = rules::policy()))]
    pub struct TrafficPolicySpec {
        /// What it holds for.
        #[schemars(length(min = 1, max = MOST_TARGETS), extend("x-kubernetes-validations" = target_ref::list_rules()))]
        pub target_refs: Vec<TargetRef>,
        /// How the bytes are to be read, whatever the service says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub protocol: Option<AppProtocol>,
    }
}

with_sections! {
    /// The sections of a TrafficPolicy, for everything of which no policy says otherwise.
    pub struct TrafficDefaults {}
}

/// The sections of a policy, or of several that were merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sections {
    /// How long things may take.
    pub timeouts: Option<Timeouts>,
    /// When a request is tried again.
    pub retry: Option<Retry>,
    /// When an endpoint is left alone.
    pub circuit_breaking: Option<CircuitBreaking>,
    /// How much one sidecar asks of the service at once.
    pub limits: Option<Limits>,
    /// Which endpoint a request goes to.
    pub load_balancing: Option<LoadBalancing>,
    /// How many requests each instance takes in a time.
    pub rate_limits: Option<Vec<RateLimit>>,
    /// How many requests each instance takes at once.
    pub concurrency: Option<Concurrency>,
    /// What goes wrong on purpose.
    pub faults: Option<Vec<Fault>>,
}

impl TrafficDefaults {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl TrafficPolicySpec {
    /// The names of the sections that it sets, as they are written.
    #[must_use]
    pub fn section_names(&self) -> Vec<&'static str> {
        let mut names = self.sections().names();
        names.extend(self.protocol.is_some().then_some("protocol"));
        names
    }
}

impl Sections {
    /// The names of those that are set, as they are written.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        let all = [
            ("timeouts", self.timeouts.is_some()),
            ("retry", self.retry.is_some()),
            ("circuitBreaking", self.circuit_breaking.is_some()),
            ("limits", self.limits.is_some()),
            ("loadBalancing", self.load_balancing.is_some()),
            ("rateLimits", self.rate_limits.is_some()),
            ("concurrency", self.concurrency.is_some()),
            ("faults", self.faults.is_some()),
        ];
        all.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name).collect()
    }

    /// What callers' sidecars do with a request, alone.
    #[must_use]
    pub fn of_requests(&self) -> Self {
        let timeouts = self.timeouts.as_ref().map(Timeouts::of_requests);
        Self {
            timeouts: timeouts.filter(|timeouts| *timeouts != Timeouts::default()),
            retry: self.retry.clone(),
            faults: self.faults.clone(),
            ..Self::default()
        }
    }

    /// How callers' sidecars use the endpoints, alone.
    #[must_use]
    pub fn of_endpoints(&self) -> Self {
        let timeouts = self.timeouts.as_ref().map(Timeouts::of_endpoints);
        Self {
            timeouts: timeouts.filter(|timeouts| *timeouts != Timeouts::default()),
            circuit_breaking: self.circuit_breaking.clone(),
            limits: self.limits.clone(),
            load_balancing: self.load_balancing.clone(),
            ..Self::default()
        }
    }

    /// What the sidecar at the server does, alone.
    #[must_use]
    pub fn of_server(&self) -> Self {
        Self {
            rate_limits: self.rate_limits.clone(),
            concurrency: self.concurrency.clone(),
            ..Self::default()
        }
    }
}
