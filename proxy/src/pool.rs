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

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
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
    reason::Reason,
    tasks::Tasks,
    tls::{Alpn, Peer},
};

pub use bounds::{Bounds, Siblings};
pub use dial::{Dialer, Dialled};
pub use itself::Itself;
pub use progress::Progress;

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
    endpoint: Arc<Endpoint>,
    dialer: Rc<Dialer>,
    settings: PoolSettings,
    tasks: Tasks,
    shelf: Rc<Shelf>,
    siblings: Rc<Siblings>,
    bounds: RefCell<Option<Bounds>>,
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
        let pool = Rc::new(Self {
            endpoint,
            dialer,
            settings,
            tasks,
            shelf,
            siblings: siblings.clone(),
            bounds: RefCell::default(),
            shared: RefCell::default(),
            connecting: RefCell::default(),
        });
        siblings.join(&pool);
        pool
    }

    /// Connections are bounded as this destination says, from now on.
    pub fn follow(&self, destination: &Destination) {
        *self.bounds.borrow_mut() = Bounds::of(destination);
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
            Need::OwnHttp1 => self.open_http1(progress).await,
            Need::Http2 => self.shared_http2(progress).await,
            Need::Http1 { may_be_sent_again } => {
                if let Some(client) = self.kept_http1(may_be_sent_again) {
                    self.dialer.http1_metrics.reused();
                    return Ok(Connection::Http1 { client, kept: true });
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
        let is_bounded = self.bounds.borrow().as_ref().is_some_and(Bounds::limits_connections);
        if !is_bounded {
            return self.open_http1(progress).await;
        }
        let returned = async {
            loop {
                self.siblings.returned().await;
                if let Some(client) = self.kept_http1(may_be_sent_again) {
                    return client;
                }
            }
        };
        // One that came back is there: it goes before one that is still to be made.
        let either = async {
            tokio::select! {
                biased;
                client = returned => {
                    self.dialer.http1_metrics.reused();
                    Ok(Connection::Http1 { client, kept: true })
                }
                opened = self.open_http1(progress) => opened,
            }
        };
        Box::pin(either).await
    }

    /// Gives up the idle connection that was not used for longest; whether there was one.
    fn give_up_idle(&self) -> bool {
        if self.shelf.drop_oldest() {
            return true;
        }
        let mut shared = self.shared.borrow_mut();
        let idle = shared.iter().position(|shared| shared.client.in_flight() == 0);
        idle.map(|index| shared.swap_remove(index)).is_some()
    }

    /// Dials as the service's policy allows: within its connections, and its time. `begins` is told when there is a place
    /// for the connection.
    async fn dial(&self, offer: &[Alpn], begins: impl FnOnce()) -> Result<Dialled, ProxyError> {
        let bounds = self.bounds.borrow().clone();
        let Some(bounds) = bounds else {
            begins();
            return self.dialer.dial(&self.endpoint, offer, None).await;
        };
        let place = Box::pin(bounds.place(&self.siblings)).await?;
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
        self.dial(&[Alpn::Tcp], || {}).await
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

    async fn open_http1(&self, progress: &Progress) -> Result<Connection, ProxyError> {
        let dialled = self.dial(&[Alpn::Http1], || progress.dials(clock::now())).await?;
        self.dialer.http1_metrics.opened();
        let client = Http1Client::new(dialled.socket, self.dialer.http1_settings())
            .verified_under(dialled.bundle_generation)
            .holding(dialled.place);
        Ok(Connection::Http1 { client, kept: false })
    }

    async fn shared_http2(self: &Rc<Self>, progress: &Progress) -> Result<Connection, ProxyError> {
        loop {
            if let Some(client) = self.usable_shared() {
                return Ok(Connection::Http2(client));
            }
            self.connect_shared()?.outcome(progress).await?;
        }
    }

    /// A shared connection that takes another stream: the first with room, so that few stay busy and the rest
    /// become idle.
    fn usable_shared(&self) -> Option<Rc<Http2Client>> {
        let now = clock::now();
        let mut shared = self.shared.borrow_mut();
        shared.retain(|shared| !shared.client.is_closed());
        let usable = shared
            .iter()
            .find(|shared| self.is_fresh(shared, now) && shared.client.can_take_request())?;
        usable.last_used.set(now);
        if usable.used.replace(true) {
            self.dialer.http2_metrics.reused();
        }
        Some(usable.client.clone())
    }

    /// Joins the connection that is being opened, or opens one. One at a time: a burst of requests to a cold
    /// endpoint makes one handshake.
    fn connect_shared(self: &Rc<Self>) -> Result<Rc<Connecting>, ProxyError> {
        if let Some(connecting) = &*self.connecting.borrow() {
            return Ok(connecting.clone());
        }
        if self.shared.borrow().len() >= self.settings.max_connections {
            return Err(self.full());
        }
        let connecting = Rc::new(Connecting::default());
        *self.connecting.borrow_mut() = Some(connecting.clone());
        self.tasks.spawn(self.clone().run_shared(connecting.clone()));
        Ok(connecting)
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
        let Dialled { socket, alpn, bundle_generation, peer, place } =
            self.dial(&[Alpn::WeftHttp2, Alpn::Http2], || connecting.begins_to_dial()).await?;
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
            client: Rc::new(client),
            opened: now,
            bundle_generation,
            last_used: Cell::new(now),
            used: Cell::new(false),
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
