//! A request body that can be sent more than once: what an attempt reads is recorded for the next one.
//!
//! In comes the client's body, out come as many bodies as there are attempts, one after the other. Each
//! yields what was recorded and then goes on with the original. Recording is bounded: past the limit it stops,
//! its memory is freed, and no further attempt is possible. The record is a copy, so that a sender that drips
//! single bytes cannot pin a read buffer with each of them. A new attempt never reads along with an old one:
//! the old one fails.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;

use super::{Body, BodyError, Fields, Frame};
use crate::clock::{self, Instant};

/// Makes the bodies of a request's attempts. Dropping it ends the recording; the attempt under way goes on.
#[derive(Debug)]
pub struct Replay(Source);

#[derive(Debug)]
enum Source {
    Empty,
    /// All there already: every attempt shares it.
    Full(Bytes),
    Stream(Rc<RefCell<Recording>>),
}

impl Replay {
    /// Records up to `limit` bytes of content of this body.
    #[must_use]
    pub fn new(body: Body, limit: usize) -> Self {
        Self(match body {
            body if body.is_end() => Source::Empty,
            Body::Full(Some(bytes)) => Source::Full(bytes),
            body => Source::Stream(Rc::new(RefCell::new(Recording::new(body, limit)))),
        })
    }

    /// The body for the next attempt; `None` when what was read is no longer whole here, or the client broke
    /// its body off. The first call always gives one.
    #[must_use]
    pub fn attempt(&self) -> Option<Body> {
        match &self.0 {
            Source::Empty => Some(Body::Empty),
            Source::Full(bytes) => Some(Body::full(bytes.clone())),
            Source::Stream(recording) => {
                let attempt = recording.borrow_mut().begin()?;
                let recording = Rc::clone(recording);
                Some(Body::Replay(ReplayBody { recording, attempt, position: 0, ended: false }))
            }
        }
    }

    /// The client, as far as its body is waited for.
    #[must_use]
    pub fn client(&self) -> Client {
        Client(match &self.0 {
            Source::Empty | Source::Full(_) => None,
            Source::Stream(recording) => Some(Rc::clone(recording)),
        })
    }

    /// Whether [`Replay::attempt`] would give a body.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        match &self.0 {
            Source::Empty | Source::Full(_) => true,
            Source::Stream(recording) => recording.borrow().is_possible(),
        }
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        if let Source::Stream(recording) = &self.0 {
            recording.borrow_mut().complete = false;
        }
    }
}

/// Whether a request's client is waited for: while it is, nobody else is.
#[derive(Debug)]
pub struct Client(Option<Rc<RefCell<Recording>>>);

impl Client {
    /// Whether more of its body is waited for now.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        self.0.as_ref().is_some_and(|recording| recording.borrow().waits)
    }

    /// When more of its body came that had been waited for.
    #[must_use]
    pub fn moved(&self) -> Option<Instant> {
        self.0.as_ref().and_then(|recording| recording.borrow().moved)
    }
}

/// What was read so far, and the rest.
#[derive(Debug)]
struct Recording {
    rest: Body,
    /// More of the rest is waited for.
    waits: bool,
    /// When such a wait ended last.
    moved: Option<Instant>,
    /// Where the framing announced it, of the whole body.
    total: Option<u64>,
    content: Vec<u8>,
    trailers: Option<Fields>,
    /// The rest has ended: nothing more may be asked of it.
    ended: Option<Result<(), BodyError>>,
    limit: usize,
    /// Everything that was read is in `content`: another attempt is possible.
    complete: bool,
    /// The number of the attempt that may read.
    attempt: u64,
}

impl Recording {
    fn new(rest: Body, limit: usize) -> Self {
        Self {
            total: rest.exact_length(),
            rest,
            waits: false,
            moved: None,
            content: Vec::new(),
            trailers: None,
            ended: None,
            limit,
            complete: true,
            attempt: 0,
        }
    }

    fn is_possible(&self) -> bool {
        self.complete && !matches!(self.ended, Some(Err(_)))
    }

    fn begin(&mut self) -> Option<u64> {
        if !self.is_possible() {
            return None;
        }
        self.attempt += 1;
        self.waits = false;
        Some(self.attempt)
    }

    /// The next frame of the original, recorded in passing.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match &self.ended {
            Some(Ok(())) => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error.clone()))),
            None => {}
        }
        let polled = self.rest.poll_frame(cx);
        if std::mem::replace(&mut self.waits, polled.is_pending()) && polled.is_ready() {
            self.moved = Some(clock::now());
        }
        let frame = ready!(polled);
        match &frame {
            Some(Ok(Frame::Data(data))) => self.record(data),
            Some(Ok(Frame::Trailers(trailers))) => {
                self.trailers = self.complete.then(|| trailers.clone());
                self.ended = Some(Ok(()));
            }
            Some(Err(error)) => self.ended = Some(Err(error.clone())),
            None => self.ended = Some(Ok(())),
        }
        Poll::Ready(frame)
    }

    fn record(&mut self, data: &[u8]) {
        if self.complete && self.content.len() + data.len() <= self.limit {
            self.content.extend_from_slice(data);
        } else {
            // The attempt that reads stands at the end of the record, so nobody needs it any more.
            self.complete = false;
            self.content = Vec::new();
        }
    }
}

/// The body of one attempt.
#[derive(Debug)]
pub struct ReplayBody {
    recording: Rc<RefCell<Recording>>,
    attempt: u64,
    /// How many bytes of content this attempt has yielded.
    position: u64,
    ended: bool,
}

impl ReplayBody {
    /// See [`super::Body::poll_frame`]. An attempt that was overtaken by another fails.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut recording = self.recording.borrow_mut();
        if recording.attempt != self.attempt {
            return Poll::Ready(Some(Err(BodyError::Reset(super::h2::ErrorCode::CANCEL))));
        }
        if let Some(recorded) = recorded_from(&recording.content, self.position) {
            self.position += recorded.len() as u64;
            return Poll::Ready(Some(Ok(Frame::Data(recorded))));
        }
        if let Some(trailers) = recording.trailers.clone() {
            self.ended = true;
            return Poll::Ready(Some(Ok(Frame::Trailers(trailers))));
        }
        let frame = ready!(recording.poll_rest(cx));
        match &frame {
            Some(Ok(Frame::Data(data))) => self.position += data.len() as u64,
            Some(Ok(Frame::Trailers(_)) | Err(_)) | None => self.ended = true,
        }
        Poll::Ready(frame)
    }

    /// See [`super::Body::is_end`].
    #[must_use]
    pub fn is_end(&self) -> bool {
        let recording = self.recording.borrow();
        self.ended
            || recorded_from(&recording.content, self.position).is_none()
                && recording.trailers.is_none()
                && match &recording.ended {
                    Some(end) => end.is_ok(),
                    None => recording.rest.is_end(),
                }
    }

    /// See [`super::Body::exact_length`].
    #[must_use]
    pub fn exact_length(&self) -> Option<u64> {
        self.recording.borrow().total.map(|total| total.saturating_sub(self.position))
    }
}

/// What of the record an attempt has not yielded yet, whole.
fn recorded_from(content: &[u8], position: u64) -> Option<Bytes> {
    let position = usize::try_from(position).ok()?;
    let rest = content.get(position..)?;
    (!rest.is_empty()).then(|| Bytes::copy_from_slice(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(chunks: &[&'static str], trailers: bool, end: Result<(), BodyError>) -> Body {
        let (sender, body) = crate::http::body::channel();
        let send = |frame| sender.send(frame).expect("the body lives");
        for chunk in chunks {
            send(Ok(Frame::Data(Bytes::from_static(chunk.as_bytes()))));
        }
        if trailers {
            send(Ok(Frame::Trailers(Fields::new())));
        }
        if let Err(error) = end {
            send(Err(error));
        }
        body
    }

    async fn read(body: &mut Body, frames: usize) -> String {
        let mut text = String::new();
        for _ in 0..frames {
            match body.frame().await {
                Some(Ok(Frame::Data(data))) => {
                    text.push_str(std::str::from_utf8(&data).expect("text"));
                }
                Some(Ok(Frame::Trailers(_))) => text.push('T'),
                Some(Err(_)) => text.push('!'),
                None => text.push('.'),
            }
        }
        text
    }

    #[tokio::test]
    async fn a_second_attempt_repeats_what_the_first_read_and_goes_on() {
        let replay = Replay::new(source(&["ab", "cd", "ef"], true, Ok(())), 100);
        let mut first = replay.attempt().expect("possible");
        assert_eq!(read(&mut first, 2).await, "abcd");
        let mut second = replay.attempt().expect("possible");
        assert_eq!(read(&mut second, 4).await, "abcdefT.");
        assert_eq!(read(&mut first, 1).await, "!", "an overtaken attempt fails");
        let mut third = replay.attempt().expect("possible");
        assert!(!third.is_end());
        assert_eq!(read(&mut third, 3).await, "abcdefT.");
        assert!(third.is_end());
    }

    #[tokio::test]
    async fn past_the_limit_no_other_attempt_is_possible_and_the_first_goes_on() {
        let replay = Replay::new(source(&["ab", "cd", "ef"], false, Ok(())), 4);
        let mut first = replay.attempt().expect("possible");
        assert_eq!(read(&mut first, 2).await, "abcd");
        assert!(replay.is_possible());
        assert_eq!(read(&mut first, 2).await, "ef.");
        assert!(!replay.is_possible());
        assert!(replay.attempt().is_none());
    }

    #[tokio::test]
    async fn a_body_that_the_client_broke_off_is_not_replayed() {
        let replay = Replay::new(source(&["ab"], false, Err(BodyError::Truncated)), 100);
        let mut first = replay.attempt().expect("possible");
        assert_eq!(read(&mut first, 2).await, "ab!");
        assert!(replay.attempt().is_none());
    }

    #[tokio::test]
    async fn empty_and_whole_bodies_are_shared() {
        let replay = Replay::new(Body::Empty, 0);
        assert!(matches!(replay.attempt(), Some(Body::Empty)));
        assert!(matches!(replay.attempt(), Some(Body::Empty)));
        let replay = Replay::new(Body::full(Bytes::from_static(b"abc")), 0);
        for _ in 0..2 {
            let mut body = replay.attempt().expect("possible");
            assert_eq!(body.exact_length(), Some(3));
            assert_eq!(read(&mut body, 2).await, "abc.");
        }
    }

    #[tokio::test]
    async fn dropping_the_replay_ends_the_recording_only() {
        let replay = Replay::new(source(&["ab", "cd", "ef"], true, Ok(())), 100);
        let mut first = replay.attempt().expect("possible");
        assert_eq!(read(&mut first, 1).await, "ab");
        let mut second = replay.attempt().expect("possible");
        drop(replay);
        assert_eq!(read(&mut second, 4).await, "abcdefT");
        let Body::Replay(body) = &second else { panic!("a replay") };
        assert!(body.recording.borrow().content.is_empty(), "the memory is given back");
    }
}
