//! Which files hold an object, and which of them counts: the first. What a broken file holds counts behind every good
//! one: a mistake must not displace what is right. Pure; a change costs O(log n).

use std::collections::{BTreeMap, BTreeSet};

use super::files::FileName;
use crate::model::ObjectKey;

/// Where every object stands.
#[derive(Debug, Default)]
pub(super) struct Places {
    files: BTreeMap<ObjectKey, BTreeSet<Rank>>,
    /// Objects that stand in several files.
    shadowed: BTreeSet<ObjectKey>,
}

/// A file's place among those that hold an object: first the good ones, each sort by name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    of_broken: bool,
    file: FileName,
}

impl Places {
    /// The object stands in this file, too; `of_broken` when the file is broken and never was right with it.
    pub(super) fn add(&mut self, key: ObjectKey, file: &FileName, of_broken: bool) {
        let files = self.files.entry(key.clone()).or_default();
        files.remove(&Rank { of_broken: !of_broken, file: file.clone() });
        files.insert(Rank { of_broken, file: file.clone() });
        if files.len() > 1 {
            self.shadowed.insert(key);
        }
    }

    /// The object does not stand in this file any more.
    pub(super) fn remove(&mut self, key: &ObjectKey, file: &FileName) {
        let Some(files) = self.files.get_mut(key) else { return };
        for of_broken in [false, true] {
            files.remove(&Rank { of_broken, file: file.clone() });
        }
        if files.len() < 2 {
            self.shadowed.remove(key);
        }
        if files.is_empty() {
            self.files.remove(key);
        }
    }

    /// The file whose word counts for an object.
    pub(super) fn in_force(&self, key: &ObjectKey) -> Option<&FileName> {
        self.files.get(key)?.first().map(|rank| &rank.file)
    }

    /// Each object that stands in a file that does not count: the object, that file, the one that counts.
    pub(super) fn shadowed(&self) -> impl Iterator<Item = (&ObjectKey, &FileName, &FileName)> {
        self.shadowed.iter().flat_map(|key| {
            let mut files = self.files.get(key).into_iter().flatten().map(|rank| &rank.file);
            let first = files.next();
            files.filter_map(move |file| Some((key, file, first?)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    #[test]
    fn files_made_by_hand_count_before_the_apis_and_then_by_name() {
        let key = ObjectKey::new(Kind::Service, "shop", "cart");
        let file = |managed, name: &str| FileName { managed, name: name.into() };
        let (managed, a, b) = (file(true, "0.yaml"), file(false, "a.yaml"), file(false, "b.yaml"));
        let mut places = Places::default();
        for file in [&managed, &b, &a] {
            places.add(key.clone(), file, false);
        }
        assert_eq!(places.in_force(&key), Some(&a));
        let shadowed: Vec<_> = places.shadowed().map(|(_, file, by)| (file, by)).collect();
        assert_eq!(shadowed, [(&b, &a), (&managed, &a)]);
        places.remove(&key, &a);
        assert_eq!(places.in_force(&key), Some(&b));
        places.remove(&key, &b);
        assert_eq!((places.in_force(&key), places.shadowed().count()), (Some(&managed), 0));
        places.remove(&key, &managed);
        assert_eq!(places.in_force(&key), None);
    }

    #[test]
    fn what_a_broken_file_holds_counts_behind_every_good_one() {
        let key = ObjectKey::new(Kind::AccessPolicy, "shop", "who");
        let file = |managed, name: &str| FileName { managed, name: name.into() };
        let (a, managed) = (file(false, "a.yaml"), file(true, "0.yaml"));
        let mut places = Places::default();
        places.add(key.clone(), &a, true);
        assert_eq!(places.in_force(&key), Some(&a));
        places.add(key.clone(), &managed, false);
        assert_eq!(places.in_force(&key), Some(&managed));
        places.add(key.clone(), &a, false);
        assert_eq!((places.in_force(&key), places.shadowed().count()), (Some(&a), 1));
        places.add(key.clone(), &a, true);
        places.remove(&key, &a);
        assert_eq!((places.in_force(&key), places.shadowed().count()), (Some(&managed), 0));
    }
}
