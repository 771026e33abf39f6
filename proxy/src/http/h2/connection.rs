//! A connection's state, whichever side this is of it: its streams, its windows, what either side has said.
//!
//! The connection's task feeds it with what is read ([`receive`]) and learns from it what to do next; the streams'
//! handles ([`Stream`]) send and read. Whoever has something to say writes it into the socket at once: nobody has to be
//! woken for it, and all that is written in one turn leaves together. Two bounds hold: what waits for readers is within
//! the windows, and a peer that makes this side reply without reading the replies is not read from any more.
//!
//! A stream is here as long as both sides may still send on it, or one of them; those that this side has reset are
//! remembered for a while, because the peer may not know yet.

mod heads;
mod receive;
mod send;
mod stream;

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    future::poll_fn,
    hash::{BuildHasherDefault, Hasher},
    io,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::BytesMut;
use stream::Entry;
pub(super) use stream::{Stream, StreamError};

use super::{
    code::ErrorCode,
    frame::{self, DEFAULT_MAX_PAYLOAD, DEFAULT_WINDOW, setting},
    hpack::{Decoder, Encoder},
    received::RequestParts,
};
use crate::io::Socket;

/// How many streams that this side has reset are remembered, so that frames already on their way are ignored rather
/// than taken for an offence.
const REMEMBERED_RESETS: usize = 1024;

/// Bytes of replies that may wait for a peer that does not read them.
const MAX_REPLIES: usize = 16 * 1024;

/// Which side of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

/// What this side allows its peer.
#[derive(Debug, Clone)]
pub(super) struct Allowed {
    /// Streams open at once; a client's peer opens none.
    pub max_streams: u32,
    /// Bytes of a stream, and of all streams, on the way to their readers.
    pub stream_window: u32,
    pub connection_window: u32,
    /// Bytes of a head, as HTTP/2 counts them.
    pub max_header_bytes: u32,
}

/// Why a connection has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// The peer closed it, or it broke.
    Io(io::ErrorKind),
    /// The peer broke the protocol.
    Fault(ErrorCode, &'static str),
    /// This side left.
    Left,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(io::ErrorKind::UnexpectedEof) => f.write_str("the connection was closed"),
            Self::Io(kind) => write!(f, "the connection broke: {kind}"),
            Self::Fault(code, what) => write!(f, "the peer broke HTTP/2: {code}: {what}"),
            Self::Left => f.write_str("the connection was left"),
        }
    }
}

/// What the peer allows this side.
#[derive(Debug)]
struct PeerSettings {
    /// `None` until its SETTINGS are here.
    max_streams: Option<u32>,
    initial_window: i64,
    max_payload: usize,
    /// It takes the extended CONNECT.
    takes_protocols: bool,
}

/// A new request.
#[derive(Debug)]
pub(super) struct Accepted {
    pub stream: Stream,
    pub request: RequestParts,
    /// What it announces of its body.
    pub length: Option<u64>,
}

/// The window that the peer has for sending, on one level.
#[derive(Debug)]
struct ReceiveWindow {
    /// What the peer may still send.
    left: i64,
    /// What was read and is not yet given back.
    unreleased: u32,
    /// How much is given back at once.
    step: u32,
}

impl ReceiveWindow {
    /// A window of `size` bytes. `step` is to be half of the smallest window that rests on it: a stream may go on as long
    /// as its own window has room, whatever the others have not read.
    fn new(size: u32, step: u32) -> Self {
        Self { left: i64::from(size), unreleased: 0, step: step.max(1) }
    }

    /// Takes back what was read; returns what is to be announced, which is seldom and then half a stream's window.
    fn release(&mut self, bytes: usize) -> Option<u32> {
        self.unreleased += bytes as u32;
        if self.unreleased < self.step {
            return None;
        }
        let increment = std::mem::take(&mut self.unreleased);
        self.left += i64::from(increment);
        Some(increment)
    }
}

/// A connection, shared by its task and its streams.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    core: RefCell<Core>,
}

#[derive(Debug)]
struct Core {
    role: Role,
    allowed: Allowed,
    peer: PeerSettings,
    streams: HashMap<u32, Rc<Entry>, BuildHasherDefault<IdHasher>>,
    /// The client's next stream, or the least that a server's client may open next.
    next_stream: u32,
    encoder: Encoder,
    decoder: Decoder,
    /// A block whose end has not come.
    block: Option<heads::Block>,
    send_window: i64,
    receive_window: ReceiveWindow,
    /// Streams that wait for the connection's window.
    waiting: Vec<Rc<Entry>>,
    accepted: VecDeque<Accepted>,
    /// Streams that this side reset, the last ones.
    reset: VecDeque<u32>,
    /// How often the peer reset a stream, or made this side do so, since this was asked last.
    resets: u32,
    /// The last stream that is served, once GOAWAY has said so.
    last_served: Option<u32>,
    /// What the peer's GOAWAY said.
    goaway: Option<ErrorCode>,
    /// Nobody will open another stream: the connection ends with the last one.
    is_leaving: bool,
    /// The client was asked whether it has seen GOAWAY, and has not answered.
    awaits_goodbye: bool,
    /// Something was read since this was asked last.
    heard: bool,
    /// The PING that asks whether the peer lives was answered.
    pong: bool,
    /// Bytes of replies since the socket had room.
    replies: usize,
    ended: Option<Ended>,
    /// The connection's task.
    task: Option<Waker>,
    /// Where frames are put together.
    scratch: Vec<u8>,
}

/// What this side's PINGs carry: whether the peer lives, and whether it has seen GOAWAY.
const LIVES: [u8; 8] = *b"weftping";
const GOODBYE: [u8; 8] = *b"weftlast";

impl Connection {
    /// A connection on which nothing was said yet; says this side's settings.
    pub(super) fn begin(socket: Socket, role: Role, allowed: Allowed) -> Rc<Self> {
        let mut out = Vec::new();
        if role == Role::Client {
            out.extend_from_slice(frame::PREFACE);
        }
        let mut settings = vec![
            (setting::INITIAL_WINDOW_SIZE, allowed.stream_window),
            (setting::MAX_HEADER_LIST_SIZE, allowed.max_header_bytes),
        ];
        match role {
            Role::Client => settings.push((setting::ENABLE_PUSH, 0)),
            Role::Server => settings.extend([
                (setting::MAX_CONCURRENT_STREAMS, allowed.max_streams),
                (setting::ENABLE_CONNECT_PROTOCOL, 1),
            ]),
        }
        frame::settings(&settings, &mut out);
        let more = allowed.connection_window.saturating_sub(DEFAULT_WINDOW);
        if more > 0 {
            frame::window_update(0, more, &mut out);
        }
        // A broken socket is noticed by whoever reads.
        let _ = socket.write(&out);
        let core = Core {
            role,
            peer: PeerSettings {
                max_streams: None,
                initial_window: i64::from(DEFAULT_WINDOW),
                max_payload: DEFAULT_MAX_PAYLOAD,
                takes_protocols: false,
            },
            streams: HashMap::default(),
            next_stream: 1,
            encoder: Encoder::new(),
            decoder: Decoder::new(),
            block: None,
            send_window: i64::from(DEFAULT_WINDOW),
            receive_window: ReceiveWindow::new(
                allowed.connection_window.max(DEFAULT_WINDOW),
                allowed.stream_window / 2,
            ),
            waiting: Vec::new(),
            accepted: VecDeque::new(),
            reset: VecDeque::new(),
            resets: 0,
            last_served: None,
            goaway: None,
            is_leaving: false,
            awaits_goodbye: false,
            heard: false,
            pong: false,
            replies: 0,
            ended: None,
            task: None,
            scratch: Vec::new(),
            allowed,
        };
        Rc::new(Self { socket, core: RefCell::new(core) })
    }

    /// Reads a client's preface.
    ///
    /// # Errors
    /// The connection ended before, or begins with something else.
    pub(super) async fn read_preface(&self, buffer: &mut BytesMut) -> Result<(), Ended> {
        loop {
            let read = buffer.len().min(frame::PREFACE.len());
            if buffer[..read] != frame::PREFACE[..read] {
                return Err(Ended::Fault(ErrorCode::PROTOCOL_ERROR, "no preface of HTTP/2"));
            }
            if read == frame::PREFACE.len() {
                let _ = buffer.split_to(read);
                return Ok(());
            }
            match poll_fn(|cx| self.socket.poll_fill(cx, buffer)).await {
                Ok(0) => return Err(Ended::Io(io::ErrorKind::UnexpectedEof)),
                Ok(_) => {}
                Err(error) => return Err(Ended::Io(error.kind())),
            }
        }
    }

    /// Reads and takes in what there is, up to the next requests: more is not read before those were accepted. Ready when
    /// the connection has ended.
    pub(super) fn poll_read(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<Ended> {
        loop {
            if let Some(ended) = self.take_in(buffer) {
                return Poll::Ready(ended);
            }
            {
                let mut core = self.core.borrow_mut();
                if !core.accepted.is_empty() {
                    return Poll::Pending;
                }
                core.set_task(cx);
                if core.is_leaving && core.streams.is_empty() {
                    drop(core);
                    self.end(Ended::Left);
                    return Poll::Ready(Ended::Left);
                }
                if core.replies > MAX_REPLIES {
                    drop(core);
                    // A broken socket is noticed by the read.
                    let _ = ready!(self.socket.poll_writable(cx));
                    self.core.borrow_mut().replies = 0;
                }
            }
            let ended = match ready!(self.socket.poll_fill(cx, buffer)) {
                Ok(0) => Ended::Io(io::ErrorKind::UnexpectedEof),
                Ok(_) => {
                    self.core.borrow_mut().heard = true;
                    continue;
                }
                Err(error) => Ended::Io(error.kind()),
            };
            self.end(ended.clone());
            return Poll::Ready(ended);
        }
    }

    /// Ends the connection for everybody on it; what they have not read yet stays readable.
    pub(super) fn end(&self, ended: Ended) {
        let (streams, _accepted) = {
            let mut core = self.core.borrow_mut();
            if core.ended.is_some() {
                return;
            }
            let last_words = match &ended {
                Ended::Fault(code, _) => Some(*code),
                // A server has said it before.
                Ended::Left => (core.role == Role::Client).then_some(ErrorCode::NO_ERROR),
                Ended::Io(_) => None,
            };
            if core.role == Role::Client && !core.streams.is_empty() {
                // What is left of their requests must not leave any more: those who are told that nothing did rest on it.
                self.socket.abort();
            } else if let Some(code) = last_words {
                let mut out = Vec::new();
                frame::goaway(core.last_peer_stream(), code, &mut out);
                let _ = self.socket.write(&out);
            }
            core.ended = Some(ended.clone());
            core.waiting.clear();
            (std::mem::take(&mut core.streams), std::mem::take(&mut core.accepted))
        };
        for entry in streams.values() {
            entry.fail(StreamError::Ended(ended.clone()));
        }
    }

    /// Says that nothing more will come, once all that was said has left. Ready when that is done.
    pub(super) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_shutdown(cx).map(|_| ())
    }

    /// See [`Socket::written_to_kernel`].
    pub(super) fn written_to_kernel(&self) -> u64 {
        self.socket.written_to_kernel()
    }

    /// Whether it has ended: nothing of what is unsent leaves then.
    pub(super) fn has_ended(&self) -> bool {
        self.core.borrow().ended.is_some()
    }

    /// The next request, if one has come. To be called after [`Self::poll_read`] until there is none.
    pub(super) fn accept(&self) -> Option<Accepted> {
        self.core.borrow_mut().accepted.pop_front()
    }

    /// How often the peer reset streams, or made this side do so, since this was asked last.
    pub(super) fn take_resets(&self) -> u32 {
        std::mem::take(&mut self.core.borrow_mut().resets)
    }

    /// How many streams the peer allows; `None` until it has said so.
    pub(super) fn max_streams(&self) -> Option<u32> {
        self.core.borrow().peer.max_streams
    }

    /// Whether the peer takes the extended CONNECT (RFC 8441 section 3).
    pub(super) fn takes_protocols(&self) -> bool {
        self.core.borrow().peer.takes_protocols
    }

    /// Whether no more streams can be opened on it.
    pub(super) fn is_closed(&self) -> bool {
        let core = self.core.borrow();
        core.ended.is_some() || core.goaway.is_some() || core.next_stream > send::LAST_STREAM
    }

    /// Ends the connection with the last of its streams.
    pub(super) fn leave(&self) {
        let mut core = self.core.borrow_mut();
        core.is_leaving = true;
        core.wake_task();
    }

    /// Asks the client for no more streams, and asks for a sign that it has understood: until then it may open some,
    /// and those are served.
    pub(super) fn say_goodbye(&self) {
        const NONE_YET: u32 = (1 << 31) - 1;
        self.write(|core, out| {
            core.awaits_goodbye = true;
            frame::goaway(NONE_YET, ErrorCode::NO_ERROR, out);
            frame::ping(GOODBYE, false, out);
        });
    }

    /// Serves no stream that is not here, and ends with the last one.
    pub(super) fn close(&self, code: ErrorCode) {
        self.write(|core, out| {
            let last = core.last_peer_stream();
            core.last_served = Some(last);
            core.is_leaving = true;
            frame::goaway(last, code, out);
        });
        self.core.borrow_mut().wake_task();
    }

    /// Asks whether the peer lives.
    pub(super) fn send_ping(&self) {
        self.write(|_, out| frame::ping(LIVES, false, out));
    }

    /// Whether it has answered since this was asked last.
    pub(super) fn take_pong(&self) -> bool {
        std::mem::take(&mut self.core.borrow_mut().pong)
    }

    /// Whether anything was read since this was asked last.
    pub(super) fn take_heard(&self) -> bool {
        std::mem::take(&mut self.core.borrow_mut().heard)
    }

    /// Writes frames that are put together in the scratch buffer.
    fn write(&self, make: impl FnOnce(&mut Core, &mut Vec<u8>)) {
        let mut core = self.core.borrow_mut();
        if core.ended.is_some() {
            return;
        }
        let mut out = std::mem::take(&mut core.scratch);
        out.clear();
        make(&mut core, &mut out);
        if !out.is_empty() {
            // A broken socket is noticed by whoever reads.
            let _ = self.socket.write(&out);
        }
        core.scratch = out;
    }
}

impl Core {
    /// The last stream of the peer that was looked at.
    fn last_peer_stream(&self) -> u32 {
        match self.role {
            Role::Client => 0,
            Role::Server => self.last_served.unwrap_or(self.next_stream.saturating_sub(2)),
        }
    }

    fn set_task(&mut self, cx: &Context<'_>) {
        set_waker(&mut self.task, cx);
    }

    fn wake_task(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Takes a stream out that has ended; the last one of a connection that is being left ends it.
    fn remove(&mut self, stream: u32) {
        let removed = self.streams.remove(&stream);
        if removed.is_some_and(|entry| entry.state.borrow().is_waiting) {
            self.waiting.retain(|entry| entry.id != stream);
        }
        if self.is_leaving && self.streams.is_empty() {
            self.wake_task();
        }
    }

    /// The same for one that this side resets.
    fn remove_reset(&mut self, stream: u32) {
        if self.reset.len() == REMEMBERED_RESETS {
            self.reset.pop_front();
        }
        self.reset.push_back(stream);
        self.remove(stream);
    }
}

/// Keeps the waker of this task, with a clone only where it is another one.
fn set_waker(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

/// Spreads the numbers of streams, which count up by two.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
