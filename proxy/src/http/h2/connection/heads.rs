//! Heads that the peer sends: requests, responses, trailers.
//!
//! A block is put together from its frames and decoded whatever becomes of it: the next one rests on it. Then it opens a
//! stream, answers on one, or ends one.

use std::rc::Rc;

use super::{
    Accepted, Connection, Role, Stream,
    receive::{Fault, Taken, mismatch, protocol, size},
    stream::Entry,
};
use crate::http::h2::{
    code::ErrorCode,
    frame::{FrameHead, flag},
    received::ReceivedHead,
};

/// How much larger than a head may be its block, with its padding and what is sent for the table.
const BLOCK_OVERHEAD: usize = 16 * 1024;

/// Informational responses to one request.
const MAX_INFORMATIONAL: u32 = 64;

/// A block that goes on in CONTINUATION frames.
#[derive(Debug)]
pub(super) struct Block {
    stream: u32,
    ends_stream: bool,
    bytes: Vec<u8>,
}

impl Connection {
    pub(super) fn take_headers(self: &Rc<Self>, head: FrameHead, mut payload: &[u8]) -> Taken {
        if head.stream == 0 {
            return protocol("HEADERS of no stream");
        }
        let (before, padding) = match head.padding(payload) {
            Ok(padding) => padding,
            Err(what) => return protocol(what),
        };
        payload = &payload[before..payload.len() - padding];
        if head.has(flag::PRIORITY) {
            let Some((_, behind)) = payload.split_at_checked(5) else {
                return size("HEADERS too short for its priority");
            };
            payload = behind;
        }
        let ends_stream = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.take_block(head.stream, ends_stream, payload);
        }
        let block = Block { stream: head.stream, ends_stream, bytes: payload.to_vec() };
        self.core.borrow_mut().block = Some(block);
        Ok(())
    }

    pub(super) fn take_continuation(self: &Rc<Self>, head: FrameHead, payload: &[u8]) -> Taken {
        let block = {
            let mut core = self.core.borrow_mut();
            let limit = core.allowed.max_header_bytes as usize * 2 + BLOCK_OVERHEAD;
            let Some(block) = core.block.as_mut().filter(|block| block.stream == head.stream)
            else {
                return protocol("CONTINUATION of another stream");
            };
            block.bytes.extend_from_slice(payload);
            // A frame without bytes counts as well: they must not go on for ever.
            if block.bytes.len() > limit || payload.is_empty() && !head.has(flag::END_HEADERS) {
                let code = ErrorCode::ENHANCE_YOUR_CALM;
                return Err(Fault::Connection(code, "a head that does not end"));
            }
            if !head.has(flag::END_HEADERS) {
                return Ok(());
            }
            core.block.take()
        };
        match block {
            Some(block) => self.take_block(block.stream, block.ends_stream, &block.bytes),
            None => Ok(()),
        }
    }

    /// Takes a whole block. It is decoded whatever becomes of it: the next one rests on it.
    fn take_block(self: &Rc<Self>, stream: u32, ends_stream: bool, block: &[u8]) -> Taken {
        let mut core = self.core.borrow_mut();
        let mut received = ReceivedHead::default();
        let limit = core.allowed.max_header_bytes as usize;
        if let Err(error) = core.decoder.decode(block, |field| received.add(field, limit)) {
            return Err(Fault::Connection(ErrorCode::COMPRESSION_ERROR, error.0));
        }
        if let Some(entry) = core.streams.get(&stream).map(Rc::clone) {
            drop(core);
            return self.take_message(&entry, received, ends_stream);
        }
        match core.role {
            Role::Server if stream >= core.next_stream => {
                drop(core);
                self.take_request(stream, received, ends_stream)
            }
            _ => core.take_stray(stream),
        }
    }

    /// A head on a stream that is open: a response, or trailers.
    fn take_message(&self, entry: &Entry, received: ReceivedHead, ends_stream: bool) -> Taken {
        let fault = |what| Fault::Stream(ErrorCode::PROTOCOL_ERROR, what);
        let mut state = entry.state.borrow_mut();
        if !state.can_receive {
            return Err(Fault::Stream(ErrorCode::STREAM_CLOSED, "HEADERS behind the end"));
        }
        let limit = self.core.borrow().allowed.max_header_bytes as usize;
        if received.size > limit {
            return Err(fault("a head larger than allowed"));
        }
        if state.has_head {
            if !ends_stream {
                return Err(fault("trailers that do not end the stream"));
            }
            if state.remaining.is_some_and(|remaining| remaining > 0) {
                return mismatch();
            }
            state.trailers = Some(received.into_trailers().map_err(fault)?);
        } else {
            let length = received.content_length().map_err(fault)?;
            let (status, fields) = received.into_response().map_err(fault)?;
            if status.is_informational() {
                state.informational += 1;
                if state.informational > MAX_INFORMATIONAL {
                    return Err(fault("more informational responses than anybody needs"));
                }
                if ends_stream {
                    return Err(fault("an informational response that ends the stream"));
                }
            } else {
                state.has_head = true;
                let has_body = !state.is_head_request && !matches!(status.as_u16(), 204 | 304);
                state.remaining = match has_body {
                    // What follows is a tunnel's, whatever the head says.
                    _ if state.is_tunnel => None,
                    true => length,
                    false => Some(0),
                };
                if ends_stream && state.remaining.is_some_and(|remaining| remaining > 0) {
                    return mismatch();
                }
            }
            state.responses.push_back((status, fields));
        }
        state.can_receive = !ends_stream;
        state.wake_reader();
        let can_send = state.can_send;
        drop(state);
        if ends_stream && !can_send {
            self.core.borrow_mut().remove(entry.id);
        }
        Ok(())
    }

    /// A head that opens a stream.
    fn take_request(
        self: &Rc<Self>,
        stream: u32,
        received: ReceivedHead,
        ends_stream: bool,
    ) -> Taken {
        let mut core = self.core.borrow_mut();
        if stream.is_multiple_of(2) {
            return protocol("a client's stream with an even number");
        }
        core.next_stream = stream + 2;
        if core.last_served.is_some() {
            // The client learns from GOAWAY that it is not served.
            return Ok(());
        }
        if core.streams.len() >= core.allowed.max_streams as usize {
            return Err(Fault::Stream(ErrorCode::REFUSED_STREAM, "more streams than allowed"));
        }
        let fault = |what| Fault::Stream(ErrorCode::PROTOCOL_ERROR, what);
        let length = received.content_length().map_err(fault)?;
        let request = received.into_request().map_err(fault)?;
        if ends_stream && length.is_some_and(|length| length > 0) {
            return mismatch();
        }
        let entry = Entry::new(stream, core.peer.initial_window, core.allowed.stream_window);
        {
            let mut state = entry.state.borrow_mut();
            state.has_head = true;
            state.can_receive = !ends_stream;
            // What follows an extended CONNECT is the tunnel's.
            state.remaining = length.filter(|_| request.protocol.is_none());
        }
        let entry = Rc::new(entry);
        core.streams.insert(stream, Rc::clone(&entry));
        let stream = Stream::new(Rc::clone(self), entry);
        core.accepted.push_back(Accepted { stream, request, length });
        Ok(())
    }
}
