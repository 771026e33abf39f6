//! How many connections a service may have, all its endpoints and all workers together.
//!
//! In comes what a policy says; out comes a place for each connection that is to be made, given back when the connection
//! is gone. Where none is left, a request waits: for a place, or for a kept connection to its endpoint that comes back.
//! A connection that is idle while somebody waits is given up for one that is needed elsewhere; that is seen
//! within a worker, so that idle connections of another worker hold their places until they are swept.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
    sync::Arc,
};

use super::EndpointPool;
use crate::{
    discovery::Destination,
    error::ProxyError,
    http::h1::Returns,
    policy::{
        gate::{Answer, Gate, Turn},
        limits::ServiceLimits,
    },
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

    /// A place for a new connection; none where their number is not limited.
    ///
    /// # Errors
    /// `service-limit`: none is free in time, or too many wait.
    pub async fn place(&self, siblings: &Siblings) -> Result<Option<Turn>, ProxyError> {
        if !self.limits_connections() {
            return Ok(None);
        }
        let mut turn =
            match self.gate.ask(self.limits.max_connections, self.limits.places_in_line()) {
                Answer::Turn(turn) => return Ok(Some(turn)),
                Answer::Wait(turn) => turn,
                Answer::Full => return Err(self.limits.refused("maxPending", "connections")),
            };
        let coming = async {
            loop {
                siblings.give_up_idle();
                tokio::select! {
                    biased;
                    turn = &mut turn => return turn,
                    () = siblings.returned() => {}
                }
            }
        };
        match self.limits.patiently(coming, None).await {
            Some(Ok(turn)) => Ok(Some(turn)),
            Some(Err(_)) | None => Err(self.limits.refused("maxWait", "connections")),
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

    /// Where shelves say that a connection came back.
    pub(super) fn returns(&self) -> Rc<Returns> {
        Rc::clone(&self.returns)
    }

    /// Ready when a connection has come back to any of the pools. Cancel-safe.
    pub(super) async fn returned(&self) {
        self.returns.next().await;
    }

    /// Gives up one idle connection of any of the pools.
    fn give_up_idle(&self) {
        let pools = self.pools.borrow();
        let _ = pools.iter().filter_map(Weak::upgrade).any(|pool| pool.give_up_idle());
    }
}
