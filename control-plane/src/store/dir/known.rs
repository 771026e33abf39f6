//! A file as it was last read: its text comes in, its objects stay; and stay, too, when the next text is
//! broken. Of a broken text only what guards access is taken in, where nothing was known of it before: as it is, or
//! as what stands for it (`model::stand_in`). Pure.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use super::{files::Look, stamp::same};
use crate::model::{
    Object, ObjectKey, Parsed,
    guards::{Guards, guarding},
    parse_documents,
};

/// A file, as last read.
#[derive(Debug, Default)]
pub(super) struct KnownFile {
    /// How it looked then.
    pub(super) look: Option<Look>,
    /// What it said when it was last right.
    pub(super) objects: BTreeMap<ObjectKey, Placed>,
    /// What is wrong with it now.
    pub(super) problems: Vec<String>,
}

/// An object in a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    pub(super) object: Arc<Object>,
    /// From 1; 0 when it was not read from the file as it is now.
    pub(super) line: usize,
    /// The text was broken: it is no last good state.
    pub(super) of_broken: bool,
}

impl Placed {
    fn remembered(object: &Arc<Object>) -> Self {
        Self { object: Arc::clone(object), line: 0, of_broken: false }
    }
}

impl KnownFile {
    /// A file of which only its last good state is known.
    pub(super) fn remembered(objects: &[Arc<Object>]) -> Self {
        let placed = |object: &Arc<Object>| (object.key(), Placed::remembered(object));
        Self { objects: objects.iter().map(placed).collect(), ..Self::default() }
    }

    /// Takes a text in, if it is right. Which objects are new, different or gone. `shown` is what people
    /// call the file.
    pub(super) fn take_in(&mut self, shown: &str, text: &str) -> BTreeSet<ObjectKey> {
        let (parsed, errors): (Vec<_>, Vec<_>) =
            parse_documents(shown, text).into_iter().partition(Result::is_ok);
        self.problems = errors.into_iter().filter_map(Result::err).map(|e| e.to_string()).collect();
        if !self.problems.is_empty() {
            return self.guard(guarding(text));
        }
        let now = self.place(shown, parsed.into_iter().flatten());
        let before = std::mem::take(&mut self.objects);
        let mut touched = BTreeSet::new();
        for (key, mut placed) in now {
            match before.get(&key) {
                Some(old) if !old.of_broken && same(&old.object, &placed.object) => {
                    placed.object = Arc::clone(&old.object);
                }
                _ => {
                    touched.insert(key.clone());
                }
            }
            self.objects.insert(key, placed);
        }
        touched.extend(before.into_keys().filter(|key| !self.objects.contains_key(key)));
        touched
    }

    /// Takes in what guards access in a broken text. Which objects are new, different or gone. Where a part of the text
    /// could not be read, none is gone: it may stand there.
    fn guard(&mut self, found: Guards) -> BTreeSet<ObjectKey> {
        let guards: BTreeMap<ObjectKey, Object> =
            found.objects.into_iter().map(|guard| (guard.key(), guard)).collect();
        let mut touched = BTreeSet::new();
        self.objects.retain(|key, placed| {
            let stays = !placed.of_broken || !found.whole || guards.contains_key(key);
            if !stays {
                touched.insert(key.clone());
            }
            stays
        });
        for (key, guard) in guards {
            let known = self.objects.get(&key);
            if known.is_none_or(|known| known.of_broken && !same(&known.object, &guard)) {
                let placed = Placed { object: Arc::new(guard), line: 0, of_broken: true };
                self.objects.insert(key.clone(), placed);
                touched.insert(key);
            }
        }
        touched
    }

    /// Of an object that stands twice, the first counts.
    fn place(
        &mut self,
        shown: &str,
        parsed: impl Iterator<Item = Parsed>,
    ) -> BTreeMap<ObjectKey, Placed> {
        let mut objects: BTreeMap<ObjectKey, Placed> = BTreeMap::new();
        for Parsed { object, line } in parsed {
            match objects.entry(object.key()) {
                Entry::Vacant(free) => {
                    free.insert(Placed { object: Arc::new(object), line, of_broken: false });
                }
                Entry::Occupied(first) => self.problems.push(shadowed(
                    first.key(),
                    &format!("{shown}:{line}"),
                    &format!("{shown}:{}", first.get().line),
                )),
            }
        }
        objects
    }
}

/// That an object stands in two places.
pub(super) fn shadowed(key: &ObjectKey, place: &str, by: &str) -> String {
    format!("{place}: {key} stands in {by} already, which is in force: remove one of them")
}
