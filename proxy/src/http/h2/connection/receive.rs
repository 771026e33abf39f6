//! What the peer says: frames taken in, one after the other. Heads are [`super::heads`]' to take.
//!
//! In come bytes as they were read; whole frames change the connection's state and wake whom they concern. A fault of
//! the peer's that concerns one stream resets that one; any other ends the connection (RFC 9113 section 5.4).

use std::{mem, rc::Rc};

use bytes::{Buf, Bytes, BytesMut};

use super::{Connection, Core, Ended, GOODBYE, LIVES, Role, StreamError, stream::Entry};
use crate::http::h2::{
    code::ErrorCode,
    frame::{
        self, DEFAULT_MAX_PAYLOAD, FrameHead, HEAD, LARGEST_MAX_PAYLOAD, LARGEST_WINDOW, flag,
        kind, setting,
    },
};

/// What a fault costs.
pub(super) enum Fault {
    Stream(ErrorCode, &'static str),
    Connection(ErrorCode, &'static str),
}

pub(super) type Taken<T = ()> = Result<T, Fault>;

pub(super) const fn protocol<T>(what: &'static str) -> Taken<T> {
    Err(Fault::Connection(ErrorCode::PROTOCOL_ERROR, what))
}

pub(super) const fn size<T>(what: &'static str) -> Taken<T> {
    Err(Fault::Connection(ErrorCode::FRAME_SIZE_ERROR, what))
}

impl Connection {
    /// Takes in all frames that are whole; `Some` when one of them, or something before, ended the connection.
    pub(super) fn take_in(self: &Rc<Self>, buffer: &mut BytesMut) -> Option<Ended> {
        loop {
            if let Some(ended) = &self.core.borrow().ended {
                return Some(ended.clone());
            }
            let head = FrameHead::read(buffer)?;
            let taken = if head.length > DEFAULT_MAX_PAYLOAD {
                size("a frame larger than allowed")
            } else if buffer.len() < HEAD + head.length {
                return None;
            } else if head.kind == kind::DATA {
                buffer.advance(HEAD);
                self.take_data(head, buffer.split_to(head.length).freeze())
            } else {
                let taken = self.take_frame(head, &buffer[HEAD..HEAD + head.length]);
                buffer.advance(HEAD + head.length);
                taken
            };
            match taken {
                Ok(()) => {}
                Err(Fault::Stream(code, what)) => self.reset_faulty(head.stream, code, what),
                Err(Fault::Connection(code, what)) => self.end(Ended::Fault(code, what)),
            }
        }
    }

    fn take_frame(self: &Rc<Self>, head: FrameHead, payload: &[u8]) -> Taken {
        {
            let core = self.core.borrow();
            if core.block.is_some() != (head.kind == kind::CONTINUATION) {
                return protocol("CONTINUATION where none belongs, or none where one does");
            }
            if core.peer.max_streams.is_none() && head.kind != kind::SETTINGS {
                return protocol("something before SETTINGS");
            }
        }
        match head.kind {
            kind::HEADERS => self.take_headers(head, payload),
            kind::CONTINUATION => self.take_continuation(head, payload),
            kind::PRIORITY if head.stream == 0 => protocol("PRIORITY of no stream"),
            kind::PRIORITY if payload.len() != 5 => {
                Err(Fault::Stream(ErrorCode::FRAME_SIZE_ERROR, "PRIORITY of another size"))
            }
            kind::RST_STREAM => self.take_reset(head.stream, payload),
            kind::SETTINGS => self.take_settings(head, payload),
            kind::PUSH_PROMISE => protocol("PUSH_PROMISE, which was not allowed"),
            kind::PING => self.take_ping(head, payload),
            kind::GOAWAY => self.take_goaway(head.stream, payload),
            kind::WINDOW_UPDATE => self.take_window_update(head.stream, payload),
            // What is not known is not looked at (section 5.5).
            _ => Ok(()),
        }
    }

    fn take_data(&self, head: FrameHead, mut payload: Bytes) -> Taken {
        if head.stream == 0 {
            return protocol("DATA of no stream");
        }
        let mut core = self.core.borrow_mut();
        if core.block.is_some() || core.peer.max_streams.is_none() {
            return protocol("DATA inside a head, or before SETTINGS");
        }
        let (before, padding) = match head.padding(&payload) {
            Ok(padding) => padding,
            Err(what) => return protocol(what),
        };
        let whole = payload.len();
        core.receive_window.left -= whole as i64;
        if core.receive_window.left < 0 {
            return Err(Fault::Connection(ErrorCode::FLOW_CONTROL_ERROR, "more than the window"));
        }
        let Some(entry) = core.streams.get(&head.stream).map(Rc::clone) else {
            drop(core);
            self.give_back(whole);
            return self.core.borrow().take_stray(head.stream);
        };
        drop(core);
        payload.advance(before);
        payload.truncate(payload.len() - padding);
        let taken = self.take_content(&entry, payload, whole, head.has(flag::END_STREAM));
        if taken.is_err() {
            self.give_back(whole);
        }
        taken
    }

    /// Takes a stream's content, of a frame of `whole` bytes.
    fn take_content(&self, entry: &Entry, data: Bytes, whole: usize, ends_stream: bool) -> Taken {
        let mut state = entry.state.borrow_mut();
        if !state.can_receive {
            return Err(Fault::Stream(ErrorCode::STREAM_CLOSED, "DATA behind the end"));
        }
        if !state.has_head {
            return Err(Fault::Stream(ErrorCode::PROTOCOL_ERROR, "DATA before a final response"));
        }
        state.receive_window.left -= whole as i64;
        if state.receive_window.left < 0 {
            return Err(Fault::Stream(ErrorCode::FLOW_CONTROL_ERROR, "more than the window"));
        }
        if let Some(remaining) = &mut state.remaining {
            match remaining.checked_sub(data.len() as u64) {
                Some(left) if left == 0 || !ends_stream => *remaining = left,
                Some(_) | None => return mismatch(),
            }
        }
        let padding = whole - data.len();
        if !data.is_empty() {
            state.data.push(data);
        }
        state.can_receive = !ends_stream;
        state.wake_reader();
        let can_send = state.can_send;
        drop(state);
        if ends_stream && !can_send {
            self.core.borrow_mut().remove(entry.id);
        }
        if padding > 0 {
            // Nobody reads it.
            self.write(|core, out| {
                let update = entry.state.borrow_mut().receive_window.release(padding);
                if let Some(increment) = update.filter(|_| !ends_stream) {
                    frame::window_update(entry.id, increment, out);
                }
                if let Some(increment) = core.receive_window.release(padding) {
                    frame::window_update(0, increment, out);
                }
            });
        }
        Ok(())
    }

    /// Gives the connection's window back for what nobody reads.
    fn give_back(&self, bytes: usize) {
        self.write(|core, out| {
            if let Some(increment) = core.receive_window.release(bytes) {
                frame::window_update(0, increment, out);
            }
        });
    }

    fn take_reset(&self, stream: u32, payload: &[u8]) -> Taken {
        let Ok(code) = <[u8; 4]>::try_from(payload) else {
            return size("RST_STREAM of another size");
        };
        let code = ErrorCode(u32::from_be_bytes(code));
        let mut core = self.core.borrow_mut();
        core.check_known(stream)?;
        let Some(entry) = core.streams.get(&stream).map(Rc::clone) else { return Ok(()) };
        core.resets += 1;
        core.remove(stream);
        drop(core);
        entry.fail(StreamError::Reset(code));
        Ok(())
    }

    fn take_settings(&self, head: FrameHead, payload: &[u8]) -> Taken {
        if head.stream != 0 {
            return protocol("SETTINGS of a stream");
        }
        if head.has(flag::ACK) {
            return match payload {
                [] => Ok(()),
                _ => size("an acknowledgement of SETTINGS with a payload"),
            };
        }
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return size("SETTINGS of another size");
        }
        let mut core = self.core.borrow_mut();
        for [name_high, name_low, value @ ..] in settings {
            let name = u16::from_be_bytes([*name_high, *name_low]);
            core.set(name, u32::from_be_bytes(*value))?;
        }
        core.peer.max_streams.get_or_insert(u32::MAX);
        core.replies += HEAD;
        drop(core);
        self.write(|_, out| frame::settings_ack(out));
        Ok(())
    }

    fn take_ping(&self, head: FrameHead, payload: &[u8]) -> Taken {
        if head.stream != 0 {
            return protocol("PING of a stream");
        }
        let Ok(payload) = <[u8; 8]>::try_from(payload) else {
            return size("PING of another size");
        };
        if !head.has(flag::ACK) {
            self.write(|core, out| {
                core.replies += HEAD + payload.len();
                frame::ping(payload, true, out);
            });
            return Ok(());
        }
        match payload {
            LIVES => self.core.borrow_mut().pong = true,
            GOODBYE => {
                let was_asked = mem::take(&mut self.core.borrow_mut().awaits_goodbye);
                if was_asked {
                    self.close(ErrorCode::NO_ERROR);
                }
            }
            // Of no PING of this side's.
            _ => {}
        }
        Ok(())
    }

    fn take_goaway(&self, stream: u32, payload: &[u8]) -> Taken {
        if stream != 0 {
            return protocol("GOAWAY of a stream");
        }
        let Some((last, rest)) = payload.split_first_chunk::<4>() else {
            return size("GOAWAY too short");
        };
        let Some((code, _)) = rest.split_first_chunk::<4>() else {
            return size("GOAWAY too short");
        };
        let last = u32::from_be_bytes(*last) & 0x7fff_ffff;
        let code = ErrorCode(u32::from_be_bytes(*code));
        let mut core = self.core.borrow_mut();
        core.goaway = Some(code);
        core.is_leaving |= core.role == Role::Client;
        let unseen = core.role == Role::Client;
        let ids: Vec<u32> =
            core.streams.keys().copied().filter(|id| unseen && *id > last).collect();
        let entries: Vec<_> = ids.iter().filter_map(|id| core.streams.remove(id)).collect();
        core.waiting.retain(|entry| !unseen || entry.id <= last);
        drop(core);
        for entry in entries {
            entry.fail(StreamError::NotLookedAt(code));
        }
        Ok(())
    }

    fn take_window_update(&self, stream: u32, payload: &[u8]) -> Taken {
        let Ok(increment) = <[u8; 4]>::try_from(payload) else {
            return size("WINDOW_UPDATE of another size");
        };
        let increment = i64::from(u32::from_be_bytes(increment) & 0x7fff_ffff);
        let mut core = self.core.borrow_mut();
        if stream == 0 {
            if increment == 0 {
                return protocol("WINDOW_UPDATE by nothing");
            }
            core.send_window += increment;
            if core.send_window > LARGEST_WINDOW {
                let code = ErrorCode::FLOW_CONTROL_ERROR;
                return Err(Fault::Connection(code, "a window too large"));
            }
            if core.send_window > 0 {
                core.wake_waiting();
            }
            return Ok(());
        }
        core.check_known(stream)?;
        let Some(entry) = core.streams.get(&stream) else { return Ok(()) };
        if increment == 0 {
            return Err(Fault::Stream(ErrorCode::PROTOCOL_ERROR, "WINDOW_UPDATE by nothing"));
        }
        let mut state = entry.state.borrow_mut();
        state.send_window += increment;
        if state.send_window > LARGEST_WINDOW {
            return Err(Fault::Stream(ErrorCode::FLOW_CONTROL_ERROR, "a window too large"));
        }
        state.wake_sender();
        Ok(())
    }

    /// Resets a stream on which the peer broke the protocol, or that is not taken.
    fn reset_faulty(&self, stream: u32, code: ErrorCode, what: &'static str) {
        tracing::debug!(stream, %code, what, "a stream was reset");
        let entry = self.core.borrow().streams.get(&stream).map(Rc::clone);
        self.write(|core, out| {
            core.resets += u32::from(code != ErrorCode::REFUSED_STREAM);
            core.replies += HEAD + 4;
            frame::rst_stream(stream, code, out);
            core.remove_reset(stream);
        });
        if let Some(entry) = entry {
            entry.fail(StreamError::Fault(what));
        }
    }
}

pub(super) fn mismatch<T>() -> Taken<T> {
    Err(Fault::Stream(ErrorCode::PROTOCOL_ERROR, "content of another length than announced"))
}

impl Core {
    /// A stream that was never opened has no frames (section 5.1).
    fn check_known(&self, stream: u32) -> Taken {
        if stream == 0 {
            return protocol("a stream's frame of no stream");
        }
        // Only the client opens streams; a client's peer knows only those that it was told of.
        if stream.is_multiple_of(2) || stream >= self.next_stream {
            return protocol("a frame of a stream that was not opened");
        }
        Ok(())
    }

    /// DATA or HEADERS of a stream that is not open. On one that this side has reset, they were on their way.
    pub(super) fn take_stray(&self, stream: u32) -> Taken {
        self.check_known(stream)?;
        if self.reset.contains(&stream) || self.last_served.is_some_and(|last| stream > last) {
            return Ok(());
        }
        Err(Fault::Stream(ErrorCode::STREAM_CLOSED, "a frame of a stream that has ended"))
    }

    fn set(&mut self, name: u16, value: u32) -> Taken {
        match name {
            setting::HEADER_TABLE_SIZE => self.encoder.set_max_size(value),
            setting::ENABLE_PUSH if value > 1 || value == 1 && self.role == Role::Client => {
                return protocol("ENABLE_PUSH that is not allowed");
            }
            setting::ENABLE_CONNECT_PROTOCOL if value > 1 => {
                return protocol("ENABLE_CONNECT_PROTOCOL that is neither nought nor one");
            }
            setting::ENABLE_CONNECT_PROTOCOL => self.peer.takes_protocols |= value == 1,
            setting::MAX_CONCURRENT_STREAMS => self.peer.max_streams = Some(value),
            setting::INITIAL_WINDOW_SIZE => return self.set_initial_window(value),
            setting::MAX_FRAME_SIZE => {
                let value = value as usize;
                if !(DEFAULT_MAX_PAYLOAD..=LARGEST_MAX_PAYLOAD).contains(&value) {
                    return protocol("MAX_FRAME_SIZE out of its range");
                }
                self.peer.max_payload = value;
            }
            _ => {}
        }
        Ok(())
    }

    /// Changes the windows of all streams by the difference (section 6.9.2).
    fn set_initial_window(&mut self, value: u32) -> Taken {
        let too_large = || Fault::Connection(ErrorCode::FLOW_CONTROL_ERROR, "a window too large");
        if i64::from(value) > LARGEST_WINDOW {
            return Err(too_large());
        }
        let difference =
            i64::from(value) - mem::replace(&mut self.peer.initial_window, value.into());
        for entry in self.streams.values() {
            let mut state = entry.state.borrow_mut();
            state.send_window += difference;
            if state.send_window > LARGEST_WINDOW {
                return Err(too_large());
            }
            state.wake_sender();
        }
        Ok(())
    }
}
