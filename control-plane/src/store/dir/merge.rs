//! Which of all files' objects are in force: the first of each name. Pure.

use std::{collections::BTreeMap, sync::Arc};

use super::files::FileName;
use crate::model::{Object, ObjectKey};

/// An object in a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    pub(super) object: Arc<Object>,
    /// From 1; 0 when it was not read from the file as it is now.
    pub(super) line: usize,
}

/// The objects in force, and where each stands.
#[derive(Debug, Default)]
pub(super) struct Merged<'a> {
    pub(super) in_force: BTreeMap<ObjectKey, (&'a FileName, &'a Placed)>,
    /// Those that stand in a later place too: which, where, and where they are in force.
    pub(super) shadowed: Vec<Shadowed<'a>>,
}

/// An object that another of the same name hides.
#[derive(Debug)]
pub(super) struct Shadowed<'a> {
    pub(super) key: ObjectKey,
    pub(super) file: &'a FileName,
    pub(super) line: usize,
    pub(super) by: &'a FileName,
}

/// Merges files in their order.
pub(super) fn merge<'a>(files: impl Iterator<Item = (&'a FileName, &'a [Placed])>) -> Merged<'a> {
    let mut merged = Merged::default();
    for (file, objects) in files {
        for placed in objects {
            let key = placed.object.key();
            match merged.in_force.get(&key) {
                Some((by, _)) => {
                    let by = *by;
                    merged.shadowed.push(Shadowed { key, file, line: placed.line, by });
                }
                None => {
                    merged.in_force.insert(key, (file, placed));
                }
            }
        }
    }
    merged
}
