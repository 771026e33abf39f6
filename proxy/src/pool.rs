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
mod opening;
mod progress;
mod shared;
mod terms;
mod waiting;

use std::{cell::RefCell, rc::Rc, sync::Arc};

use crate::{
    clock::{self, Instant},
    config::PoolSettings,
    discovery::{Destination, Endpoint, Transport},
    error::ProxyError,
    http::{
        Returns,
        h1::{Http1Client, Shelf},
        h2::Reservation,
    },
    io::Socket,
    policy::gate::{Holder, Others, Turn},
    reason::Reason,
    tasks::Tasks,
    tls::Alpn,
};

pub use bounds::{Bounds, Siblings};
pub use dial::{Dialer, Dialled};
pub use itself::Itself;
pub use progress::Progress;
use shared::SharedConnections;
pub use terms::TERM;

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
    /// A place on a shared one.
    Http2(Reservation),
}

/// One worker's connections to one endpoint.
#[derive(Debug)]
pub struct EndpointPool {
    /// As which it holds its connections' places.
    holder: Holder,
    endpoint: Arc<Endpoint>,
    dialer: Rc<Dialer>,
    settings: PoolSettings,
    tasks: Tasks,
    shelf: Rc<Shelf>,
    /// Calls those who wait for its connections.
    returns: Rc<Returns>,
    siblings: Rc<Siblings>,
    bounds: RefCell<Option<Bounds>>,
    /// Those who wait for the places of its connections; `None` where these are not limited.
    others: RefCell<Option<Others>>,
    shared: SharedConnections,
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
        let returns = siblings.returns_of_pool();
        let shelf = Rc::new(shelf.telling(returns.clone()));
        let pool = Rc::new(Self {
            holder: Holder::unique(),
            endpoint,
            dialer,
            settings,
            tasks,
            shelf,
            returns,
            siblings: siblings.clone(),
            bounds: RefCell::default(),
            others: RefCell::default(),
            shared: SharedConnections::default(),
        });
        siblings.join(&pool);
        pool
    }

    /// Connections are bounded as this destination says, from now on: those that are there take places, or are given up
    /// where there is no room for them.
    pub fn follow(&self, destination: &Destination) {
        let bounds = Bounds::of(destination);
        let others = bounds.as_ref().and_then(|bounds| bounds.others(self.holder));
        if let Some(bounds) = bounds.as_ref().filter(|bounds| bounds.limits_connections()) {
            bounds.take_effect();
            self.siblings.lend(bounds.gate(), &self.tasks);
        }
        *self.bounds.borrow_mut() = bounds;
        *self.others.borrow_mut() = others.clone();
        self.shelf.yields_to(others);
        self.drop_surplus_shared();
    }

    /// Gives up connections for which a limit that came, or was lowered, leaves no room: idle ones at once, shared ones when
    /// what they carry has ended. Those in use by one request are given up when they come back.
    fn drop_surplus(&self) {
        self.shelf.drop_surplus();
        self.drop_surplus_shared();
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
            Need::OwnHttp1 => self.open_http1(None, progress).await,
            Need::Http2 => self.shared_http2(progress).await,
            Need::Http1 { may_be_sent_again } => {
                if !self.siblings.have_line()
                    && let Some(connection) = self.at_hand(may_be_sent_again)
                {
                    return Ok(connection);
                }
                if meshed && (in_flight > INLINE_REQUESTS) {
                    self.shared_http2(progress).await
                } else if self.connections(in_flight) > self.settings.max_connections {
                    Err(self.full())
                } else {
                    self.open_or_returned(may_be_sent_again, progress).await
                }
            }
        }
    }

    /// How many connections there are when so many requests are under way: each has one, but those that wait for a place.
    fn connections(&self, in_flight: u32) -> usize {
        (in_flight as usize).saturating_sub(self.returns.waiting()) + self.shelf.len()
    }

    /// Dials in the time that the service's policy allows, for a connection that has this place.
    async fn dial(&self, offer: &[Alpn], place: Option<Turn>) -> Result<Dialled, ProxyError> {
        let timeout = self.bounds.borrow().as_ref().and_then(|it| it.limits.connect_timeout);
        let dialled = self.dialer.dial(&self.endpoint, offer, timeout).await?;
        Ok(Dialled { place, ..dialled })
    }

    /// A connection for opaque bytes, never kept.
    ///
    /// # Errors
    /// No connection could be made.
    pub async fn open_tcp(&self) -> Result<Dialled, ProxyError> {
        let place = self.place(None).await?;
        self.dial(&[Alpn::Tcp], place).await
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
        self.sweep_shared(now, idle_timeout);
        self.drop_surplus();
        !self.shelf.is_empty() || !self.shared.is_empty()
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

    async fn open_http1(
        &self,
        served_by: Option<Holder>,
        progress: &Progress,
    ) -> Result<Connection, ProxyError> {
        let place = self.place(served_by).await?;
        progress.dials(clock::now());
        let dialled = self.dial(&[Alpn::Http1], place).await?;
        self.dialer.http1_metrics.opened();
        let client = Http1Client::new(dialled.socket, self.dialer.http1_settings())
            .verified_under(dialled.bundle_generation)
            .holding(dialled.place);
        Ok(Connection::Http1 { client, kept: false })
    }

    fn full(&self) -> ProxyError {
        let limit = self.settings.max_connections;
        let detail =
            format!("{} has its {limit} connections (WEFT_POOL_MAX_CONNECTIONS)", self.endpoint.id);
        ProxyError::new(Reason::ConnectionLimit, detail)
    }
}
