//! How many requests and connections one proxy has towards one service.
//!
//! In come requests for a turn; out goes one at once, or when it is theirs, or the word that the line is full. A turn is
//! given back when it is dropped, and goes to whoever has waited longest; nobody passes those who wait. Who
//! gives up leaves the line, also in the moment in which its turn comes.
//!
//! ```text
//!  ask -- room, and nobody waits --> Turn -- dropped --> the next of the line, or room
//!   |---- no room, the line has room --> waits -- its turn --> Turn
//!   |---- the line is full ----------> refused
//! ```
//!
//! One [`Gate`] is shared by all workers and outlives configurations; what the newest one says holds from its first
//! use on. It must never give out more turns than that at once, but those that were out before.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    clock::{self, Instant},
    error::ProxyError,
    reason::Reason,
};

/// The limits of one service, as a policy sets them; zero is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceLimits {
    /// Connections.
    pub max_connections: u32,
    /// Requests, until their responses' ends.
    pub max_in_flight: u32,
    /// Requests that wait for one of the two.
    pub max_pending: u32,
    /// How long each waits.
    pub max_wait: Duration,
    /// How long a connection may take to be made, instead of the proxy's own limit.
    pub connect_timeout: Option<Duration>,
    /// How long a connection is kept without a request, instead of the proxy's own limit.
    pub idle_timeout: Option<Duration>,
    /// Whose word this is, in order of precedence, for operators.
    pub policies: Box<[Box<str>]>,
}

/// Gives out turns.
#[derive(Debug, Default)]
pub struct Gate(Mutex<Line>);

#[derive(Debug, Default)]
struct Line {
    most: u32,
    out: u32,
    /// Those that gave up are still among them, closed.
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// The right to be one of so many. Dropped, it goes to the next.
#[derive(Debug)]
pub struct Turn(Option<Arc<Gate>>);

/// What is said at the gate.
#[derive(Debug)]
pub enum Answer {
    /// It is its turn.
    Turn(Turn),
    /// It comes later.
    Wait(oneshot::Receiver<Turn>),
    /// Too many wait.
    Full,
}

impl ServiceLimits {
    /// A turn among the requests in flight; none where there is no limit.
    ///
    /// # Errors
    /// `service-limit`: the line is full, or its turn did not come in time. What `deadline` allows is less than what
    /// the policy does when it is earlier.
    pub async fn request_turn(
        &self,
        gate: &Arc<Gate>,
        deadline: Option<Instant>,
    ) -> Result<Option<Turn>, ProxyError> {
        if self.max_in_flight == 0 {
            return Ok(None);
        }
        match gate.ask(self.max_in_flight, self.max_pending) {
            Answer::Turn(turn) => Ok(Some(turn)),
            Answer::Wait(turn) => match self.patiently(turn, deadline).await {
                Some(Ok(turn)) => Ok(Some(turn)),
                Some(Err(_)) | None => Err(self.refused("maxWait", "requests in flight")),
            },
            Answer::Full => Err(self.refused("maxPending", "requests in flight")),
        }
    }

    /// Waits for something as long as a request may wait; `None` when it does not come in time.
    pub async fn patiently<T>(
        &self,
        coming: impl Future<Output = T>,
        deadline: Option<Instant>,
    ) -> Option<T> {
        let patience = (!self.max_wait.is_zero()).then(|| clock::now() + self.max_wait);
        match [patience, deadline].into_iter().flatten().min() {
            Some(until) => clock::timeout_at(until, coming).await.ok(),
            None => Some(coming.await),
        }
    }

    /// The error of a request that does not get its turn.
    #[must_use]
    pub fn refused(&self, field: &str, what: &str) -> ProxyError {
        let Self { max_connections, max_in_flight, max_pending, max_wait, policies, .. } = self;
        let detail = format!(
            "no room for more {what} ({field} of {}: maxInFlight {max_in_flight}, maxConnections \
             {max_connections}, maxPending {max_pending}, maxWait {max_wait:?})",
            policies.join(", ")
        );
        ProxyError::new(Reason::ServiceLimit, detail)
    }
}

impl Gate {
    /// Asks for a turn when `most` may be out at once, and `max_pending` may wait (zero: any number).
    #[must_use]
    pub fn ask(self: &Arc<Self>, most: u32, max_pending: u32) -> Answer {
        let mut line = self.line();
        let raised = most > line.most && !line.waiting.is_empty();
        line.most = most;
        if raised {
            drop(line);
            self.serve();
            line = self.line();
        }
        if line.out < most && line.waiting.iter().all(oneshot::Sender::is_closed) {
            line.waiting.clear();
            line.out += 1;
            return Answer::Turn(Turn(Some(Arc::clone(self))));
        }
        let max_pending = if max_pending == 0 { usize::MAX } else { max_pending as usize };
        if line.waiting.len() >= max_pending {
            line.waiting.retain(|waiting| !waiting.is_closed());
        }
        if line.waiting.len() >= max_pending {
            return Answer::Full;
        }
        let (sender, receiver) = oneshot::channel();
        line.waiting.push_back(sender);
        Answer::Wait(receiver)
    }

    /// How many turns are out.
    #[must_use]
    pub fn out(&self) -> u32 {
        self.line().out
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.line().waiting.iter().filter(|waiting| !waiting.is_closed()).count()
    }

    /// Gives out what there is to those who wait.
    fn serve(self: &Arc<Self>) {
        loop {
            let mut line = self.line();
            if line.out >= line.most {
                return;
            }
            let Some(next) = line.waiting.pop_front() else { return };
            line.out += 1;
            drop(line);
            // Who has given up meanwhile hands it back without another round of this.
            if let Err(turn) = next.send(Turn(Some(Arc::clone(self)))) {
                turn.undo();
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Gives it back, and serves nobody.
    fn undo(mut self) {
        if let Some(gate) = self.0.take() {
            gate.line().out -= 1;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(gate) = self.0.take() {
            gate.line().out -= 1;
            gate.serve();
        }
    }
}

#[cfg(test)]
mod tests;
