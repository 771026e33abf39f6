//! Which resources of a stream are to be looked at: at once, when changes pause, or when the proxy answers.
//!
//! Comes in: keys with the time of the change that touched them. Goes out: one key after the other. Pure:
//! time is an argument. It holds each key once, so that its size is bounded by the stream's subscriptions.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{Pace, resource::Key};

/// When a change happened; `None` for a first answer.
type Since = Option<Instant>;

#[derive(Debug)]
pub(super) struct Pending {
    pace: Pace,
    due: BTreeMap<Key, Since>,
    gathering: BTreeMap<Key, Since>,
    /// When the gathering began, and when something was added last.
    span: Option<(Instant, Instant)>,
    /// Touched while an update of theirs is under way.
    unanswered: BTreeMap<Key, Since>,
}

impl Pending {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            due: BTreeMap::new(),
            gathering: BTreeMap::new(),
            span: None,
            unanswered: BTreeMap::new(),
        }
    }

    /// To be looked at as soon as the proxy can take something.
    pub(super) fn at_once(&mut self, key: Key, since: Since) {
        let since = earliest(since, self.gathering.remove(&key).flatten());
        add(&mut self.due, key, since);
    }

    /// To be looked at when changes pause.
    pub(super) fn soon(&mut self, key: Key, changed_at: Instant, now: Instant) {
        if self.due.contains_key(&key) {
            return;
        }
        let began = self.span.map_or(now, |(began, _)| began);
        self.span = Some((began, now));
        add(&mut self.gathering, key, Some(changed_at));
    }

    /// To be looked at again when the proxy has answered.
    pub(super) fn when_answered(&mut self, key: Key, since: Since) {
        add(&mut self.unanswered, key, since);
    }

    /// The proxy answered.
    pub(super) fn answered(&mut self, key: Key) {
        let since = self.unanswered.remove(&key).flatten();
        self.at_once(key, since);
    }

    /// No longer of interest.
    pub(super) fn forget(&mut self, key: &Key) {
        self.due.remove(key);
        self.gathering.remove(key);
        self.unanswered.remove(key);
    }

    /// When the gathering ends.
    pub(super) fn gathered_at(&self) -> Option<Instant> {
        self.span.map(|(began, last)| (began + self.pace.longest).min(last + self.pace.quiet))
    }

    /// The gathering has ended.
    pub(super) fn release(&mut self) {
        self.span = None;
        for (key, since) in std::mem::take(&mut self.gathering) {
            add(&mut self.due, key, since);
        }
    }

    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    pub(super) fn pop(&mut self) -> Option<(Key, Since)> {
        self.due.pop_first()
    }
}

fn add(set: &mut BTreeMap<Key, Since>, key: Key, since: Since) {
    let entry = set.entry(key).or_insert(since);
    *entry = earliest(*entry, since);
}

fn earliest(one: Since, other: Since) -> Since {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn changes_are_gathered_until_they_pause_but_not_for_ever() {
        let start = Instant::now();
        let mut pending = Pending::new(Pace::default());
        pending.soon(Key::TRUST, start, start);
        assert_eq!(pending.gathered_at(), Some(start + MS * 10));
        for step in 1..=30 {
            pending.soon(Key::INBOUND, start + MS * step * 5, start + MS * step * 5);
        }
        assert_eq!(pending.gathered_at(), Some(start + MS * 100));
        assert!(!pending.is_due());
        pending.release();
        assert_eq!(pending.gathered_at(), None);
        assert_eq!(pending.pop(), Some((Key::TRUST, Some(start))));
        let first = start + MS * 5;
        assert_eq!(pending.pop(), Some((Key::INBOUND, Some(first))), "the first of its changes");
        assert_eq!(pending.pop(), None);
    }

    #[test]
    fn what_is_due_is_looked_at_once_however_often_it_is_touched() {
        let start = Instant::now();
        let mut pending = Pending::new(Pace::default());
        pending.soon(Key::TRUST, start, start);
        pending.at_once(Key::TRUST, None);
        pending.soon(Key::TRUST, start + MS, start + MS);
        pending.release();
        assert_eq!(pending.pop(), Some((Key::TRUST, Some(start))));
        assert_eq!(pending.pop(), None);
    }

    #[test]
    fn what_was_touched_while_unanswered_is_due_with_the_answer() {
        let start = Instant::now();
        let mut pending = Pending::new(Pace::default());
        pending.when_answered(Key::TRUST, Some(start));
        assert!(!pending.is_due());
        pending.answered(Key::TRUST);
        assert_eq!(pending.pop(), Some((Key::TRUST, Some(start))));
    }
}
