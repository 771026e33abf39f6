//! The `weft` binary, run as a user runs it: real processes, real sockets, signals that kill.

mod commands;
mod demo;
mod support;
mod up;
