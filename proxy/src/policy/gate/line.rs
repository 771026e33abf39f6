//! Those who wait at a gate, in the order of arrival.
//!
//! In comes who lines up, and who leaves; out goes whoever has waited longest. No step looks at all who wait, however
//! many these are: who leaves keeps its place, empty, until it is the first one or half of the places are empty. So the
//! first place is never empty.
//!
//! Who waits is counted apart from the places: several may wait together for what one place brings. The line must never
//! count somebody who has left.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::{Holder, Turn};

/// A line.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// By their numbers.
    places: VecDeque<Place>,
    next_number: u64,
    empty: usize,
    pending: usize,
    /// Places that were looked at for being empty, by any step so far.
    #[cfg(test)]
    looked_at: usize,
}

#[derive(Debug)]
struct Place {
    number: u64,
    /// `None` when it is empty.
    sender: Option<oneshot::Sender<Turn>>,
    /// Who has something that would do instead of a turn, if anybody.
    served_by: Option<Holder>,
    is_counted: bool,
}

impl Line {
    /// How many places somebody has.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.empty
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many wait, be it for a turn of their own or with others.
    pub(super) const fn pending(&self) -> usize {
        self.pending
    }

    /// One more waits with others.
    pub(super) const fn join(&mut self) {
        self.pending += 1;
    }

    /// One who waited with others does so no longer.
    pub(super) const fn part(&mut self) {
        self.pending -= 1;
    }

    /// A place at the end, with its number. Those whom it is for are counted by it, or count themselves.
    pub(super) fn line_up(
        &mut self,
        served_by: Option<Holder>,
        is_counted: bool,
    ) -> (u64, oneshot::Receiver<Turn>) {
        let (sender, receiver) = oneshot::channel();
        let number = self.next_number;
        self.next_number += 1;
        self.pending += usize::from(is_counted);
        self.places.push_back(Place { number, sender: Some(sender), served_by, is_counted });
        (number, receiver)
    }

    /// Takes out whoever has waited longest.
    pub(super) fn serve(&mut self) -> Option<oneshot::Sender<Turn>> {
        let first = self.places.pop_front()?;
        self.pending -= usize::from(first.is_counted);
        self.close_up();
        first.sender
    }

    /// Who would do as well as a turn for whoever has waited longest; `None` where nobody waits.
    pub(super) fn first_is_served_by(&self) -> Option<Option<Holder>> {
        self.places.front().map(|first| first.served_by)
    }

    /// The place of this number is left, where it was not served.
    pub(super) fn leave(&mut self, number: u64) {
        let Ok(index) = self.places.binary_search_by_key(&number, |place| place.number) else {
            return;
        };
        let place = &mut self.places[index];
        place.sender = None;
        self.pending -= usize::from(place.is_counted);
        self.empty += 1;
        self.close_up();
    }

    /// Takes away empty places in front, and all where they are many: each once, so that it costs those who left.
    fn close_up(&mut self) {
        while self.places.front().is_some_and(|first| first.sender.is_none()) {
            self.places.pop_front();
            self.empty -= 1;
            #[cfg(test)]
            {
                self.looked_at += 1;
            }
        }
        if self.empty * 2 > self.places.len() {
            #[cfg(test)]
            {
                self.looked_at += self.places.len();
            }
            self.places.retain(|place| place.sender.is_some());
            self.empty = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_costs_those_who_leave_and_not_those_who_wait() {
        let mut line = Line::default();
        let waiting: Vec<_> = (0..1_000).map(|_| line.line_up(None, true)).collect();
        // From the end, so that no empty place is the first one.
        for (number, receiver) in waiting.into_iter().rev().take(900) {
            drop(receiver);
            line.leave(number);
        }
        assert_eq!((line.len(), line.pending()), (100, 100));
        assert!(line.looked_at <= 2 * 900, "{}", line.looked_at);
        let looked_at = line.looked_at;
        for _ in 0..100 {
            assert!(line.serve().is_some());
        }
        assert!(line.serve().is_none() && line.is_empty());
        assert!(line.looked_at - looked_at <= 1_000, "{}", line.looked_at);
        line.leave(0);
        assert_eq!((line.len(), line.pending()), (0, 0), "it was served");
    }

    #[test]
    fn who_waits_with_others_is_counted_apart_from_the_place() {
        let mut line = Line::default();
        let (shared, _turn) = line.line_up(None, false);
        line.join();
        line.join();
        assert_eq!((line.len(), line.pending()), (1, 2));
        line.leave(shared);
        assert_eq!((line.len(), line.pending()), (0, 2));
        line.part();
        line.part();
        assert_eq!(line.pending(), 0);
    }
}
