//! Who goes on with a connection that the kernel does not take bytes from, or that lingers after its last handle.
//!
//! In comes a connection; out comes nothing but its progress. Each has one task of its own while it needs one,
//! so a wake-up costs the same however many are blocked. The task must be `Send` to be spawned on any kind of
//! current-thread runtime, so it names its connection by a number that only this thread can look up.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::runtime::Handle;

use super::{LINGER, connection::Connection};
use crate::clock::{self, Sleep};

thread_local! {
    static DRIVEN: RefCell<HashMap<u64, Rc<Connection>>> = RefCell::default();
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

/// Gives the connection a driver. Where there is no runtime any more, nothing can be done for it.
pub(super) fn spawn(connection: &Rc<Connection>) {
    let Ok(runtime) = Handle::try_current() else { return };
    let number = NEXT.replace(NEXT.get() + 1);
    DRIVEN.with(|driven| driven.borrow_mut().insert(number, Rc::clone(connection)));
    connection.set_driven(true);
    // Owned by the connection's numbers: it ends when the connection is drained, fails, or has lingered enough.
    runtime.spawn(Drive { number, deadline: None });
}

/// How many connections of this thread have a driver now.
#[cfg(test)]
#[allow(dead_code)]
pub(super) fn count() -> usize {
    DRIVEN.with(|driven| driven.borrow().len())
}

struct Drive {
    number: u64,
    /// Runs from when the last handle is gone.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Future for Drive {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(connection) = find(self.number) else { return Poll::Ready(()) };
        if !connection.is_orphan() {
            return connection.drive(cx);
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(clock::sleep(LINGER)));
        if deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        connection.linger(cx)
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        let connection =
            DRIVEN.try_with(|driven| driven.borrow_mut().remove(&self.number)).ok().flatten();
        if let Some(connection) = connection {
            connection.set_driven(false);
        }
    }
}

fn find(number: u64) -> Option<Rc<Connection>> {
    DRIVEN.with(|driven| driven.borrow().get(&number).cloned())
}
