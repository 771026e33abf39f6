//! The wall clock of certificates and tokens: the system's, or the simulator's under `--cfg weft_sim`.
//!
//! Intervals and deadlines are tokio's clock, which a simulation pauses by itself. In a simulation only its
//! hosts have the time: what runs on another thread (the disk's) gets it passed in.

use std::time::SystemTime;

/// Now.
#[cfg(not(weft_sim))]
#[must_use]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// The simulated now.
///
/// # Panics
/// Outside of a simulated host, where no such time is.
#[cfg(weft_sim)]
#[must_use]
pub fn now() -> SystemTime {
    let since = turmoil::since_epoch().expect("what asks for the time runs on a simulated host");
    SystemTime::UNIX_EPOCH + since
}
