//! What a policy makes of the endpoints of one snapshot, computed once and shared by all workers.
//!
//! Comes in: the policy, the endpoints, the proxy's own zone. Goes out: the ring and the levels of zones, as far as
//! the policy wants them.

use std::sync::Arc;

use super::{
    policy::{Algorithm, BalancingPolicy},
    ring::Ring,
    zones::Zones,
};
use crate::discovery::Endpoint;

/// A policy, applied to the endpoints of one snapshot. Its indices are those of the snapshot's endpoints.
#[derive(Debug)]
pub struct Plan {
    /// What was asked for.
    pub policy: Arc<BalancingPolicy>,
    pub(super) ring: Option<Ring>,
    pub(super) zones: Option<Zones>,
}

impl Plan {
    /// The plan for these endpoints; `own_zone` is empty where it is not known.
    #[must_use]
    pub fn new(policy: &Arc<BalancingPolicy>, endpoints: &[Arc<Endpoint>], own_zone: &str) -> Self {
        let ring = match policy.algorithm {
            Algorithm::RingHash(_) => Some(Ring::new(endpoints.iter().map(|e| &*e.id))),
            Algorithm::PeakEwma
            | Algorithm::LeastRequest
            | Algorithm::RoundRobin
            | Algorithm::Random => None,
        };
        let zones = policy.locality.as_ref().and_then(|rule| {
            Zones::new(own_zone, rule, endpoints.iter().map(|endpoint| &*endpoint.zone))
        });
        Self { policy: Arc::clone(policy), ring, zones }
    }

    /// Whether requests in flight are to be counted for the whole process.
    pub(super) fn counts_in_flight(&self) -> bool {
        let rule = self.policy.locality.as_ref().filter(|_| self.zones.is_some());
        rule.is_some_and(|rule| rule.max_in_flight_per_endpoint != 0)
    }
}
