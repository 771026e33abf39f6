//! A bucket for each key, within a bound.
//!
//! Keys may come from clients, who can invent them. A full bucket says the same as none, so the buckets that have
//! become full again are dropped when room is needed: what a key has used is never forgotten before it has been
//! refilled, whoever fills the table. One caller can take an eighth of it; its further keys share one more bucket of
//! its own, and take nothing from anybody. Where more than eight callers conspire and the table is full, new
//! keys share a last bucket; those that are known keep theirs.
//!
//! At 8,192 keys of 48 bytes and what a table needs besides, a limit takes less than 2 MiB.

use std::collections::HashMap;

use super::bucket::{Bucket, Rate};

const MAX_KEYS: usize = 8192;
const MAX_KEYS_OF_CALLER: usize = MAX_KEYS / 8;

#[derive(Debug, Default)]
pub(super) struct Keyed {
    slots: HashMap<u128, Slot>,
    /// How many slots each caller has.
    held: HashMap<u128, usize>,
    /// Of new keys while the table is full.
    last: Bucket,
    /// In nanoseconds: before this a look for full buckets is not worth its while.
    next_sweep: u64,
}

#[derive(Debug)]
struct Slot {
    bucket: Bucket,
    caller: u128,
}

impl Keyed {
    /// The slot for a key that a caller uses; `None` for the last bucket.
    pub(super) fn slot(&mut self, key: u128, caller: u128, rate: &Rate, now: u64) -> Option<u128> {
        if self.slots.contains_key(&key) {
            return Some(key);
        }
        if self.slots.len() >= MAX_KEYS || self.held_by(caller) >= MAX_KEYS_OF_CALLER {
            self.sweep(rate, now);
        }
        let is_greedy = self.held_by(caller) >= MAX_KEYS_OF_CALLER;
        // No digest of a key is this, but by a chance of 2^-128.
        let key = if is_greedy { !caller } else { key };
        if self.slots.contains_key(&key) {
            return Some(key);
        }
        if self.slots.len() >= MAX_KEYS {
            return None;
        }
        self.slots.insert(key, Slot { bucket: Bucket::default(), caller });
        *self.held.entry(caller).or_default() += 1;
        Some(key)
    }

    /// The bucket of a slot that was just given.
    pub(super) fn bucket(&mut self, slot: Option<u128>) -> &mut Bucket {
        match slot.and_then(|key| self.slots.get_mut(&key)) {
            Some(slot) => &mut slot.bucket,
            None => &mut self.last,
        }
    }

    fn held_by(&self, caller: u128) -> usize {
        self.held.get(&caller).copied().unwrap_or_default()
    }

    /// Drops the buckets that are full again. An eighth of a refill must lie between two looks, so that a flood of new
    /// keys does not make every request pay for one.
    fn sweep(&mut self, rate: &Rate, now: u64) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now.saturating_add(rate.refill() / 8);
        let Self { slots, held, .. } = self;
        slots.retain(|_, slot| {
            let keep = !rate.state(&slot.bucket, now).full_in.is_zero();
            if !keep && let Some(count) = held.get_mut(&slot.caller) {
                *count -= 1;
                if *count == 0 {
                    held.remove(&slot.caller);
                }
            }
            keep
        });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}
