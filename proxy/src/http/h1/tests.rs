//! The codec against tables of messages, in any pieces; both ends over sockets; and against hyper.

use bytes::BytesMut;

use super::{
    decode::{Decoded, Decoder},
    framing::BodyLength,
    parse::{self, HeadLimits, ParsedRequest, ParsedResponse, Progress},
};
use crate::http::Fields;

mod against_hyper;
mod bodies;
mod clients;
mod proxied;
mod requests;
mod responses;
mod round_trip;
mod servers;
mod wire;

pub(super) const LIMITS: HeadLimits = HeadLimits { bytes: 4096, fields: 32 };

/// How bytes are cut before they are fed: whole, one by one, and in a few odd sizes.
pub(super) const PIECES: [usize; 5] = [usize::MAX, 1, 2, 3, 7];

/// Feeds a request's head in pieces; the error's text, or the request and what is left behind it.
pub(super) fn request(bytes: &[u8], piece: usize) -> Result<(ParsedRequest, usize), String> {
    let mut progress = Progress::default();
    feed(bytes, piece, |buffer| parse::request(buffer, &mut progress, LIMITS))
}

/// Feeds a response's head in pieces.
pub(super) fn response(
    bytes: &[u8],
    piece: usize,
    to_head: bool,
) -> Result<(ParsedResponse, usize), String> {
    let mut progress = Progress::default();
    feed(bytes, piece, |buffer| parse::response(buffer, &mut progress, LIMITS, to_head))
}

fn feed<T, E: std::fmt::Display>(
    bytes: &[u8],
    piece: usize,
    mut parse: impl FnMut(&mut BytesMut) -> Result<Option<T>, E>,
) -> Result<(T, usize), String> {
    let mut buffer = BytesMut::new();
    let mut fed = 0;
    for part in bytes.chunks(piece.min(bytes.len()).max(1)) {
        buffer.extend_from_slice(part);
        fed += part.len();
        if let Some(message) = parse(&mut buffer).map_err(|error| error.to_string())? {
            return Ok((message, buffer.len() + bytes.len() - fed));
        }
    }
    Err("incomplete".to_owned())
}

/// Feeds a body in pieces: its content, its trailers and what is left behind it.
pub(super) fn body(
    length: BodyLength,
    bytes: &[u8],
    piece: usize,
) -> Result<(Vec<u8>, Option<Fields>, usize), String> {
    let mut decoder = Decoder::new(length, LIMITS);
    let (mut buffer, mut content, mut trailers) = (BytesMut::new(), Vec::new(), None);
    let mut parts = bytes.chunks(piece.min(bytes.len()).max(1));
    let mut fed = 0;
    loop {
        let ended = fed == bytes.len();
        match decoder.decode(&mut buffer, ended).map_err(|error| error.to_string())? {
            Decoded::Data(data) => {
                assert!(!data.is_empty());
                content.extend_from_slice(&data);
            }
            Decoded::Trailers(fields) => trailers = Some(fields),
            Decoded::End => {
                assert!(decoder.is_done());
                return Ok((content, trailers, buffer.len() + bytes.len() - fed));
            }
            Decoded::More => {
                let part = parts.next().expect("more only while there is more");
                buffer.extend_from_slice(part);
                fed += part.len();
            }
        }
    }
}

/// Fields as `name: value` lines.
pub(super) fn lines(headers: &Fields) -> Vec<String> {
    headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect()
}
