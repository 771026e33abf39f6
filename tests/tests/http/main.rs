//! HTTP through two sidecars, with peers that speak bytes: what must pass, what must not, and how each ends.

mod connections;
mod destinations;
mod failures;
mod flow;
mod messages;
mod replicas;
mod shop;
mod streams;
mod truncation;
mod websockets;
