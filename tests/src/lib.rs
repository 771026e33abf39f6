//! The harness that runs a whole mesh in one process, and raw peers to provoke it with.
#![allow(clippy::panic, clippy::missing_panics_doc, reason = "a harness fails by panicking")]

pub mod apps;
pub mod client;
pub mod frames;
pub mod ground;
pub mod joining;
pub mod kubernetes;
pub mod load;
pub mod log;
pub mod mesh;
pub mod namespace;
pub mod network;
pub mod node;
pub mod peer;
pub mod pod_sidecar;
pub mod process;
pub mod program;
pub mod raw;
pub mod recorder;
pub mod stage;
pub mod wait;

/// A test cannot run here: says so loudly, and fails where everything must run (the gate).
pub fn skip(test: &str, why: &str) {
    assert!(
        std::env::var_os("WEFT_TEST_REQUIRE_ALL").is_none(),
        "{test} must run here, but: {why}"
    );
    eprintln!("SKIPPED {test}: {why}");
}
