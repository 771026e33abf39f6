//! One bucket whose tokens callers get in turn when they are scarce.
//!
//! While there are tokens for all who ask, everybody gets them. A caller that is refused waits, from then on for as
//! long as it was told to and a minute: for each caller that waits and has been served less, a token is left in the
//! bucket, and only what lies above goes to others. Served is counted as in start-time fair queueing: who comes (back)
//! begins where the others are, so that nobody saves up turns and
//! nobody new is behind; of equals, who waits longer is first.
//!
//! From a full bucket everybody gets a token: one more would be lost, and no claim is worth that. So a caller that asks
//! once and does not come back costs nobody anything, and the first of those that wait still finds a token when it
//! comes, whatever others do. With a burst of at least as many tokens as there are callers each gets its
//! share; with fewer, who comes often gets more of what is not kept, and a bucket of one token, which is full when it
//! has any, serves who comes first. It must never let more pass than the bucket has.
//!
//! Bounded: 1,024 callers, less than 512 KiB. A caller that does not wait and has no more than others is like a new
//! one and makes room; where there is none, further callers count as one. A request costs logarithmic time in the
//! number of callers, also where each comes from another one.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::{
    bucket::{Bucket, Rate, State},
    ranks::{Place, Ranks},
};

const MAX_CALLERS: usize = 1024;

/// Who finds no room. No digest of a caller is this, but by a chance of 2^-128.
const OTHERS: u128 = 0;

/// A client that was told to wait may come so much later than that: a claim costs others nothing.
const LATE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Fair {
    bucket: Bucket,
    callers: HashMap<u128, Caller>,
    /// The places of those that wait.
    line: Ranks,
    /// Until when each of them waits.
    patience: BTreeSet<(u64, u128)>,
    /// The turns of those that do not.
    resting: BTreeSet<(u64, u128)>,
    /// Where who comes begins: the turn of the last one that was served.
    turn: u64,
    /// Counts those that wait.
    tickets: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Caller {
    /// Its next turn.
    turn: u64,
    waiting: Option<Waiting>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    ticket: u64,
    /// In nanoseconds.
    until: u64,
}

impl Caller {
    /// The order in which callers are served that wait.
    fn place(&self) -> Place {
        (self.turn, self.waiting.map_or(u64::MAX, |waiting| waiting.ticket))
    }
}

impl Fair {
    /// Under which name a caller is known.
    pub(super) fn caller(&mut self, caller: u128, now: u64) -> u128 {
        self.lose_patience(now);
        if self.callers.contains_key(&caller) {
            return caller;
        }
        if self.callers.len() >= MAX_CALLERS {
            self.make_room();
        }
        if self.callers.len() >= MAX_CALLERS { OTHERS } else { caller }
    }

    /// How the bucket stands for a caller: without the tokens that are left for others. One that gets none waits.
    pub(super) fn ask(&mut self, caller: u128, rate: &Rate, now: u64) -> State {
        let mut me = self.arrive(caller);
        let kept = self.kept(&me, rate);
        let mut state = rate.state(&self.bucket, now);
        state.tokens = state.tokens.saturating_sub(kept);
        if state.tokens == 0 {
            state.wait = rate.until(&self.bucket, kept + 1, now);
            let ticket = me.waiting.map_or(self.tickets, |waiting| waiting.ticket);
            self.tickets += 1;
            let patience = nanoseconds(state.wait + LATE);
            me.waiting = Some(Waiting { ticket, until: now.saturating_add(patience) });
        }
        self.put(caller, me);
        state
    }

    /// The caller takes a token, which it was said to have.
    pub(super) fn take(&mut self, caller: u128, rate: &Rate, now: u64) -> State {
        let mut me = self.arrive(caller);
        // Who takes what would be lost moves nobody else's turn.
        if self.line.before(me.place()) == 0 {
            self.turn = self.turn.max(me.turn);
        }
        rate.take(&mut self.bucket, now);
        me = Caller { turn: me.turn + 1, waiting: None };
        self.put(caller, me);
        let mut state = rate.state(&self.bucket, now);
        state.tokens = state.tokens.saturating_sub(self.kept(&me, rate));
        state
    }

    /// A caller as it stands: who waits keeps its turn, who comes back begins where the others are.
    fn arrive(&self, caller: u128) -> Caller {
        let known = self.callers.get(&caller).copied().unwrap_or_default();
        match known.waiting {
            Some(_) => known,
            None => Caller { turn: known.turn.max(self.turn), waiting: None },
        }
    }

    /// How many tokens are left in the bucket for others, which wait and come before this one: of a full bucket none
    /// that would be lost.
    fn kept(&self, me: &Caller, rate: &Rate) -> u64 {
        (self.line.before(me.place()) as u64).min(rate.burst() - 1)
    }

    /// Notes how a caller stands.
    fn put(&mut self, caller: u128, now: Caller) {
        if let Some(before) = self.callers.insert(caller, now) {
            self.take_out(caller, &before);
        }
        match now.waiting {
            Some(waiting) => {
                self.line.insert(now.place());
                self.patience.insert((waiting.until, caller));
            }
            None => {
                self.resting.insert((now.turn, caller));
            }
        }
    }

    fn take_out(&mut self, caller: u128, it: &Caller) {
        match it.waiting {
            Some(waiting) => {
                self.line.remove(it.place());
                self.patience.remove(&(waiting.until, caller));
            }
            None => {
                self.resting.remove(&(it.turn, caller));
            }
        }
    }

    /// Those that have not come back in time wait no longer.
    fn lose_patience(&mut self, now: u64) {
        while let Some(&(until, caller)) = self.patience.first()
            && until < now
        {
            let Some(&late) = self.callers.get(&caller) else { return };
            self.put(caller, Caller { waiting: None, ..late });
        }
    }

    /// Forgets a caller that is like a new one, if there is one.
    fn make_room(&mut self) {
        if let Some(&(turn, caller)) = self.resting.first()
            && turn <= self.turn
        {
            self.resting.remove(&(turn, caller));
            self.callers.remove(&caller);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let (waiting, resting) = (self.patience.len(), self.resting.len());
        assert_eq!(self.callers.len(), waiting + resting, "each is in one place");
        assert_eq!(self.line.before((u64::MAX, u64::MAX)), waiting);
        self.callers.len()
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
