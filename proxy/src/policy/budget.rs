//! How many of a service's requests may be retries, so that a service in trouble is not buried under them.
//!
//! Each request deposits, each retry withdraws. Of the requests in the last ten seconds a share may be retries,
//! and beside it a floor of so many a second, so that a quiet service may retry at all. Where `r` requests a second
//! come and all of them fail, the service is offered `r * (1 + share) + floor`, however many attempts a request may have.
//!
//! Shared by all workers of a process: a deposit is one atomic addition, a withdrawal (a retry, which is rare) takes a
//! short lock. Requests that come in the moment in which a second begins may be lost to the count, never added.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::clock::{self, Instant};

/// The window, in seconds.
const WINDOW: u64 = 10;
/// Slots of one second: those of the window, and the one that is being reused.
const SLOTS: usize = 16;
/// Bits of a slot that count; the second lies above them.
const COUNT_BITS: u32 = 32;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// How much may be withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetSettings {
    /// Of the requests in the last ten seconds so many percent.
    pub percent: u32,
    /// And so many a second.
    pub min_per_second: u32,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self { percent: 20, min_per_second: 10 }
    }
}

/// The budget of one service.
#[derive(Debug)]
pub struct Budget {
    origin: Instant,
    requests: [AtomicU64; SLOTS],
    retries: Mutex<[u64; SLOTS]>,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(clock::now())
    }
}

impl Budget {
    /// One that nothing was deposited in; its seconds count from `origin`.
    #[must_use]
    pub fn new(origin: Instant) -> Self {
        Self {
            origin,
            requests: std::array::from_fn(|_| AtomicU64::new(0)),
            retries: Mutex::new([0; SLOTS]),
        }
    }

    /// A request begins.
    pub fn deposit(&self, now: Instant) {
        let second = self.second(now);
        let slot = &self.requests[index(second)];
        let held = slot.load(Relaxed);
        if held >> COUNT_BITS >= second {
            // One that waited for long counts where a newer second has the slot by now.
            slot.fetch_add(1, Relaxed);
        } else {
            // Who loses against another worker finds the slot made.
            let fresh = second << COUNT_BITS | 1;
            if slot.compare_exchange(held, fresh, Relaxed, Relaxed).is_err() {
                slot.fetch_add(1, Relaxed);
            }
        }
    }

    /// Takes one retry out; whether there was one.
    pub fn withdraw(&self, settings: BudgetSettings, now: Instant) -> bool {
        let second = self.second(now);
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        let made: u64 = retries.iter().map(|&slot| within(slot, second)).sum();
        let requests: u64 =
            self.requests.iter().map(|slot| within(slot.load(Relaxed), second)).sum();
        let allowed = requests.saturating_mul(settings.percent.into()) / 100
            + u64::from(settings.min_per_second) * WINDOW;
        if made >= allowed {
            return false;
        }
        let slot = &mut retries[index(second)];
        let before = if *slot >> COUNT_BITS == second { *slot & COUNT_MASK } else { 0 };
        *slot = second << COUNT_BITS | (before + 1);
        true
    }

    /// Seconds since the origin, from one up: an unused slot is of second zero.
    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_secs() + 1 + WINDOW
    }
}

const fn index(second: u64) -> usize {
    (second % SLOTS as u64) as usize
}

/// What a slot counts, where it lies in the window that ends with this second.
const fn within(slot: u64, second: u64) -> u64 {
    let of = slot >> COUNT_BITS;
    if of <= second && of + WINDOW > second { slot & COUNT_MASK } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn budget() -> (Budget, Instant) {
        let origin = clock::now();
        (Budget::new(origin), origin)
    }

    fn withdrawn(budget: &Budget, settings: BudgetSettings, now: Instant) -> u32 {
        (0..10_000).take_while(|_| budget.withdraw(settings, now)).count() as u32
    }

    #[test]
    fn a_share_of_the_requests_and_a_floor_may_be_retries() {
        for (requests, percent, min_per_second, expected) in [
            (0, 20, 0, 0),
            (0, 20, 10, 100),
            (1_000, 20, 0, 200),
            (1_000, 20, 10, 300),
            (1_000, 0, 0, 0),
            (7, 20, 0, 1),
        ] {
            let (budget, now) = budget();
            (0..requests).for_each(|_| budget.deposit(now));
            let settings = BudgetSettings { percent, min_per_second };
            assert_eq!(withdrawn(&budget, settings, now), expected, "{requests} {settings:?}");
        }
    }

    #[test]
    fn what_lies_ten_seconds_back_counts_no_more() {
        let (budget, origin) = budget();
        let settings = BudgetSettings { percent: 20, min_per_second: 0 };
        (0..100).for_each(|_| budget.deposit(origin));
        let later = |seconds| origin + Duration::from_secs(seconds);
        assert_eq!(withdrawn(&budget, settings, later(9)), 20);
        assert_eq!(withdrawn(&budget, settings, later(10)), 0, "the requests are forgotten");
        (0..100).for_each(|_| budget.deposit(later(15)));
        assert_eq!(withdrawn(&budget, settings, later(15)), 0, "the retries are not yet");
        assert_eq!(withdrawn(&budget, settings, later(19)), 20);
    }

    #[test]
    fn a_slot_that_is_used_again_begins_at_nothing() {
        let (budget, origin) = budget();
        let settings = BudgetSettings { percent: 100, min_per_second: 0 };
        for round in 0..5 {
            let now = origin + Duration::from_secs(round * SLOTS as u64);
            (0..10).for_each(|_| budget.deposit(now));
            assert_eq!(withdrawn(&budget, settings, now), 10, "round {round}");
        }
    }

    /// However many attempts each request may have, all of which fail.
    #[test]
    fn a_service_that_is_down_is_offered_no_more_than_the_budget_allows() {
        let (budget, origin) = budget();
        let (demand, seconds) = (1_000, 60);
        let mut offered = 0;
        for request in 0..demand * seconds {
            let now = origin + Duration::from_millis(request * 1_000 / demand);
            budget.deposit(now);
            offered += 1;
            for _ in 0..5 {
                offered += u64::from(budget.withdraw(BudgetSettings::default(), now));
            }
        }
        let ratio = offered as f64 / (demand * seconds) as f64;
        assert!(ratio < 1.25, "{ratio}");
        assert!(ratio > 1.15, "{ratio}: the budget is used");
    }
}
