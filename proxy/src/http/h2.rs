//! HTTP/2 (RFC 9113): the connections of clients ([`serve`]) and those to endpoints ([`Http2Client`]).
//!
//! In come sockets that speak HTTP/2 (prior knowledge or ALPN), out go the messages of [`super`]. Nothing is
//! spawned per stream: a client's streams are polled by their connection's task, and the only future that a
//! caller spawns is the driver of a connection to an endpoint. A client's extended CONNECT (RFC 8441) is taken for a
//! WebSocket, which the seam has as HTTP/1's Upgrade; one is made of that for an endpoint that takes it. It never pushes,
//! and never forwards a field that speaks about a connection.
//!
//! # Windows
//! Each stream may have a window of bytes on the way to its reader, and a connection as much as all its streams
//! together: readers that stand still can hold back their own
//! senders only, and with all but one stream stalled the last runs at full speed. What is read counts against
//! the window until it was passed on, so a body costs one stream window and one chunk here, however slow its
//! reader. The worst that one connection can cost is its connection window: with the defaults 256 streams of
//! 256 KiB, 64 MiB, when every stream is stalled and full. 256 KiB keep one stream at 2 Gbit/s over a
//! millisecond of round trip. In the other direction a stream's data waits where it comes from while the socket has
//! [`crate::io::HIGH_WATER`] bytes to write.

mod chunks;
mod client;
mod code;
mod connection;
mod frame;
mod head;
mod hpack;
mod incoming;
mod keep_alive;
mod outgoing;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod received;
mod resets;
mod server;
mod stream;
mod tunnel;
mod websocket;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use client::{Http2Client, Reservation};
pub use code::ErrorCode;
pub use incoming::IncomingBody;
pub use server::serve;
pub use tunnel::Tunnel;
#[cfg(test)]
pub(crate) use websocket::accept as websocket_accept;
pub(crate) use websocket::is_asked_for as asks_for_websocket;

use crate::config::Config;

/// Bytes of a stream on the way to its reader.
const STREAM_WINDOW: u32 = 256 * 1024;

/// How soon a peer that is lost is noticed: half of it on average to ask, all of it to give up.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What a client's connection may do.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Streams open at once.
    pub max_streams: u32,
    /// Bytes of a request's head, as HTTP/2 counts them (RFC 9113 6.5.2).
    pub max_header_bytes: u32,
    /// Fields of a request's head.
    pub max_headers: usize,
    /// Streams that the client may reset in a second before its connection is closed.
    pub max_resets_per_second: u32,
    /// Bytes of a stream on the way to its reader.
    pub stream_window: u32,
    /// From the connection to the client's preface.
    pub preface_timeout: Duration,
    /// A connection without streams.
    pub idle_timeout: Duration,
    /// With streams, the client is asked so often whether it lives, and has as long to answer.
    pub keep_alive: Duration,
}

impl ServerSettings {
    /// From the proxy's settings.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            max_streams: config.limits.max_streams.max(1),
            max_header_bytes: header_bytes(config),
            max_headers: config.limits.max_headers,
            max_resets_per_second: config.limits.max_resets_per_second,
            stream_window: STREAM_WINDOW,
            preface_timeout: config.timeouts.header,
            idle_timeout: config.timeouts.client_idle,
            keep_alive: KEEP_ALIVE,
        }
    }
}

/// What a connection to an endpoint may do.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Streams open at once, where the endpoint allows as many.
    pub max_streams: u32,
    /// Bytes of a response's head.
    pub max_header_bytes: u32,
    /// Bytes of a stream on the way to its reader.
    pub stream_window: u32,
    /// From the connection to the endpoint's SETTINGS.
    pub preface_timeout: Duration,
    /// With requests in flight, the endpoint is asked so often whether it lives, and has as long to answer.
    pub keep_alive: Duration,
}

impl ClientSettings {
    /// From the proxy's settings.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            max_streams: config.limits.max_streams.max(1),
            max_header_bytes: header_bytes(config),
            stream_window: STREAM_WINDOW,
            preface_timeout: config.timeouts.connect,
            keep_alive: KEEP_ALIVE,
        }
    }
}

fn header_bytes(config: &Config) -> u32 {
    u32::try_from(config.limits.max_header_bytes).unwrap_or(u32::MAX)
}

/// Bytes of a connection on the way to its readers: room for every stream.
fn connection_window(max_streams: u32, stream_window: u32) -> u32 {
    const LARGEST: u32 = (1 << 31) - 1;
    max_streams.saturating_mul(stream_window).clamp(65_535, LARGEST)
}
