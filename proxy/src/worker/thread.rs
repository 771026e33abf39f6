//! A worker's place: a thread of its own, on which [`super::run`] gives it a runtime.

use std::{
    future::Future,
    io,
    thread::{self, JoinHandle},
};

use tokio::sync::oneshot;

/// A worker that runs.
#[derive(Debug)]
pub(super) struct Thread {
    handle: JoinHandle<()>,
    /// Resolves when the thread has ended, by a panic too.
    ended: oneshot::Receiver<()>,
}

impl Thread {
    /// Runs `work` on a new thread.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub(super) fn start<F: Future<Output = ()>>(
        index: usize,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<Self> {
        let (ending, ended) = oneshot::channel();
        let thread = thread::Builder::new().name(format!("weft-worker-{index}"));
        let handle = thread.spawn(move || {
            // Dropped, and so seen, however this thread ends.
            let _ending: oneshot::Sender<()> = ending;
            if let Err(error) = super::run(work()) {
                tracing::error!(%error, "a worker's runtime cannot be made");
            }
        })?;
        Ok(Self { handle, ended })
    }

    /// Ready when the worker has ended. Cancel-safe; not to be asked again once it was.
    pub(super) async fn ended(&mut self) {
        // Nothing is ever sent: an error says that the thread has ended.
        let _ = (&mut self.ended).await;
    }

    pub(super) fn is_ended(&self) -> bool {
        self.handle.is_finished()
    }

    /// Waits until the thread has ended, which it was told to.
    pub(super) fn join(self) {
        if self.handle.join().is_err() {
            tracing::error!("a worker has panicked");
        }
    }
}
