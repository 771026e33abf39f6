//! Policies: pure state machines, one a file, with time and randomness passed in.
//!
//! The exchange applies each at one visible place. What configuration says of requests is compiled into a
//! [`RequestPolicy`]; what it says of endpoints lies beside it in a destination.

pub mod authz;
pub mod breaker;
pub mod budget;
pub mod concurrency;
pub mod deadline;
pub mod fault;
pub mod gate;
pub mod limits;
pub mod operation;
pub mod rate_limit;
pub mod requests;
pub mod retry;
pub mod timeout;

pub use requests::RequestPolicy;

#[cfg(test)]
mod simulations;
