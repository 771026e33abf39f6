//! Where an endpoint's idle HTTP/1 connections lie between requests.
//!
//! A connection comes here by itself when its response was read to the end; the pool takes it out for the
//! next request. What is taken out was open a moment ago: a connection on which the server closed or said
//! anything unasked is dropped, and so is one that is too old. The one used last goes first, so that the others become
//! idle, and those above a number that have not been needed for [`SURPLUS_REST`] are closed: load that comes and goes finds
//! the connections that it left. A request that cannot be sent twice gets none that the server may be
//! about to close ([`Patience`]). Where others wait for its place, and nobody here for it, it is closed instead of kept; so
//! it is when it has served those here for a [`TERM`], and where the service may have no connections more and it is one too
//! many.

use std::{cell::RefCell, collections::VecDeque, rc::Rc, time::Duration};

use super::{client::Http1Client, patience::Patience};
use crate::{
    clock::{self, Instant},
    http::Returns,
    policy::gate::Others,
    pool::TERM,
};

/// What lies here above the number to be kept has this long to be used again.
const SURPLUS_REST: Duration = Duration::from_secs(5);

/// The idle connections to one endpoint, oldest first.
#[derive(Debug)]
pub struct Shelf {
    idle: RefCell<VecDeque<Idle>>,
    max_idle: usize,
    max_age: Duration,
    patience: RefCell<Patience>,
    returns: Option<Rc<Returns>>,
    /// Those who wait for the places of its connections; `None` where these are not limited.
    others: RefCell<Option<Others>>,
}

#[derive(Debug)]
struct Idle {
    client: Http1Client,
    since: Instant,
}

impl Shelf {
    /// A shelf where this many are kept, which gives out none that are older.
    #[must_use]
    pub fn new(max_idle: usize, max_age: Duration) -> Self {
        let (idle, patience) = (RefCell::default(), RefCell::default());
        Self { idle, max_idle, max_age, patience, returns: None, others: RefCell::default() }
    }

    /// One that says when a connection comes back.
    #[must_use]
    pub fn telling(self, returns: Rc<Returns>) -> Self {
        Self { returns: Some(returns), ..self }
    }

    /// Its connections have places for which these wait, from now on.
    pub fn yields_to(&self, others: Option<Others>) {
        *self.others.borrow_mut() = others;
        self.drop_surplus();
    }

    /// Closes connections that are too many under the service's limit, or were made before there was one and find no room.
    pub fn drop_surplus(&self) {
        if let Some(others) = &*self.others.borrow() {
            let all = std::mem::take(&mut *self.idle.borrow_mut());
            let mut permitted = VecDeque::with_capacity(all.len());
            for idle in all.into_iter().rev().filter(|idle| idle.client.is_permitted(others)) {
                permitted.push_front(idle);
            }
            *self.idle.borrow_mut() = permitted;
        }
    }

    /// Closes the connection that has lain here for longest; whether there was one.
    pub fn drop_oldest(&self) -> bool {
        let oldest = self.idle.borrow_mut().pop_front();
        oldest.is_some()
    }

    /// The connection that was used last, if one is still open, for a request that may be sent again or not.
    #[must_use]
    pub fn take(&self, may_be_sent_again: bool) -> Option<Http1Client> {
        let now = clock::now();
        loop {
            let idle = self.idle.borrow_mut().pop_back()?;
            let rested = now.saturating_duration_since(idle.since);
            let is_old = now.saturating_duration_since(idle.client.opened()) >= self.max_age;
            if !idle.client.is_quiet() {
                self.ends_after(rested);
            } else if is_old || !self.is_permitted(&idle.client) {
                drop(idle);
            } else if may_be_sent_again || self.patience.borrow().is_trusted(rested, now) {
                return Some(idle.client.rested(rested));
            } else {
                // The others have rested even longer.
                self.idle.borrow_mut().push_back(idle);
                return None;
            }
        }
    }

    /// How many connections lie here, good or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.idle.borrow().len()
    }

    /// Whether none lies here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Closes those that are not to be kept (told when they came here), were closed by the server, or are too many.
    pub fn evict(&self, keep: impl Fn(&Http1Client, Instant) -> bool) {
        let now = clock::now();
        let all = std::mem::take(&mut *self.idle.borrow_mut());
        let mut surplus = all.len().saturating_sub(self.max_idle);
        let (kept, evicted): (VecDeque<_>, VecDeque<_>) = all.into_iter().partition(|idle| {
            let is_surplus =
                surplus > 0 && now.saturating_duration_since(idle.since) >= SURPLUS_REST;
            let is_kept = !is_surplus && keep(&idle.client, idle.since) && idle.client.is_quiet();
            surplus -= usize::from(surplus > 0 && !is_kept);
            is_kept
        });
        *self.idle.borrow_mut() = kept;
        for idle in evicted.iter().filter(|idle| !idle.client.is_quiet()) {
            self.ends_after(now.saturating_duration_since(idle.since));
        }
        drop(evicted);
    }

    /// The server has ended a connection that had rested here for so long, or says that it will.
    pub(super) fn ends_after(&self, rested: Duration) {
        self.patience.borrow_mut().ends_after(rested, clock::now());
    }

    /// Lays a connection here.
    pub(super) fn put(&self, client: Http1Client) {
        if self.is_wanted_elsewhere(&client) || !self.is_permitted(&client) {
            return drop(client);
        }
        self.idle.borrow_mut().push_back(Idle { client, since: clock::now() });
        if let Some(returns) = &self.returns {
            returns.tell_of_idle();
        }
    }

    fn is_permitted(&self, client: &Http1Client) -> bool {
        self.others.borrow().as_ref().is_none_or(|others| client.is_permitted(others))
    }

    fn is_wanted_elsewhere(&self, client: &Http1Client) -> bool {
        let others_are_first = self.others.borrow().as_ref().is_some_and(Others::are_first);
        let is_awaited = || self.returns.as_ref().is_some_and(|returns| returns.is_awaited());
        let served = || clock::now().saturating_duration_since(client.opened());
        others_are_first && (!is_awaited() || served() >= TERM)
    }
}
