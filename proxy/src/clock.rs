//! Time, as the proxy sees it: monotonic for timeouts and measurements, wall clock for certificates.
//!
//! Both stand behind this module so that tests can pause them and simulations can run them. Pure state
//! machines (policies, balancers) take an [`Instant`] as an argument instead of asking here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout, timeout_at};

/// The monotonic time.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock, as the time since the Unix epoch; zero before it.
#[must_use]
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Milliseconds since the process first asked: an instant that fits an atomic.
#[must_use]
pub fn process_ms() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let elapsed = now().saturating_duration_since(*START.get_or_init(now));
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
