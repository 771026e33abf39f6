//! Weft's sidecar proxy: the library behind `weft-proxy` and behind `weft proxy`.
//!
//! The modules stand in the order in which bytes travel; docs/request-path.md walks one request through them.

pub mod command;

pub mod app;
pub mod process;

pub mod init;

pub mod config;
pub mod error;
pub mod reason;

pub mod clock;
pub mod drain;
pub mod net;

pub mod io;
mod seldom;
pub mod shared;
pub mod tasks;
pub mod worker;

pub mod listen;

pub mod detect;
pub mod peek;

pub mod identity;

pub mod tls;

pub mod inbound;
pub mod outbound;
pub mod undeclared;

pub mod http;

pub mod exchange;
pub mod route;

pub mod destination;
pub mod dns;
pub mod outside;

pub mod policy;

pub mod balance;
pub mod pool;

pub mod tcp;

pub mod discovery;

pub mod telemetry;

pub mod admin;
pub mod kubelet;

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;
