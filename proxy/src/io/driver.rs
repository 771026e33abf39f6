//! Who goes on with a connection that the kernel does not take bytes from, or that lingers after its last handle.
//!
//! In comes a connection; out comes nothing but its progress. Each has one task of its own while it needs one,
//! so a wake-up costs the same however many are blocked. The task must be `Send` to be spawned on any kind of
//! current-thread runtime, so it names its connection by a number that only this thread can look up.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use tokio::runtime::Handle;

use super::{LINGER, connection::Connection};
use crate::clock::{self, Sleep};

/// A peer that reads slowly but reads gets its bytes, within half a minute.
const MAX_LINGERS: u32 = 30;

thread_local! {
    static DRIVEN: RefCell<HashMap<u64, Rc<Connection>>> = RefCell::default();
    static NEXT: Cell<u64> = const { Cell::new(0) };
    static WAITING: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// Waits until no connection of this thread has anything to send or lingers: for the end of a worker, since the
/// end of its runtime is the end of its connections. One task at a time may wait. Cancel-safe.
pub(super) async fn idle() {
    poll_fn(|cx| {
        if DRIVEN.with(|driven| driven.borrow().is_empty()) {
            return Poll::Ready(());
        }
        WAITING.set(Some(cx.waker().clone()));
        Poll::Pending
    })
    .await;
}

/// How far the connections that have a driver now have come.
pub(super) fn taken() -> u64 {
    DRIVEN.with(|driven| driven.borrow().values().map(|connection| progress(connection)).sum())
}

/// Gives the connection a driver. Where there is no runtime any more, nothing can be done for it.
pub(super) fn spawn(connection: &Rc<Connection>) {
    let Ok(runtime) = Handle::try_current() else { return };
    let number = NEXT.replace(NEXT.get() + 1);
    DRIVEN.with(|driven| driven.borrow_mut().insert(number, Rc::clone(connection)));
    connection.set_driven(true);
    // Owned by the connection's numbers: it ends when the connection is drained, fails, or has lingered enough.
    runtime.spawn(Drive { number, linger: None });
}

/// How many connections of this thread have a driver now.
#[cfg(test)]
pub(super) fn count() -> usize {
    DRIVEN.with(|driven| driven.borrow().len())
}

struct Drive {
    number: u64,
    /// From when the last handle is gone.
    linger: Option<Linger>,
}

/// How long a connection without handles stays: [`LINGER`] without progress, [`MAX_LINGERS`] times that in all.
struct Linger {
    deadline: Pin<Box<Sleep>>,
    /// How far it had come when the deadline was set.
    sent: u64,
    left: u32,
}

impl Future for Drive {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(connection) = find(self.number) else { return Poll::Ready(()) };
        if !connection.is_orphan() {
            return connection.drive(cx);
        }
        let linger = self.linger.get_or_insert_with(|| Linger::new(progress(&connection)));
        if connection.linger(cx).is_ready() {
            return Poll::Ready(());
        }
        linger.poll(cx, &connection)
    }
}

/// Grows as long as the kernel takes bytes, or the peer's takes what the kernel has.
fn progress(connection: &Connection) -> u64 {
    connection.written_to_kernel() + connection.acknowledged_on_wire().unwrap_or(0)
}

impl Linger {
    fn new(sent: u64) -> Self {
        Self { deadline: Box::pin(clock::sleep(LINGER)), sent, left: MAX_LINGERS }
    }

    /// Ready when it has been enough.
    fn poll(&mut self, cx: &mut Context<'_>, connection: &Connection) -> Poll<()> {
        while self.deadline.as_mut().poll(cx).is_ready() {
            let sent = progress(connection);
            self.left -= 1;
            if self.left == 0 || sent == self.sent {
                return Poll::Ready(());
            }
            self.sent = sent;
            self.deadline.as_mut().reset(clock::now() + LINGER);
        }
        Poll::Pending
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        let connection =
            DRIVEN.try_with(|driven| driven.borrow_mut().remove(&self.number)).ok().flatten();
        if let Some(connection) = connection {
            connection.set_driven(false);
        }
        if let Ok(Some(waiting)) = WAITING.try_with(RefCell::take) {
            waiting.wake();
        }
    }
}

fn find(number: u64) -> Option<Rc<Connection>> {
    DRIVEN.with(|driven| driven.borrow().get(&number).cloned())
}
