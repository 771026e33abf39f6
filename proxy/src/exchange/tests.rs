//! Policies on requests, over real sockets: what the client gets, what applications are asked, what is counted.

mod blame;
mod breakers;
mod deadlines;
mod grpc;
mod lowered;
mod overload;
mod places;
mod retries;
pub(super) mod stage;

use std::time::Duration;

use crate::{clock, worker};

/// Runs a test as a worker runs, and fails it when it hangs.
pub(super) fn run(test: impl Future<Output = ()>) {
    let limit = Duration::from_secs(30);
    worker::run(async { clock::timeout(limit, test).await.expect("in time") }).expect("a runtime");
}
