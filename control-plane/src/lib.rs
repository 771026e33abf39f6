//! Weft's control plane: what the operator's objects say, pushed to every sidecar as it needs it.
//!
//! In the order in which data passes:
//! - [`model`]: the operator's objects, as types;
//! - [`index`]: objects and registrations to what proxies are told;
//! - [`store`]: where the objects live;
//! - [`status`]: conditions back to objects;
//! - [`catalog`]: the mesh as it is now, shared;
//! - [`ca`]: roots, join tokens, SVIDs;
//! - [`secure`]: the TLS port that sidecars connect to;
//! - [`push`]: discovery: registrations in, differences out;
//! - [`inject`]: pods of Kubernetes get their sidecars;
//! - [`api`]: the API for the command line and the dashboard;
//! - [`runtime`]: what operators ask of the running mesh;
//! - [`admin`]: readiness and metrics over HTTP;
//! - [`app`]: where all of it is wired, from [`config`]; [`boot`]: the process around it;
//! - [`metrics`]: what all of it counts; [`net`] and [`clock`]: what a simulation takes the place of.

pub mod admin;
pub mod api;
pub mod app;
pub mod boot;
pub mod ca;
pub mod catalog;
pub mod clock;
pub mod config;
pub mod index;
pub mod inject;
pub mod kubernetes;
pub mod metrics;
pub mod model;
pub mod net;
pub mod push;
pub mod runtime;
pub mod secure;
pub mod status;
pub mod store;

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;
