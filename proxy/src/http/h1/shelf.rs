//! Where an endpoint's idle HTTP/1 connections lie between requests.
//!
//! A connection comes here by itself when its response was read to the end; the pool takes it out for the
//! next request. What is taken out was open a moment ago: a connection on which the server closed or said
//! anything unasked is dropped. The number is bounded; the one used last goes first, so that the others age.

use std::{cell::RefCell, collections::VecDeque};

use super::client::Http1Client;
use crate::clock::{self, Instant};

/// The idle connections to one endpoint, oldest first.
#[derive(Debug)]
pub struct Shelf {
    idle: RefCell<VecDeque<Idle>>,
    max_idle: usize,
}

#[derive(Debug)]
struct Idle {
    client: Http1Client,
    since: Instant,
}

impl Shelf {
    /// A shelf for this many.
    #[must_use]
    pub fn new(max_idle: usize) -> Self {
        Self { idle: RefCell::default(), max_idle }
    }

    /// The connection that was used last, if one is still open.
    #[must_use]
    pub fn take(&self) -> Option<Http1Client> {
        loop {
            let idle = self.idle.borrow_mut().pop_back()?;
            if idle.client.is_quiet() {
                return Some(idle.client);
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

    /// Closes those that are not to be kept (told when they came here), or were closed by the server.
    pub fn evict(&self, keep: impl Fn(&Http1Client, Instant) -> bool) {
        let (kept, evicted): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut *self.idle.borrow_mut())
                .into_iter()
                .partition(|idle| keep(&idle.client, idle.since) && idle.client.is_quiet());
        *self.idle.borrow_mut() = kept;
        drop(evicted);
    }

    /// Lays a connection here, and drops the oldest where there are too many.
    pub(super) fn put(&self, client: Http1Client) {
        let surplus = {
            let mut idle = self.idle.borrow_mut();
            idle.push_back(Idle { client, since: clock::now() });
            if idle.len() > self.max_idle { idle.pop_front() } else { None }
        };
        drop(surplus);
    }
}
