//! What the server's sidecar is told of traffic: rate limits and the bound on concurrency of an inbound port.
//!
//! A port may stand behind several services: the rate limits of each of them hold, and of the bounds on concurrency of one
//! level the tightest. The most specific level that has rate limits has all of them; those of routes hold beside them
//! (`routed`).

use weft_proto::discovery;

use super::{Place, Target, levels, mesh_name, name};
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

    /// The bound on concurrency of a port behind these services, in this namespace: of the most specific level, and what
    /// it leaves open of the next.
    pub(in crate::index) fn concurrency(
        &self,
        places: &[Place<'_>],
        namespace: &str,
    ) -> Option<discovery::Concurrency> {
        let levels = levels(places, namespace).into_iter();
        let of_levels = levels.filter_map(|level| self.tightest(&level));
        let defaults = self.config.defaults.concurrency.as_ref();
        let mut said = of_levels.chain(defaults.map(|bound| (mesh_name(), bound)));
        let (policy, bound) = said.next()?;
        let merged = said.fold(bound.clone(), |upper, (_, lower)| upper.over(lower));
        Some(merged.to_wire(policy))
    }

    /// Of what is said at one level for several services, the bound that keeps every one of them.
    fn tightest(&self, level: &[Vec<Target>]) -> Option<(String, &Concurrency)> {
        let policies = level.iter().flatten().flat_map(|target| self.policies.traffic(target));
        let said =
            policies.filter_map(|policy| Some((name(policy), policy.spec.concurrency.as_ref()?)));
        said.min_by_key(|(_, bound)| bound.max_in_flight.get())
    }

    fn first_rate_limits(&self, levels: &[Target]) -> Option<(String, &[RateLimit])> {
        let policies = levels.iter().flat_map(|target| self.policies.traffic(target));
        let mut said =
            policies.filter_map(|policy| Some((name(policy), policy.spec.rate_limits.as_deref()?)));
        let defaults = || Some((mesh_name(), self.config.defaults.rate_limits.as_deref()?));
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
