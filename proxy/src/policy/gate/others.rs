//! Those who wait at a gate for something else than what one holder of turns has to give.
//!
//! In comes who holds turns there, and what each of these is held by; out goes whether somebody else has waited longest,
//! and whether what holds a turn may go on. Who is served by the holder must never count as one of the others.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{Gate, Turn};

/// One that holds turns, and has something to give that serves some of those who wait as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder(u64);

/// Those who wait at a gate for something else than what one holder of turns has to give.
#[derive(Debug, Clone)]
pub struct Others {
    gate: Arc<Gate>,
    holder: Holder,
}

impl Holder {
    /// Like no other of the process.
    #[must_use]
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}

impl Others {
    /// Than what this holder has.
    #[must_use]
    pub const fn than(holder: Holder, gate: Arc<Gate>) -> Self {
        Self { gate, holder }
    }

    /// Whether they let what has this turn, or none, go on: see [`Gate::permits`].
    #[must_use]
    pub fn permit(&self, turn: &mut Option<Turn>) -> bool {
        self.gate.permits(turn)
    }

    /// Whether one of them has waited longest. One load where nobody waits at all.
    #[must_use]
    pub fn are_first(&self) -> bool {
        self.gate.has_line() && self.gate.is_first_for_others(self.holder)
    }
}
