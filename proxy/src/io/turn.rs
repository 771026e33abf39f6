//! A turn of the event loop: which sockets of this thread have bytes to write, and when they are written.
//!
//! In come sockets that were marked dirty; out they go at the end of the turn, when the worker has nothing left
//! to do and its park hook calls [`end`]. A worker that never gets idle still writes: every poll of a socket
//! looks now and then whether the oldest unwritten byte is older than [`MAX_AGE`]. Also the thread's buffers
//! that no connection should own: for reading, for encrypting, and spare ones for writing.
//!
//! It must never hold a socket's state while it calls another.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use super::connection::Connection;
use crate::clock::{self, Instant};

/// How long a byte waits in a worker that does not get idle: well below what a client notices, well above
/// the few microseconds that one request takes.
pub const MAX_AGE: Duration = Duration::from_micros(250);

/// The clock is read at every so many polls only; a poll takes about a microsecond.
const POLLS_PER_CLOCK: u32 = 8;

/// One read takes so much below TLS.
pub(super) const READ_STEP: usize = 64 * 1024;

/// Spare write buffers kept by a thread, and the largest that is kept: at most 2 MiB together.
const SPARE_BUFFERS: usize = 16;
const SPARE_CAPACITY: usize = 128 * 1024;

/// What a fresh write buffer begins with: most turns of most connections fit.
const FRESH_CAPACITY: usize = 4 * 1024;

/// Counts of what this thread's sockets did, for tests and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Writes tried: system calls.
    pub writes: u64,
    /// Bytes that the kernel took.
    pub written_bytes: u64,
    /// Reads that brought bytes or an end: system calls.
    pub reads: u64,
    /// Bytes that the kernel gave.
    pub read_bytes: u64,
    /// Batches of plaintext encrypted: one record for up to 16 KiB each.
    pub encryptions: u64,
    /// Turns that wrote something.
    pub turns: u64,
    /// Times that the kernel took no more, and a task had to wait.
    pub blocked: u64,
}

#[derive(Default)]
struct Turn {
    hooked: Cell<bool>,
    dirty: RefCell<Vec<Rc<Connection>>>,
    since: Cell<Option<Instant>>,
    polls: Cell<u32>,
    spare: RefCell<Vec<Vec<u8>>>,
    scratch: RefCell<Scratch>,
    statistics: Cell<Statistics>,
}

/// Buffers that a read or a write uses while it runs.
#[derive(Default)]
pub(super) struct Scratch {
    /// For reading: [`READ_STEP`] and the part of a TLS record that an earlier read left.
    pub(super) incoming: Vec<u8>,
    /// For encrypting.
    pub(super) outgoing: Vec<u8>,
}

thread_local! {
    static TURN: Turn = Turn::default();
}

/// Says that this thread calls [`end`] whenever it has nothing left to do. From here on, writes wait for it, and the
/// time that was read holds until then.
pub fn install() {
    clock::keep(true);
    TURN.with(|turn| turn.hooked.set(true));
}

/// Writes out every dirty socket of this thread: the park hook.
pub fn end() {
    TURN.with(Turn::end);
    clock::renew();
}

/// Ends the last turn of a thread whose runtime is gone: what cannot be written any more is dropped, and
/// writes leave at once again.
pub fn uninstall() {
    TURN.with(|turn| {
        turn.hooked.set(false);
        turn.end();
    });
    clock::keep(false);
}

/// What this thread's sockets did so far.
#[must_use]
pub fn statistics() -> Statistics {
    TURN.with(|turn| turn.statistics.get())
}

/// Called by every poll of a socket: ends the turn early when a byte has waited too long.
pub(super) fn tick() {
    TURN.with(|turn| {
        let polls = turn.polls.get().wrapping_add(1);
        turn.polls.set(polls);
        if polls % POLLS_PER_CLOCK != 0 {
            return;
        }
        clock::renew();
        let Some(since) = turn.since.get() else { return };
        if clock::now().duration_since(since) >= MAX_AGE {
            turn.end();
        }
    });
}

/// Sees to it that the connection is written at the end of the turn, or at once where turns have no end.
pub(super) fn mark(connection: &Rc<Connection>) {
    let hooked = TURN.try_with(|turn| turn.mark(connection)).unwrap_or(true);
    if !hooked {
        connection.flush();
    }
}

/// Counts something.
pub(super) fn count(update: impl FnOnce(&mut Statistics)) {
    TURN.with(|turn| {
        let mut statistics = turn.statistics.get();
        update(&mut statistics);
        turn.statistics.set(statistics);
    });
}

/// Lends the thread's scratch buffers. `work` must not come here again.
pub(super) fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    TURN.with(|turn| work(&mut turn.scratch.borrow_mut()))
}

/// An empty buffer to write into.
pub(super) fn spare_buffer() -> Vec<u8> {
    TURN.try_with(|turn| turn.spare.borrow_mut().pop())
        .ok()
        .flatten()
        .unwrap_or_else(|| Vec::with_capacity(FRESH_CAPACITY))
}

/// Takes a buffer back.
pub(super) fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() > SPARE_CAPACITY {
        return;
    }
    buffer.clear();
    // At a thread's end there is nobody left to keep it for.
    let _ = TURN.try_with(|turn| {
        let mut spare = turn.spare.borrow_mut();
        if spare.len() < SPARE_BUFFERS {
            spare.push(buffer);
        }
    });
}

impl Turn {
    /// Whether the end of the turn will write the connection.
    fn mark(&self, connection: &Rc<Connection>) -> bool {
        if self.hooked.get() && connection.set_dirty() {
            self.dirty.borrow_mut().push(Rc::clone(connection));
            if self.since.get().is_none() {
                self.since.set(Some(clock::now()));
            }
        }
        self.hooked.get()
    }

    fn end(&self) {
        // What is marked while others are written is written as well: the thread may sleep for long afterwards.
        while self.since.take().is_some() {
            count(|statistics| statistics.turns += 1);
            let mut dirty = self.dirty.take();
            for connection in dirty.drain(..) {
                connection.clear_dirty();
                connection.flush();
            }
            let mut marked = self.dirty.borrow_mut();
            if marked.is_empty() {
                *marked = dirty; // The list's memory is used again.
            }
        }
    }
}
