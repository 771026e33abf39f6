//! Graceful stop: one word, said once, that every connection hears.
//!
//! What comes in is the order to stop; what goes out is that every holder of a [`Drain`] knows it at once and
//! finishes by its protocol's means: `Connection: close`, GOAWAY, time for opaque connections. It never ends
//! anything by itself; who gave the order also bounds how long it waits.
//!
//! Every idle connection waits for it, so that waiting takes a few words of memory, and a poll in vain two looks.

use std::{
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// Gives the order to stop. Dropping it without the order stops nobody.
#[derive(Debug)]
pub struct DrainTrigger(Arc<Order>);

/// Hears the order to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Drain {
    order: Arc<Order>,
    /// A second order, to one connection alone.
    own: Option<Arc<Order>>,
}

#[derive(Debug, Default)]
struct Order {
    given: AtomicBool,
    ears: Mutex<Ears>,
}

/// Those who wait for an order, each in a seat that is taken again after it.
#[derive(Debug, Default)]
struct Ears {
    seats: Vec<Option<Waker>>,
    free: Vec<u32>,
}

/// A trigger and what hears it.
#[must_use]
pub fn channel() -> (DrainTrigger, Drain) {
    let order = Arc::<Order>::default();
    (DrainTrigger(order.clone()), Drain { order, own: None })
}

impl DrainTrigger {
    /// Gives the order. Saying it again changes nothing.
    pub fn start(&self) {
        self.0.give();
    }

    /// Another ear.
    #[must_use]
    pub fn drain(&self) -> Drain {
        Drain { order: self.0.clone(), own: None }
    }
}

impl Drain {
    /// What hears this order and one of its own.
    #[must_use]
    pub fn with_own(&self) -> (DrainTrigger, Self) {
        let own = Arc::<Order>::default();
        (DrainTrigger(own.clone()), Self { order: self.order.clone(), own: Some(own) })
    }

    /// Whether an order was given.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.order.is_given() || self.own.as_ref().is_some_and(|own| own.is_given())
    }

    /// Waits for the first order; for ever when it can no longer come. Cancel-safe.
    pub const fn started(&self) -> Started<'_> {
        Started { drain: self, waker: None, seat: 0, own_seat: 0 }
    }
}

/// See [`Drain::started`]. May be polled again after it was ready.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Started<'a> {
    drain: &'a Drain,
    /// Who sits in both seats.
    waker: Option<Waker>,
    seat: u32,
    own_seat: u32,
}

impl Future for Started<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.drain.is_draining() {
            return Poll::Ready(());
        }
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.leave();
            self.sit_down(cx.waker());
            // An order that was given before that has not seen this one sit.
            if self.drain.is_draining() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

impl Started<'_> {
    fn sit_down(&mut self, waker: &Waker) {
        self.seat = self.drain.order.ears().sit_down(waker);
        if let Some(own) = &self.drain.own {
            self.own_seat = own.ears().sit_down(waker);
        }
        self.waker = Some(waker.clone());
    }

    fn leave(&mut self) {
        if self.waker.take().is_none() {
            return;
        }
        self.drain.order.leave(self.seat);
        if let Some(own) = &self.drain.own {
            own.leave(self.own_seat);
        }
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Order {
    fn is_given(&self) -> bool {
        self.given.load(Ordering::Acquire)
    }

    fn give(&self) {
        self.given.store(true, Ordering::Release);
        let seated: Vec<Waker> = self.ears().seats.iter_mut().filter_map(Option::take).collect();
        // Not under the lock: who is woken may leave at once.
        seated.into_iter().for_each(Waker::wake);
    }

    /// No code panics while it holds the lock.
    fn ears(&self) -> MutexGuard<'_, Ears> {
        self.ears.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, seat: u32) {
        let gone = self.ears().leave(seat);
        // Not under the lock either: the last handle of a task drops the task.
        drop(gone);
    }
}

impl Ears {
    fn sit_down(&mut self, waker: &Waker) -> u32 {
        let waker = Some(waker.clone());
        if let Some(seat) = self.free.pop() {
            self.seats[seat as usize] = waker;
            return seat;
        }
        self.seats.push(waker);
        u32::try_from(self.seats.len() - 1).expect("no process has so many connections")
    }

    fn leave(&mut self, seat: u32) -> Option<Waker> {
        self.free.push(seat);
        let waker = self.seats.get_mut(seat as usize).and_then(Option::take);
        if self.free.len() == self.seats.len() {
            // A crowd has gone: its seats go too.
            drop((mem::take(&mut self.seats), mem::take(&mut self.free)));
        }
        waker
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicU32, task::Wake};

    use futures_util::FutureExt;

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn everybody_hears_the_order_also_who_asks_late() {
        let (trigger, drain) = channel();
        let early = drain.clone();
        assert!(!drain.is_draining());
        assert!(early.started().now_or_never().is_none());
        trigger.start();
        assert!(early.is_draining());
        early.started().await;
        trigger.drain().started().await;
    }

    #[tokio::test]
    async fn an_own_order_concerns_nobody_else() {
        let (trigger, drain) = channel();
        let (own, one) = drain.with_own();
        let (_kept, other) = drain.with_own();
        own.start();
        one.started().await;
        assert!(one.is_draining());
        assert!(!drain.is_draining() && !other.is_draining());
        assert!(other.started().now_or_never().is_none());
        trigger.start();
        other.started().await;
        assert!(other.is_draining());
    }

    #[tokio::test]
    async fn who_stops_waiting_leaves_a_seat_for_the_next() {
        let (trigger, drain) = channel();
        let seats = || drain.order.ears().seats.len();
        let mut cx = Context::from_waker(Waker::noop());
        let mut waiting: Vec<_> = (0..3).map(|_| drain.started()).collect();
        for one in waiting.iter_mut().chain([&mut drain.started()]) {
            assert!(Pin::new(&mut *one).poll(&mut cx).is_pending());
            assert!(Pin::new(one).poll(&mut cx).is_pending(), "it sits already");
        }
        assert_eq!(seats(), 4);
        drop(waiting.remove(1));
        assert!(drain.started().now_or_never().is_none());
        let mut next = drain.started();
        assert!(Pin::new(&mut next).poll(&mut cx).is_pending());
        assert_eq!(seats(), 4, "in the place of those who left");
        trigger.start();
        assert!(waiting.iter_mut().all(|one| Pin::new(one).poll(&mut cx).is_ready()));
        drop((waiting, next));
        assert_eq!(seats(), 0);
    }

    #[tokio::test]
    async fn who_is_polled_by_another_task_is_woken_there_by_either_order() {
        for by_own in [false, true] {
            let (trigger, drain) = channel();
            let (own, drain) = drain.with_own();
            let counts = [(); 2].map(|()| Arc::new(Count::default()));
            let mut waiting = drain.started();
            for count in &counts {
                let waker = Waker::from(count.clone());
                let mut cx = Context::from_waker(&waker);
                assert!(Pin::new(&mut waiting).poll(&mut cx).is_pending());
            }
            if by_own {
                own.start()
            } else {
                trigger.start()
            }
            assert_eq!(counts.map(|count| count.0.load(Ordering::Relaxed)), [0, 1]);
        }
    }

    #[tokio::test]
    async fn a_dropped_trigger_is_no_order() {
        let (trigger, drain) = channel();
        drop(trigger);
        assert!(drain.started().now_or_never().is_none());
        assert!(!drain.is_draining());
    }
}
