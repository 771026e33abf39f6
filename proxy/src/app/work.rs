//! What each data worker does: accept, sweep what is idle, and drain when told to.

use std::{rc::Rc, sync::atomic::Ordering, time::Duration};

use futures_util::future::join_all;

use crate::{
    clock,
    listen::{self, Purpose},
    net::Binding,
    shared::{Process, Shared},
    tasks::Tasks,
};

/// How often idle connections and destinations are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// After the order to drain, connections are still accepted for this long: callers that have not heard yet
/// are served, and told to go elsewhere.
const STILL_ACCEPTING: Duration = Duration::from_secs(1);

/// What was written last gets this long to leave after the drain timeout.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// One worker's life.
pub(super) async fn run(process: Process, listeners: Vec<(Purpose, Binding)>) {
    let tasks = Tasks::default();
    let cut_off = process.cut_off.clone();
    let shared = Shared::new(process, tasks.clone());
    let accepting =
        join_all(listeners.into_iter().map(|(purpose, binding)| accept(&shared, purpose, binding)));
    tokio::select! {
        _ = accepting => {}
        () = sweep(&shared) => {}
        () = drained(&shared) => {}
    }
    let deadline = clock::now() + shared.config.timeouts.drain.saturating_sub(STILL_ACCEPTING);
    let ended = tasks.drain(deadline).await;
    cut_off.fetch_add(ended, Ordering::Relaxed);
    if ended > 0 {
        tracing::warn!(
            connections = ended,
            "the time to drain is over; open connections are ended"
        );
    }
}

async fn accept(shared: &Rc<Shared>, purpose: Purpose, binding: Binding) {
    let address = binding.address();
    match binding.listen().await {
        Ok(listener) => listen::accept(shared.clone(), listener, purpose).await,
        Err(error) => tracing::error!(%address, %error, "cannot accept connections"),
    }
}

async fn sweep(shared: &Rc<Shared>) {
    loop {
        clock::sleep(SWEEP).await;
        shared.sweep();
    }
}

/// Completes when the worker is to stop accepting.
async fn drained(shared: &Rc<Shared>) {
    shared.drain.started().await;
    clock::sleep(STILL_ACCEPTING.min(shared.config.timeouts.drain)).await;
}
