//! Finds out that a peer has gone without a word: its machine lost, its network cut.
//!
//! In come a connection's pings and whether it has streams; out comes that the peer is dead, once it left a
//! PING unanswered. Without streams nothing is asked: a connection at rest costs no packets and no wake-ups,
//! and its own timeout ends it.
//!
//! ```text
//! Quiet --interval, with streams--> Asked --pong--> Quiet
//!                                   Asked --interval, with streams--> dead
//! ```

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use h2::{Ping, PingPong};

use crate::clock::{self, Sleep};

/// Asks a connection's peer now and then whether it lives.
pub(super) struct KeepAlive {
    pings: PingPong,
    interval: Duration,
    timer: Pin<Box<Sleep>>,
    asked: bool,
    /// There were streams at the last look: the timer has run all the time since.
    active: bool,
}

impl KeepAlive {
    /// `pings` as the connection gives them, once; `None` where somebody else has them.
    pub(super) fn new(pings: Option<PingPong>, interval: Duration) -> Option<Self> {
        let timer = Box::pin(clock::sleep(interval));
        pings.map(|pings| Self { pings, interval, timer, asked: false, active: false })
    }

    /// Ready when the peer is dead. To be called whenever the connection was polled.
    pub(super) fn poll_dead(&mut self, active: bool, cx: &mut Context<'_>) -> Poll<()> {
        let resumed = active && !self.active;
        self.active = active;
        if !active {
            return Poll::Pending;
        }
        if self.asked && self.pings.poll_pong(cx).is_ready() {
            self.asked = false;
            self.restart();
        } else if resumed {
            self.restart();
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.asked {
                return Poll::Ready(());
            }
            // Fails on a connection that is closing, which ends by itself.
            self.asked = self.pings.send_ping(Ping::opaque()).is_ok();
            if self.asked && self.pings.poll_pong(cx).is_ready() {
                self.asked = false;
            }
            self.restart();
        }
    }

    fn restart(&mut self) {
        self.timer.as_mut().reset(clock::now() + self.interval);
    }
}
