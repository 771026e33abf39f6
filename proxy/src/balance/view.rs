//! One worker's endpoints as the balancer sees them for one attempt.
//!
//! Comes in: the set, its plan, what the request has tried, the time. Goes out: the index of an endpoint. Without a
//! plan this is power of two choices over all endpoints; a plan may narrow them to the nearest zones, and choose by
//! turn or by the ring. An endpoint that something speaks against is taken only where no zone has a better one.

use std::{cell::Cell, rc::Rc, time::Duration};

use super::{
    Candidates, EndpointSet, Member, NOISE, PeakEwma, Plan, Standing, pick,
    policy::{Algorithm, Locality},
    ring::Ring,
    slow_start,
    zones::{Condition, Zones},
};
use crate::clock::Instant;

/// Steps along the ring in search of a good endpoint. With nine in ten bad, one key in a thousand goes elsewhere.
const STEPS: usize = 64;

/// Which zones are needed is looked up so much later again for each endpoint: a few parts in a thousand of the time.
const REVIEW_EACH: Duration = Duration::from_micros(10);
/// And not more often than this,
const REVIEW_MIN: Duration = Duration::from_millis(5);
/// nor less.
const REVIEW_MAX: Duration = Duration::from_millis(100);

/// What a worker's set remembers from pick to pick.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Whose turn it is; `None` before the first.
    turn: Cell<Option<usize>>,
    /// How many levels of zones are needed, and until when that holds.
    levels: Cell<Option<(usize, Instant)>>,
}

impl Memory {
    /// For the next snapshot: zones may have changed, the turn goes on.
    pub(super) fn next(&self) -> Self {
        Self { turn: self.turn.clone(), levels: Cell::default() }
    }
}

/// The set as the balancer sees it for one attempt.
pub(super) struct View<'a> {
    pub(super) set: &'a EndpointSet,
    pub(super) tried: &'a [Rc<Member>],
    pub(super) now: Instant,
    pub(super) now_ms: u64,
}

/// A part of the set under a plan.
struct Planned<'a> {
    view: &'a View<'a>,
    plan: &'a Plan,
    /// The endpoints to choose from; `None` for all.
    order: Option<&'a [u32]>,
}

impl View<'_> {
    /// Chooses an endpoint; `key` is its place on the ring, where there is one.
    pub(super) fn choose(&self, key: Option<u64>, random: &mut fastrand::Rng) -> Option<usize> {
        let Some(plan) = self.set.destination.balancing.as_deref() else {
            return pick(self, random);
        };
        let Some((zones, rule)) = plan.zones.as_ref().zip(plan.policy.locality.as_ref()) else {
            return Planned { view: self, plan, order: None }.choose(key, usize::MAX, random);
        };
        let mut levels = self.levels(zones, rule);
        loop {
            let order = Some(zones.first(levels));
            let chosen = Planned { view: self, plan, order }.choose(key, levels, random);
            let is_good = chosen.is_some_and(|index| self.standing(index) == Standing::Good);
            if is_good || levels >= zones.count() {
                return chosen;
            }
            levels += 1;
        }
    }

    /// How many levels of zones are needed, as of a moment ago.
    fn levels(&self, zones: &Zones, rule: &Locality) -> usize {
        let memory = &self.set.memory.levels;
        if let Some((levels, until)) = memory.get()
            && self.now < until
        {
            return levels;
        }
        let levels = zones.needed(rule, self);
        let count = u32::try_from(self.count()).unwrap_or(u32::MAX);
        let holds = REVIEW_EACH.saturating_mul(count).clamp(REVIEW_MIN, REVIEW_MAX);
        memory.set(Some((levels, self.now + holds)));
        levels
    }

    /// The standing, whatever this request has tried.
    fn condition(&self, index: usize) -> Standing {
        let destination = &self.set.destination;
        let endpoint = &destination.endpoints[index];
        if destination.is_ejected(endpoint, self.now_ms) {
            Standing::Ejected
        } else if endpoint.health.in_backoff(self.now_ms) {
            Standing::Backoff
        } else if endpoint.health.is_cooling(self.now_ms) {
            Standing::Cooling
        } else {
            Standing::Good
        }
    }

    fn is_tried(&self, index: usize) -> bool {
        let endpoint = &self.set.destination.endpoints[index];
        self.tried.iter().any(|member| member.endpoint.id == endpoint.id)
    }

    fn member(&self, index: usize) -> Option<&Rc<Member>> {
        self.set.members[index].get()
    }
}

impl Candidates for View<'_> {
    fn count(&self) -> usize {
        self.set.members.len()
    }

    fn standing(&self, index: usize) -> Standing {
        match self.condition(index) {
            Standing::Ejected => Standing::Ejected,
            _ if self.is_tried(index) => Standing::Tried,
            condition => condition,
        }
    }

    fn cost(&self, index: usize) -> f64 {
        match self.member(index) {
            Some(member) => member.cost(self.now),
            None => PeakEwma::new(self.now).cost(0, self.now),
        }
    }
}

impl Condition for View<'_> {
    fn is_healthy(&self, index: usize) -> bool {
        self.condition(index) == Standing::Good
    }

    fn in_flight(&self, index: usize) -> u32 {
        self.set.destination.endpoints[index].health.in_flight()
    }
}

impl Planned<'_> {
    /// Chooses by the plan's algorithm among the endpoints of so many levels. Returns an index of the set.
    fn choose(&self, key: Option<u64>, levels: usize, random: &mut fastrand::Rng) -> Option<usize> {
        let position = match &self.plan.policy.algorithm {
            Algorithm::RingHash(_) => {
                if let Some((ring, key)) = self.plan.ring.as_ref().zip(key) {
                    return self.on_ring(ring, key, levels, random);
                }
                pick(self, random)
            }
            Algorithm::RoundRobin => self.in_turn(random).or_else(|| pick(self, random)),
            Algorithm::PeakEwma | Algorithm::LeastRequest | Algorithm::Random => pick(self, random),
        };
        position.map(|position| self.index(position))
    }

    /// The one whose turn it is, when it can take the request and, being new, all of its share. The first turn is
    /// anybody's, so that workers and proxies that start together do not go round together.
    fn in_turn(&self, random: &mut fastrand::Rng) -> Option<usize> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let turn = &self.view.set.memory.turn;
        let position = turn.get().unwrap_or_else(|| random.usize(..count)) % count;
        turn.set(Some(position + 1));
        // Where its turn is passed over, any other has it: the next one would have two.
        let takes = self.standing(position) == Standing::Good
            && super::gets_its_turn(self, position, random);
        takes.then_some(position)
    }

    /// The first good endpoint on the ring from the key on.
    fn on_ring(
        &self,
        ring: &Ring,
        key: u64,
        levels: usize,
        random: &mut fastrand::Rng,
    ) -> Option<usize> {
        let is_near = |index: &usize| {
            self.plan.zones.as_ref().is_none_or(|zones| zones.holds(*index, levels))
        };
        let mut new = None;
        for index in ring.from(key).filter(is_near).take(STEPS) {
            if self.view.standing(index) != Standing::Good {
                continue;
            }
            let id = &self.view.set.destination.endpoints[index].id;
            if slow_start::takes_key(self.share_of(index), key, id) {
                return Some(index);
            }
            new = new.or(Some(index));
        }
        new.or_else(|| pick(self, random).map(|position| self.index(position)))
    }

    fn index(&self, position: usize) -> usize {
        match self.order {
            Some(order) => order[position] as usize,
            None => position,
        }
    }

    fn share_of(&self, index: usize) -> f64 {
        let window = self.plan.policy.slow_start;
        let health = &self.view.set.destination.endpoints[index].health;
        match health.age_ms(self.view.now_ms) {
            Some(age) if !window.is_zero() => {
                slow_start::share(age, u64::try_from(window.as_millis()).unwrap_or(u64::MAX))
            }
            _ => 1.0,
        }
    }
}

impl Candidates for Planned<'_> {
    fn count(&self) -> usize {
        self.order.map_or_else(|| self.view.count(), <[u32]>::len)
    }

    fn standing(&self, position: usize) -> Standing {
        self.view.standing(self.index(position))
    }

    fn cost(&self, position: usize) -> f64 {
        let index = self.index(position);
        match &self.plan.policy.algorithm {
            Algorithm::PeakEwma => self.view.cost(index),
            Algorithm::LeastRequest => {
                self.view.member(index).map_or(0.0, |member| f64::from(member.in_flight()))
            }
            Algorithm::RoundRobin | Algorithm::Random | Algorithm::RingHash(_) => 0.0,
        }
    }

    fn noise(&self) -> f64 {
        match &self.plan.policy.algorithm {
            Algorithm::PeakEwma => NOISE,
            // Numbers of requests are exact.
            Algorithm::LeastRequest
            | Algorithm::RoundRobin
            | Algorithm::Random
            | Algorithm::RingHash(_) => 1.0,
        }
    }

    fn share(&self, position: usize) -> f64 {
        self.share_of(self.index(position))
    }
}

#[cfg(test)]
mod tests;
