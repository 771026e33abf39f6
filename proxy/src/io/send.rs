//! The sending side of a connection: from the write buffer, through TLS where there is any, to the kernel.
//!
//! In come appended bytes; out go as few system calls as the kernel allows. An error never returns from here:
//! it becomes the connection's failure, which every later call reports.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    HIGH_WATER,
    buffer::WriteBuffer,
    connection::{Sending, State},
    failure::Failure,
    turn,
};

/// At most so many pieces leave in one system call: `UIO_FASTIOV` of Linux is 8, and pieces are large.
const PIECES: usize = 16;

impl State {
    /// Lets `append` write; says whether the buffer is so full that it should leave at once.
    pub(super) fn append(&mut self, append: impl FnOnce(&mut WriteBuffer)) -> io::Result<bool> {
        self.check()?;
        if self.sending != Sending::Open {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "written after shutdown"));
        }
        let before = self.outgoing.len();
        append(&mut self.outgoing);
        self.written += (self.outgoing.len() - before) as u64;
        Ok(self.outgoing.len() >= HIGH_WATER)
    }

    /// How many bytes wait here.
    pub(super) fn unsent(&self) -> usize {
        self.outgoing.len() + self.tls.as_ref().map_or(0, |tls| tls.ciphertext_len())
    }

    /// Whether all has left, TLS's close_notify included where it is due.
    pub(super) fn is_drained(&self) -> bool {
        self.unsent() == 0 && !self.owes_close_notify()
    }

    fn owes_close_notify(&self) -> bool {
        self.sending == Sending::Ending
            && self.failure.is_none()
            && self.tls.as_ref().is_some_and(|tls| tls.is_established())
    }

    /// Takes no more writes; says whether this is news.
    pub(super) fn begin_end(&mut self) -> io::Result<bool> {
        self.check()?;
        let open = self.sending == Sending::Open;
        self.sending = self.sending.max(Sending::Ending);
        Ok(open)
    }

    /// Sends what waits. Ready when nothing does any more, or the connection is broken.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let sent = match &self.tls {
            Some(_) => self.poll_send_tls(cx),
            None => self.poll_send_plain(cx),
        };
        sent.map(|result| {
            if let Err(failure) = result {
                self.fail(failure);
            }
        })
    }

    fn poll_send_plain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
        while !self.outgoing.is_empty() {
            let stream = Pin::new(&mut *stream);
            // A single piece goes by `poll_write`, after which a short write is known to be the last.
            let result = if self.outgoing.is_contiguous() {
                stream.poll_write(cx, self.outgoing.first())
            } else {
                let mut slices = [IoSlice::new(&[]); PIECES];
                let count = self.outgoing.slices(&mut slices);
                stream.poll_write_vectored(cx, &slices[..count])
            };
            let taken = ready!(taken(result))?;
            self.sent += taken as u64;
            self.sent_on_wire += taken as u64;
            self.outgoing.consume(taken);
        }
        Poll::Ready(Ok(()))
    }

    /// Encrypts in batches. A batch leaves before the next is made, so that at most one batch of ciphertext
    /// waits, and what waits longer stays plaintext, in few large records.
    fn poll_send_tls(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let close = self.owes_close_notify();
        let (Some(stream), Some(tls)) = (&mut self.stream, &mut self.tls) else {
            return Poll::Ready(Ok(()));
        };
        loop {
            let sent = turn::with_scratch(|scratch| {
                let batch = tls.encrypt_batch(&mut self.outgoing, close, &mut scratch.outgoing)?;
                if batch == 0 {
                    return Ok(Poll::Ready(0));
                }
                let ciphertext = &scratch.outgoing[..batch];
                let taken = taken(Pin::new(&mut *stream).poll_write(cx, ciphertext));
                let (count, taken) = match taken {
                    Poll::Ready(Ok(count)) => (count, Ok(Poll::Ready(count))),
                    Poll::Ready(Err(failure)) => return Err(failure),
                    Poll::Pending => (0, Ok(Poll::Pending)),
                };
                tls.keep_ciphertext(&ciphertext[count..]);
                self.sent += tls.count_sent(count);
                self.sent_on_wire += count as u64;
                taken
            })?;
            if close && self.outgoing.is_empty() && tls.close_sent() {
                self.sending = self.sending.max(Sending::Notified);
            }
            if ready!(sent) == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// After all has left: half-closes.
    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = self.stream.as_mut().filter(|_| self.sending != Sending::Finished)
        else {
            return Poll::Ready(Ok(()));
        };
        let result = ready!(Pin::new(stream).poll_shutdown(cx));
        self.sending = Sending::Finished;
        match result {
            // The peer was faster: its side is closed as well, so there is nobody to tell.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            other => Poll::Ready(other),
        }
    }

    /// Nobody reads any more, but closing a socket with unread bytes would send a reset that can overtake what
    /// the peer has not read yet: half-closes and discards until the peer closes.
    pub(super) fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if ready!(self.poll_finish(cx)).is_err() || !self.linger {
            return Poll::Ready(());
        }
        while ready!(self.poll_discard(cx)) {}
        Poll::Ready(())
    }

    /// Reads and forgets what the peer sends while it takes what is unsent.
    pub(super) fn discard_meanwhile(&mut self, cx: &mut Context<'_>) {
        while self.linger && self.poll_discard(cx) == Poll::Ready(true) {}
    }

    /// Whether the peer has sent what nobody has read. Asks the kernel only where it has announced something.
    pub(super) fn has_unread(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !self.unread.is_empty() || self.poll_discard(&mut cx) == Poll::Ready(true)
    }

    /// Reads and forgets; says whether there was anything.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(false) };
        turn::with_scratch(|scratch| {
            scratch.incoming.resize(scratch.incoming.len().max(turn::READ_STEP), 0);
            let mut buffer = ReadBuf::new(&mut scratch.incoming);
            let read = ready!(Pin::new(stream).poll_read(cx, &mut buffer));
            Poll::Ready(read.is_ok() && !buffer.filled().is_empty())
        })
    }
}

/// Counts a write, and turns its error into a failure.
fn taken(result: Poll<io::Result<usize>>) -> Poll<Result<usize, Failure>> {
    let result = match result {
        Poll::Pending => {
            turn::count(|statistics| statistics.blocked += 1);
            return Poll::Pending;
        }
        Poll::Ready(Ok(0)) => Err(Failure::Other(io::ErrorKind::WriteZero)),
        Poll::Ready(Ok(count)) => Ok(count),
        Poll::Ready(Err(error)) => Err(Failure::from(&error)),
    };
    turn::count(|statistics| {
        statistics.writes += 1;
        statistics.written_bytes += *result.as_ref().unwrap_or(&0) as u64;
    });
    Poll::Ready(result)
}
