//! How many handshakes were made, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Role;

/// Handshakes since the start, by the peer's role and kind.
#[derive(Debug, Default)]
pub struct Counts {
    full: [AtomicU64; 2],
    resumed: [AtomicU64; 2],
    refused: [AtomicU64; 2],
}

/// Handshakes with peers in one role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Handshakes {
    /// Done, with certificates exchanged.
    pub full: u64,
    /// Done, on an earlier session.
    pub resumed: u64,
    /// Refused by either side, broken, or too slow.
    pub refused: u64,
}

impl Counts {
    /// Those with peers in this role.
    #[must_use]
    pub fn with(&self, role: Role) -> Handshakes {
        let at = index(role);
        let load = |counter: &[AtomicU64; 2]| counter[at].load(Ordering::Relaxed);
        Handshakes {
            full: load(&self.full),
            resumed: load(&self.resumed),
            refused: load(&self.refused),
        }
    }

    pub(super) fn done(&self, role: Role, resumed: bool) {
        let counter = if resumed { &self.resumed } else { &self.full };
        counter[index(role)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, role: Role) {
        self.refused[index(role)].fetch_add(1, Ordering::Relaxed);
    }
}

const fn index(role: Role) -> usize {
    match role {
        Role::Server => 0,
        Role::Client => 1,
    }
}
