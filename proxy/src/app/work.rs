//! What each data worker does: accept, sweep what is idle, and drain when told to.

use std::{rc::Rc, sync::atomic::Ordering, time::Duration};

use futures_util::future::join_all;

use crate::{
    clock::{self, Instant},
    config::Interception,
    listen::{self, Purpose},
    net::Binding,
    shared::{Process, Shared},
    tasks::Tasks,
};

/// How often idle connections and destinations are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// After the order to drain, connections are still accepted for this long: callers that have not heard yet
/// are served, and told to go elsewhere. Where the application's connections are intercepted, for this long after
/// the last one: it has no other way out, and may be shutting down itself.
const STILL_ACCEPTING: Duration = Duration::from_secs(1);

/// How often it is looked whether connections are open.
const LOOK: Duration = Duration::from_millis(100);

/// What was written last gets this long to leave after the drain timeout.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// One worker's life.
pub(super) async fn run(process: Process, listeners: Vec<(Purpose, Binding)>) {
    let tasks = Tasks::default();
    let cut_off = process.cut_off.clone();
    let shared = Shared::new(process, tasks.clone());
    let accepting =
        join_all(listeners.into_iter().map(|(purpose, binding)| accept(&shared, purpose, binding)));
    let drain_began = tokio::select! {
        _ = accepting => clock::now(),
        began = accepted(&shared) => began,
        () = sweep(&shared) => clock::now(),
    };
    let deadline = drain_began + shared.config.timeouts.drain;
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

/// Completes when the worker is to stop accepting; says when the drain began.
async fn accepted(shared: &Rc<Shared>) -> Instant {
    shared.drain.started().await;
    let began = clock::now();
    let timeout = shared.config.timeouts.drain;
    match shared.config.interception {
        Interception::Explicit => clock::sleep(STILL_ACCEPTING.min(timeout)).await,
        Interception::Transparent => {
            // Either way it is time.
            let _ = clock::timeout(timeout, quiet(shared)).await;
        }
    }
    began
}

/// Completes when no worker has had a connection for a while.
async fn quiet(shared: &Rc<Shared>) {
    let mut last_open = clock::now();
    loop {
        clock::sleep(LOOK).await;
        let now = clock::now();
        if shared.connections.load(Ordering::Relaxed) > 0 {
            last_open = now;
        } else if now.saturating_duration_since(last_open) >= STILL_ACCEPTING {
            return;
        }
    }
}
