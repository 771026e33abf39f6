//! The operator's objects as types: Kubernetes-shaped text comes in, checked values go out. Pure: no file,
//! no socket, no clock.
//!
//! - [`kinds`]: the table of kinds; [`Object`] and [`Kind`] are generated from it.
//! - [`object`]: what every object has: spec, status with conditions, key; [`metadata`]: its name, labels, versions.
//! - [`parse`]: YAML and JSON to objects; errors name file, line, object, field, value and what is right.
//! - [`stand_in`]: what holds in the place of an object that cannot be read.
//! - one file per kind: [`service`], [`workload`], [`mesh_config`], [`traffic_policy`], [`access_policy`],
//!   [`external_service`], [`core`] (namespaces, accounts).
//! - [`gateway`]: the Gateway API's kinds: routes, and grants of references.
//! - what policies share: [`target_ref`], [`matching`] (which requests), [`amount`] (times and numbers).
//! - [`crd`]: the kinds' definitions for the Kubernetes API, made from the types.
//! - [`pod`]: which workload a pod belongs to; [`pod_settings`]: what its annotations say of its sidecar.
//! - [`registration`]: what a sidecar says of the instance beside it; [`cluster`]: what Kubernetes says of its pods.

pub mod access_policy;
pub mod amount;
pub mod cluster;
pub mod core;
pub mod crd;
pub mod external_service;
pub mod gateway;
pub mod guards;
pub mod kinds;
pub mod locate;
mod loose;
pub mod matching;
pub mod mesh_config;
pub mod metadata;
pub mod object;
pub mod parse;
pub mod pod;
pub mod pod_settings;
#[cfg(any(test, fuzzing))]
pub mod properties;
pub mod protocol;
pub mod registration;
pub mod service;
pub mod shown;
pub mod stand_in;
pub mod target_ref;
mod text;
pub mod traffic_policy;
pub mod workload;

pub use access_policy::{AccessAction, AccessPolicySpec};
pub use cluster::{EndpointSlice, Life, NamespacedName, Pod, SliceEndpoint, SlicePort};
pub use external_service::ExternalServiceSpec;
pub use gateway::route::Route;
pub use kinds::{KINDS, Kind, KindInfo, Object, Scope};
pub use mesh_config::{Cidr, Egress, MeshConfigSpec};
pub use metadata::{DEFAULT_NAMESPACE, Metadata};
pub use object::{
    Condition, ConditionStatus, FieldError, ObjectKey, ParentStatus, Resource, Spec, Status,
};
pub use parse::{ParseError, Parsed, parse_documents, parse_object, parse_outline};
pub use pod::{OwnerReference, workload_name};
pub use pod_settings::PodSettings;
pub use protocol::{AppProtocol, PortMode};
pub use registration::{InstanceKey, RegisteredPort, Registration};
pub use service::{ServicePortSpec, ServiceSpec, TargetPort};
pub use target_ref::{TargetKind, TargetRef};
pub(crate) use text::duration;
pub use traffic_policy::{Sections, TrafficPolicySpec};
pub use workload::{
    EnvVar, Probe, Readiness, ServiceRef, StaticAddress, Upstream, WorkloadPort, WorkloadSpec,
};
