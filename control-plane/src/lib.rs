//! Weft's control plane: what the operator's objects say, pushed to every sidecar as it needs it.
//!
//! In the order in which data passes:
//! - [`model`]: the operator's objects, as types;
//! - [`index`]: objects and registrations to what proxies are told;
//! - [`ca`]: roots, join tokens, SVIDs;
//! - [`secure`]: the TLS port that sidecars connect to;
//! - [`metrics`]: what all of it counts.

pub mod ca;
pub mod index;
pub mod metrics;
pub mod model;
pub mod secure;
