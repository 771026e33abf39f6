//! Time, as the proxy sees it: monotonic for timeouts and measurements, wall clock for certificates.
//!
//! Both stand behind this module so that tests can pause them and simulations can run them. Pure state
//! machines (policies, balancers) take an [`Instant`] as an argument instead of asking here. In a simulation
//! both are the simulated time: the monotonic one through tokio's clock, which is paused there.

use std::time::Duration;

pub use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout, timeout_at};

/// The monotonic time.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
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
