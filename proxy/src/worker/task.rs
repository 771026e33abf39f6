//! A worker's place in a simulation: a task of the simulated host, whose runtime it shares with all else there.
//!
//! There is no park hook, so what the worker writes leaves at once ([`crate::io`]).

use std::{future::Future, io};

use tokio::{sync::oneshot, task::JoinSet};

/// A worker that runs.
#[derive(Debug)]
pub(super) struct Task {
    task: JoinSet<()>,
    /// Resolves when the task has ended, by a panic too.
    ended: oneshot::Receiver<()>,
}

impl Task {
    /// Runs `work` on the simulated host that this is called on.
    ///
    /// # Errors
    /// Never.
    pub(super) fn start<F: Future<Output = ()> + 'static>(
        _index: usize,
        work: impl FnOnce() -> F,
    ) -> io::Result<Self> {
        let (ending, ended) = oneshot::channel();
        let work = work();
        let mut task = JoinSet::new();
        task.spawn_local(async move {
            // Dropped, and so seen, however this task ends.
            let _ending: oneshot::Sender<()> = ending;
            work.await;
        });
        Ok(Self { task, ended })
    }

    /// Ready when the worker has ended. Cancel-safe; not to be asked again once it was.
    pub(super) async fn ended(&mut self) {
        // Nothing is ever sent: an error says that the task has ended.
        let _ = (&mut self.ended).await;
    }

    pub(super) fn is_ended(&mut self) -> bool {
        self.task.try_join_next().is_some() || self.task.is_empty()
    }

    /// Ends the task.
    pub(super) fn join(mut self) {
        self.task.abort_all();
    }
}
