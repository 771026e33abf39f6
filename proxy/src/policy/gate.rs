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
//! One [`Gate`] is shared by all workers and outlives configurations; what the newest one says holds from then on. It
//! must never give out more turns than that at once, but those that were out before. How long somebody waits
//! is theirs to decide: [`super::limits`] has gates towards a service, [`super::concurrency`] one before the application.
//!
//! A turn may be held by what nobody uses now, such as an idle connection. Who waits then presses; whoever has such a turn
//! hears of it, and answers for one who waits by giving one back. [`Others`] are those who wait for something else than
//! what one holder has to give.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::{Notify, futures::Notified, oneshot};

/// Gives out turns.
#[derive(Debug, Default)]
pub struct Gate {
    line: Mutex<Line>,
    /// The line's length, for those who only look.
    length: AtomicUsize,
    pressed: Notify,
}

#[derive(Debug, Default)]
struct Line {
    most: u32,
    out: u32,
    /// First come, first served. Those that gave up are still among them, closed.
    waiting: VecDeque<Waiting>,
    /// For so many of them somebody is still to give a turn back that nobody uses.
    unanswered: usize,
}

#[derive(Debug)]
struct Waiting {
    sender: oneshot::Sender<Turn>,
    /// Who has something that would do instead of a turn, if anybody.
    served_by: Option<Holder>,
}

/// One that holds turns, and has something to give that serves some of those who wait as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder(u64);

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
        let is_in = self.enter(&mut self.limited(most));
        is_in.then(|| Turn(Some(Arc::clone(self))))
    }

    /// Asks for a turn when `most` may be out at once, and `max_pending` may wait.
    #[must_use]
    pub fn ask(self: &Arc<Self>, most: u32, max_pending: usize) -> Answer {
        self.ask_for(None, most, max_pending)
    }

    /// The same, of somebody who is `served_by` what a holder has, too.
    #[must_use]
    pub fn ask_for(
        self: &Arc<Self>,
        served_by: Option<Holder>,
        most: u32,
        max_pending: usize,
    ) -> Answer {
        let mut line = self.limited(most);
        if self.enter(&mut line) {
            return Answer::Turn(Turn(Some(Arc::clone(self))));
        }
        if line.waiting.len() >= max_pending {
            line.waiting.retain(|waiting| !waiting.sender.is_closed());
        }
        let answer = if line.waiting.len() >= max_pending {
            Answer::Full
        } else {
            let (sender, receiver) = oneshot::channel();
            line.waiting.push_back(Waiting { sender, served_by });
            Answer::Wait(receiver)
        };
        self.show(&line);
        answer
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
        self.line().waiting.iter().filter(|waiting| !waiting.sender.is_closed()).count()
    }

    /// Whether there may be somebody who waits; one load.
    #[must_use]
    pub fn has_line(&self) -> bool {
        self.length.load(Relaxed) > 0
    }

    /// Who waits asks those that hold a turn without using it to give one back.
    pub fn press(&self) {
        self.line().unanswered += 1;
        self.pressed.notify_waiters();
    }

    /// Completes when somebody presses, or [`Gate::call`]s, after this was polled or enabled.
    pub fn pressed(&self) -> Notified<'_> {
        self.pressed.notified()
    }

    /// Lets those who heed [`Gate::pressed`] look again.
    pub fn call(&self) {
        self.pressed.notify_waiters();
    }

    /// Whether a turn that is not used is to be given back now: true once for each who waits and has pressed.
    #[must_use]
    pub fn answer(&self) -> bool {
        let mut line = self.line();
        line.unanswered = line.unanswered.min(line.waiting.len());
        let is_due = line.unanswered > 0;
        line.unanswered -= usize::from(is_due);
        is_due
    }

    /// Whether somebody waits, and nothing that this holder has serves whoever has waited longest.
    fn is_first_for_others(&self, holder: Holder) -> bool {
        let mut line = self.line();
        while line.waiting.front().is_some_and(|first| first.sender.is_closed()) {
            line.waiting.pop_front();
        }
        self.show(&line);
        line.waiting.front().is_some_and(|first| first.served_by != Some(holder))
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
            self.show(&line);
            drop(line);
            // Who has given up meanwhile hands it back without another round of this.
            if let Err(turn) = next.sender.send(Turn(Some(Arc::clone(self)))) {
                turn.undo();
            }
        }
    }

    /// Counts one more as out, where there is room and nobody waits.
    fn enter(&self, line: &mut Line) -> bool {
        if line.out >= line.most || !line.waiting.iter().all(|waiting| waiting.sender.is_closed()) {
            return false;
        }
        line.waiting.clear();
        line.out += 1;
        self.show(line);
        true
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

    fn show(&self, line: &Line) {
        self.length.store(line.waiting.len(), Relaxed);
    }

    /// No code panics while it holds the lock.
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holder {
    /// Like no other of the process.
    #[must_use]
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Relaxed))
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
        let Some(gate) = self.0.take() else { return };
        let is_too_few = {
            let mut line = gate.line();
            line.out -= 1;
            line.out >= line.most && !line.waiting.is_empty()
        };
        if is_too_few {
            // The limit was lowered: who was to be served by this one is to be by another.
            gate.press();
        } else {
            gate.serve();
        }
    }
}

/// Those who wait at a gate for something else than what one holder of turns has to give.
#[derive(Debug, Clone)]
pub struct Others {
    gate: Arc<Gate>,
    holder: Holder,
}

impl Others {
    /// Than what this holder has.
    #[must_use]
    pub const fn than(holder: Holder, gate: Arc<Gate>) -> Self {
        Self { gate, holder }
    }

    /// Whether one of them has waited longest. One load where nobody waits at all.
    #[must_use]
    pub fn are_first(&self) -> bool {
        self.gate.has_line() && self.gate.is_first_for_others(self.holder)
    }
}

#[cfg(test)]
mod tests;
