//! Data workers: one thread with a single-threaded runtime each, its own accept and its own pools.
//!
//! In comes what every worker does; out come [`Workers`], whose end can be waited for and forced. A worker's runtime writes its
//! sockets out whenever it has nothing left to do ([`crate::io`]). Nothing of a worker is shared with another,
//! and nothing but connections runs on one: whatever may take long belongs on another runtime.
//!
//! A worker must never end unnoticed: a panic inside a connection's task is logged where the task ends
//! ([`crate::tasks`]); the end of a worker itself shows in [`Workers::ended`].

use std::{future::Future, io, sync::Arc, time::Duration};

use futures_util::future::select_all;
use tokio::{
    runtime::{Builder, LocalOptions, LocalRuntime},
    sync::watch,
};

use crate::{
    clock,
    io::{LINGER, turn},
};

#[cfg(weft_sim)]
mod task;
#[cfg(not(weft_sim))]
mod thread;

#[cfg(weft_sim)]
use task::Task as Place;
#[cfg(not(weft_sim))]
use thread::Thread as Place;

/// Which worker this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    /// Its number, from 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

/// All workers of a process. Dropping them stops them at once.
#[derive(Debug)]
pub struct Workers {
    stop: watch::Sender<bool>,
    places: Vec<Place>,
}

impl Workers {
    /// Starts `count` workers (at least one); each runs `work` until it returns. `work` hears of a drain by
    /// itself ([`crate::drain`]), and returns when its connections are done.
    ///
    /// # Errors
    /// A thread or its runtime cannot be made.
    pub fn start<W, F>(count: usize, work: W) -> io::Result<Self>
    where
        W: Fn(Worker) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + 'static,
    {
        let count = count.max(1);
        let work = Arc::new(work);
        let (stop, stopped) = watch::channel(false);
        let mut workers = Self { stop, places: Vec::with_capacity(count) };
        for index in 0..count {
            let mut stopped = stopped.clone();
            let work = Arc::clone(&work);
            workers.places.push(Place::start(index, move || async move {
                tokio::select! {
                    () = work(Worker { index, count }) => {}
                    // An error means that the workers are gone: a stop as well.
                    _ = stopped.wait_for(|stop| *stop) => {}
                }
            })?);
        }
        Ok(workers)
    }

    /// Ready when a worker has ended, which none does before it is asked to: the process cannot go on.
    /// Cancel-safe.
    pub async fn ended(&mut self) {
        let _ = select_all(self.places.iter_mut().map(|place| Box::pin(place.ended()))).await;
    }

    /// Waits for at most `limit` until every worker has ended, then stops those that are left. Says whether all
    /// ended by themselves.
    pub async fn finish(mut self, limit: Duration) -> bool {
        let finished = clock::timeout(limit, self.all_ended()).await.is_ok();
        self.stop.send_replace(true);
        if !finished {
            self.all_ended().await;
        }
        finished
    }

    async fn all_ended(&mut self) {
        for place in &mut self.places {
            if !place.is_ended() {
                place.ended().await;
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for place in self.places.drain(..) {
            place.join();
        }
    }
}

/// How many times [`LINGER`] the end of a worker is put off for peers that take bytes.
const LAST_BYTES: u32 = 2;

/// Runs a future as a worker does: on this thread, on a runtime that writes sockets out at the end of each turn.
/// What each worker's thread does, and what tests of anything above [`crate::io`] want.
///
/// # Errors
/// The runtime cannot be made.
pub fn run<F: Future>(work: F) -> io::Result<F::Output> {
    let runtime = runtime()?;
    turn::install();
    let output = runtime.block_on(work);
    // What was written last leaves now; the end of the runtime cuts off what is left.
    runtime.block_on(async {
        turn::end();
        last_bytes().await;
    });
    drop(runtime);
    turn::uninstall();
    Ok(output)
}

/// Waits until what was written has left: as long as peers take anything, and no longer than [`LAST_BYTES`] in all.
async fn last_bytes() {
    let mut taken = crate::io::taken();
    for _ in 0..LAST_BYTES {
        if clock::timeout(LINGER, crate::io::idle()).await.is_ok() {
            return;
        }
        let before = std::mem::replace(&mut taken, crate::io::taken());
        if taken == before {
            return;
        }
    }
}

fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .on_thread_park(turn::end)
        .build_local(LocalOptions::default())
}

#[cfg(test)]
mod tests;
