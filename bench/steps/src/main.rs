//! Single steps of the sidecar's hot path, each as a program that does it so often and nothing else.
//!
//! In come a step's name and a number; out goes nothing but an error. `bench/count` runs it under callgrind with two
//! numbers and divides the difference, so that making ready is not counted. What a step does must be the same in every
//! run: random choice has a fixed seed, and no step looks at the time but as the product does.

mod handshake;
mod metrics;
mod pick;
mod routes;

use anyhow::Result;
use clap::{Parser, ValueEnum};

#[derive(Debug, Parser)]
struct Arguments {
    step: Step,
    times: usize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Step {
    /// A handshake of mutual TLS with an endpoint that is met for the first time; both sides.
    HandshakeFull,
    /// The same with an endpoint whose session is remembered.
    HandshakeResumed,
    /// The rule that takes a request, among 1 route.
    Routes1,
    /// Among 100.
    Routes100,
    /// Among 10,000.
    Routes10000,
    /// The endpoint for a request, of 10.
    Pick10,
    /// Of 10,000.
    Pick10000,
    /// What is counted of one request.
    MetricsRecord,
}

fn main() -> Result<()> {
    let Arguments { step, times } = Arguments::parse();
    match step {
        Step::HandshakeFull => handshake::run(times, handshake::Session::New),
        Step::HandshakeResumed => handshake::run(times, handshake::Session::Remembered),
        Step::Routes1 => routes::run(times, 1),
        Step::Routes100 => routes::run(times, 100),
        Step::Routes10000 => routes::run(times, 10_000),
        Step::Pick10 => pick::run(times, 10),
        Step::Pick10000 => pick::run(times, 10_000),
        Step::MetricsRecord => {
            metrics::run(times);
            Ok(())
        }
    }
}
