//! Which endpoint gets an attempt, and that its breaker takes it.
//!
//! Comes in: a snapshot, what the request has tried. Goes out: an endpoint, and the [`Trial`] that its breaker waits for.
//! Between the look at a breaker and the begin of an attempt, another worker may have taken the last place of those that
//! try the endpoint out: then another endpoint is chosen.

use std::rc::Rc;

use super::Service;
use crate::{
    balance::{EndpointSet, Member},
    discovery::Trial,
    error::ProxyError,
    reason::Reason,
};

/// Choices until all endpoints are taken for ejected.
const CHOICES: usize = 4;

/// An endpoint that takes an attempt.
#[derive(Debug)]
pub struct Chosen {
    /// The endpoint.
    pub member: Rc<Member>,
    /// What its breaker waits for, where it wants to know.
    pub trial: Option<Trial>,
}

impl Service {
    /// Chooses an endpoint of a snapshot for an attempt that begins now, another than those tried where there is one.
    /// `key` is what ties the request to one (see [`crate::balance::Affinity`]).
    ///
    /// # Errors
    /// `no-endpoints`, or `breaker-open`: each is ejected.
    pub fn choose(
        &self,
        snapshot: &EndpointSet,
        tried: &[Rc<Member>],
        key: Option<u64>,
    ) -> Result<Chosen, ProxyError> {
        for _ in 0..CHOICES {
            let member = self.pick(snapshot, tried, key);
            let member = member.ok_or_else(|| self.without_endpoints(snapshot))?;
            if let Some(chosen) = self.chosen(snapshot, member) {
                return Ok(chosen);
            }
        }
        let detail = format!("every endpoint of {} is ejected", self.label);
        Err(ProxyError::new(Reason::BreakerOpen, detail))
    }

    /// This endpoint, where its breaker takes an attempt that begins now.
    #[must_use]
    pub fn chosen(&self, snapshot: &EndpointSet, member: Rc<Member>) -> Option<Chosen> {
        let trial = Trial::begin(&snapshot.destination, &member.endpoint, &self.metrics).ok()?;
        Some(Chosen { member, trial })
    }
}
