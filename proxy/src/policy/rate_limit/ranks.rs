//! Places in a line, and how many of them come before one: in logarithmic time, whatever the line's length.
//!
//! A treap: a search tree by place, and a heap by a number that is mixed from the place. So its shape follows from what
//! is in it, and no order in which places come and go makes it deep, unless somebody chooses the places: these are
//! counted up here, not said by clients. It must never hold a place twice.

/// When it is somebody's turn, and who of equals came first.
pub(super) type Place = (u64, u64);

/// A set of places.
#[derive(Debug, Default)]
pub(super) struct Ranks(Tree);

type Tree = Option<Box<Node>>;

#[derive(Debug)]
struct Node {
    place: Place,
    /// In the tree of which it is the root.
    count: usize,
    before: Tree,
    after: Tree,
}

impl Ranks {
    /// Adds a place that is not there.
    pub(super) fn insert(&mut self, place: Place) {
        let (before, after) = split(self.0.take(), place);
        let node = Box::new(Node { place, count: 1, before: None, after: None });
        self.0 = join(join(before, Some(node)), after);
    }

    /// Takes a place out, if it is there.
    pub(super) fn remove(&mut self, place: Place) {
        let (before, rest) = split(self.0.take(), place);
        let (_, after) = split(rest, (place.0, place.1.saturating_add(1)));
        self.0 = join(before, after);
    }

    /// How many come before this one, which need not be there.
    pub(super) fn before(&self, place: Place) -> usize {
        let (mut tree, mut passed) = (&self.0, 0);
        while let Some(node) = tree {
            tree = if node.place < place {
                passed += 1 + count(&node.before);
                &node.after
            } else {
                &node.before
            };
        }
        passed
    }
}

impl Node {
    fn counted(mut self: Box<Self>) -> Tree {
        self.count = 1 + count(&self.before) + count(&self.after);
        Some(self)
    }

    const fn priority(&self) -> u64 {
        mix(self.place.0 ^ mix(self.place.1))
    }
}

fn count(tree: &Tree) -> usize {
    tree.as_ref().map_or(0, |node| node.count)
}

/// What lies before a place, and the rest.
fn split(tree: Tree, place: Place) -> (Tree, Tree) {
    let Some(mut node) = tree else { return (None, None) };
    if node.place < place {
        let (before, rest) = split(node.after.take(), place);
        node.after = before;
        (node.counted(), rest)
    } else {
        let (before, rest) = split(node.before.take(), place);
        node.before = rest;
        (before, node.counted())
    }
}

/// One tree of two, of which one lies before the other.
fn join(before: Tree, after: Tree) -> Tree {
    match (before, after) {
        (None, tree) | (tree, None) => tree,
        (Some(mut left), Some(right)) if left.priority() > right.priority() => {
            left.after = join(left.after.take(), Some(right));
            left.counted()
        }
        (Some(left), Some(mut right)) => {
            right.before = join(Some(left), right.before.take());
            right.counted()
        }
    }
}

/// Spreads numbers that follow each other (the finalizer of SplitMix64).
const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn depth(tree: &Tree) -> usize {
        tree.as_ref().map_or(0, |node| 1 + depth(&node.before).max(depth(&node.after)))
    }

    proptest! {
        #[test]
        fn as_many_come_before_a_place_as_are_less(
            changes in prop::collection::vec((any::<bool>(), 0..6_u64, 0..12_u64), 1..200),
        ) {
            let (mut ranks, mut all) = (Ranks::default(), BTreeSet::new());
            for (comes, turn, ticket) in changes {
                let place = (turn, ticket);
                if !comes {
                    all.remove(&place);
                    ranks.remove(place);
                } else if all.insert(place) {
                    ranks.insert(place);
                }
                prop_assert_eq!(count(&ranks.0), all.len());
                for asked in [place, (turn, u64::MAX), (0, 0)] {
                    prop_assert_eq!(ranks.before(asked), all.range(..asked).count());
                }
            }
        }
    }

    #[test]
    fn places_that_come_in_order_make_no_deep_tree() {
        let mut ranks = Ranks::default();
        for ticket in 0..1024 {
            ranks.insert((ticket / 100, ticket));
        }
        assert!(depth(&ranks.0) < 40, "{}", depth(&ranks.0));
    }
}
