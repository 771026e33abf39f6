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
//! must never give out more turns than that at once, but those that were out before. What can end earlier than it would
//! asks whether it is one too many of these ([`Gate::permits`]). How long somebody waits
//! is theirs to decide: [`super::limits`] has gates towards a service, [`super::concurrency`] one before the application.
//!
//! A turn may be held by what nobody uses now, such as an idle connection. Who waits then presses; whoever has such a turn
//! hears of it, and answers for one who waits by giving one back. [`Others`] are those who wait for something else than
//! what one holder has to give.

mod line;
mod others;

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use line::Line;
pub use others::{Holder, Others};
use tokio::sync::{Notify, futures::Notified, oneshot};

/// Gives out turns.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
    /// The line's length, for those who only look.
    length: AtomicUsize,
    /// Whether more are out than may be, for those who only look.
    has_surplus: AtomicBool,
    pressed: Notify,
}

#[derive(Debug, Default)]
struct State {
    most: u32,
    out: u32,
    /// First come, first served.
    line: Line,
    /// For so many of them somebody is still to give a turn back that nobody uses.
    unanswered: usize,
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
    Wait(Waits),
    /// Too many wait.
    Full,
}

/// A place in the line: ready when its turn comes. Dropped, it is left, also in that moment.
#[derive(Debug)]
pub struct Waits {
    gate: Arc<Gate>,
    number: u64,
    turn: oneshot::Receiver<Turn>,
    is_served: bool,
}

/// One who waits with others for what one place in the line brings. Dropped, it does so no longer.
#[derive(Debug)]
pub struct Pending(Arc<Gate>);

impl Gate {
    /// A turn when `most` may be out at once, if that is now.
    #[must_use]
    pub fn now(self: &Arc<Self>, most: u32) -> Option<Turn> {
        let is_in = self.enter(&mut self.limited(most));
        is_in.then(|| self.turn())
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
        let mut state = self.limited(most);
        if self.enter(&mut state) {
            return Answer::Turn(self.turn());
        }
        if state.line.pending() >= max_pending {
            return Answer::Full;
        }
        Answer::Wait(self.line_up(&mut state, served_by, true))
    }

    /// The same for many at once, whom a holder serves. Each of them is to [`Gate::join`] while it waits.
    ///
    /// # Errors
    /// The turn comes later.
    pub fn ask_for_many(self: &Arc<Self>, served_by: Holder, most: u32) -> Result<Turn, Waits> {
        let mut state = self.limited(most);
        if self.enter(&mut state) {
            return Ok(self.turn());
        }
        Err(self.line_up(&mut state, Some(served_by), false))
    }

    /// One more waits with others, where not so many do already.
    #[must_use]
    pub fn join(self: &Arc<Self>, max_pending: usize) -> Option<Pending> {
        let mut state = self.state();
        if state.line.pending() >= max_pending {
            return None;
        }
        state.line.join();
        Some(Pending(Arc::clone(self)))
    }

    /// From now on so many may be out at once. Those who wait for what there is room for now have their turn at once, and
    /// those who hold more than there is room for are called.
    pub fn limit(self: &Arc<Self>, most: u32) {
        let is_lowered = most < self.state().most;
        drop(self.limited(most));
        if is_lowered && self.has_surplus() {
            self.call();
        }
    }

    /// Whether what holds this turn, or none, may go on. What has none takes one, where there is room and nobody waits;
    /// what has one that a lowered limit leaves no room for gives it back. One load where neither is so.
    #[must_use]
    pub fn permits(self: &Arc<Self>, turn: &mut Option<Turn>) -> bool {
        if turn.as_ref().is_some_and(|turn| turn.is_of(self)) {
            let is_surplus = self.has_surplus() && self.take_back(turn);
            return !is_surplus;
        }
        let is_in = self.enter(&mut self.state());
        *turn = is_in.then(|| self.turn());
        is_in
    }

    /// How many turns are out.
    #[must_use]
    pub fn out(&self) -> u32 {
        self.state().out
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state().line.pending()
    }

    /// Whether there may be somebody who waits; one load.
    #[must_use]
    pub fn has_line(&self) -> bool {
        self.length.load(Relaxed) > 0
    }

    /// Whether there may be more turns out than the limit says; one load.
    #[must_use]
    pub fn has_surplus(&self) -> bool {
        self.has_surplus.load(Relaxed)
    }

    /// Who waits asks those that hold a turn without using it to give one back.
    pub fn press(&self) {
        self.state().unanswered += 1;
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
        let mut state = self.state();
        state.unanswered = state.unanswered.min(state.line.len());
        let is_due = state.unanswered > 0;
        state.unanswered -= usize::from(is_due);
        is_due
    }

    /// Whether somebody waits, and nothing that this holder has serves whoever has waited longest.
    fn is_first_for_others(&self, holder: Holder) -> bool {
        self.state().line.first_is_served_by().is_some_and(|it| it != Some(holder))
    }

    fn turn(self: &Arc<Self>) -> Turn {
        Turn(Some(Arc::clone(self)))
    }

    fn line_up(
        self: &Arc<Self>,
        state: &mut State,
        served_by: Option<Holder>,
        is_counted: bool,
    ) -> Waits {
        let (number, turn) = state.line.line_up(served_by, is_counted);
        self.show(state);
        Waits { gate: Arc::clone(self), number, turn, is_served: false }
    }

    /// Gives out what there is to those who wait.
    fn serve(self: &Arc<Self>) {
        loop {
            let mut state = self.state();
            if state.out >= state.most {
                return;
            }
            let Some(next) = state.line.serve() else { return };
            state.out += 1;
            self.show(&state);
            drop(state);
            // Who has given up meanwhile hands it back without another round of this.
            if let Err(turn) = next.send(self.turn()) {
                turn.undo();
            }
        }
    }

    /// Counts one more as out, where there is room and nobody waits.
    fn enter(&self, state: &mut State) -> bool {
        if state.out >= state.most || !state.line.is_empty() {
            return false;
        }
        state.out += 1;
        self.show(state);
        true
    }

    /// Takes this turn back where there are too many; nobody is served by it.
    fn take_back(&self, turn: &mut Option<Turn>) -> bool {
        let mut state = self.state();
        if state.out <= state.most {
            return false;
        }
        if let Some(mut turn) = turn.take() {
            turn.0 = None;
        }
        state.out -= 1;
        self.show(&state);
        true
    }

    /// The state under a limit; where that was raised, those who wait are served first.
    fn limited(self: &Arc<Self>, most: u32) -> MutexGuard<'_, State> {
        let mut state = self.state();
        let raised = most > state.most && !state.line.is_empty();
        state.most = most;
        self.show(&state);
        if raised {
            drop(state);
            self.serve();
            state = self.state();
        }
        state
    }

    fn show(&self, state: &State) {
        self.length.store(state.line.len(), Relaxed);
        self.has_surplus.store(state.out > state.most, Relaxed);
    }

    /// No code panics while it holds the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Future for Waits {
    type Output = Turn;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Turn> {
        match Pin::new(&mut self.turn).poll(cx) {
            Poll::Ready(Ok(turn)) => {
                self.is_served = true;
                Poll::Ready(turn)
            }
            // The gate, which this holds, keeps the sender until it sends.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
impl Waits {
    /// The turn, when it has come.
    pub(crate) fn try_recv(&mut self) -> Result<Turn, oneshot::error::TryRecvError> {
        let turn = self.turn.try_recv();
        self.is_served |= turn.is_ok();
        turn
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        if !self.is_served {
            let mut state = self.gate.state();
            state.line.leave(self.number);
            self.gate.show(&state);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.state().line.part();
    }
}

impl Turn {
    fn is_of(&self, gate: &Arc<Gate>) -> bool {
        self.0.as_ref().is_some_and(|it| Arc::ptr_eq(it, gate))
    }

    /// Gives it back, and serves nobody.
    fn undo(mut self) {
        if let Some(gate) = self.0.take() {
            let mut state = gate.state();
            state.out -= 1;
            gate.show(&state);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(gate) = self.0.take() else { return };
        let is_too_few = {
            let mut state = gate.state();
            state.out -= 1;
            gate.show(&state);
            state.out >= state.most && !state.line.is_empty()
        };
        if is_too_few {
            // The limit was lowered: who was to be served by this one is to be by another.
            gate.press();
        } else {
            gate.serve();
        }
    }
}

#[cfg(test)]
mod tests;
