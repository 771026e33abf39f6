//! How many connections a service may have, all its endpoints and all workers together.
//!
//! In comes what a policy says; out comes a place for each connection that is to be made, given back when the connection
//! is gone. Where none is left, a request waits: for a place, or for a kept connection to its endpoint that comes back.
//! A connection that is idle while somebody waits is given up for one that is needed elsewhere: by whoever waits where
//! that is in the same worker, and else by the [`Siblings`] that have it, which hear of whoever waits. One that is in use
//! goes elsewhere when it has served its own pool for a [`TERM`](super::terms::TERM); so whoever has waited longest gets
//! a place from the next connection that becomes free, and a service may have fewer connections than there are workers.

use std::{
    cell::{Cell, RefCell},
    pin::pin,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use super::EndpointPool;
use crate::{
    discovery::Destination,
    error::ProxyError,
    http::Returns,
    policy::{
        gate::{Answer, Gate, Holder, Others, Turn},
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
    returns: Rc<Returns>,
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

    /// A place for a new connection; none where their number is not limited. The request may be `served_by` the kept
    /// connections of a pool as well.
    ///
    /// # Errors
    /// `service-limit`: none is free in time, or too many wait.
    pub async fn place(
        &self,
        siblings: &Rc<Siblings>,
        tasks: &Tasks,
        served_by: Option<Holder>,
    ) -> Result<Option<Turn>, ProxyError> {
        if !self.limits_connections() {
            return Ok(None);
        }
        let (most, places) = (self.limits.max_connections, self.limits.places_in_line());
        let turn = match self.gate.ask_for(served_by, most, places) {
            Answer::Turn(turn) => Some(turn),
            Answer::Wait(mut turn) => {
                // What is idle here belongs to those who wait here already.
                if siblings.have_line() || !siblings.give_up_idle() {
                    self.gate.press();
                }
                let _in_line = InLine::at(siblings);
                let coming = async {
                    loop {
                        tokio::select! {
                            biased;
                            turn = &mut turn => return turn,
                            () = siblings.returned() => {}
                        }
                        siblings.give_up_idle();
                    }
                };
                self.limits.patiently(coming, None).await.and_then(Result::ok)
            }
            Answer::Full => return Err(self.limits.refused("maxPending", "connections")),
        };
        match turn {
            Some(turn) => {
                siblings.lend(&self.gate, tasks);
                Ok(Some(turn))
            }
            None => Err(self.limits.refused("maxWait", "connections")),
        }
    }
}

impl Siblings {
    /// One more pool.
    pub(super) fn join(&self, pool: &Rc<EndpointPool>) {
        let mut pools = self.pools.borrow_mut();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Rc::downgrade(pool));
    }

    /// Where it is said that a connection came back.
    pub(super) fn returns(&self) -> Rc<Returns> {
        Rc::clone(&self.returns)
    }

    /// Ready when a connection has come back to any of the pools. Cancel-safe.
    pub(super) async fn returned(&self) {
        self.returns.next().await;
    }

    /// Whether somebody waits for a place: who comes now does not pass them.
    pub(super) fn have_line(&self) -> bool {
        self.in_line.get() > 0
    }

    /// Gives up one idle connection of any of the pools; whether there was one.
    fn give_up_idle(&self) -> bool {
        let pools = self.pools.borrow();
        pools.iter().filter_map(Weak::upgrade).any(|pool| pool.give_up_idle())
    }

    fn have_idle(&self) -> bool {
        let pools = self.pools.borrow();
        pools.iter().filter_map(Weak::upgrade).any(|pool| pool.has_idle())
    }

    /// From now on idle connections are given up for those who wait at this gate, wherever.
    fn lend(self: &Rc<Self>, gate: &Arc<Gate>, tasks: &Tasks) {
        if self.lend_to(gate) {
            return;
        }
        self.returns.limited_by(gate);
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

/// Gives up idle connections for those who wait in other workers, until there are no such pools any more.
async fn lend(siblings: Weak<Siblings>, gate: Arc<Gate>) {
    loop {
        let mut pressed = pin!(gate.pressed());
        // From here on nothing is missed.
        pressed.as_mut().enable();
        match siblings.upgrade() {
            Some(siblings) if siblings.lend_to(&gate) => {
                // Who waits here has taken what is idle already, or is about to.
                while !siblings.returns.are_awaited() && siblings.have_idle() && gate.answer() {
                    siblings.give_up_idle();
                }
            }
            Some(_) | None => return,
        }
        pressed.await;
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
