//! What a connection of opaque bytes was let in by.
//!
//! Comes in: the facts of a connection, under its port's policy of the moment, and what it was let in by before. Goes out:
//! the same, completed: rate limits that have counted it do not count it again, and a turn that it has stays its turn. A
//! policy that changes while nobody has spoken must cost a connection only what is new in it.

use std::sync::Arc;

use super::Facts;
use crate::{
    error::ProxyError,
    exchange::admission,
    policy::{
        gate::{Gate, Turn},
        rate_limit::RateLimits,
    },
    shared::Shared,
};

/// What a connection was let in by; nothing at first.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// The rate limits that were asked last.
    counted_by: Option<Arc<RateLimits>>,
    turn: Option<(Arc<Gate>, Turn)>,
}

impl Entry {
    /// What the port's policy asks of the connection now, beside what it was let in by.
    ///
    /// # Errors
    /// It is not let in.
    pub(super) async fn complete(self, shared: &Shared, facts: &Facts) -> Result<Self, ProxyError> {
        let policy = &facts.policy;
        let due = match (&policy.rate_limits, &self.counted_by) {
            (Some(limits), Some(before)) => limits.but_for(before),
            (limits, _) => limits.clone(),
        };
        if let Some(limits) = due {
            let charged = admission::charge(shared, &limits, None, facts.source());
            charged.map_err(|limited| limited.error)?;
        }
        let counted_by = policy.rate_limits.clone().or(self.counted_by);
        let Some(limit) = &policy.concurrency else { return Ok(Self { counted_by, turn: None }) };
        let turn = match self.turn.filter(|(gate, _)| Arc::ptr_eq(gate, &limit.gate)) {
            Some(turn) => turn,
            None => (Arc::clone(&limit.gate), admission::turn(shared, limit, None).await?),
        };
        Ok(Self { counted_by, turn: Some(turn) })
    }
}
