//! Tells one worker that a connection of a service is idle which nobody waits for at its pool.
//!
//! In comes each such connection; out goes word of it to whoever gives connections up for those who wait for a place
//! (`pool/bounds.rs`), where anybody does, in whichever worker. Else it costs a look.
//!
//! That there is nothing spare is said by who has looked at all pools, and holds until the next word: so that nobody
//! looks at them in vain for each who begins to wait.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use tokio::sync::Notify;

use crate::policy::gate::Gate;

/// What one worker has of a service that is idle and that nobody waits for.
#[derive(Debug, Default)]
pub struct Spare {
    may_be_there: Cell<bool>,
    told: Notify,
    /// Where connections get their places; `None` where these are not limited.
    gate: RefCell<Option<Arc<Gate>>>,
}

impl Spare {
    /// Connections get their places here from now on.
    pub fn limited_by(&self, gate: &Arc<Gate>) {
        *self.gate.borrow_mut() = Some(Arc::clone(gate));
    }

    /// A connection is idle, and nobody is about to take it.
    pub fn tell(&self) {
        self.may_be_there.set(true);
        if self.gate.borrow().as_ref().is_some_and(|gate| gate.has_line()) {
            self.told.notify_one();
        }
    }

    /// Ready when there is something spare while somebody waits. Cancel-safe; what is told while nobody listens is heard
    /// next.
    pub async fn told(&self) {
        self.told.notified().await;
    }

    /// Whether there may be something spare.
    #[must_use]
    pub fn may_be_there(&self) -> bool {
        self.may_be_there.get()
    }

    /// All pools were looked at, and nothing is spare.
    pub fn none_is_left(&self) {
        self.may_be_there.set(false);
    }
}
