//! Frames of HTTP/2 (RFC 9113) as bytes, for peers that break its rules.

use crate::raw::Raw;

/// What a client begins with, and its empty SETTINGS.
#[must_use]
pub fn preface() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(kind::SETTINGS, 0, 0, b"")].concat()
}

/// The types of frames (RFC 9113 section 6).
pub mod kind {
    #![allow(missing_docs, reason = "the RFC's names")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const CONTINUATION: u8 = 9;
}

/// The flag that ends a stream.
pub const END_STREAM: u8 = 1;
/// The flag that ends a block of fields.
pub const END_HEADERS: u8 = 4;

/// One frame.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is short").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A block of fields, each written out (RFC 7541 section 6.2.2): no table, no Huffman code, no rule kept.
#[must_use]
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            text_length(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn text_length(block: &mut Vec<u8>, length: usize) {
    let byte = |value: usize| u8::try_from(value).expect("seven bits");
    if length < 127 {
        return block.push(byte(length));
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push(byte(rest % 128) | 128);
        rest /= 128;
    }
    block.push(byte(rest));
}

/// The head of a message in one frame.
#[must_use]
pub fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, flags | END_HEADERS, stream, &block(fields))
}

/// A frame that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// See [`kind`].
    pub kind: u8,
    /// The stream; 0 for the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM and GOAWAY.
    #[must_use]
    pub fn code(&self) -> u32 {
        let at = if self.kind == kind::GOAWAY { 4 } else { 0 };
        let bytes = self.payload[at..at + 4].try_into().expect("four bytes");
        u32::from_be_bytes(bytes)
    }

    /// The status of a response's head, where it stands in the static table (RFC 7541 appendix A).
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
        let index = self.payload.first()?.checked_sub(0x88)?;
        STATUSES.get(usize::from(index)).copied()
    }
}

/// Receives a frame; `None` when the connection ends.
pub async fn receive(raw: &mut Raw) -> Option<Frame> {
    let head = raw.receive_or_end(9).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    let payload = raw.receive_or_end(length as usize).await?;
    Some(Frame { kind: head[3], stream, payload })
}

/// Receives frames until one is as wanted; `None` when the connection ends before.
pub async fn receive_until(raw: &mut Raw, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
    loop {
        let frame = receive(raw).await?;
        if wanted(&frame) {
            return Some(frame);
        }
    }
}
