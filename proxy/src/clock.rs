//! Time, as the proxy sees it: monotonic for timeouts and measurements, wall clock for certificates.
//!
//! Both stand behind this module so that tests can pause them and simulations can run them. Pure state
//! machines (policies, balancers) take an [`Instant`] as an argument instead of asking here. In a simulation
//! both are the simulated time: the monotonic one through tokio's clock, which is paused there.
//!
//! A request asks for the time a dozen times. A worker's thread therefore keeps what it read for the turn of its event
//! loop ([`keep`], [`renew`]): some microseconds, and never for more than [`READS`] questions, so that time goes on
//! for whoever waits for it in a loop.

use std::{cell::Cell, time::Duration};

pub use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout, timeout_at};

/// So many questions are answered by one reading.
const READS: u32 = 32;

/// The last reading of a thread.
struct Kept {
    enabled: Cell<bool>,
    at: Cell<Option<Instant>>,
    /// How many more questions it answers.
    left: Cell<u32>,
}

thread_local! {
    static KEPT: Kept =
        const { Kept { enabled: Cell::new(false), at: Cell::new(None), left: Cell::new(0) } };
}

/// The monotonic time; on a thread that keeps it, as of a moment ago in this turn.
#[must_use]
pub fn now() -> Instant {
    KEPT.with(Kept::now)
}

/// Says whether this thread keeps what it reads: who says so calls [`renew`] at least at each turn's end.
pub(crate) fn keep(enabled: bool) {
    KEPT.with(|kept| kept.enabled.set(enabled));
    renew();
}

/// Lets the next question read the clock.
pub(crate) fn renew() {
    KEPT.with(|kept| kept.at.set(None));
}

impl Kept {
    fn now(&self) -> Instant {
        if let (Some(at), left @ 1..) = (self.at.get(), self.left.get()) {
            self.left.set(left - 1);
            return at;
        }
        let now = Instant::now();
        if self.enabled.get() {
            self.at.set(Some(now));
            self.left.set(READS);
        }
        now
    }
}

/// The wall clock, as the time since the Unix epoch; zero before it.
#[cfg(not(weft_sim))]
#[must_use]
pub fn since_epoch() -> Duration {
    use std::time::{SystemTime, UNIX_EPOCH};
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The simulated wall clock, as the time since the Unix epoch.
///
/// # Panics
/// Outside of a simulated host, where no such time is.
#[cfg(weft_sim)]
#[must_use]
pub fn since_epoch() -> Duration {
    turmoil::since_epoch().expect("what asks for the time runs on a simulated host")
}

/// The time since the process first asked.
#[cfg(not(weft_sim))]
fn process_time() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    now().saturating_duration_since(*START.get_or_init(now))
}

/// The time since the simulation began: its hosts are one process.
#[cfg(weft_sim)]
fn process_time() -> Duration {
    turmoil::sim_elapsed().expect("what asks for the time runs on a simulated host")
}

/// Milliseconds since the process first asked, or since the simulation began: an instant that fits an atomic.
///
/// # Panics
/// In a simulation, outside of a simulated host.
#[must_use]
pub fn process_ms() -> u64 {
    u64::try_from(process_time().as_millis()).unwrap_or(u64::MAX)
}

/// The same in nanoseconds.
///
/// # Panics
/// In a simulation, outside of a simulated host.
#[must_use]
pub fn process_ns() -> u64 {
    u64::try_from(process_time().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait() {
        let began = Instant::now();
        while began.elapsed() < Duration::from_micros(50) {}
    }

    #[test]
    fn a_turn_has_one_time_and_the_next_a_later_one() {
        keep(true);
        let first = now();
        wait();
        assert_eq!(now(), first);
        renew();
        assert!(now() > first);
        keep(false);
    }

    #[test]
    fn who_asks_again_and_again_sees_time_go_on() {
        keep(true);
        let first = now();
        wait();
        let asked = (1..).find(|_| now() > first).unwrap_or(u32::MAX);
        assert_eq!(asked, READS + 1);
        keep(false);
    }

    #[test]
    fn a_thread_that_does_not_keep_it_reads_it_each_time() {
        let first = now();
        wait();
        assert!(now() > first);
    }
}
