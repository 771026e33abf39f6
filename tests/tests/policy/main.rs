//! Traffic policies over real sidecars, from the objects that say them to what callers see.
//!
//! `routes`: the checks of the Gateway API's mesh conformance profiles (MESH-HTTP and MESH-GRPC, core and extended), and
//! what users of routes would try next. The others: a policy each.

mod access;
mod attempts;
mod breakers;
mod faults;
mod limits;
mod routes;
mod stage;
mod streams;
