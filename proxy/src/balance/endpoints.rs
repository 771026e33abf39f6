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
};

use super::{Candidates, PeakEwma, Standing, pick};
use crate::{
    clock::{self, Instant},
    discovery::{Destination, Endpoint},
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
}

impl Member {
    fn new(endpoint: Arc<Endpoint>, pool: Rc<EndpointPool>) -> Self {
        let ewma = Cell::new(PeakEwma::new(clock::now()));
        Self { endpoint, pool, ewma, in_flight: Cell::new(0) }
    }

    /// Requests under way.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Takes in how long an attempt took to its response head, or to its failure.
    pub fn observe(&self, began: Instant) {
        let now = clock::now();
        let mut ewma = self.ewma.get();
        ewma.observe(now.saturating_duration_since(began), now);
        self.ewma.set(ewma);
    }

    fn cost(&self, now: Instant) -> f64 {
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
pub struct InFlight(Rc<Member>);

impl InFlight {
    /// One more request to this member.
    #[must_use]
    pub fn enter(member: &Rc<Member>) -> Self {
        member.in_flight.set(member.in_flight.get() + 1);
        Self(member.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get().saturating_sub(1));
    }
}

/// Makes the pool of an endpoint that is used for the first time.
pub type MakePool = dyn Fn(&Arc<Endpoint>) -> Rc<EndpointPool>;

/// A snapshot: the endpoints that one request sees from start to end.
#[derive(Debug)]
pub struct EndpointSet {
    /// What discovery said.
    pub destination: Arc<Destination>,
    members: Box<[OnceCell<Rc<Member>>]>,
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
        if !known.is_empty() {
            for (endpoint, slot) in destination.endpoints.iter().zip(&mut members) {
                if let Some(member) =
                    known.remove(&*endpoint.id).filter(|m| m.serves_like(endpoint))
                {
                    *slot = OnceCell::from(member.clone());
                }
            }
        }
        Self { destination, members }
    }

    /// Chooses an endpoint for an attempt, another than those tried where there is one.
    #[must_use]
    pub fn pick(
        &self,
        tried: &[Rc<Member>],
        random: &mut fastrand::Rng,
        make_pool: &MakePool,
    ) -> Option<Rc<Member>> {
        let view = View { set: self, tried, now: clock::now(), now_ms: clock::process_ms() };
        let index = pick(&view, random)?;
        let endpoint = &self.destination.endpoints[index];
        let make = || Rc::new(Member::new(endpoint.clone(), make_pool(endpoint)));
        Some(self.members[index].get_or_init(make).clone())
    }

    /// The members in use.
    pub fn members(&self) -> impl Iterator<Item = &Rc<Member>> {
        self.members.iter().filter_map(OnceCell::get)
    }
}

/// The set as the balancer sees it for one attempt.
struct View<'a> {
    set: &'a EndpointSet,
    tried: &'a [Rc<Member>],
    now: Instant,
    now_ms: u64,
}

impl Candidates for View<'_> {
    fn count(&self) -> usize {
        self.set.members.len()
    }

    fn standing(&self, index: usize) -> Standing {
        let endpoint = &self.set.destination.endpoints[index];
        if self.tried.iter().any(|member| member.endpoint.id == endpoint.id) {
            Standing::Tried
        } else if endpoint.health.in_backoff(self.now_ms) {
            Standing::Backoff
        } else {
            Standing::Good
        }
    }

    fn cost(&self, index: usize) -> f64 {
        match self.set.members[index].get() {
            Some(member) => member.cost(self.now),
            None => PeakEwma::new(self.now).cost(0, self.now),
        }
    }
}
