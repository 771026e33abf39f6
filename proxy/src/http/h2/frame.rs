//! Frames as bytes (RFC 9113 sections 4 and 6).
//!
//! In come the first bytes of a frame, out goes what kind it is and how long; and what this side says, as frames. No
//! state, and no judgement but of sizes and padding.

use super::code::ErrorCode;

/// What a client's connection begins with (section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes before each payload.
pub(super) const HEAD: usize = 9;

/// The largest payload, where nobody has said otherwise, and what this side takes.
pub(super) const DEFAULT_MAX_PAYLOAD: usize = 16_384;

/// The largest payload that anybody may allow.
pub(super) const LARGEST_MAX_PAYLOAD: usize = (1 << 24) - 1;

/// The largest window (section 6.9.1).
pub(super) const LARGEST_WINDOW: i64 = (1 << 31) - 1;

/// A window that nobody has said anything of (section 6.9.2).
pub(super) const DEFAULT_WINDOW: u32 = 65_535;

/// Kinds of frames.
pub(super) mod kind {
    pub(in crate::http::h2) const DATA: u8 = 0;
    pub(in crate::http::h2) const HEADERS: u8 = 1;
    pub(in crate::http::h2) const PRIORITY: u8 = 2;
    pub(in crate::http::h2) const RST_STREAM: u8 = 3;
    pub(in crate::http::h2) const SETTINGS: u8 = 4;
    pub(in crate::http::h2) const PUSH_PROMISE: u8 = 5;
    pub(in crate::http::h2) const PING: u8 = 6;
    pub(in crate::http::h2) const GOAWAY: u8 = 7;
    pub(in crate::http::h2) const WINDOW_UPDATE: u8 = 8;
    pub(in crate::http::h2) const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub(super) mod flag {
    pub(in crate::http::h2) const ACK: u8 = 0x1;
    pub(in crate::http::h2) const END_STREAM: u8 = 0x1;
    pub(in crate::http::h2) const END_HEADERS: u8 = 0x4;
    pub(in crate::http::h2) const PADDED: u8 = 0x8;
    pub(in crate::http::h2) const PRIORITY: u8 = 0x20;
}

/// Settings (section 6.5.2).
pub(super) mod setting {
    pub(in crate::http::h2) const HEADER_TABLE_SIZE: u16 = 1;
    pub(in crate::http::h2) const ENABLE_PUSH: u16 = 2;
    pub(in crate::http::h2) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(in crate::http::h2) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(in crate::http::h2) const MAX_FRAME_SIZE: u16 = 5;
    pub(in crate::http::h2) const MAX_HEADER_LIST_SIZE: u16 = 6;
    /// RFC 8441 section 3.
    pub(in crate::http::h2) const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl FrameHead {
    /// The head at the start of `bytes`; `None` when it is not all there.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let head: &[u8; HEAD] = bytes.first_chunk()?;
        let [high, middle, low, kind, flags, stream @ ..] = *head;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        // The first bit is reserved, and means nothing.
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        Some(Self { length, kind, flags, stream })
    }

    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) const fn bytes(self) -> [u8; HEAD] {
        let [_, high, middle, low] = (self.length as u32).to_be_bytes();
        let [first, second, third, fourth] = self.stream.to_be_bytes();
        [high, middle, low, self.kind, self.flags, first, second, third, fourth]
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes());
    }

    /// How many bytes at the end of the payload are padding, and how many at its start say so.
    ///
    /// # Errors
    /// More than there is (section 6.1).
    pub(super) fn padding(&self, payload: &[u8]) -> Result<(usize, usize), &'static str> {
        if !self.has(flag::PADDED) {
            return Ok((0, 0));
        }
        let padding = usize::from(*payload.first().ok_or("a padded frame without a length of it")?);
        if padding >= payload.len() {
            return Err("more padding than payload");
        }
        Ok((1, padding))
    }
}

/// A frame whose payload is a number.
fn number(kind: u8, stream: u32, number: u32, out: &mut Vec<u8>) {
    FrameHead { length: 4, kind, flags: 0, stream }.write(out);
    out.extend_from_slice(&number.to_be_bytes());
}

pub(super) fn window_update(stream: u32, increment: u32, out: &mut Vec<u8>) {
    number(kind::WINDOW_UPDATE, stream, increment, out);
}

pub(super) fn rst_stream(stream: u32, code: ErrorCode, out: &mut Vec<u8>) {
    number(kind::RST_STREAM, stream, code.0, out);
}

pub(super) fn ping(payload: [u8; 8], is_ack: bool, out: &mut Vec<u8>) {
    let flags = if is_ack { flag::ACK } else { 0 };
    FrameHead { length: 8, kind: kind::PING, flags, stream: 0 }.write(out);
    out.extend_from_slice(&payload);
}

pub(super) fn goaway(last_stream: u32, code: ErrorCode, out: &mut Vec<u8>) {
    FrameHead { length: 8, kind: kind::GOAWAY, flags: 0, stream: 0 }.write(out);
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
}

pub(super) fn settings(settings: &[(u16, u32)], out: &mut Vec<u8>) {
    let length = 6 * settings.len();
    FrameHead { length, kind: kind::SETTINGS, flags: 0, stream: 0 }.write(out);
    for (name, value) in settings {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(super) fn settings_ack(out: &mut Vec<u8>) {
    FrameHead { length: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: 0 }.write(out);
}

/// Puts the head of a HEADERS frame before a block that was written behind `start`, and cuts a block that is too
/// long for one frame into more.
pub(super) fn head_block(
    start: usize,
    stream: u32,
    ends_stream: bool,
    max_payload: usize,
    out: &mut Vec<u8>,
) {
    let block = out.len() - start - HEAD;
    let end_stream = if ends_stream { flag::END_STREAM } else { 0 };
    if block <= max_payload {
        let flags = flag::END_HEADERS | end_stream;
        let head = FrameHead { length: block, kind: kind::HEADERS, flags, stream };
        out[start..start + HEAD].copy_from_slice(&head.bytes());
        return;
    }
    let block = out.split_off(start + HEAD);
    out.truncate(start);
    let pieces = block.len().div_ceil(max_payload);
    for (nth, piece) in block.chunks(max_payload).enumerate() {
        let (kind, flags) = match nth {
            0 => (kind::HEADERS, end_stream),
            _ => (kind::CONTINUATION, 0),
        };
        let end_headers = if nth + 1 == pieces { flag::END_HEADERS } else { 0 };
        FrameHead { length: piece.len(), kind, flags: flags | end_headers, stream }.write(out);
        out.extend_from_slice(piece);
    }
}
