//! What the server's sidecar is told of traffic: rate limits and the bound on concurrency of an inbound port.
//!
//! A port may stand behind several services: the rate limits of each of them hold, and of bounds on concurrency the
//! first one. The most specific level that has rate limits has all of them; those of routes hold beside them (`routed`).

use weft_proto::discovery;

use super::{Place, Target, mesh_name, name};
use crate::{
    index::Index,
    model::traffic_policy::server::{Concurrency, RateLimit},
};

impl Index {
    /// The rate limits of a port behind these services, in this namespace.
    pub(in crate::index) fn rate_limits(
        &self,
        places: &[Place<'_>],
        namespace: &str,
    ) -> Vec<discovery::RateLimit> {
        let mut limits: Vec<discovery::RateLimit> = Vec::new();
        for levels in chains(places, namespace) {
            let Some((policy, own)) = self.first_rate_limits(&levels) else { continue };
            for (index, limit) in own.iter().enumerate() {
                let limit = limit.to_wire(format!("{policy} rateLimits[{index}]"));
                if !limits.contains(&limit) {
                    limits.push(limit);
                }
            }
        }
        for place in places {
            limits.extend(self.routed_limits(place));
        }
        limits
    }

    /// The bound on concurrency of a port behind these services, in this namespace.
    pub(in crate::index) fn concurrency(
        &self,
        places: &[Place<'_>],
        namespace: &str,
    ) -> Option<discovery::Concurrency> {
        let mut chains = chains(places, namespace).into_iter();
        let (policy, bound) = chains.find_map(|levels| self.first_concurrency(&levels))?;
        Some(bound.to_wire(policy))
    }

    fn first_rate_limits(&self, levels: &[Target]) -> Option<(String, &[RateLimit])> {
        let policies = levels.iter().flat_map(|target| self.policies.traffic(target));
        let mut said =
            policies.filter_map(|policy| Some((name(policy), policy.spec.rate_limits.as_deref()?)));
        let defaults = || Some((mesh_name(), self.config.defaults.rate_limits.as_deref()?));
        said.next().or_else(defaults)
    }

    fn first_concurrency(&self, levels: &[Target]) -> Option<(String, &Concurrency)> {
        let policies = levels.iter().flat_map(|target| self.policies.traffic(target));
        let mut said =
            policies.filter_map(|policy| Some((name(policy), policy.spec.concurrency.as_ref()?)));
        let defaults = || Some((mesh_name(), self.config.defaults.concurrency.as_ref()?));
        said.next().or_else(defaults)
    }
}

/// The levels of each of the services, the most specific first; of a port behind none those of its namespace.
fn chains(places: &[Place<'_>], namespace: &str) -> Vec<Vec<Target>> {
    let above = || Target::Namespace(namespace.into());
    if places.is_empty() {
        return vec![vec![above()]];
    }
    let chain = |place: &Place<'_>| place.targets().into_iter().chain([above()]).collect();
    places.iter().map(chain).collect()
}
