//! What the workers asked for, and the live answers that they hold.
//!
//! Comes in: destinations from data workers, answers and the mesh's scope from the stream. Goes out: a live
//! answer for each worker, and questions for the stream. Held under one short lock that a worker takes once
//! for a destination, so nothing here waits, compiles or touches the network. Bounded: an application that
//! invents names cannot make it grow.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    MeshScope, Resolution, Subscription,
    scope::{Place, place},
};

/// An answer that no worker holds is dropped after this.
pub(super) const IDLE: Duration = Duration::from_secs(60);
/// Answers kept, unless a worker holds them, that name nothing in the mesh or are still awaited.
pub(super) const MAX_NEGATIVE: usize = 4096;

/// What the stream has to do for the workers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Find out what this destination stands for, and keep it current.
    Ask(Arc<str>),
    /// Nobody uses it any more.
    Forget(Arc<str>),
}

#[derive(Debug)]
pub(super) struct Table {
    scope: Option<Arc<MeshScope>>,
    entries: HashMap<Arc<str>, Entry>,
    /// Entries whose answer is not a destination of the mesh.
    negative: usize,
    /// Counts questions: the order of last use.
    turn: u64,
    questions: mpsc::UnboundedSender<Question>,
}

#[derive(Debug)]
struct Entry {
    answer: watch::Sender<Resolution>,
    /// The stream was asked and has not been told to forget.
    asked: bool,
    used: u64,
    idle_since: Option<Instant>,
}

impl Table {
    pub(super) fn new(questions: mpsc::UnboundedSender<Question>) -> Self {
        Self { scope: None, entries: HashMap::new(), negative: 0, turn: 0, questions }
    }

    /// The live answer about `destination`: the one that others hold already, or a new one.
    pub(super) fn resolve(&mut self, destination: &str) -> Subscription<Resolution> {
        self.turn += 1;
        if let Some(entry) = self.entries.get_mut(destination) {
            entry.used = self.turn;
            entry.idle_since = None;
            return entry.answer.subscribe();
        }
        if self.negative >= MAX_NEGATIVE {
            self.evict();
        }
        let (answer, live) = watch::channel(Resolution::Pending);
        let mut entry = Entry { answer, asked: false, used: self.turn, idle_since: None };
        let name: Arc<str> = destination.into();
        if let Some(scope) = &self.scope {
            place_entry(&name, &mut entry, scope, &self.questions);
        }
        self.negative += 1;
        self.entries.insert(name, entry);
        live
    }

    /// The mesh's scope changed: what is outside may be a candidate now, and the reverse.
    pub(super) fn set_scope(&mut self, scope: Arc<MeshScope>) {
        for (name, entry) in &mut self.entries {
            let before = is_negative(&entry.answer);
            place_entry(name, entry, &scope, &self.questions);
            if !before && is_negative(&entry.answer) {
                self.negative += 1;
            }
        }
        self.scope = Some(scope);
    }

    /// A new answer about a destination; one that nobody asks for any more is left.
    pub(super) fn publish(&mut self, destination: &str, resolution: Resolution) {
        let Some(entry) = self.entries.get(destination).filter(|entry| entry.asked) else { return };
        let before = is_negative(&entry.answer);
        entry.answer.send_replace(resolution);
        match (before, is_negative(&entry.answer)) {
            (true, false) => self.negative -= 1,
            (false, true) => self.negative += 1,
            (true, true) | (false, false) => {}
        }
    }

    /// Drops the answers that no worker has held for [`IDLE`].
    pub(super) fn sweep(&mut self, now: Instant) {
        let Self { entries, negative, questions, .. } = self;
        entries.retain(|name, entry| {
            if entry.answer.receiver_count() > 0 {
                entry.idle_since = None;
                return true;
            }
            let since = *entry.idle_since.get_or_insert(now);
            let keep = now.duration_since(since) < IDLE;
            if !keep {
                forget(name, entry, negative, questions);
            }
            keep
        });
    }

    /// Every destination with its newest answer, in the order of their names.
    pub(super) fn answers(&self) -> Vec<(Arc<str>, Resolution)> {
        let mut all: Vec<_> = self
            .entries
            .iter()
            .map(|(name, entry)| (Arc::clone(name), entry.answer.borrow().clone()))
            .collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// Makes room: of the negative answers that nobody holds, a quarter goes, the least recently asked first.
    /// Held ones are bounded by the connections that wait for them.
    fn evict(&mut self) {
        let mut candidates: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| is_negative(&entry.answer) && entry.answer.receiver_count() == 0)
            .map(|(name, entry)| (entry.used, Arc::clone(name)))
            .collect();
        candidates.sort_unstable();
        for (_, name) in candidates.into_iter().take(MAX_NEGATIVE / 4) {
            if let Some(entry) = self.entries.remove(&name) {
                forget(&name, &entry, &mut self.negative, &self.questions);
            }
        }
    }
}

/// Asks for a candidate, answers for what is outside.
fn place_entry(
    name: &Arc<str>,
    entry: &mut Entry,
    scope: &MeshScope,
    questions: &mpsc::UnboundedSender<Question>,
) {
    match (place(name, scope), entry.asked) {
        (Place::Candidate, false) => {
            entry.asked = true;
            if !matches!(*entry.answer.borrow(), Resolution::Pending) {
                entry.answer.send_replace(Resolution::Pending);
            }
            tell(questions, Question::Ask(Arc::clone(name)));
        }
        (Place::Outside, asked) => {
            if asked {
                entry.asked = false;
                tell(questions, Question::Forget(Arc::clone(name)));
            }
            if !matches!(*entry.answer.borrow(), Resolution::Outside) {
                entry.answer.send_replace(Resolution::Outside);
            }
        }
        (Place::Candidate, true) => {}
    }
}

fn forget(
    name: &Arc<str>,
    entry: &Entry,
    negative: &mut usize,
    questions: &mpsc::UnboundedSender<Question>,
) {
    if is_negative(&entry.answer) {
        *negative -= 1;
    }
    if entry.asked {
        tell(questions, Question::Forget(Arc::clone(name)));
    }
}

/// The receiver is gone only when discovery has stopped, with the process.
fn tell(questions: &mpsc::UnboundedSender<Question>, question: Question) {
    let _ = questions.send(question);
}

fn is_negative(answer: &watch::Sender<Resolution>) -> bool {
    !matches!(*answer.borrow(), Resolution::Mesh(_))
}

#[cfg(test)]
mod tests;
