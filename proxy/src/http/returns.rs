//! Tells those who wait for a connection that one has come back, or has room again.
//!
//! One is shared by the pools of a service in a worker. Where nobody waits it costs a look. Who waits elsewhere for the
//! place of a connection hears of it when nobody here does.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use tokio::sync::Notify;

use crate::policy::gate::Gate;

/// Tells those who wait that a connection can be had.
#[derive(Debug, Default)]
pub struct Returns {
    waiting: Cell<u32>,
    one: Notify,
    /// Where connections get their places.
    gate: RefCell<Option<Arc<Gate>>>,
}

impl Returns {
    /// Ready when the next connection comes back. Cancel-safe.
    pub async fn next(&self) {
        let _waiting = Waiting::at(self);
        self.one.notified().await;
    }

    /// Whether somebody here waits.
    #[must_use]
    pub fn are_awaited(&self) -> bool {
        self.waiting.get() > 0
    }

    /// Connections get their places here from now on.
    pub fn limited_by(&self, gate: &Arc<Gate>) {
        *self.gate.borrow_mut() = Some(Arc::clone(gate));
    }

    /// A connection has come back, or a stream on one.
    pub fn tell(&self) {
        if self.are_awaited() {
            self.one.notify_waiters();
        } else {
            self.tell_elsewhere();
        }
    }

    fn tell_elsewhere(&self) {
        if let Some(gate) = &*self.gate.borrow()
            && gate.has_line()
        {
            gate.call();
        }
    }
}

/// Counts one who waits.
struct Waiting<'a>(&'a Returns);

impl<'a> Waiting<'a> {
    fn at(returns: &'a Returns) -> Self {
        returns.waiting.set(returns.waiting.get() + 1);
        Self(returns)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
        // What came back for somebody who has left meanwhile is nobody's here.
        if !self.0.are_awaited() {
            self.0.tell_elsewhere();
        }
    }
}
