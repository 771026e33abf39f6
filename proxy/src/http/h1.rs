//! HTTP/1.1 and 1.0: our own codec on httparse, strict where messages could be understood in two ways.
//!
//! In the order in which bytes pass: a head is read ([`parse`], [`framing`], hop-by-hop fields), a body is
//! cut out of what follows ([`decode`]), heads and bodies are written ([`encode`]). These parts know no
//! socket. [`server`] and [`client`] put them on a connection. RFC 9110 and 9112 are cited where a rule is
//! theirs.

pub(crate) mod authority;
mod body;
pub mod client;
pub mod decode;
pub mod encode;
mod error;
mod fields;
pub mod framing;
mod hop;
mod inbox;
mod names;
pub mod parse;
mod patience;
#[cfg(any(test, fuzzing))]
pub mod properties;
pub mod server;
mod shelf;
mod timer;
mod transfer;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use body::IncomingBody;
pub use client::Http1Client;
pub use error::HeadError;
pub use parse::HeadLimits;
pub use server::serve;
pub use shelf::Shelf;

use crate::config::Config;

/// What a client's connection may do.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Of a request's head, and of its trailers.
    pub limits: HeadLimits,
    /// From a head's first byte to its last.
    pub header_timeout: Duration,
    /// Without a request.
    pub idle_timeout: Duration,
}

impl ServerSettings {
    /// From the proxy's settings.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            limits: limits(config),
            header_timeout: config.timeouts.header,
            idle_timeout: config.timeouts.client_idle,
        }
    }
}

/// What a connection to a server may do.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Of a response's head, and of its trailers.
    pub limits: HeadLimits,
}

impl ClientSettings {
    /// From the proxy's settings.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { limits: limits(config) }
    }
}

fn limits(config: &Config) -> HeadLimits {
    HeadLimits { bytes: config.limits.max_header_bytes, fields: config.limits.max_headers }
}
