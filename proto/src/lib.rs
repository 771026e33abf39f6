//! What Weft's processes say to each other, and the names they share.
//!
//! - [`discovery`], [`identity`], [`api`]: the gRPC messages, generated from `proto/weft/*/v1/*.proto`.
//! - [`names`]: SPIFFE IDs, service and workload names, ports, TLS server names; each parsed once, on entry.
//! - [`join_token`]: the first proof of who a sidecar is, outside Kubernetes.
//! - [`pattern`]: regular expressions of policies, bounded alike where they are written and where they act.
//! - [`untouchable`]: headers that no filter of a route may touch.
//! - [`digest`]: content digests that mean the same in every process.

pub mod digest;
pub mod join_token;
pub mod names;
pub mod pattern;
#[cfg(any(test, fuzzing))]
pub mod properties;
pub mod untouchable;

pub use join_token::JoinToken;
pub use names::{
    MeshServerName, NameError, Port, ServiceName, ServicePort, SpiffeId, TrustDomain, WorkloadName,
};
pub use pattern::{Pattern, PatternError};

/// Discovery (`weft.discovery.v1`).
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines, reason = "generated")]
pub mod discovery {
    tonic::include_proto!("weft.discovery.v1");
}

/// Identity (`weft.identity.v1`).
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines, reason = "generated")]
pub mod identity {
    tonic::include_proto!("weft.identity.v1");
}

/// The control plane's API (`weft.api.v1`).
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines, reason = "generated")]
pub mod api {
    tonic::include_proto!("weft.api.v1");
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

/// The encoded `FileDescriptorSet` of all services, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
