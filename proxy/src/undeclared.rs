//! What a connection is whose protocol nobody has declared: whoever speaks first decides.
//!
//! Comes in: the client's connection, and how to dial the server. Goes out: HTTP, in which version, or opaque bytes,
//! with the server where it was dialled to find out. A client that speaks is looked at; one that is silent costs no
//! timeout, because the server is dialled meanwhile; a server that speaks first speaks no HTTP, unless what it says is
//! how servers of HTTP/2 begin: then the client decides after all. What a port turned out to be is remembered: it says how
//! long to wait, and for whom, but never what the bytes are. Where the server has limited room, it is dialled for whose turn
//! has come, and who leaves before is not waited for; whose turn it is may half-close, and is heard all the same.
//!
//! Both sidecars find out for themselves, the client's for its routes, the server's because the fields by which an
//! application knows its caller must never pass unread, whatever the caller calls its bytes.

use std::{
    cell::Cell,
    future::{pending, poll_fn, ready},
    io,
    pin::{Pin, pin},
    time::Duration,
};

use crate::{
    clock::{self, Instant},
    detect::Detected,
    drain::Drain,
    error::ProxyError,
    io::Socket,
    peek::Peek,
    reason::Reason,
};

/// A client that has said nothing for this long may be waiting for the server: the server is dialled, and what
/// the connection is stays open until the first byte from either side.
pub const SILENCE: Duration = Duration::from_millis(5);

/// The same where clients were seen to speak first: a connection opened ahead of its first request costs the
/// server nothing, and one that does wait for the server is not lost.
const KNOWN_CLIENT_SILENCE: Duration = Duration::from_secs(1);

/// So long after the last request was answered, a port may have become another application's.
const STILL_HTTP: Duration = Duration::from_secs(60);

/// Text that is no line yet, so long after its last byte, is no request line: a client of HTTP sends that at once, or
/// byte by byte. Should it become one all the same, what may be forged in it is looked for in the opaque bytes.
pub const GAP: Duration = Duration::from_millis(250);

/// What connections to a port turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Learned {
    /// No connection has shown it yet.
    #[default]
    Nothing,
    /// Clients speak first: a silent one has likely opened its connection ahead of its first request.
    ClientFirst,
    /// The server speaks first: dial without waiting for the client.
    ServerFirst,
    /// Clients speak first, in text that ends in no line: nothing more is to be waited for.
    ShortText,
    /// A request was answered here then, so who is silent hardly waits for the server to speak.
    Http(Instant),
    /// HTTP is spoken here, and by the server to whom is silent as well.
    Mixed,
}

impl Learned {
    /// What is known when a request has been answered by the application itself.
    #[must_use]
    pub const fn answered_request(self, now: Instant) -> Self {
        match self {
            Self::ServerFirst | Self::Mixed => Self::Mixed,
            Self::Nothing | Self::ClientFirst | Self::ShortText | Self::Http(_) => Self::Http(now),
        }
    }

    /// What is known once a client that was silent at first has spoken HTTP, before the server said anything.
    const fn after_late_http(self) -> Self {
        match self {
            Self::Nothing => Self::ClientFirst,
            // Not every connection of such a server is one of HTTP.
            Self::ServerFirst => Self::Mixed,
            known @ (Self::ClientFirst | Self::ShortText | Self::Http(_) | Self::Mixed) => known,
        }
    }

    /// What is known once a client has spoken at once.
    fn after_word(self, decided: &Detected) -> Self {
        match (decided, self) {
            (_, Self::Mixed) => Self::Mixed,
            (Detected::NeedMore, _) => Self::ShortText,
            (Detected::Http1 | Detected::Http2, Self::Http(_)) => self,
            _ => Self::ClientFirst,
        }
    }

    /// When the server is dialled for a client that has been silent since it began.
    fn dialled_at(self, began: Instant) -> Instant {
        match self {
            Self::Nothing | Self::Mixed => began + SILENCE,
            Self::ClientFirst | Self::ShortText => began + KNOWN_CLIENT_SILENCE,
            Self::ServerFirst => began,
            Self::Http(answered) => (answered + STILL_HTTP).max(began + KNOWN_CLIENT_SILENCE),
        }
    }
}

/// The client's side of a connection.
#[derive(Debug)]
pub struct Client<'a> {
    /// The connection.
    pub socket: &'a Socket,
    /// What others to the same port turned out to be.
    pub learned: &'a Cell<Learned>,
    /// How long text is waited for to become a line.
    pub wait: Wait,
    /// How long it may say nothing where it is expected to speak first; zero: no bound.
    pub ahead: Duration,
    /// When it comes, who has said nothing so far is not waited for any longer.
    pub drain: Option<&'a Drain>,
}

/// How long text is waited for to become a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until it has rested for so long, which is [`GAP`], or less where somebody has waited already: then it is opaque.
    Gap(Duration),
    /// So long altogether. What could be a request then is one, for the codec to refuse: nobody gets around what holds
    /// for requests by sending one slowly.
    Whole(Duration),
    /// Not at all; but a TLS hello that has begun may take so long altogether.
    Tls(Duration),
}

impl Wait {
    async fn decide(self, client: &mut Peek<'_>) -> io::Result<Option<Detected>> {
        match self {
            Self::Gap(gap) => client.decide_while_it_speaks(gap).await,
            Self::Whole(patience) => client.decide(patience).await,
            Self::Tls(patience) => match client.any().await {
                Ok(true) if client.may_be_tls() => client.decide(patience).await,
                spoke => spoke.map(|spoke| spoke.then_some(Detected::Opaque)),
            },
        }
    }
}

/// What a connection turned out to be.
#[derive(Debug)]
pub enum Found<D> {
    /// HTTP requests, in this version.
    Http(Detected),
    /// Opaque bytes; the server is dialled already where it was needed to find out.
    Opaque(Option<D>),
    /// The client ended without a byte, or has sent none for too long, or none when the proxy drains.
    Nothing,
}

/// Finds out what the client's connection is.
///
/// # Errors
/// The server could not be dialled, or neither side said anything for `idle` (zero: no bound).
pub async fn find_out<D: AsRef<Socket>>(
    client: Client<'_>,
    idle: Duration,
    dial: impl Future<Output = Result<D, ProxyError>>,
) -> Result<Found<D>, ProxyError> {
    find_out_in_turn(client, idle, ready(Ok(())), async |()| dial.await).await
}

/// The same, of a server at which there may be no room: it is dialled when there is.
///
/// # Errors
/// There is no room, or else as [`find_out`].
pub async fn find_out_in_turn<R, D: AsRef<Socket>>(
    client: Client<'_>,
    idle: Duration,
    room: impl Future<Output = Result<R, ProxyError>>,
    dial: impl AsyncFnOnce(R) -> Result<D, ProxyError>,
) -> Result<Found<D>, ProxyError> {
    let Client { socket, learned, wait, ahead, drain } = client;
    let wait = match (wait, learned.get()) {
        (Wait::Gap(gap), Learned::ShortText) => Wait::Gap(gap.min(SILENCE)),
        (wait, _) => wait,
    };
    let mut client = Peek::new(socket);
    let drained = || async {
        match drain {
            Some(drain) => drain.started().await,
            None => pending().await,
        }
    };
    match begins(&mut client, learned, ahead, drained()).await {
        Begins::WithAWord => return Ok(at_once(&mut client, wait, learned).await),
        Begins::InVain => return Ok(Found::Nothing),
        Begins::Silent => {}
    }
    let has_begun = Cell::new(false);
    let mut decided = pin!(async {
        has_begun.set(client.any().await.unwrap_or(false));
        let found = found(wait.decide(&mut client).await);
        if let Found::Http(_) = found {
            learned.set(learned.get().after_late_http());
        }
        found
    });
    // Room may have to be waited for: who speaks HTTP meanwhile needs none, and who leaves neither.
    let mut room = pin!(room);
    let (room, decision) = tokio::select! {
        biased;
        decision = &mut decided => {
            if let Found::Http(_) = decision {
                return Ok(decision);
            }
            tokio::select! {
                biased;
                room = room => (room?, Some(decision)),
                () = poll_fn(|cx| socket.poll_peer_gone(cx)) => return Ok(Found::Nothing),
            }
        }
        room = &mut room => (room?, None),
    };
    let mut dialling = pin!(dial(room));
    if decision.is_some() {
        return Ok(Found::Opaque(Some(dialling.await?)));
    }
    let server = tokio::select! {
        biased;
        decision = &mut decided => match decision {
            Found::Opaque(_) | Found::Nothing => return Ok(Found::Opaque(Some(dialling.await?))),
            http @ Found::Http(_) => return Ok(http),
        },
        dialled = &mut dialling => dialled?,
    };
    let silent = async {
        clock::sleep(idle).await;
        ProxyError::new(Reason::IdleTimeout, "neither side said anything")
    };
    let first = tokio::select! {
        biased;
        first = first_word(decided, server.as_ref(), learned) => first,
        () = unless(&has_begun, drained()) => return Ok(Found::Nothing),
        error = unless(&has_begun, silent), if !idle.is_zero() => return Err(error),
    };
    match first {
        // A client that only half-closed may still want what the server says.
        Found::Opaque(_) | Found::Nothing => Ok(Found::Opaque(Some(server))),
        http @ Found::Http(_) => Ok(http),
    }
}

/// How a client begins.
enum Begins {
    /// It speaks, or ends.
    WithAWord,
    /// It has been silent for so long that the server is to be dialled.
    Silent,
    /// It has been silent for too long, or was when the proxy began to drain.
    InVain,
}

/// How a client begins. What other connections show meanwhile counts for it.
async fn begins(
    client: &mut Peek<'_>,
    learned: &Cell<Learned>,
    ahead: Duration,
    drained: impl Future<Output = ()>,
) -> Begins {
    let began = clock::now();
    let mut drained = pin!(drained);
    loop {
        let due = learned.get().dialled_at(began);
        if due <= clock::now() {
            return Begins::Silent;
        }
        // Opened ahead of its first request, by all that is known.
        let is_ahead = matches!(learned.get(), Learned::Http(_));
        tokio::select! {
            biased;
            _ = client.any() => return Begins::WithAWord,
            () = &mut drained, if is_ahead => return Begins::InVain,
            () = clock::sleep_until(due) => {}
            () = clock::sleep_until(began + ahead), if is_ahead && !ahead.is_zero() => {
                return Begins::InVain;
            }
        }
    }
}

/// What the connection is of a client that speaks at once.
async fn at_once<D>(client: &mut Peek<'_>, wait: Wait, learned: &Cell<Learned>) -> Found<D> {
    let decided = wait.decide(client).await;
    // Who looks whether somebody listens, and leaves, shows nothing.
    if let Ok(Some(decided)) = &decided {
        learned.set(learned.get().after_word(decided));
    }
    found(decided)
}

/// What a connection is on which neither side has said anything, from whoever does first.
async fn first_word<D>(
    decided: Pin<&mut impl Future<Output = Found<D>>>,
    server: &Socket,
    learned: &Cell<Learned>,
) -> Found<D> {
    let mut server = Peek::new(server);
    tokio::select! {
        biased;
        decision = decided => decision,
        is_heard = speaks_first(&mut server) => {
            if is_heard {
                learned.set(Learned::ServerFirst);
            }
            Found::Opaque(None)
        }
    }
}

/// What comes of waiting, but where the client has begun to speak by then: what that becomes is decided soon.
async fn unless<T>(has_begun: &Cell<bool>, waiting: impl Future<Output = T>) -> T {
    let came = waiting.await;
    if has_begun.get() { pending().await } else { came }
}

/// Completes when the server has said what makes the connection opaque (true), or ended without. What a server of HTTP/2
/// says first decides nothing: it never completes then, and the client's bytes tell.
async fn speaks_first(server: &mut Peek<'_>) -> bool {
    match server.is_http2_server().await {
        Ok(Some(true)) => pending().await,
        Ok(Some(false)) => true,
        Ok(None) | Err(_) => false,
    }
}

fn found<D>(decided: io::Result<Option<Detected>>) -> Found<D> {
    match decided {
        Ok(Some(version @ (Detected::Http1 | Detected::Http2))) => Found::Http(version),
        Ok(Some(Detected::Tls(_) | Detected::Opaque | Detected::NeedMore)) => Found::Opaque(None),
        Ok(None) | Err(_) => Found::Nothing,
    }
}

#[cfg(test)]
mod tests;
