//! The tasks of a worker: owned, so that they can be counted, drained and ended.
//!
//! One task per connection and per background loop; never one per request.

use std::{cell::RefCell, future::poll_fn, rc::Rc, task::Waker};

use tokio::task::{JoinError, JoinSet};

use crate::clock::{self, Instant};

/// A handle to a worker's tasks; cheap to clone within the worker.
#[derive(Debug, Clone, Default)]
pub struct Tasks(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    set: JoinSet<()>,
    waiting: Option<Waker>,
}

impl Tasks {
    /// Runs a task on this worker until it ends or [`Tasks::drain`] gives up on it.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut state = self.0.borrow_mut();
        while let Some(ended) = state.set.try_join_next() {
            report(ended);
        }
        state.set.spawn_local(task);
        if let Some(waker) = state.waiting.take() {
            waker.wake();
        }
    }

    /// How many tasks have not been seen to end.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.borrow().set.len()
    }

    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until every task has ended, or ends the rest at the deadline. Returns how many it ended.
    pub async fn drain(&self, deadline: Instant) -> usize {
        let all_ended = poll_fn(|cx| {
            let mut state = self.0.borrow_mut();
            state.waiting = Some(cx.waker().clone());
            while let Some(ended) = std::task::ready!(state.set.poll_join_next(cx)) {
                report(ended);
            }
            std::task::Poll::Ready(())
        });
        let in_time = clock::timeout_at(deadline, all_ended).await.is_ok();
        let mut state = self.0.borrow_mut();
        let left = if in_time { 0 } else { state.set.len() };
        state.set.abort_all();
        left
    }
}

/// A panic ends its own connection only, but not unnoticed.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task has panicked");
    }
}
