//! Those who wait at one pool for a connection that comes back, or has room again.
//!
//! In comes each such change; out goes one call, to whoever has waited longest and has not looked since, however many
//! wait. Who is called looks once, and says whether there is more: then the next is called. Where nobody waits it costs a
//! look.
//!
//! ```text
//!  joins --> waits --a change--> called --looks--> has it, and is gone
//!              ^                    |       \--nothing that it can use--> waits on, as the first
//!              |                    \--leaves without a look--> the next is called
//! ```
//!
//! What must hold, whenever the worker goes on to something else:
//!
//! 1. While there is something that a request can have, and somebody waits who has not looked since that last changed,
//!    somebody is called who has not looked yet. A change calls one more; and the last who is called, when it looks or
//!    leaves, calls the next while there is something left. So it matters neither who took what a call was for, nor whether
//!    who is called can use it.
//! 2. What is idle is spare ([`Spare`]) once nobody is called. It is told then: by the change that finds nobody to call, or
//!    by the last who is called.
//!
//! Who joins has looked before, or leaves what is there to those who came first. Nobody waits for a call alone: each waits
//! for a place too, for which what is spare is given up.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use super::Spare;

/// Tells those who wait that a connection can be had.
#[derive(Debug)]
pub struct Returns {
    /// By their numbers, which are in the order of arrival.
    line: RefCell<BTreeMap<u64, Waiter>>,
    next_number: Cell<u64>,
    /// How many of them are called.
    called: Cell<usize>,
    changes: Cell<u64>,
    spare: Rc<Spare>,
}

#[derive(Debug)]
struct Waiter {
    is_called: bool,
    /// The last change that it has looked at.
    seen: u64,
    waker: Option<Waker>,
}

/// One who waits. Dropped, it does so no longer.
#[derive(Debug)]
pub struct Awaiting<'a> {
    returns: &'a Returns,
    number: u64,
}

impl Returns {
    /// Of one pool; what nobody waits for there is spare.
    #[must_use]
    pub fn new(spare: Rc<Spare>) -> Self {
        Self {
            line: RefCell::default(),
            next_number: Cell::default(),
            called: Cell::default(),
            changes: Cell::default(),
            spare,
        }
    }

    /// One more waits.
    pub fn join(&self) -> Awaiting<'_> {
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        let waiter = Waiter { is_called: false, seen: self.changes.get(), waker: None };
        self.line.borrow_mut().insert(number, waiter);
        Awaiting { returns: self, number }
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.line.borrow().len()
    }

    /// Whether somebody waits.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.waiting() > 0
    }

    /// Whether somebody is called who has not looked yet: what is idle is not spare.
    #[must_use]
    pub fn is_promised(&self) -> bool {
        self.called.get() > 0
    }

    /// A connection that is in use has room for one more.
    pub fn tell_of_room(&self) {
        self.changes.set(self.changes.get() + 1);
        self.call_next();
    }

    /// Nobody uses a connection now.
    pub fn tell_of_idle(&self) {
        self.tell_of_room();
        if !self.is_promised() {
            self.spare.tell();
        }
    }

    /// Calls whoever has waited longest of those who have not looked since the last change, and are not called yet.
    fn call_next(&self) {
        let changes = self.changes.get();
        let waker = {
            let mut line = self.line.borrow_mut();
            let next = line.values_mut().find(|waiter| !waiter.is_called && waiter.seen < changes);
            let Some(next) = next else { return };
            next.is_called = true;
            next.waker.take()
        };
        self.called.set(self.called.get() + 1);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// One who was called is so no longer. Where it was the last, the next is while there is more.
    fn called_has_ended(&self, has_more: bool) {
        self.called.set(self.called.get() - 1);
        if has_more && !self.is_promised() {
            self.call_next();
        }
    }
}

impl Awaiting<'_> {
    /// Ready when this one is called: then it is to look at once, and to say so ([`Awaiting::has_looked`]). Cancel-safe.
    pub async fn called(&self) {
        poll_fn(|cx| self.poll_called(cx)).await;
    }

    fn poll_called(&self, cx: &Context<'_>) -> Poll<()> {
        let mut line = self.returns.line.borrow_mut();
        match line.get_mut(&self.number) {
            Some(waiter) if !waiter.is_called => {
                waiter.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(_) | None => Poll::Ready(()),
        }
    }

    /// This one has looked, called or not, and there is more that somebody may use, or not.
    pub fn has_looked(&self, has_more: bool) {
        let returns = self.returns;
        let was_called = match returns.line.borrow_mut().get_mut(&self.number) {
            Some(waiter) => {
                waiter.seen = returns.changes.get();
                std::mem::take(&mut waiter.is_called)
            }
            None => false,
        };
        if was_called {
            returns.called_has_ended(has_more);
        }
    }
}

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        let returns = self.returns;
        let waiter = returns.line.borrow_mut().remove(&self.number);
        if waiter.is_some_and(|waiter| waiter.is_called) {
            returns.called_has_ended(true);
            if !returns.is_promised() {
                returns.spare.tell();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker;

    use super::*;

    fn is_called(waiter: &Awaiting<'_>) -> bool {
        waiter.poll_called(&Context::from_waker(&noop_waker())).is_ready()
    }

    /// Those who are called now, by their numbers.
    fn called(line: &[Awaiting<'_>]) -> Vec<usize> {
        (0..line.len()).filter(|number| is_called(&line[*number])).collect()
    }

    fn returns() -> (Rc<Spare>, Returns) {
        let spare = Rc::<Spare>::default();
        (spare.clone(), Returns::new(spare))
    }

    #[test]
    fn each_change_calls_one_of_a_thousand_in_their_order() {
        let (spare, returns) = returns();
        let mut line: Vec<_> = (0..1_000).map(|_| returns.join()).collect();
        assert!(called(&line).is_empty());
        returns.tell_of_idle();
        assert!(returns.is_promised());
        assert_eq!(called(&line), [0]);
        line[0].has_looked(false);
        // It waits on, and is still the first.
        assert!(called(&line).is_empty() && !returns.is_promised());
        returns.tell_of_idle();
        returns.tell_of_room();
        assert_eq!(called(&line), [0, 1]);
        line[0].has_looked(false);
        drop(line.remove(0));
        assert_eq!(called(&line), [0]);
        assert!(!spare.may_be_there());
    }

    #[test]
    fn who_is_called_and_leaves_hands_the_call_on() {
        let (spare, returns) = returns();
        let [first, second, third] = [returns.join(), returns.join(), returns.join()];
        returns.tell_of_room();
        drop(second);
        drop(first);
        assert!(is_called(&third) && !spare.may_be_there());
        third.has_looked(false);
        returns.tell_of_room();
        drop(third);
        assert!(spare.may_be_there() && !returns.is_awaited());
    }

    #[test]
    fn more_than_the_called_can_use_is_offered_to_each_once_and_then_is_spare() {
        let (spare, returns) = returns();
        let line = [returns.join(), returns.join()];
        returns.tell_of_idle();
        for number in 0..2 {
            assert_eq!(called(&line), [number]);
            line[number].has_looked(true);
        }
        assert!(called(&line).is_empty() && !returns.is_promised());
        returns.tell_of_idle();
        drop(line);
        assert!(spare.may_be_there());
    }

    #[test]
    fn what_comes_while_all_are_called_is_left_to_them() {
        let (spare, returns) = returns();
        let [first, second] = [returns.join(), returns.join()];
        for _ in 0..3 {
            returns.tell_of_idle();
        }
        first.has_looked(true);
        drop(first);
        assert!(is_called(&second), "by the second change");
        drop(second);
        assert!(spare.may_be_there());
    }

    #[test]
    fn who_joins_while_another_is_called_is_not_called_for_what_was_there_before() {
        let (_, returns) = returns();
        let first = returns.join();
        returns.tell_of_room();
        let second = returns.join();
        first.has_looked(true);
        assert!(!is_called(&second) && !returns.is_promised());
        returns.tell_of_room();
        assert!(is_called(&first));
    }
}
