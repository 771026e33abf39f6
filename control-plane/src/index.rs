//! Objects and live registrations come in; what proxies are told goes out. Pure: no I/O, no clock, no task.

pub mod changes;

pub use changes::{Changes, Dependency, EndpointChange, ResolvedTarget};
