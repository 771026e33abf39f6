//! How many requests of the last moments there were, and how many of them failed.
//!
//! The window slides by a fifth of its length. Pure: the time is passed in.

use std::time::Duration;

use super::millis;

/// Slots of a window.
const SLOTS: u64 = 5;

/// Counts over the last slots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Window([Slot; SLOTS as usize]);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Slot {
    /// Which slot of time this is.
    number: u64,
    total: u64,
    failed: u64,
}

impl Window {
    pub(super) fn add(&mut self, failed: bool, window: Duration, now_ms: u64) {
        let number = number(window, now_ms);
        let slot = &mut self.0[(number % SLOTS) as usize];
        if slot.number != number {
            *slot = Slot { number, ..Slot::default() };
        }
        slot.total += 1;
        slot.failed += u64::from(failed);
    }

    /// All requests, and those that failed.
    pub(super) fn counts(&self, window: Duration, now_ms: u64) -> (u64, u64) {
        let now = number(window, now_ms);
        let of_window =
            self.0.iter().filter(|slot| slot.number + SLOTS > now && slot.number <= now);
        of_window.fold((0, 0), |(total, failed), slot| (total + slot.total, failed + slot.failed))
    }
}

fn number(window: Duration, now_ms: u64) -> u64 {
    now_ms / (millis(window) / SLOTS).max(1)
}
