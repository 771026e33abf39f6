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

use tokio::sync::Notify;

use super::{
    Bounds, Connection, Dialled, EndpointPool, Progress, TERM,
    opening::{Awaited, Opening},
    terms::Terms,
};
use crate::{
    clock::{self, Instant},
    error::ProxyError,
    http::h2::{Http2Client, Reservation},
    policy::gate::{Others, Turn},
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
    /// It rests, and somebody would use it.
    rest: Rc<Notify>,
    place: Place,
}

/// A connection's place among those of the service, where these are limited. Who has no place any more ends with what it
/// carries.
#[derive(Debug, Clone)]
struct Place(Rc<RefCell<Option<Turn>>>);

/// Gives the place back when the connection has ended.
struct HeldPlace(Place);

impl Place {
    /// See [`Others::permit`].
    fn is_permitted(&self, others: &Others) -> bool {
        others.permit(&mut self.0.borrow_mut())
    }
}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        let turn = self.0.0.take();
        drop(turn);
    }
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
        let reservation = match self.usable_shared() {
            Some(reservation) => reservation,
            None => Box::pin(self.returned_shared(progress)).await?,
        };
        Ok(Connection::Http2(reservation))
    }

    /// A shared connection that takes another stream.
    pub(super) fn usable_shared(&self) -> Option<Reservation> {
        let now = clock::now();
        self.drop_surplus_shared();
        self.shared.open.borrow_mut().retain(|connection| !connection.client.is_closed());
        let open = self.shared.open.borrow();
        let usable = self.find_usable(&open, now)?;
        usable.last_used.set(now);
        if usable.used.replace(true) {
            self.dialer.http2_metrics.reused();
        }
        Some(usable.client.reserve())
    }

    /// Whether there is one.
    pub(super) fn has_usable_shared(&self) -> bool {
        self.find_usable(&self.shared.open.borrow(), clock::now()).is_some()
    }

    fn find_usable<'a>(
        &self,
        open: &'a [SharedConnection],
        now: Instant,
    ) -> Option<&'a SharedConnection> {
        let others_are_first = self.others.borrow().as_ref().is_some_and(Others::are_first);
        open.iter().find(|connection| {
            self.is_fresh(connection, now)
                && connection.client.can_take_request()
                && !(others_are_first && self.rests(connection, now))
        })
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

    /// Lets go of shared connections that are too many under the service's limit, or were made before there was one and
    /// find no room: they end with what they carry.
    pub(super) fn drop_surplus_shared(&self) {
        if let Some(others) = &*self.others.borrow() {
            let is_permitted = |it: &SharedConnection| it.place.is_permitted(others);
            self.shared.open.borrow_mut().retain(is_permitted);
        }
    }

    /// Whether it takes nothing new, so that others get its place. Who waits for it is called while it does.
    fn rests(&self, connection: &SharedConnection, now: Instant) -> bool {
        let rests = connection.terms.borrow_mut().rest(now, self.patience());
        if rests {
            connection.rest.notify_one();
        }
        rests
    }

    /// How long a connection rests at most.
    fn patience(&self) -> Duration {
        self.bounds.borrow().as_ref().map_or(Duration::MAX, Bounds::patience)
    }

    /// Joins those who wait for the connection that is being opened, or has one opened.
    pub(super) fn await_opening(self: &Rc<Self>) -> Result<Awaited, ProxyError> {
        if let Some(opening) = self.shared.opening.borrow().upgrade() {
            return Ok(opening.join());
        }
        if self.shared.open.borrow().len() >= self.settings.max_connections {
            return Err(self.full());
        }
        let (place, has_place) = self.place_now();
        let (opening, awaited) = Opening::new(has_place);
        *self.shared.opening.borrow_mut() = Rc::downgrade(&opening);
        self.tasks.spawn(self.clone().run_shared(opening, place, has_place));
        Ok(awaited)
    }

    /// The task of one shared connection: opens it, tells those who wait, drives it to its end.
    async fn run_shared(
        self: Rc<Self>,
        opening: Rc<Opening>,
        place: Option<Turn>,
        has_place: bool,
    ) {
        let place = tokio::select! {
            biased;
            // Who comes now has another one opened.
            () = opening.abandoned() => return,
            place = self.place_for_many(), if !has_place => place,
            () = std::future::ready(()), if has_place => place,
        };
        let opened = self.open_http2(place, &opening).await;
        *self.shared.opening.borrow_mut() = Weak::new();
        let (outcome, running) = match opened {
            Ok((connection, driver, peer)) => {
                let rest = connection.rest.clone();
                self.shared.open.borrow_mut().push(connection);
                // It may have been begun before its number was limited.
                self.drop_surplus_shared();
                (Ok(()), Some((driver, peer, rest)))
            }
            Err(error) => (Err(error), None),
        };
        opening.ended(outcome);
        let Some((driver, peer, rest)) = running else { return };
        self.returns.tell_of_room();
        // The pool is not held while the connection runs: it ends by itself when the pool lets go of it.
        let (dialer, returns, pause) =
            (self.dialer.clone(), self.returns.clone(), TERM.min(self.patience()));
        drop(self);
        let was_seen = async {
            opening.abandoned().await;
            // It may be nobody's.
            returns.tell_of_idle();
            std::future::pending().await
        };
        let goes_on = async {
            loop {
                rest.notified().await;
                clock::sleep(pause).await;
                returns.tell_of_room();
            }
        };
        tokio::select! {
            () = driver => {}
            () = dialer.distrusted(peer.as_ref()) => {}
            () = was_seen => {}
            () = goes_on => {}
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
        let place = Place(Rc::new(RefCell::new(place)));
        let held = HeldPlace(place.clone());
        let connection = SharedConnection {
            client: Rc::new(client.telling(self.returns.clone())),
            place,
            rest: Rc::default(),
            opened: now,
            bundle_generation,
            last_used: Cell::new(now),
            used: Cell::new(false),
            opening: opening.clone(),
            terms: RefCell::new(Terms::new(now)),
        };
        let driver = async move {
            let _held = held;
            driver.await;
        };
        Ok((connection, driver, peer))
    }
}
