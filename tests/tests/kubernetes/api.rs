//! What the in-memory API and a real API server have in common, by which the one is held to the other; and the faults
//! that only the one in memory has.

mod apply;
mod faults;
mod objects;
mod rights;
mod tokens;
mod watches;
mod webhooks;
