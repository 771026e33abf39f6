//! A shared connection that is being opened, and everybody who waits for it.
//!
//! In comes, from the task that opens it, how far that is; out goes the same to each who waits, and to the task whether
//! anybody still does. It must never keep anybody waiting for a task that has ended, however it did.
//!
//! ```text
//!  waits for its place --> is dialled --> is there, or has failed
//!        \-- nobody waits for it any more --> given up
//! ```

use std::rc::Rc;

use tokio::sync::watch;

use super::Progress;
use crate::{clock, error::ProxyError, reason::Reason};

/// What the task that opens it has.
#[derive(Debug)]
pub(super) struct Opening(watch::Sender<Stage>);

/// What each who waits for it has.
#[derive(Debug)]
pub(super) struct Awaited(watch::Receiver<Stage>);

#[derive(Debug)]
enum Stage {
    WaitsForPlace,
    Dials,
    IsThere,
    Failed(Reason, String),
}

impl Opening {
    /// One that begins, with its place or without, and the first who waits for it.
    pub(super) fn new(has_place: bool) -> (Rc<Self>, Awaited) {
        let stage = if has_place { Stage::Dials } else { Stage::WaitsForPlace };
        let (sender, receiver) = watch::channel(stage);
        (Rc::new(Self(sender)), Awaited(receiver))
    }

    /// One more waits for it.
    pub(super) fn join(&self) -> Awaited {
        Awaited(self.0.subscribe())
    }

    /// Whether somebody waits, or has not yet seen what it came to.
    pub(super) fn is_awaited(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Completes when nobody waits. Cancel-safe.
    pub(super) async fn abandoned(&self) {
        self.0.closed().await;
    }

    /// It has its place among the service's connections.
    pub(super) fn begins_to_dial(&self) {
        self.0.send_replace(Stage::Dials);
    }

    /// It is there, or cannot be.
    pub(super) fn ended(&self, outcome: Result<(), ProxyError>) {
        self.0.send_replace(match outcome {
            Ok(()) => Stage::IsThere,
            Err(error) => Stage::Failed(error.reason, error.detail.into_owned()),
        });
    }
}

impl Awaited {
    /// Whether it waits for its place no longer.
    pub(super) fn has_place(&self) -> bool {
        !matches!(&*self.0.borrow(), Stage::WaitsForPlace)
    }

    /// Completes when it waits for its place no longer. Cancel-safe.
    pub(super) async fn placed(&mut self) {
        // A task that has ended without a word is no reason to wait: `outcome` tells of it.
        let _ = self.0.wait_for(|stage| !matches!(stage, Stage::WaitsForPlace)).await;
    }

    /// Completes when the connection is there, or cannot be. Cancel-safe.
    pub(super) async fn outcome(&mut self, progress: &Progress) -> Result<(), ProxyError> {
        loop {
            match &*self.0.borrow_and_update() {
                Stage::WaitsForPlace => {}
                Stage::Dials => progress.dials(clock::now()),
                Stage::IsThere => return Ok(()),
                Stage::Failed(reason, detail) => {
                    return Err(ProxyError::new(*reason, detail.clone()));
                }
            }
            if self.0.changed().await.is_err() {
                let detail = "the task that opened a connection ended before it was there";
                return Err(ProxyError::new(Reason::Internal, detail));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_hears_what_it_came_to_also_of_a_task_that_ends_without_a_word() {
        let progress = Progress::default();
        for (outcome, reason) in [
            (Some(Ok(())), None),
            (
                Some(Err(ProxyError::new(Reason::ConnectRefused, "no"))),
                Some(Reason::ConnectRefused),
            ),
            (None, Some(Reason::Internal)),
        ] {
            let (opening, mut first) = Opening::new(false);
            let mut second = opening.join();
            let task = async move {
                opening.begins_to_dial();
                if let Some(outcome) = outcome {
                    opening.ended(outcome);
                }
            };
            let heard = tokio::join!(first.outcome(&progress), second.outcome(&progress), task);
            for heard in [heard.0, heard.1] {
                assert_eq!(heard.err().map(|error| error.reason), reason);
            }
        }
        assert!(progress.since().is_some());
    }

    #[tokio::test]
    async fn it_is_abandoned_by_the_last_who_waits() {
        let (opening, first) = Opening::new(false);
        let second = opening.join();
        drop(first);
        assert!(futures_util::poll!(Box::pin(opening.abandoned())).is_pending());
        drop(second);
        opening.abandoned().await;
        assert!(!opening.is_awaited());
    }
}
