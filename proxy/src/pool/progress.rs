//! How far an attempt has come on its way to its endpoint.
//!
//! Comes in, from the pool: that the endpoint is being connected to, which may be after a wait for a place among the
//! service's connections; and that there is a connection. Goes out: since when the endpoint is waited for, asked also
//! when the attempt was given up meanwhile. A wait for a place is no wait for the endpoint.

use std::cell::Cell;

use crate::clock::Instant;

/// The way of one attempt.
#[derive(Debug, Default)]
pub struct Progress {
    dials: Cell<Option<Instant>>,
    connected: Cell<Option<Instant>>,
}

impl Progress {
    /// The endpoint is being connected to.
    pub fn dials(&self, now: Instant) {
        if self.dials.get().is_none() {
            self.dials.set(Some(now));
        }
    }

    /// There is a connection, and the request goes out.
    pub fn connected(&self, now: Instant) {
        self.dials(now);
        self.connected.set(Some(now));
    }

    /// Whether something may have been sent.
    #[must_use]
    pub const fn has_connection(&self) -> bool {
        self.connected.get().is_some()
    }

    /// Since when the endpoint is waited for, the time to connect to it included; `None` before.
    #[must_use]
    pub const fn since(&self) -> Option<Instant> {
        self.dials.get()
    }

    /// Since when it has the request; `None` before.
    #[must_use]
    pub const fn sent(&self) -> Option<Instant> {
        self.connected.get()
    }
}
