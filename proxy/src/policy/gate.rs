//! So many at once, and a line of those who wait.
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
//! use on. It must never give out more turns than that at once, but those that were out before. How long somebody waits
//! is theirs to decide: [`super::limits`] has gates towards a service, [`super::concurrency`] one before the application.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// Gives out turns.
#[derive(Debug, Default)]
pub struct Gate(Mutex<Line>);

#[derive(Debug, Default)]
struct Line {
    most: u32,
    out: u32,
    /// First come, first served. Those that gave up are still among them, closed.
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

impl Gate {
    /// A turn when `most` may be out at once, if that is now.
    #[must_use]
    pub fn now(self: &Arc<Self>, most: u32) -> Option<Turn> {
        let is_in = self.limited(most).enter();
        is_in.then(|| Turn(Some(Arc::clone(self))))
    }

    /// Asks for a turn when `most` may be out at once, and `max_pending` may wait.
    #[must_use]
    pub fn ask(self: &Arc<Self>, most: u32, max_pending: usize) -> Answer {
        let mut line = self.limited(most);
        if line.enter() {
            return Answer::Turn(Turn(Some(Arc::clone(self))));
        }
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

    /// From now on so many may be out at once. Those who wait for what there is room for now have their turn at once.
    pub fn limit(self: &Arc<Self>, most: u32) {
        drop(self.limited(most));
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

    /// The line under a limit; where that was raised, those who wait are served first.
    fn limited(self: &Arc<Self>, most: u32) -> MutexGuard<'_, Line> {
        let mut line = self.line();
        let raised = most > line.most && !line.waiting.is_empty();
        line.most = most;
        if raised {
            drop(line);
            self.serve();
            line = self.line();
        }
        line
    }

    /// No code panics while it holds the lock.
    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Counts one more as out, where there is room and nobody waits.
    fn enter(&mut self) -> bool {
        if self.out >= self.most || !self.waiting.iter().all(oneshot::Sender::is_closed) {
            return false;
        }
        self.waiting.clear();
        self.out += 1;
        true
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
