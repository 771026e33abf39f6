//! How many requests the application is given at once.
//!
//! Comes in: requests, one after the other. Goes out: a [`Turn`] for each that may go to the application, at once or
//! when it comes; a line of bounded length holds those that wait, each no longer than the policy says and its own
//! deadline lets it.
//!
//! The [`Gate`] goes on when the policy changes: requests in flight count under the new limit. There must never be more in
//! flight than the newest limit says, but those that were let in before.

use std::{sync::Arc, time::Duration};

use super::gate::{Answer, Gate, Turn};
use crate::clock::{self, Instant};

/// A concurrency limit, as it stands in one snapshot.
#[derive(Debug, Clone)]
pub struct Concurrency {
    /// Whose it is, for operators.
    pub policy: Arc<str>,
    /// At once at the application.
    pub max_in_flight: u32,
    /// Waiting beside these.
    pub max_pending: u32,
    /// So long.
    pub max_wait: Duration,
    /// What outlives the snapshot.
    pub gate: Arc<Gate>,
}

impl PartialEq for Concurrency {
    fn eq(&self, other: &Self) -> bool {
        let said =
            |it: &Self| (Arc::clone(&it.policy), it.max_in_flight, it.max_pending, it.max_wait);
        said(self) == said(other)
    }
}

impl Eq for Concurrency {}

/// Why a request does not get to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Too many wait already.
    QueueFull,
    /// Its turn did not come in time.
    WaitedTooLong,
    /// The request's own deadline passed while it waited.
    DeadlinePassed,
}

impl Concurrency {
    /// Its turn, when that is now.
    #[must_use]
    pub fn try_enter(&self) -> Option<Turn> {
        self.gate.now(self.max_in_flight)
    }

    /// Waits for its turn, but not beyond `deadline`. Cancel-safe: who gives up has no turn and no place.
    ///
    /// # Errors
    /// There is no room, and none came in time.
    pub async fn enter(&self, deadline: Option<Instant>) -> Result<Turn, Refused> {
        let places = usize::try_from(self.max_pending).unwrap_or(usize::MAX);
        let turn = match self.gate.ask(self.max_in_flight, places) {
            Answer::Turn(turn) => return Ok(turn),
            Answer::Full => return Err(Refused::QueueFull),
            Answer::Wait(turn) => turn,
        };
        let patience = clock::now() + self.max_wait;
        let (until, late) = match deadline.filter(|deadline| *deadline < patience) {
            Some(deadline) => (deadline, Refused::DeadlinePassed),
            None => (patience, Refused::WaitedTooLong),
        };
        clock::timeout_at(until, turn).await.map_err(|_| late)
    }
}

#[cfg(test)]
mod tests;
