//! The control plane as a sidecar meets it: real TLS and gRPC on port 0, a raw tonic client as the proxy.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

mod admin;
mod discovery;
mod harness;
mod identity;
mod policies;
mod process;
mod restart;
mod sidecar;
