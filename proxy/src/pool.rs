//! Connections kept to one endpoint by one worker: HTTP/1 idle on a shelf, HTTP/2 shared.
//!
//! A request takes what costs least (DESIGN, "Multiplexed at load, inline at rest"): an idle HTTP/1 connection
//! when one is at hand; at low load a new one; else a stream on a shared HTTP/2 connection. Connections are
//! opened lazily, bounded in number, and given up when idle, old, or verified under roots that have changed since:
//! such a connection takes no new request, and ends with those under way. Where the peer's own root is no longer
//! trusted, those get the time to drain.

pub mod bounds;
pub mod dial;
pub mod itself;
mod progress;
mod terms;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    clock::{self, Instant},
    config::PoolSettings,
    discovery::{Destination, Endpoint, Transport},
    error::ProxyError,
    http::{
        h1::{Http1Client, Shelf},
        h2::Http2Client,
    },
    io::Socket,
    policy::gate::{ITS_OWN, Others},
    reason::Reason,
    tasks::Tasks,
    tls::{Alpn, Peer},
};

pub use bounds::{Bounds, Siblings};
pub use dial::{Dialer, Dialled};
pub use itself::Itself;
pub use progress::Progress;
pub use terms::TERM;
use terms::Terms;

/// Requests in flight to an endpoint up to which an HTTP/1 request gets a connection of its own. Above it,
/// multiplexing wins: one write and one TLS record carry many requests.
const INLINE_REQUESTS: u32 = 4;

/// What a request needs of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The client spoke HTTP/1: either version will do between sidecars, HTTP/1 only towards an application.
    Http1 {
        /// Where a kept connection turns out closed, the request can be sent on another.
        may_be_sent_again: bool,
    },
    /// The client spoke HTTP/2 (gRPC too): streams, trailers and flow control must be kept.
    Http2,
    /// An HTTP/1 connection of its own, for an Upgrade.
    OwnHttp1,
}

/// A connection for one request.
#[derive(Debug)]
pub enum Connection {
    /// Exclusive, until the response's end.
    Http1 {
        /// The connection.
        client: Http1Client,
        /// It was used before, so the peer may have closed it meanwhile.
        kept: bool,
    },
    /// Shared.
    Http2(Rc<Http2Client>),
}

/// One worker's connections to one endpoint.
#[derive(Debug)]
pub struct EndpointPool {
    /// Of all pools of the process its own; see [`Bounds::place`].
    number: u64,
    endpoint: Arc<Endpoint>,
    dialer: Rc<Dialer>,
    settings: PoolSettings,
    tasks: Tasks,
    shelf: Rc<Shelf>,
    siblings: Rc<Siblings>,
    bounds: RefCell<Option<Bounds>>,
    /// Those who wait for the places of its connections; `None` where these are not limited.
    others: RefCell<Option<Others>>,
    shared: RefCell<Vec<Shared>>,
    connecting: RefCell<Option<Rc<Connecting>>>,
}

/// A shared HTTP/2 connection.
#[derive(Debug)]
struct Shared {
    client: Rc<Http2Client>,
    opened: Instant,
    bundle_generation: Option<u64>,
    last_used: Cell<Instant>,
    /// A request has been sent on it.
    used: Cell<bool>,
    /// How long it serves while others wait for its place.
    terms: RefCell<Terms>,
}

/// A shared connection that is being opened, and everybody who waits for it.
#[derive(Debug, Default)]
struct Connecting {
    /// It has its place among the service's connections.
    dials: Cell<bool>,
    outcome: RefCell<Option<Result<(), (Reason, String)>>>,
    changed: Notify,
}

impl Connecting {
    fn begins_to_dial(&self) {
        self.dials.set(true);
        self.changed.notify_waiters();
    }

    fn ended(&self, outcome: Result<(), (Reason, String)>) {
        *self.outcome.borrow_mut() = Some(outcome);
        self.changed.notify_waiters();
    }

    /// Completes when the connection is there, or cannot be. Cancel-safe.
    async fn outcome(&self, progress: &Progress) -> Result<(), ProxyError> {
        loop {
            let changed = self.changed.notified();
            if let Some(outcome) = &*self.outcome.borrow() {
                let failed =
                    |(reason, detail): &(Reason, String)| ProxyError::new(*reason, detail.clone());
                return outcome.as_ref().map_err(failed).copied();
            }
            if self.dials.get() {
                progress.dials(clock::now());
            }
            changed.await;
        }
    }
}

impl Shared {
    /// Nobody uses it, nor is about to: who waited for a new one has had the time to take it.
    fn is_idle(&self, now: Instant) -> bool {
        let is_new = !self.used.get() && now.saturating_duration_since(self.opened) < TERM;
        self.client.in_flight() == 0 && !is_new
    }
}

impl Connection {
    /// The socket, where a request may be the first that is said on it.
    #[must_use]
    pub fn socket(&self) -> Option<Socket> {
        match self {
            Self::Http1 { client, .. } => Some(client.socket()),
            // The endpoint's SETTINGS have come.
            Self::Http2(_) => None,
        }
    }
}

impl EndpointPool {
    /// An empty pool.
    #[must_use]
    pub fn new(
        endpoint: Arc<Endpoint>,
        dialer: Rc<Dialer>,
        settings: PoolSettings,
        tasks: Tasks,
        siblings: Rc<Siblings>,
    ) -> Rc<Self> {
        let shelf = Shelf::new(settings.max_idle, settings.max_age);
        let shelf = Rc::new(shelf.telling(siblings.returns()));
        // Zero is nobody's.
        static NUMBERS: AtomicU64 = AtomicU64::new(ITS_OWN + 1);
        let pool = Rc::new(Self {
            number: NUMBERS.fetch_add(1, Relaxed),
            endpoint,
            dialer,
            settings,
            tasks,
            shelf,
            siblings: siblings.clone(),
            bounds: RefCell::default(),
            others: RefCell::default(),
            shared: RefCell::default(),
            connecting: RefCell::default(),
        });
        siblings.join(&pool);
        pool
    }

    /// Connections are bounded as this destination says, from now on.
    pub fn follow(&self, destination: &Destination) {
        let bounds = Bounds::of(destination);
        let others = bounds.as_ref().and_then(|bounds| bounds.others(self.number));
        *self.bounds.borrow_mut() = bounds;
        *self.others.borrow_mut() = others.clone();
        self.shelf.yields_to(others);
    }

    /// Where an HTTP/1 connection goes when its response has ended.
    #[must_use]
    pub const fn shelf(&self) -> &Rc<Shelf> {
        &self.shelf
    }

    /// A connection for a request, when `in_flight` others are under way to the endpoint; how far that came shows in
    /// `progress`.
    ///
    /// # Errors
    /// No connection could be made; nothing was sent.
    pub async fn acquire(
        self: &Rc<Self>,
        need: Need,
        in_flight: u32,
        progress: &Progress,
    ) -> Result<Connection, ProxyError> {
        let meshed = matches!(self.endpoint.transport, Transport::Mesh(_));
        match need {
            Need::OwnHttp1 => self.open_http1(ITS_OWN, progress).await,
            Need::Http2 => self.shared_http2(progress).await,
            Need::Http1 { may_be_sent_again } => {
                if !self.siblings.have_line()
                    && let Some(connection) = self.at_hand(may_be_sent_again)
                {
                    return Ok(connection);
                }
                if meshed && (in_flight > INLINE_REQUESTS) {
                    self.shared_http2(progress).await
                } else if in_flight as usize + self.shelf.len() > self.settings.max_connections {
                    Err(self.full())
                } else {
                    self.open_or_returned(may_be_sent_again, progress).await
                }
            }
        }
    }

    /// A new connection, or one of the kept ones that comes back while the service has as many as it may have.
    async fn open_or_returned(
        &self,
        may_be_sent_again: bool,
        progress: &Progress,
    ) -> Result<Connection, ProxyError> {
        if self.others.borrow().is_none() {
            return self.open_http1(ITS_OWN, progress).await;
        }
        let returned = async {
            loop {
                self.siblings.returned().await;
                if let Some(connection) = self.at_hand(may_be_sent_again) {
                    return connection;
                }
            }
        };
        // One that came back is there: it goes before one that is still to be made.
        let either = async {
            tokio::select! {
                biased;
                connection = returned => Ok(connection),
                opened = self.open_http1(self.number, progress) => opened,
            }
        };
        Box::pin(either).await
    }

    /// A connection that is there: a kept one, or, where a further one would have to wait for a place, a stream on one that
    /// is shared.
    fn at_hand(&self, may_be_sent_again: bool) -> Option<Connection> {
        if let Some(client) = self.kept_http1(may_be_sent_again) {
            self.dialer.http1_metrics.reused();
            return Some(Connection::Http1 { client, kept: true });
        }
        let may_share =
            matches!(self.endpoint.transport, Transport::Mesh(_)) && self.others.borrow().is_some();
        if may_share { self.usable_shared().map(Connection::Http2) } else { None }
    }

    /// Whether there is an idle connection.
    fn has_idle(&self) -> bool {
        let now = clock::now();
        !self.shelf.is_empty() || self.shared.borrow().iter().any(|shared| shared.is_idle(now))
    }

    /// Gives up the idle connection that was not used for longest; whether there was one.
    fn give_up_idle(&self) -> bool {
        if self.shelf.drop_oldest() {
            return true;
        }
        let mut shared = self.shared.borrow_mut();
        let now = clock::now();
        let idle = shared.iter().position(|shared| shared.is_idle(now));
        idle.map(|index| shared.swap_remove(index)).is_some()
    }

    /// Dials as the service's policy allows: within its connections, and its time. What would do `instead`, see
    /// [`Bounds::place`]; `begins` is told when there is a place for the connection.
    async fn dial(
        &self,
        offer: &[Alpn],
        instead: u64,
        begins: impl FnOnce(),
    ) -> Result<Dialled, ProxyError> {
        let bounds = self.bounds.borrow().clone();
        let Some(bounds) = bounds else {
            begins();
            return self.dialer.dial(&self.endpoint, offer, None).await;
        };
        let place = Box::pin(bounds.place(&self.siblings, &self.tasks, instead)).await?;
        begins();
        let timeout = bounds.limits.connect_timeout;
        let dialled = self.dialer.dial(&self.endpoint, offer, timeout).await?;
        Ok(Dialled { place, ..dialled })
    }

    /// A connection for opaque bytes, never kept.
    ///
    /// # Errors
    /// No connection could be made.
    pub async fn open_tcp(&self) -> Result<Dialled, ProxyError> {
        self.dial(&[Alpn::Tcp], ITS_OWN, || {}).await
    }

    /// Why a connection from here broke, where the endpoint's sidecar refused our certificate: see
    /// [`Dialer::explain`].
    #[must_use]
    pub fn explain(&self, socket: &Socket) -> Option<ProxyError> {
        self.dialer.explain(&self.endpoint, socket)
    }

    /// Gives up connections that are idle or old. Returns whether any is left.
    pub fn sweep(&self, now: Instant) -> bool {
        let of_policy = self.bounds.borrow().as_ref().and_then(|it| it.limits.idle_timeout);
        let idle_timeout = of_policy.unwrap_or(self.settings.idle_timeout);
        self.shelf.evict(|client, since| {
            now.saturating_duration_since(since) < idle_timeout
                && now.saturating_duration_since(client.opened()) < self.settings.max_age
                && self.dialer.is_current(client.bundle_generation())
        });
        self.shared.borrow_mut().retain(|shared| {
            let idle = now.saturating_duration_since(shared.last_used.get());
            let busy = shared.client.in_flight() > 0;
            !shared.client.is_closed()
                && (busy || idle < idle_timeout)
                && self.is_fresh(shared, now)
        });
        !self.shelf.is_empty() || !self.shared.borrow().is_empty()
    }

    /// The idle connection that was used last and is still good.
    fn kept_http1(&self, may_be_sent_again: bool) -> Option<Http1Client> {
        loop {
            let client = self.shelf.take(may_be_sent_again)?;
            if self.dialer.is_current(client.bundle_generation()) {
                return Some(client);
            }
        }
    }

    /// Whether a shared connection may take new requests, as far as its age and its roots go.
    fn is_fresh(&self, shared: &Shared, now: Instant) -> bool {
        now.saturating_duration_since(shared.opened) < self.settings.max_age
            && self.dialer.is_current(shared.bundle_generation)
    }

    async fn open_http1(
        &self,
        instead: u64,
        progress: &Progress,
    ) -> Result<Connection, ProxyError> {
        let begins = || progress.dials(clock::now());
        let dialled = self.dial(&[Alpn::Http1], instead, begins).await?;
        self.dialer.http1_metrics.opened();
        let client = Http1Client::new(dialled.socket, self.dialer.http1_settings())
            .verified_under(dialled.bundle_generation)
            .holding(dialled.place);
        Ok(Connection::Http1 { client, kept: false })
    }

    async fn shared_http2(self: &Rc<Self>, progress: &Progress) -> Result<Connection, ProxyError> {
        let began = clock::now();
        loop {
            if let Some(client) = self.usable_shared() {
                return Ok(Connection::Http2(client));
            }
            let (connecting, is_new) = self.connect_shared()?;
            let outcome = connecting.outcome(progress);
            let is_unlimited = self.others.borrow().is_none();
            let outcome = match is_unlimited {
                true => Some(outcome.await),
                false => Box::pin(self.until_room(outcome)).await,
            };
            if let Some(Err(error)) = outcome
                && (is_new || !self.may_wait_longer(error.reason, began))
            {
                return Err(error);
            }
        }
    }

    /// Waits for what becomes of the connection that is being opened; `None` when one that is there may have room before.
    async fn until_room<T>(&self, outcome: impl Future<Output = T>) -> Option<T> {
        // One that rests does not say when it goes on.
        let goes_on = async {
            if self.shared.borrow().is_empty() {
                return std::future::pending().await;
            }
            clock::sleep(TERM).await;
        };
        tokio::select! {
            outcome = outcome => Some(outcome),
            () = self.siblings.returned() => None,
            () = goes_on => None,
        }
    }

    /// Whether a request that began to wait then goes on, though the connection that another one has begun to wait for
    /// has got no place in time.
    fn may_wait_longer(&self, reason: Reason, began: Instant) -> bool {
        let bounds = self.bounds.borrow();
        let Some(bounds) = bounds.as_ref().filter(|_| reason == Reason::ServiceLimit) else {
            return false;
        };
        let max_wait = bounds.limits.max_wait;
        max_wait.is_zero() || began.elapsed() < max_wait
    }

    /// A shared connection that takes another stream: the first with room, so that few stay busy and the rest
    /// become idle.
    fn usable_shared(&self) -> Option<Rc<Http2Client>> {
        let now = clock::now();
        let mut shared = self.shared.borrow_mut();
        shared.retain(|shared| !shared.client.is_closed());
        let others_are_first = self.others.borrow().as_ref().is_some_and(Others::are_first);
        let usable = shared.iter().find(|shared| {
            self.is_fresh(shared, now)
                && shared.client.can_take_request()
                && !(others_are_first && self.rests(shared, now))
        })?;
        usable.last_used.set(now);
        if usable.used.replace(true) {
            self.dialer.http2_metrics.reused();
        }
        Some(usable.client.clone())
    }

    /// Whether it takes nothing new, so that others get its place.
    fn rests(&self, shared: &Shared, now: Instant) -> bool {
        let patience = self.bounds.borrow().as_ref().map_or(Duration::MAX, Bounds::patience);
        shared.terms.borrow_mut().rest(now, patience)
    }

    /// Joins the connection that is being opened, or opens one, and says whether it is new. One at a time: a burst of
    /// requests to a cold endpoint makes one handshake.
    fn connect_shared(self: &Rc<Self>) -> Result<(Rc<Connecting>, bool), ProxyError> {
        if let Some(connecting) = &*self.connecting.borrow() {
            return Ok((connecting.clone(), false));
        }
        if self.shared.borrow().len() >= self.settings.max_connections {
            return Err(self.full());
        }
        let connecting = Rc::new(Connecting::default());
        *self.connecting.borrow_mut() = Some(connecting.clone());
        self.tasks.spawn(self.clone().run_shared(connecting.clone()));
        Ok((connecting, true))
    }

    /// The task of one shared connection: opens it, tells those who wait, drives it to its end.
    async fn run_shared(self: Rc<Self>, connecting: Rc<Connecting>) {
        let opened = self.open_http2(&connecting).await;
        *self.connecting.borrow_mut() = None;
        let (outcome, running) = match opened {
            Ok((shared, driver, peer)) => {
                self.shared.borrow_mut().push(shared);
                (Ok(()), Some((driver, peer)))
            }
            Err(error) => (Err((error.reason, error.detail.into_owned())), None),
        };
        connecting.ended(outcome);
        self.siblings.returns().tell();
        // The pool is not held while the connection runs: it ends by itself when the pool lets go of it.
        let dialer = self.dialer.clone();
        drop(self);
        if let Some((driver, peer)) = running {
            tokio::select! {
                () = driver => {}
                () = dialer.distrusted(peer.as_ref()) => {}
            }
        }
    }

    /// A connection, its driver, and who answered.
    async fn open_http2(
        &self,
        connecting: &Connecting,
    ) -> Result<(Shared, impl Future<Output = ()> + use<>, Option<Peer>), ProxyError> {
        let Dialled { socket, alpn, bundle_generation, peer, place } = self
            .dial(&[Alpn::WeftHttp2, Alpn::Http2], self.number, || connecting.begins_to_dial())
            .await?;
        self.dialer.http2_metrics.opened();
        let side_headers = alpn == Some(Alpn::WeftHttp2);
        let settings = self.dialer.http2_settings();
        let handshake = Http2Client::handshake(socket.clone(), settings, side_headers);
        let (client, driver) = handshake.await.map_err(|error| {
            let detail = format!("{}: {}", self.endpoint.address, error.detail);
            self.explain(&socket).unwrap_or_else(|| ProxyError::new(error.reason, detail))
        })?;
        let now = clock::now();
        let shared = Shared {
            client: Rc::new(client.telling(self.siblings.returns())),
            opened: now,
            bundle_generation,
            last_used: Cell::new(now),
            used: Cell::new(false),
            terms: RefCell::new(Terms::new(now)),
        };
        let driver = async move {
            driver.await;
            drop(place);
        };
        Ok((shared, driver, peer))
    }

    fn full(&self) -> ProxyError {
        let limit = self.settings.max_connections;
        let detail =
            format!("{} has its {limit} connections (WEFT_POOL_MAX_CONNECTIONS)", self.endpoint.id);
        ProxyError::new(Reason::ConnectionLimit, detail)
    }
}
