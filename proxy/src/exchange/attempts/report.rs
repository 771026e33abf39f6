//! What an attempt tells of its endpoint: how long it was waited for, and whether it failed.
//!
//! Comes in: how far the attempt came, when its client's body was waited for, how it ended. Goes out: a latency to the
//! balancer, a verdict to the breaker, by the rules of [`Verdict`]. A wait for a place among the service's connections,
//! and one for the client, must never count against the endpoint.

use std::{rc::Rc, time::Duration};

use super::Failure;
use crate::{
    balance::Member,
    clock::{self, Instant},
    destination::Chosen,
    discovery::Trial,
    error::Delivery,
    http::{Fields, replay::Client, side},
    policy::breaker::Verdict,
    pool::Progress,
    reason::Reason,
};

/// What one attempt will tell. Dropped before it has ended, the client has left.
#[derive(Debug)]
pub(super) struct Report {
    member: Rc<Member>,
    trial: Option<Trial>,
    /// How far the attempt has come.
    pub(super) progress: Progress,
    client: Client,
    times: Times,
    is_made: bool,
}

/// The times that count for what is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// When the request's head was here.
    pub(super) began: Instant,
    /// What its caller gave it then.
    pub(super) given: Option<Duration>,
    /// How long there may be silence.
    pub(super) silence: Option<Duration>,
}

impl Report {
    /// Of an attempt that begins now, and reads its body from this client.
    pub(super) fn new(chosen: Chosen, client: Client, times: Times) -> Self {
        let Chosen { member, trial } = chosen;
        Self { member, trial, progress: Progress::default(), client, times, is_made: false }
    }

    /// Since when the endpoint alone has been waited for; `None` while something else is.
    pub(super) fn since(&self) -> Option<Instant> {
        let since = self.progress.since()?;
        let moved = self.client.moved().map_or(since, |moved| moved.max(since));
        (!self.client.is_waited_for()).then_some(moved)
    }

    fn waited(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.since()?))
    }

    /// A response's head came with these fields. What its breaker still waits for.
    pub(super) fn answered(mut self, fields: &Fields) -> Option<Trial> {
        self.is_made = true;
        let now = clock::now();
        // A handshake is no answer's time: counted, it would keep a cold endpoint from its share.
        if let Some(sent) = self.progress.sent() {
            let since = self.client.moved().map_or(sent, |moved| moved.max(sent));
            self.member.observe(now.saturating_duration_since(since), now);
        }
        let trial = self.trial.take()?;
        match side::reason(fields) {
            Some(Reason::DeadlineExceeded) => {
                trial.judge(self.of_cut(Reason::DeadlineExceeded, now))
            }
            // What the other sidecar itself ended for the client's sake says nothing of the endpoint.
            Some(reason) if Verdict::of_failure(reason).is_none() => {}
            Some(_) | None => return Some(trial),
        }
        None
    }

    /// There is none, for another reason than that a time was over.
    pub(super) fn failed(mut self, failure: &Failure) {
        self.is_made = true;
        let Failure { error, kept_connection } = failure;
        if *kept_connection
            && error.reason == Reason::ConnectionLost
            && error.delivery == Delivery::Nothing
        {
            // The endpoint had closed a connection that was idle: it may do that.
            return;
        }
        let now = clock::now();
        if self.progress.has_connection()
            && let Some(waited) = self.waited(now)
        {
            self.member.observe_at_least(waited, now);
        }
        self.judge(Verdict::of_failure(error.reason));
    }

    /// A time was over before it came.
    pub(super) fn cut(mut self, reason: Reason) {
        self.is_made = true;
        let now = clock::now();
        let verdict = self.of_cut(reason, now);
        self.never_answered(now, verdict);
    }

    fn of_cut(&self, reason: Reason, now: Instant) -> Option<Verdict> {
        let waited = self.waited(now)?;
        let passed = now.saturating_duration_since(self.times.began);
        let passed = match reason {
            Reason::AttemptTimeout => waited,
            Reason::StreamIdleTimeout => self.times.silence.unwrap_or(passed),
            _ => passed,
        };
        Verdict::of_cut(waited, passed)
    }

    /// How long it did not answer is known, though not how long it would have taken.
    fn never_answered(&mut self, now: Instant, verdict: Option<Verdict>) {
        if let Some(waited) = self.waited(now) {
            self.member.observe_at_least(waited, now);
        }
        self.judge(verdict);
    }

    fn judge(&mut self, verdict: Option<Verdict>) {
        if let Some(trial) = self.trial.take() {
            trial.judge(verdict);
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if self.is_made {
            return;
        }
        let now = clock::now();
        let verdict = self.times.given.zip(self.waited(now)).and_then(|(given, waited)| {
            let passed = now.saturating_duration_since(self.times.began);
            Verdict::of_leaving(waited, passed, given)
        });
        self.never_answered(now, verdict);
    }
}
