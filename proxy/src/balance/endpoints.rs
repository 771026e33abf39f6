//! One worker's endpoints of one destination: a snapshot of discovery, with the load and the connections that
//! this worker has on each.
//!
//! A member (load, pool) is made when its endpoint is first picked, so that an endpoint that is never used
//! costs a word. Members outlive snapshots: the next snapshot takes over those whose endpoint is still there
//! and unchanged.

use std::{
    cell::{Cell, OnceCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{
    PeakEwma, Plan, cooling,
    policy::DEFAULT_MAX_COOLING,
    view::{Memory, View},
};
use crate::{
    clock::{self, Instant},
    discovery::{Destination, Endpoint},
    http::ResponseHead,
    pool::EndpointPool,
};

/// An endpoint in use by this worker.
#[derive(Debug)]
pub struct Member {
    /// Where it is reached.
    pub endpoint: Arc<Endpoint>,
    /// The connections to it.
    pub pool: Rc<EndpointPool>,
    ewma: Cell<PeakEwma>,
    in_flight: Cell<u32>,
    /// Requests in flight are counted for the whole process too.
    counts_for_all: Cell<bool>,
}

impl Member {
    pub(super) fn new(endpoint: Arc<Endpoint>, pool: Rc<EndpointPool>) -> Self {
        let ewma = Cell::new(PeakEwma::new(clock::now()));
        Self { endpoint, pool, ewma, in_flight: Cell::new(0), counts_for_all: Cell::new(false) }
    }

    /// Requests under way.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Takes in how long an attempt took to its response's head.
    pub fn observe(&self, latency: Duration, now: Instant) {
        let mut ewma = self.ewma.get();
        ewma.observe(latency, now);
        self.ewma.set(ewma);
    }

    /// Takes in that an attempt had no response's head for so long: what is expected can become worse by it only.
    pub fn observe_at_least(&self, waited: Duration, now: Instant) {
        if waited.as_secs_f64() > self.ewma.get().seconds(now) {
            self.observe(waited, now);
        }
    }

    /// What is expected of it.
    #[cfg(test)]
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_secs_f64(self.ewma.get().seconds(clock::now()))
    }

    pub(super) fn cost(&self, now: Instant) -> f64 {
        self.ewma.get().cost(self.in_flight.get(), now)
    }

    fn serves_like(&self, endpoint: &Endpoint) -> bool {
        self.endpoint.address == endpoint.address
            && self.endpoint.transport == endpoint.transport
            && self.endpoint.app_port == endpoint.app_port
    }
}

/// Counts a request as in flight on its member, until dropped.
#[derive(Debug)]
pub struct InFlight {
    member: Rc<Member>,
    /// Was counted for the whole process.
    for_all: bool,
}

impl InFlight {
    /// One more request to this member.
    #[must_use]
    pub fn enter(member: &Rc<Member>) -> Self {
        member.in_flight.set(member.in_flight.get() + 1);
        let for_all = member.counts_for_all.get();
        if for_all {
            member.endpoint.health.request_began();
        }
        Self { member: member.clone(), for_all }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.member.in_flight.set(self.member.in_flight.get().saturating_sub(1));
        if self.for_all {
            self.member.endpoint.health.request_ended();
        }
    }
}

/// Makes the pool of an endpoint that is used for the first time.
pub type MakePool = dyn Fn(&Arc<Endpoint>) -> Rc<EndpointPool>;

/// A snapshot: the endpoints that one attempt sees from start to end.
#[derive(Debug)]
pub struct EndpointSet {
    /// What discovery said.
    pub destination: Arc<Destination>,
    pub(super) members: Box<[OnceCell<Rc<Member>>]>,
    pub(super) memory: Memory,
}

impl EndpointSet {
    /// The set for a new snapshot, taking over the members of the one before.
    #[must_use]
    pub fn new(destination: Arc<Destination>, previous: Option<&Self>) -> Self {
        let mut members: Box<[OnceCell<_>]> =
            destination.endpoints.iter().map(|_| OnceCell::new()).collect();
        let mut known: HashMap<&str, &Rc<Member>> = previous
            .into_iter()
            .flat_map(|set| set.members.iter().filter_map(OnceCell::get))
            .map(|member| (&*member.endpoint.id, member))
            .collect();
        let counts_for_all = counts_for_all(&destination);
        if !known.is_empty() {
            for (endpoint, slot) in destination.endpoints.iter().zip(&mut members) {
                if let Some(member) =
                    known.remove(&*endpoint.id).filter(|m| m.serves_like(endpoint))
                {
                    member.counts_for_all.set(counts_for_all);
                    member.pool.follow(&destination);
                    *slot = OnceCell::from(member.clone());
                }
            }
        }
        let memory = previous.map(|set| set.memory.next()).unwrap_or_default();
        Self { destination, members, memory }
    }

    /// Chooses an endpoint for an attempt, another than those tried where there is one. `key` is what ties the request
    /// to an endpoint, where the service is balanced by a hash (see [`super::Affinity`]).
    #[must_use]
    pub fn pick(
        &self,
        tried: &[Rc<Member>],
        key: Option<u64>,
        random: &mut fastrand::Rng,
        make_pool: &MakePool,
    ) -> Option<Rc<Member>> {
        let view = View { set: self, tried, now: clock::now(), now_ms: clock::process_ms() };
        let index = view.choose(key, random)?;
        let endpoint = &self.destination.endpoints[index];
        let make = || {
            let pool = make_pool(endpoint);
            pool.follow(&self.destination);
            let member = Member::new(endpoint.clone(), pool);
            member.counts_for_all.set(counts_for_all(&self.destination));
            Rc::new(member)
        };
        Some(self.members[index].get_or_init(make).clone())
    }

    /// Leaves an endpoint alone for a while, where its response asks for that.
    pub fn heed(&self, member: &Member, response: &ResponseHead) {
        let asked = cooling::asked_for(response.status, &response.headers, clock::since_epoch);
        let Some(asked) = asked else { return };
        let plan = self.destination.balancing.as_deref();
        let most = plan.map_or(DEFAULT_MAX_COOLING, |plan| plan.policy.max_cooling);
        let cooling_ms = u64::try_from(asked.min(most).as_millis()).unwrap_or(u64::MAX);
        member.endpoint.health.cool_until(clock::process_ms().saturating_add(cooling_ms));
    }

    /// Whether a member of this set, or of one before it, is reached here as it was there.
    #[must_use]
    pub fn has(&self, member: &Member) -> bool {
        let mut endpoints = self.destination.endpoints.iter();
        endpoints.any(|it| it.id == member.endpoint.id && member.serves_like(it))
    }

    /// The members in use.
    pub fn members(&self) -> impl Iterator<Item = &Rc<Member>> {
        self.members.iter().filter_map(OnceCell::get)
    }
}

fn counts_for_all(destination: &Destination) -> bool {
    destination.balancing.as_deref().is_some_and(Plan::counts_in_flight)
}
