//! Finds out that a peer has gone without a word: its machine lost, its network cut.
//!
//! In come a connection and whether it has streams; out comes that the peer is dead, once it left a PING unanswered.
//! Without streams nothing is asked: a connection at rest costs no packets and no wake-ups, and its own timeout ends
//! it. Only what was asked before the rest is waited for.
//!
//! ```text
//! Quiet --interval, with streams--> Asked --pong--> Quiet
//!                                   Asked --interval--> dead
//! ```
//!
//! The interval begins anew with the first stream after a rest, but not where the peer was silent before the rest:
//! requests that give up sooner than a PING would go out must not keep a dead connection in use, one after the other.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::connection::Connection;
use crate::clock::{self, Sleep};

/// Asks a connection's peer now and then whether it lives.
pub(super) struct KeepAlive {
    connection: Rc<Connection>,
    interval: Duration,
    timer: Pin<Box<Sleep>>,
    asked: bool,
    /// The peer was heard of since the timer was started.
    heard: bool,
    /// There were streams at the last look: the timer has run all the time since.
    active: bool,
}

impl KeepAlive {
    pub(super) fn new(connection: Rc<Connection>, interval: Duration) -> Self {
        let timer = Box::pin(clock::sleep(interval));
        Self { connection, interval, timer, asked: false, heard: true, active: false }
    }

    /// Ready when the peer is dead. To be called whenever the connection was polled.
    pub(super) fn poll_dead(&mut self, active: bool, cx: &mut Context<'_>) -> Poll<()> {
        let resumed = active && !self.active;
        self.active = active;
        self.heard |= self.connection.take_heard();
        if self.asked && self.connection.take_pong() {
            self.asked = false;
            self.restart();
        } else if resumed && self.heard && !self.asked {
            self.restart();
        }
        if !active && !self.asked {
            return Poll::Pending;
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.asked {
                return Poll::Ready(());
            }
            self.connection.send_ping();
            self.asked = true;
            self.restart();
        }
    }

    fn restart(&mut self) {
        self.heard = false;
        self.timer.as_mut().reset(clock::now() + self.interval);
    }
}
