//! The body of a message, cut out of the connection's bytes: by length, by chunks, or until the end.
//!
//! Sans-io: bytes go in, pieces come out without a copy. Chunks are read strictly: hexadecimal digits, an
//! extension only behind `;`, CRLF and nothing else; extensions are bounded and dropped.
//!
//! ```text
//! Size --size > 0--> Data --all--> DataEnd --CRLF--> Size
//! Size --size = 0--> Trailers --empty line--> Done
//! ```

use bytes::{Buf, Bytes, BytesMut};

use super::{
    fields::{Source, check_line_ends, read_trailers},
    framing::BodyLength,
    parse::{HeadLimits, Progress},
};
use crate::http::{BodyError, Fields};

/// A chunk's size line, with its extension.
const MAX_SIZE_LINE: usize = 1024;
/// Extension bytes of one body: they cost the sender little and the receiver much.
const MAX_EXTENSIONS: usize = 16 * 1024;
/// Trailer fields, however many a head may have.
const MAX_TRAILER_FIELDS: usize = 64;

const TRAILERS_TOO_LARGE: BodyError = BodyError::Malformed("trailers are too large");

/// Cuts one body.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    limits: HeadLimits,
    extensions: usize,
    trailers: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Exact(u64),
    UntilClose,
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Done,
}

/// What the decoder found.
#[derive(Debug)]
pub enum Decoded {
    /// Content; never empty.
    Data(Bytes),
    /// Trailers; the end comes next.
    Trailers(Fields),
    /// The body has ended; what is left in the buffer belongs to the next message.
    End,
    /// More bytes are needed.
    More,
}

impl Decoder {
    /// A decoder for a body of this length; trailers obey `limits`.
    #[must_use]
    pub fn new(length: BodyLength, limits: HeadLimits) -> Self {
        let state = match length {
            BodyLength::Empty => State::Done,
            BodyLength::Exact(length) => State::Exact(length),
            BodyLength::Chunked => State::Size,
            BodyLength::UntilClose => State::UntilClose,
        };
        Self { state, limits, extensions: 0, trailers: Progress::default() }
    }

    /// Whether the body has been cut out whole.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done | State::Exact(0))
    }

    /// How many bytes are still to come, where that is known.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Exact(length) => Some(length),
            State::Done => Some(0),
            State::UntilClose | State::Size | State::Data(_) | State::DataEnd | State::Trailers => {
                None
            }
        }
    }

    /// Takes the next piece off the front of `buffer`. `ended`: nothing will follow what the buffer holds.
    ///
    /// # Errors
    /// The framing is malformed, or the connection ended within the body.
    pub fn decode(&mut self, buffer: &mut BytesMut, ended: bool) -> Result<Decoded, BodyError> {
        let decoded = self.step(buffer)?;
        match decoded {
            Decoded::More if ended && self.state == State::UntilClose => {
                self.state = State::Done;
                Ok(Decoded::End)
            }
            Decoded::More if ended => Err(BodyError::Truncated),
            decoded => Ok(decoded),
        }
    }

    fn step(&mut self, buffer: &mut BytesMut) -> Result<Decoded, BodyError> {
        loop {
            match self.state {
                State::Exact(0) | State::Done => {
                    self.state = State::Done;
                    return Ok(Decoded::End);
                }
                State::Exact(_) | State::Data(_) | State::UntilClose if buffer.is_empty() => {
                    return Ok(Decoded::More);
                }
                State::UntilClose => return Ok(Decoded::Data(buffer.split().freeze())),
                State::Exact(length) => {
                    let (piece, rest) = split(buffer, length);
                    self.state = State::Exact(rest);
                    return Ok(Decoded::Data(piece));
                }
                State::Data(length) => {
                    let (piece, rest) = split(buffer, length);
                    self.state = if rest == 0 { State::DataEnd } else { State::Data(rest) };
                    return Ok(Decoded::Data(piece));
                }
                State::DataEnd => match take_line_end(buffer)? {
                    true => self.state = State::Size,
                    false => return Ok(Decoded::More),
                },
                State::Size => match self.take_size(buffer)? {
                    Some(0) => self.state = State::Trailers,
                    Some(size) => self.state = State::Data(size),
                    None => return Ok(Decoded::More),
                },
                State::Trailers => match self.take_trailers(buffer)? {
                    Some(trailers) => {
                        self.state = State::Done;
                        if !trailers.is_empty() {
                            return Ok(Decoded::Trailers(trailers));
                        }
                    }
                    None => return Ok(Decoded::More),
                },
            }
        }
    }

    /// Takes a chunk's size line.
    fn take_size(&mut self, buffer: &mut BytesMut) -> Result<Option<u64>, BodyError> {
        let searched = &buffer[..buffer.len().min(MAX_SIZE_LINE)];
        let Some(end) = searched.iter().position(|byte| *byte == b'\n') else {
            if searched.len() == MAX_SIZE_LINE {
                return Err(BodyError::Malformed("chunk size line is too long"));
            }
            return check_size_line_so_far(searched).map(|()| None);
        };
        let line = searched[..end]
            .strip_suffix(b"\r")
            .ok_or(BodyError::Malformed("chunk size line ends with LF alone"))?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = parse_size(&line[..digits])?;
        self.check_extension(&line[digits..])?;
        buffer.advance(end + 1);
        Ok(Some(size))
    }

    fn check_extension(&mut self, extension: &[u8]) -> Result<(), BodyError> {
        if extension.is_empty() {
            return Ok(());
        }
        self.extensions += extension.len();
        if self.extensions > MAX_EXTENSIONS {
            return Err(BodyError::Malformed("too many chunk extensions"));
        }
        match extension.trim_ascii_start().first() {
            None => Err(BodyError::Malformed("white space behind a chunk size")),
            Some(b';') if has_control(extension) => {
                Err(BodyError::Malformed("a control character in a chunk extension"))
            }
            Some(b';') => Ok(()),
            Some(_) => Err(BodyError::Malformed("chunk size")),
        }
    }

    /// Takes the trailer section, which may be empty.
    fn take_trailers(&mut self, buffer: &mut BytesMut) -> Result<Option<Fields>, BodyError> {
        const MALFORMED: BodyError = BodyError::Malformed("trailers");
        const BARE_LF: BodyError = BodyError::Malformed("a trailer line ends with LF alone");
        if buffer.starts_with(b"\r\n") {
            buffer.advance(2);
            return Ok(Some(Fields::new()));
        }
        if !self.trailers.may_be_whole(buffer) {
            return self.wait_for_trailers(buffer);
        }
        let mut raw = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
        let fields = self.limits.fields.min(MAX_TRAILER_FIELDS);
        let parsed = httparse::parse_headers(buffer, &mut raw[..fields]);
        let parsed = parsed.map_err(|error| match error {
            httparse::Error::TooManyHeaders => TRAILERS_TOO_LARGE,
            _ => MALFORMED,
        })?;
        let httparse::Status::Complete((size, raw)) = parsed else {
            return self.wait_for_trailers(buffer);
        };
        if size > self.limits.bytes {
            return Err(TRAILERS_TOO_LARGE);
        }
        check_line_ends(&buffer[..size], raw).map_err(|_| BARE_LF)?;
        let trailers = read_trailers(&Source::new(&buffer[..size]), raw).map_err(|_| MALFORMED)?;
        buffer.advance(size);
        Ok(Some(trailers))
    }

    fn wait_for_trailers(&mut self, buffer: &[u8]) -> Result<Option<Fields>, BodyError> {
        self.trailers.wait(buffer, self.limits).map_err(|_| TRAILERS_TOO_LARGE)
    }
}

/// Takes at most `length` bytes: them, and what is left of the length.
fn split(buffer: &mut BytesMut, length: u64) -> (Bytes, u64) {
    let available = buffer.len() as u64;
    match usize::try_from(length) {
        Ok(wanted) if wanted < buffer.len() => (buffer.split_to(wanted).freeze(), 0),
        _ => (buffer.split().freeze(), length.saturating_sub(available)),
    }
}

/// Takes the CRLF behind a chunk's data.
fn take_line_end(buffer: &mut BytesMut) -> Result<bool, BodyError> {
    match &buffer[..] {
        [] | [b'\r'] => Ok(false),
        [b'\r', b'\n', ..] => {
            buffer.advance(2);
            Ok(true)
        }
        _ => Err(BodyError::Malformed("chunk is longer than its size")),
    }
}

/// Refuses what can no longer become a size line, before its end is here.
fn check_size_line_so_far(line: &[u8]) -> Result<(), BodyError> {
    match line.first() {
        Some(byte) if !byte.is_ascii_hexdigit() => Err(BodyError::Malformed("chunk size")),
        _ => Ok(()),
    }
}

/// One to sixteen hexadecimal digits.
fn parse_size(digits: &[u8]) -> Result<u64, BodyError> {
    if digits.len() > 16 {
        return Err(BodyError::Malformed("chunk size is too large"));
    }
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or(BodyError::Malformed("chunk size"))
}

fn has_control(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t')
}
