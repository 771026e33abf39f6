//! What must hold of the codec for any bytes: fuzzed, and run over the corpus by the tests.
//!
//! - [`request`], [`response`]: however the bytes arrive, the same messages are read in them; what is read
//!   and written again means the same.
//! - [`against_hyper`]: hyper reads the same messages.

pub mod against_hyper;
pub mod request;
pub mod response;

use bytes::BytesMut;
use http::{HeaderValue, header};

use super::{
    decode::{Decoded, Decoder},
    encode,
    error::HeadError,
    framing::BodyLength,
    parse::{HeadLimits, Progress},
};
use crate::http::Fields;

/// Small, so that inputs reach them.
const LIMITS: HeadLimits = HeadLimits { bytes: 2048, fields: 24 };

/// For what was written here: a field or two may have been added.
const WRITTEN: HeadLimits = HeadLimits { bytes: 2 * LIMITS.bytes, fields: 2 * LIMITS.fields };

/// How a stream's bytes arrive.
#[derive(Debug, Clone, Copy)]
enum Pieces {
    Whole,
    One,
    /// Of sizes that follow from a seed.
    Odd(u64),
}

impl Pieces {
    /// One by one, and in sizes that follow from the bytes.
    fn cuts(bytes: &[u8]) -> [Self; 2] {
        [Self::One, Self::Odd(weft_proto::digest::of_bytes(bytes) | 1)]
    }

    /// How many bytes come next; at least one.
    fn next(&mut self) -> usize {
        match self {
            Self::Whole => usize::MAX,
            Self::One => 1,
            Self::Odd(seed) => {
                // xorshift64 (Marsaglia 2003).
                *seed ^= *seed << 13;
                *seed ^= *seed >> 7;
                *seed ^= *seed << 17;
                1 << (*seed % 8)
            }
        }
    }
}

/// A message as it was read.
#[derive(Debug, PartialEq, Eq)]
struct Message<H> {
    head: H,
    content: Vec<u8>,
    trailers: Fields,
}

/// How the reading of a stream ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// With a message after which the connection carries no further one.
    Last,
    /// Nothing is left.
    Empty,
    /// Within a head.
    Incomplete,
    /// With a head that is refused.
    Refused(HeadError),
    /// With a body that is malformed or cut short.
    Broken(String),
}

/// A kind of message.
trait Kind {
    type Head;
    fn parse(
        &self,
        buffer: &mut BytesMut,
        progress: &mut Progress,
        limits: HeadLimits,
    ) -> Result<Option<Self::Head>, HeadError>;
    fn length(head: &Self::Head) -> BodyLength;
    fn is_last(head: &Self::Head) -> bool;
}

/// A stream that is being read.
struct Reader<'a, K> {
    kind: &'a K,
    limits: HeadLimits,
    rest: &'a [u8],
    pieces: Pieces,
    buffer: BytesMut,
}

/// The whole messages at the start of a stream, and how it ended.
fn read<K: Kind>(
    kind: &K,
    bytes: &[u8],
    pieces: Pieces,
    limits: HeadLimits,
) -> (Vec<Message<K::Head>>, End) {
    let mut reader = Reader { kind, limits, rest: bytes, pieces, buffer: BytesMut::new() };
    let mut messages = Vec::new();
    loop {
        let head = match reader.head() {
            Ok(head) => head,
            Err(end) => return (messages, end),
        };
        let is_last = K::is_last(&head);
        match reader.body(K::length(&head)) {
            Ok((content, trailers)) => messages.push(Message { head, content, trailers }),
            Err(end) => return (messages, end),
        }
        if is_last {
            return (messages, End::Last);
        }
    }
}

impl<K: Kind> Reader<'_, K> {
    fn head(&mut self) -> Result<K::Head, End> {
        let mut progress = Progress::default();
        loop {
            let parsed = self.kind.parse(&mut self.buffer, &mut progress, self.limits);
            if let Some(head) = parsed.map_err(End::Refused)? {
                return Ok(head);
            }
            assert!(self.buffer.len() < self.limits.bytes, "more is kept than the limit allows");
            if !self.more() {
                return Err(if self.buffer.is_empty() { End::Empty } else { End::Incomplete });
            }
        }
    }

    fn body(&mut self, length: BodyLength) -> Result<(Vec<u8>, Fields), End> {
        let mut decoder = Decoder::new(length, self.limits);
        let (mut content, mut trailers) = (Vec::new(), Fields::new());
        loop {
            let ended = self.rest.is_empty();
            match decoder.decode(&mut self.buffer, ended) {
                Ok(Decoded::Data(data)) => {
                    assert!(!data.is_empty());
                    content.extend_from_slice(&data);
                }
                Ok(Decoded::Trailers(fields)) => trailers = fields,
                Ok(Decoded::End) => break,
                Ok(Decoded::More) => {
                    assert!(self.buffer.len() < self.limits.bytes, "a body's framing is bounded");
                    assert!(self.more(), "more is asked for at the end");
                }
                Err(error) => return Err(End::Broken(error.to_string())),
            }
        }
        assert!(decoder.is_done());
        if let BodyLength::Exact(length) = length {
            assert_eq!(content.len() as u64, length);
        }
        Ok((content, trailers))
    }

    /// The next piece; `false` at the end.
    fn more(&mut self) -> bool {
        let (piece, rest) = self.rest.split_at(self.pieces.next().min(self.rest.len()));
        self.buffer.extend_from_slice(piece);
        self.rest = rest;
        !piece.is_empty()
    }
}

/// The messages of a stream, once other pieces have given the same ones.
fn read_in_any_pieces<K: Kind>(kind: &K, bytes: &[u8]) -> Vec<Message<K::Head>>
where
    K::Head: std::fmt::Debug + PartialEq,
{
    let (messages, end) = read(kind, bytes, Pieces::Whole, LIMITS);
    for pieces in Pieces::cuts(bytes) {
        let (others, other_end) = read(kind, bytes, pieces, LIMITS);
        assert_eq!(messages, others, "{pieces:?}");
        assert!(is_same_end(&end, &other_end), "{end:?}, {other_end:?} by {pieces:?}");
    }
    messages
}

/// What comes in pieces may be refused later, and for another of its mistakes; never instead of being read.
fn is_same_end(whole: &End, pieces: &End) -> bool {
    match whole {
        End::Refused(_) => matches!(pieces, End::Refused(_) | End::Incomplete),
        End::Broken(_) => matches!(pieces, End::Broken(_)),
        End::Last | End::Empty | End::Incomplete => whole == pieces,
    }
}

/// A message as bytes.
fn write(
    head: impl FnOnce(&mut Vec<u8>),
    length: BodyLength,
    content: &[u8],
    trailers: &Fields,
) -> Vec<u8> {
    let mut out = Vec::new();
    head(&mut out);
    match length {
        BodyLength::Chunked => {
            for piece in content.chunks(300) {
                encode::chunk_size(&mut out, piece.len());
                out.extend_from_slice(piece);
                out.extend_from_slice(b"\r\n");
            }
            encode::trailers(&mut out, trailers);
        }
        BodyLength::Empty | BodyLength::Exact(_) | BodyLength::UntilClose => {
            out.extend_from_slice(content);
        }
    }
    out
}

/// The one message that was written.
fn read_back<K: Kind>(kind: &K, bytes: &[u8]) -> Message<K::Head> {
    let (mut messages, end) = read(kind, bytes, Pieces::Whole, WRITTEN);
    let shown = bytes.escape_ascii();
    assert!(matches!(end, End::Last | End::Empty), "{end:?} behind {shown}");
    assert_eq!(messages.len(), 1, "one message was written: {shown}");
    messages.remove(0)
}

/// Checks that a message's trailers arrived if its framing can carry them.
fn check_trailers(sent: &Fields, length: BodyLength, received: &Fields) {
    match length {
        BodyLength::Chunked => assert_eq!(received, sent),
        BodyLength::Empty | BodyLength::Exact(_) | BodyLength::UntilClose => {
            assert!(received.is_empty());
        }
    }
}

/// The fields that must arrive of those that were sent. Their framing is checked by itself.
fn expected_fields(sent: &Fields, length: BodyLength) -> Fields {
    let mut fields = sent.clone();
    fields.remove(header::CONTENT_LENGTH);
    if length != BodyLength::Chunked {
        fields.remove(header::TRAILER);
    }
    if sent.contains_key(header::COOKIE) {
        let crumbs = sent.get_all(header::COOKIE).map(HeaderValue::as_bytes);
        let crumbs: Vec<&[u8]> = crumbs.filter(|crumb| !crumb.is_empty()).collect();
        let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]));
        fields.insert(header::COOKIE, joined.expect("values joined are one"));
    }
    fields
}
