//! What streams say: heads, data, trailers.
//!
//! It goes into the socket's buffer at once. Heads always may; data only as far as there is room
//! ([`Stream::poll_room`]).

use std::rc::Rc;

use bytes::Bytes;
use http::Method;

use super::{Connection, Core, Stream, StreamError, stream::Entry};
use crate::http::{
    Fields, RequestHead, ResponseHead,
    h2::{
        code::ErrorCode,
        frame::{self, FrameHead, flag, kind},
        head::{self, Target},
        hpack::Encoder,
    },
};

/// The greatest number that a client's stream can have.
pub(super) const LAST_STREAM: u32 = (1 << 31) - 1;

impl Connection {
    /// Opens a stream with this request; nothing more is sent on it if `ends_stream`.
    ///
    /// # Errors
    /// The connection takes no more streams.
    pub(in crate::http::h2) fn open(
        self: &Rc<Self>,
        request: &RequestHead,
        target: &Target<'_>,
        ends_stream: bool,
    ) -> Result<Stream, StreamError> {
        let entry = {
            let mut core = self.core.borrow_mut();
            if let Some(ended) = &core.ended {
                return Err(StreamError::Ended(ended.clone()));
            }
            if core.goaway.is_some() || core.next_stream > LAST_STREAM {
                return Err(StreamError::NotLookedAt(core.goaway.unwrap_or(ErrorCode::NO_ERROR)));
            }
            let id = core.next_stream;
            core.next_stream += 2;
            let entry = Entry::new(id, core.peer.initial_window, core.allowed.stream_window);
            {
                let mut state = entry.state.borrow_mut();
                state.can_send = !ends_stream;
                state.is_head_request = request.method == Method::HEAD;
                state.is_tunnel = target.is_tunnel();
            }
            let entry = Rc::new(entry);
            core.streams.insert(id, Rc::clone(&entry));
            if core.streams.len() == 1 {
                // With streams it watches whether the peer lives.
                core.wake_task();
            }
            entry
        };
        self.write_block(entry.id, ends_stream, |encoder, out| {
            head::encode_request(request, target, encoder, out);
        });
        Ok(Stream::new(Rc::clone(self), entry))
    }

    /// Writes a head whose block `encode` makes.
    fn write_block(
        &self,
        stream: u32,
        ends_stream: bool,
        encode: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) {
        self.write(|core, out| {
            out.resize(frame::HEAD, 0);
            core.encoder.begin(out);
            encode(&mut core.encoder, out);
            frame::head_block(0, stream, ends_stream, core.peer.max_payload, out);
        });
    }
}

impl Stream {
    /// Sends a response's head: an informational one, or the final one, behind which nothing comes if `ends_stream`.
    ///
    /// # Errors
    /// The stream has ended.
    pub(in crate::http::h2) fn send_response(
        &self,
        response: &ResponseHead,
        ends_stream: bool,
    ) -> Result<(), StreamError> {
        self.check()?;
        self.connection.write_block(self.entry.id, ends_stream, |encoder, out| {
            head::encode_response(response, encoder, out);
        });
        if ends_stream {
            self.end_sending();
        }
        Ok(())
    }

    /// Sends data, no more than there is room for; an empty piece only to end the stream.
    ///
    /// # Errors
    /// The stream has ended.
    pub(in crate::http::h2) fn send_data(
        &self,
        mut data: Bytes,
        ends_stream: bool,
    ) -> Result<(), StreamError> {
        self.check()?;
        let max_payload = {
            let mut core = self.connection.core.borrow_mut();
            core.send_window -= data.len() as i64;
            self.entry.state.borrow_mut().send_window -= data.len() as i64;
            core.peer.max_payload
        };
        loop {
            let piece = data.split_to(data.len().min(max_payload));
            let is_last = data.is_empty();
            let flags = if is_last && ends_stream { flag::END_STREAM } else { 0 };
            let head =
                FrameHead { length: piece.len(), kind: kind::DATA, flags, stream: self.entry.id };
            let socket = &self.connection.socket;
            // A broken socket is noticed by whoever reads.
            let _ = socket.write(&head.bytes()).and_then(|()| socket.write_bytes(piece));
            if is_last {
                break;
            }
        }
        if ends_stream {
            self.end_sending();
        }
        Ok(())
    }

    /// Ends the stream with these trailers.
    ///
    /// # Errors
    /// The stream has ended.
    pub(in crate::http::h2) fn send_trailers(&self, trailers: &Fields) -> Result<(), StreamError> {
        self.check()?;
        self.connection.write_block(self.entry.id, true, |encoder, out| {
            head::encode_fields(trailers, encoder, out);
        });
        self.end_sending();
        Ok(())
    }

    fn check(&self) -> Result<(), StreamError> {
        let state = self.entry.state.borrow();
        match &state.failed {
            Some(error) => Err(error.clone()),
            None if state.can_send => Ok(()),
            None => Err(StreamError::Fault("this side has ended the stream")),
        }
    }

    fn end_sending(&self) {
        let mut core = self.connection.core.borrow_mut();
        let can_receive = {
            let mut state = self.entry.state.borrow_mut();
            state.can_send = false;
            state.can_receive
        };
        if !can_receive {
            core.remove(self.entry.id);
        }
    }
}

impl Core {
    /// Those that wait for the connection's window may try again, the first first.
    pub(super) fn wake_waiting(&mut self) {
        for entry in self.waiting.drain(..) {
            let mut state = entry.state.borrow_mut();
            state.is_waiting = false;
            state.wake_sender();
        }
    }
}
