//! One timer for a connection's whole life: a deadline that moves later costs nothing.
//!
//! Deadlines are set for every request and seldom reached. The runtime's timer is touched only when it fires,
//! or when a deadline is nearer than it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use crate::clock::{Instant, Sleep, sleep_until};

/// A deadline that can be moved.
#[derive(Debug, Default)]
pub(super) struct Timer {
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Sets the deadline, whatever it was.
    pub(super) fn set(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
        match &mut self.sleep {
            Some(sleep) if deadline < sleep.deadline() => sleep.as_mut().reset(deadline),
            Some(_) => {}
            None => self.sleep = Some(Box::pin(sleep_until(deadline))),
        }
    }

    /// Whether there is a deadline.
    pub(super) const fn is_set(&self) -> bool {
        self.deadline.is_some()
    }

    /// Ready when the deadline has passed; pending without one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(deadline), Some(sleep)) = (self.deadline, &mut self.sleep) else {
            return Poll::Pending;
        };
        while sleep.deadline() < deadline {
            ready!(sleep.as_mut().poll(cx));
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_moves_both_ways() {
        let began = clock::now();
        let mut timer = Timer::default();
        for seconds in [10, 5, 30, 31] {
            timer.set(began + Duration::from_secs(seconds));
        }
        poll_fn(|cx| timer.poll(cx)).await;
        assert_eq!(began.elapsed().as_secs(), 31);
        timer.set(clock::now() + Duration::from_secs(2));
        poll_fn(|cx| timer.poll(cx)).await;
        assert_eq!(began.elapsed().as_secs(), 33);
        timer.set(clock::now() + Duration::from_secs(100));
        timer.set(clock::now() + Duration::from_secs(1));
        poll_fn(|cx| timer.poll(cx)).await;
        assert_eq!(began.elapsed().as_secs(), 34);
    }
}
