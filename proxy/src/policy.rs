//! Policies: pure state machines, one a file, with time and randomness passed in.
//!
//! The exchange applies each at one visible place. Retries are here; access, timeouts, circuit breaking and
//! limits get their files beside it.

pub mod retry;
