//! A future that stands beside a busy one, polled only when it was itself woken.
//!
//! Comes in: a future that waits for what rarely happens, such as a change of policy, in a task that is woken for each
//! request. Goes out: the same future, which costs a look at a flag on all polls that are not its own.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// See the module's documentation. Cancel-safe as the future in it is.
pub(crate) struct Seldom<'a, F> {
    future: Pin<&'a mut F>,
    bell: Arc<Bell>,
    waker: Waker,
}

/// What wakes the future, and through it its task.
#[derive(Debug)]
struct Bell {
    rang: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<'a, F: Future> Seldom<'a, F> {
    /// Nothing is polled yet.
    pub(crate) fn new(future: Pin<&'a mut F>) -> Self {
        let bell = Arc::new(Bell { rang: AtomicBool::new(true), task: AtomicWaker::new() });
        let waker = Waker::from(bell.clone());
        Self { future, bell, waker }
    }
}

impl<F: Future> Future for Seldom<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // The task first: who rings after the look at the bell wakes it.
        self.bell.task.register(cx.waker());
        if !self.bell.rang.swap(false, Ordering::Acquire) {
            return Poll::Pending;
        }
        let this = &mut *self;
        this.future.as_mut().poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::poll_fn, pin::pin};

    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_when_it_was_woken_and_not_when_others_were() {
        let (sender, mut receiver) = watch::channel(0);
        let polls = Cell::new(0);
        let waits = async { receiver.wait_for(|value| *value == 2).await.map(|value| *value) };
        let mut waits = pin!(waits);
        let mut counted = pin!(poll_fn(|cx| {
            polls.set(polls.get() + 1);
            waits.as_mut().poll(cx)
        }));
        let mut seldom = Seldom::new(counted.as_mut());
        for _ in 0..5 {
            assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut seldom).poll(cx))).await.is_pending());
        }
        assert_eq!(polls.get(), 1);
        sender.send_replace(1);
        for _ in 0..5 {
            assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut seldom).poll(cx))).await.is_pending());
        }
        assert_eq!(polls.get(), 2);
        let sends = async {
            tokio::task::yield_now().await;
            sender.send_replace(2);
        };
        let (seen, ()) = tokio::join!(seldom, sends);
        assert_eq!(seen.expect("it lives"), 2);
    }
}
