//! HTTP/2 connections to one endpoint that requests share.
//!
//! In comes a request that needs a stream; out goes the first connection with room, so that few stay busy and the
//! rest become idle. Where none has room, one more is opened, one at a time: a burst of requests to a cold endpoint
//! makes one handshake. Each connection is a task of its own: it waits for a place where the service's connections are
//! limited, makes the connection, and drives it until it has ended or the pool has let go of it. A connection must
//! never be given up before those who have waited for it have seen it, nor be kept from others when they all have.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    time::Duration,
};

use super::{
    Bounds, Connection, Dialled, EndpointPool, Progress, TERM,
    opening::{Awaited, Opening},
    terms::Terms,
};
use crate::{
    clock::{self, Instant},
    error::ProxyError,
    http::h2::Http2Client,
    policy::gate::{Others, Turn},
    reason::Reason,
    tls::{Alpn, Peer},
};

/// The shared connections of one pool.
#[derive(Debug, Default)]
pub(super) struct SharedConnections {
    open: RefCell<Vec<SharedConnection>>,
    /// The one that is being opened. Gone when its task is.
    opening: RefCell<Weak<Opening>>,
}

#[derive(Debug)]
struct SharedConnection {
    client: Rc<Http2Client>,
    opened: Instant,
    bundle_generation: Option<u64>,
    last_used: Cell<Instant>,
    /// A request has been sent on it.
    used: Cell<bool>,
    /// Knows who waited for it and has not seen it yet.
    opening: Rc<Opening>,
    /// How long it serves while others wait for its place.
    terms: RefCell<Terms>,
}

impl SharedConnection {
    /// Nobody uses it, nor is about to.
    fn is_idle(&self) -> bool {
        self.client.in_flight() == 0 && !self.opening.is_awaited()
    }
}

impl SharedConnections {
    pub(super) fn is_empty(&self) -> bool {
        self.open.borrow().is_empty()
    }

    pub(super) fn has_idle(&self) -> bool {
        self.open.borrow().iter().any(SharedConnection::is_idle)
    }

    /// Gives up the idle connection that was not used for longest; whether there was one.
    pub(super) fn give_up_idle(&self) -> bool {
        let mut open = self.open.borrow_mut();
        let idle = open.iter().enumerate().filter(|(_, connection)| connection.is_idle());
        let oldest = idle.min_by_key(|(_, connection)| connection.last_used.get());
        let Some((index, _)) = oldest else { return false };
        drop(open.remove(index));
        true
    }
}

impl EndpointPool {
    /// A stream on a shared connection, on a new one where none has room.
    pub(super) async fn shared_http2(
        self: &Rc<Self>,
        progress: &Progress,
    ) -> Result<Connection, ProxyError> {
        let began = clock::now();
        loop {
            if let Some(client) = self.usable_shared() {
                return Ok(Connection::Http2(client));
            }
            let (mut awaited, is_new) = self.await_opening()?;
            let outcome = awaited.outcome(progress);
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

    /// A shared connection that takes another stream.
    pub(super) fn usable_shared(&self) -> Option<Rc<Http2Client>> {
        let now = clock::now();
        let mut open = self.shared.open.borrow_mut();
        open.retain(|connection| !connection.client.is_closed());
        let others_are_first = self.others.borrow().as_ref().is_some_and(Others::are_first);
        let usable = open.iter().find(|connection| {
            self.is_fresh(connection, now)
                && connection.client.can_take_request()
                && !(others_are_first && self.rests(connection, now))
        })?;
        usable.last_used.set(now);
        if usable.used.replace(true) {
            self.dialer.http2_metrics.reused();
        }
        Some(usable.client.clone())
    }

    /// Gives up shared connections that have ended, are old, or have not been used for so long.
    pub(super) fn sweep_shared(&self, now: Instant, idle_timeout: Duration) {
        self.shared.open.borrow_mut().retain(|connection| {
            let idle = now.saturating_duration_since(connection.last_used.get());
            let busy = connection.client.in_flight() > 0;
            !connection.client.is_closed()
                && (busy || idle < idle_timeout)
                && self.is_fresh(connection, now)
        });
    }

    /// Whether it may take new requests, as far as its age and its roots go.
    fn is_fresh(&self, connection: &SharedConnection, now: Instant) -> bool {
        now.saturating_duration_since(connection.opened) < self.settings.max_age
            && self.dialer.is_current(connection.bundle_generation)
    }

    /// Whether it takes nothing new, so that others get its place.
    fn rests(&self, connection: &SharedConnection, now: Instant) -> bool {
        let patience = self.bounds.borrow().as_ref().map_or(Duration::MAX, Bounds::patience);
        connection.terms.borrow_mut().rest(now, patience)
    }

    /// Waits for what becomes of the connection that is being opened; `None` when one that is there may have room before.
    async fn until_room<T>(&self, outcome: impl Future<Output = T>) -> Option<T> {
        // One that rests does not say when it goes on.
        let goes_on = async {
            if self.shared.is_empty() {
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

    /// Joins those who wait for the connection that is being opened, or has one opened, and says whether it is new.
    fn await_opening(self: &Rc<Self>) -> Result<(Awaited, bool), ProxyError> {
        if let Some(opening) = self.shared.opening.borrow().upgrade() {
            return Ok((opening.join(), false));
        }
        if self.shared.open.borrow().len() >= self.settings.max_connections {
            return Err(self.full());
        }
        let (opening, awaited) = Opening::new();
        *self.shared.opening.borrow_mut() = Rc::downgrade(&opening);
        self.tasks.spawn(self.clone().run_shared(opening));
        Ok((awaited, true))
    }

    /// The task of one shared connection: opens it, tells those who wait, drives it to its end.
    async fn run_shared(self: Rc<Self>, opening: Rc<Opening>) {
        let place = tokio::select! {
            biased;
            // Who comes now has another one opened.
            () = opening.abandoned() => return,
            place = self.place(Some(self.holder)) => place,
        };
        let opened = match place {
            Ok(place) => self.open_http2(place, &opening).await,
            Err(error) => Err(error),
        };
        *self.shared.opening.borrow_mut() = Weak::new();
        let (outcome, running) = match opened {
            Ok((connection, driver, peer)) => {
                self.shared.open.borrow_mut().push(connection);
                (Ok(()), Some((driver, peer)))
            }
            Err(error) => (Err(error), None),
        };
        opening.ended(outcome);
        let Some((driver, peer)) = running else { return };
        // The pool is not held while the connection runs: it ends by itself when the pool lets go of it.
        let (dialer, returns) = (self.dialer.clone(), self.siblings.returns());
        drop(self);
        let was_seen = async {
            opening.abandoned().await;
            // It has room left, or is nobody's.
            returns.tell();
            std::future::pending().await
        };
        tokio::select! {
            () = driver => {}
            () = dialer.distrusted(peer.as_ref()) => {}
            () = was_seen => {}
        }
    }

    /// A connection, its driver, and who answered.
    async fn open_http2(
        &self,
        place: Option<Turn>,
        opening: &Rc<Opening>,
    ) -> Result<(SharedConnection, impl Future<Output = ()> + use<>, Option<Peer>), ProxyError>
    {
        opening.begins_to_dial();
        let Dialled { socket, alpn, bundle_generation, peer, place } =
            self.dial(&[Alpn::WeftHttp2, Alpn::Http2], place).await?;
        self.dialer.http2_metrics.opened();
        let side_headers = alpn == Some(Alpn::WeftHttp2);
        let settings = self.dialer.http2_settings();
        let handshake = Http2Client::handshake(socket.clone(), settings, side_headers);
        let (client, driver) = handshake.await.map_err(|error| {
            let detail = format!("{}: {}", self.endpoint.address, error.detail);
            self.explain(&socket).unwrap_or_else(|| ProxyError::new(error.reason, detail))
        })?;
        let now = clock::now();
        let connection = SharedConnection {
            client: Rc::new(client.telling(self.siblings.returns())),
            opened: now,
            bundle_generation,
            last_used: Cell::new(now),
            used: Cell::new(false),
            opening: opening.clone(),
            terms: RefCell::new(Terms::new(now)),
        };
        let driver = async move {
            driver.await;
            drop(place);
        };
        Ok((connection, driver, peer))
    }
}
