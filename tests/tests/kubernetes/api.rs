//! What the in-memory API and a real API server have in common, by which the one is held to the other; and the faults
//! that only the one in memory has.

mod apply;
mod custom;
mod faults;
mod kubectl;
mod lists;
mod objects;
mod pods;
mod rights;
mod services;
mod tokens;
mod watches;
mod webhooks;
