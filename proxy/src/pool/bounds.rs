//! How many connections a service may have, all its endpoints and all workers together.
//!
//! In comes what a policy says; out comes a place for each connection that is to be made, given back when the connection
//! is gone. Where none is left, a request waits: for a place, or for a kept connection to its endpoint that comes back.
//! A connection that is idle while somebody waits is given up for one that is needed elsewhere, by the [`Siblings`] that
//! have it: these hear of whoever begins to wait, in whichever worker, and of what becomes spare. One that is in use
//! goes elsewhere when it has served its own pool for a [`TERM`](super::terms::TERM); so whoever has waited longest gets
//! a place from the next connection that becomes free, and a service may have fewer connections than there are workers.
//!
//! What must hold: while somebody waits for a place for whom no connection is being given up yet (who waits has *pressed*
//! the gate), and a connection is spare in some worker, the task of that worker which gives them up ([`lend`]) is about to
//! look. Every idle connection has a place to give: one without is let go of before it is idle.
//!
//! A limit that comes, or is lowered, holds for the connections that are there: one without a place takes one where there
//! is room, and is given up where there is none, as is one with a place that is too many. So their number comes down to
//! the limit, and no request fails for it.

use std::{
    cell::{Cell, RefCell},
    pin::pin,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use super::EndpointPool;
use crate::{
    clock::{self, Instant},
    discovery::Destination,
    error::ProxyError,
    http::{Returns, Spare},
    policy::{
        gate::{Answer, Gate, Holder, Others, Pending, Turn, Waits},
        limits::ServiceLimits,
    },
    tasks::Tasks,
};

/// What bounds the connections of a service.
#[derive(Debug, Clone)]
pub struct Bounds {
    pub(super) limits: Arc<ServiceLimits>,
    gate: Arc<Gate>,
}

/// The pools of one service in one worker.
#[derive(Debug, Default)]
pub struct Siblings {
    pools: RefCell<Vec<Weak<EndpointPool>>>,
    spare: Rc<Spare>,
    /// How many wait for a place.
    in_line: Cell<u32>,
    /// Whose places these pools have, and give up for others.
    lends: RefCell<Option<Arc<Gate>>>,
}

impl Bounds {
    /// As this destination has them; `None` where no policy sets any.
    #[must_use]
    pub fn of(destination: &Destination) -> Option<Self> {
        let limits = destination.limits.clone()?;
        Some(Self { limits, gate: Arc::clone(&destination.state.connections) })
    }

    /// Whether a connection may have to wait.
    #[must_use]
    pub fn limits_connections(&self) -> bool {
        self.limits.max_connections > 0
    }

    /// Those who wait for a place and whom a connection of this pool does not serve; `None` where nobody has to wait.
    pub(super) fn others(&self, pool: Holder) -> Option<Others> {
        self.limits_connections().then(|| Others::than(pool, Arc::clone(&self.gate)))
    }

    /// No request waits longer than this for a connection that rests: half of what it may wait at all.
    pub(super) fn patience(&self) -> Duration {
        match self.limits.max_wait {
            Duration::ZERO => Duration::MAX,
            max_wait => max_wait / 2,
        }
    }

    /// Those who may have fewer connections from now on hear of it.
    pub(super) fn take_effect(&self) {
        self.gate.limit(self.limits.max_connections);
    }

    pub(super) const fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// A place for a new connection; none where their number is not limited. The request may be `served_by` the kept
    /// connections of a pool as well.
    ///
    /// # Errors
    /// `service-limit`: none is free in time, or too many wait.
    pub async fn place(
        &self,
        siblings: &Siblings,
        served_by: Option<Holder>,
    ) -> Result<Option<Turn>, ProxyError> {
        if !self.limits_connections() {
            return Ok(None);
        }
        let (most, places) = (self.limits.max_connections, self.limits.places_in_line());
        match self.gate.ask_for(served_by, most, places) {
            Answer::Turn(turn) => Ok(Some(turn)),
            Answer::Wait(waits) => {
                self.patiently_since(clock::now(), self.in_line(waits, siblings)).await.map(Some)
            }
            Answer::Full => Err(self.line_is_full()),
        }
    }

    /// A place for a new connection, when that is now.
    pub(super) fn place_now(&self) -> Option<Turn> {
        self.gate.now(self.limits.max_connections)
    }

    /// A place for a new connection that many wait for, as long as it takes; none where their number is not limited. Each
    /// of those who wait has its own patience, and [joins the line](Self::join_line).
    pub(super) async fn place_for_many(
        &self,
        siblings: &Siblings,
        served_by: Holder,
    ) -> Option<Turn> {
        if !self.limits_connections() {
            return None;
        }
        match self.gate.ask_for_many(served_by, self.limits.max_connections) {
            Ok(turn) => Some(turn),
            Err(waits) => Some(self.in_line(waits, siblings).await),
        }
    }

    /// One more waits, with others, for a connection that has no place yet.
    ///
    /// # Errors
    /// `service-limit`: too many do.
    pub(super) fn join_line(&self) -> Result<Pending, ProxyError> {
        self.gate.join(self.limits.places_in_line()).ok_or_else(|| self.line_is_full())
    }

    /// Waits for what comes, as long as one may who has waited since then.
    ///
    /// # Errors
    /// `service-limit`: it has not come in time.
    pub(super) async fn patiently_since<T>(
        &self,
        began: Instant,
        coming: impl Future<Output = T>,
    ) -> Result<T, ProxyError> {
        let came = self.limits.patiently_since(began, coming, None).await;
        came.ok_or_else(|| self.limits.refused("maxWait", "connections"))
    }

    fn line_is_full(&self) -> ProxyError {
        self.limits.refused("maxPending", "connections")
    }

    /// Waits for its turn. For each who does, one connection is given up: one that is spare here, or the next one anywhere.
    async fn in_line(&self, waits: Waits, siblings: &Siblings) -> Turn {
        if !siblings.give_up_spare() {
            self.gate.press();
        }
        let _in_line = InLine::at(siblings);
        waits.await
    }
}

impl Siblings {
    /// One more pool.
    pub(super) fn join(&self, pool: &Rc<EndpointPool>) {
        let mut pools = self.pools.borrow_mut();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Rc::downgrade(pool));
    }

    /// Where a pool of these says that a connection came back.
    pub(super) fn returns_of_pool(&self) -> Rc<Returns> {
        Rc::new(Returns::new(Rc::clone(&self.spare)))
    }

    /// A connection of one of the pools is idle, and nobody there is about to take it.
    pub(super) fn tell_of_spare(&self) {
        self.spare.tell();
    }

    /// Whether somebody waits for a place: who comes now does not pass them.
    pub(super) fn have_line(&self) -> bool {
        self.in_line.get() > 0
    }

    /// Gives up one spare connection of any of the pools; whether there was one.
    fn give_up_spare(&self) -> bool {
        let pool = self.with_spare();
        pool.is_some_and(|pool| pool.give_up_spare())
    }

    /// A pool with a spare connection; looks only where one has become spare since there was none.
    fn with_spare(&self) -> Option<Rc<EndpointPool>> {
        if !self.spare.may_be_there() {
            return None;
        }
        let pool =
            self.pools.borrow().iter().filter_map(Weak::upgrade).find(|pool| pool.has_spare());
        if pool.is_none() {
            self.spare.none_is_left();
        }
        pool
    }

    /// Gives up spare connections for those who wait at this gate, one for each who has pressed.
    fn answer(&self, gate: &Gate) {
        while let Some(pool) = self.with_spare() {
            if !gate.answer() {
                return;
            }
            pool.give_up_spare();
        }
    }

    fn drop_surplus(&self) {
        for pool in self.pools.borrow().iter().filter_map(Weak::upgrade) {
            pool.drop_surplus();
        }
    }

    /// From now on idle connections are given up for those who wait at this gate, wherever.
    pub(super) fn lend(self: &Rc<Self>, gate: &Arc<Gate>, tasks: &Tasks) {
        if self.lend_to(gate) {
            return;
        }
        self.spare.limited_by(gate);
        if let Some(before) = self.lends.replace(Some(Arc::clone(gate))) {
            before.call();
        }
        tasks.spawn(lend(Rc::downgrade(self), Arc::clone(gate)));
    }

    fn lend_to(&self, gate: &Arc<Gate>) -> bool {
        self.lends.borrow().as_ref().is_some_and(|lends| Arc::ptr_eq(lends, gate))
    }
}

impl Drop for Siblings {
    fn drop(&mut self) {
        if let Some(gate) = self.lends.get_mut() {
            // So that the task hears that there is nothing left to give.
            gate.call();
        }
    }
}

/// Gives up idle connections for those who wait in any worker, and where there are too many, until there are no such pools
/// any more.
async fn lend(siblings: Weak<Siblings>, gate: Arc<Gate>) {
    let Some(spare) = siblings.upgrade().map(|siblings| Rc::clone(&siblings.spare)) else { return };
    loop {
        let mut pressed = pin!(gate.pressed());
        // From here on nothing is missed.
        pressed.as_mut().enable();
        match siblings.upgrade() {
            Some(siblings) if siblings.lend_to(&gate) => {
                if gate.has_surplus() {
                    siblings.drop_surplus();
                }
                siblings.answer(&gate);
            }
            // It may have heard of what whoever follows it is to give up.
            Some(siblings) => return siblings.tell_of_spare(),
            None => return,
        }
        tokio::select! {
            () = pressed => {}
            () = spare.told() => {}
        }
    }
}

/// Counts one who waits for a place.
struct InLine<'a>(&'a Siblings);

impl<'a> InLine<'a> {
    fn at(siblings: &'a Siblings) -> Self {
        siblings.in_line.set(siblings.in_line.get() + 1);
        Self(siblings)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.in_line.set(self.0.in_line.get() - 1);
    }
}
