//! The harness that runs a whole mesh in one process, and raw peers to provoke it with.
#![allow(clippy::panic, clippy::missing_panics_doc, reason = "a harness fails by panicking")]

pub mod apps;
pub mod raw;
pub mod wait;
