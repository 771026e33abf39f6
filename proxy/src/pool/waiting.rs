//! What a request does that finds no connection it can use.
//!
//! It waits for a new one, and before it for a place among the service's connections where these are limited; and for one
//! that is there to come back or have room, whichever is first. In come the
//! calls of [`Returns`](crate::http::Returns), one for each that comes back; out goes the connection. Who is called looks
//! at once, and says whether there is more ([`EndpointPool::has_looked`]). It must never keep what it cannot use from those
//! who can: here, or where others wait for its place.

use std::rc::Rc;

use super::{Connection, EndpointPool, Progress};
use crate::{
    clock,
    discovery::Transport,
    error::ProxyError,
    http::{Awaiting, h2::Reservation},
    policy::gate::{Holder, Turn},
};

impl EndpointPool {
    /// A connection that is there: a kept one, or, where a further one would have to wait for a place, a stream on one that
    /// is shared.
    pub(super) fn at_hand(&self, may_be_sent_again: bool) -> Option<Connection> {
        if let Some(client) = self.kept_http1(may_be_sent_again) {
            self.dialer.http1_metrics.reused();
            return Some(Connection::Http1 { client, kept: true });
        }
        let may_share =
            matches!(self.endpoint.transport, Transport::Mesh(_)) && self.others.borrow().is_some();
        if may_share { self.usable_shared().map(Connection::Http2) } else { None }
    }

    /// A new connection, or one of those that are there when it can be had, while the service has as many as it may have.
    pub(super) async fn open_or_returned(
        &self,
        may_be_sent_again: bool,
        progress: &Progress,
    ) -> Result<Connection, ProxyError> {
        if self.others.borrow().is_none() {
            return self.open_http1(None, progress).await;
        }
        let awaiting = self.returns.join();
        let returned = async {
            loop {
                awaiting.called().await;
                let found = self.at_hand(may_be_sent_again);
                self.has_looked(&awaiting);
                if let Some(connection) = found {
                    return connection;
                }
            }
        };
        // One that came back is there: it goes before one that is still to be made.
        let either = async {
            tokio::select! {
                biased;
                connection = returned => Ok(connection),
                opened = self.open_http1(Some(self.holder), progress) => opened,
            }
        };
        Box::pin(either).await
    }

    /// A stream on a shared connection that is there when it has room, or on one that is opened.
    pub(super) async fn returned_shared(
        self: &Rc<Self>,
        progress: &Progress,
    ) -> Result<Reservation, ProxyError> {
        let began = clock::now();
        let awaiting = self.returns.join();
        let mut pending = None;
        loop {
            let mut opening = self.await_opening()?;
            let bounds = self.bounds.borrow().clone();
            let in_line = bounds.filter(|_| !opening.has_place());
            match &in_line {
                Some(bounds) if pending.is_none() => pending = Some(bounds.join_line()?),
                Some(_) => {}
                None => pending = None,
            }
            let placed = async {
                match &in_line {
                    Some(bounds) => bounds.patiently_since(began, opening.placed()).await,
                    None => Ok(()),
                }
            };
            let is_placed = tokio::select! {
                biased;
                () = awaiting.called() => false,
                placed = placed => placed.map(|()| true)?,
            };
            if is_placed {
                pending = None;
                tokio::select! {
                    biased;
                    () = awaiting.called() => {}
                    outcome = opening.outcome(progress) => outcome?,
                }
            }
            // Who still waits for it keeps it from being idle.
            drop(opening);
            let found = self.usable_shared();
            self.has_looked(&awaiting);
            if let Some(reservation) = found {
                return Ok(reservation);
            }
        }
    }

    /// Who waits has looked. The next is called where more can be had; what is idle and nobody here is about to take is for
    /// others.
    fn has_looked(&self, awaiting: &Awaiting<'_>) {
        awaiting.has_looked(!self.shelf.is_empty() || self.has_usable_shared());
        if self.has_spare() {
            self.siblings.tell_of_spare();
        }
    }

    /// Whether there is an idle connection.
    fn has_idle(&self) -> bool {
        !self.shelf.is_empty() || self.shared.has_idle()
    }

    /// Whether there is an idle connection that nobody here is about to take.
    pub(super) fn has_spare(&self) -> bool {
        !self.returns.is_promised() && self.has_idle()
    }

    /// Gives up an idle connection that nobody here is about to take; whether there was one.
    pub(super) fn give_up_spare(&self) -> bool {
        !self.returns.is_promised() && self.give_up_idle()
    }

    /// Gives up an idle connection, the one that was not used for longest of its kind; whether there was one.
    fn give_up_idle(&self) -> bool {
        self.shelf.drop_oldest() || self.shared.give_up_idle()
    }

    /// A place for a new connection among those of the service, where these are limited. A request that a connection of
    /// this pool would serve as well when it comes back says so by the pool's holder in `served_by`.
    pub(super) async fn place(
        &self,
        served_by: Option<Holder>,
    ) -> Result<Option<Turn>, ProxyError> {
        let bounds = self.bounds.borrow().clone();
        match bounds {
            Some(bounds) => Box::pin(bounds.place(&self.siblings, served_by)).await,
            None => Ok(None),
        }
    }

    /// The same for all who wait for a shared connection: each of them has its own patience.
    pub(super) async fn place_for_many(&self) -> Option<Turn> {
        let bounds = self.bounds.borrow().clone();
        match bounds {
            Some(bounds) => Box::pin(bounds.place_for_many(&self.siblings, self.holder)).await,
            None => None,
        }
    }

    /// The same, where it can be had at once; whether it can, or is not needed.
    pub(super) fn place_now(&self) -> (Option<Turn>, bool) {
        let bounds = self.bounds.borrow();
        match bounds.as_ref().filter(|bounds| bounds.limits_connections()) {
            Some(bounds) => {
                let place = bounds.place_now();
                let has_place = place.is_some();
                (place, has_place)
            }
            None => (None, true),
        }
    }
}
