//! Weft's sidecar proxy: the library behind `weft-proxy` and behind `weft proxy`.
//!
//! The modules stand in the order in which bytes travel; docs/request-path.md walks one request through them.

pub mod config;
pub mod error;
pub mod reason;

pub mod clock;
pub mod drain;
pub mod net;

pub mod io;

pub mod detect;

pub mod tls;

pub mod http;

pub mod discovery;

pub mod telemetry;
