//! How many requests a port lets in: token buckets, shared by all workers.
//!
//! Comes in: what is known of a request, who sends it, and the time. Goes out: a [`Quota`] that the client is told, or
//! which limit refuses it and when the next try may succeed. A limit counts the requests that its operations take;
//! each one that does must let a request pass, and when one refuses, none is charged. An opaque connection is one
//! request without method, path, host and fields: limits without operations count it.
//!
//! | key | buckets |
//! |---|---|
//! | none | one for all |
//! | none, fair | one for all, whose tokens callers get in turn when they are scarce (see [`fair`]) |
//! | identity, address, header | one for each (see [`keyed`]); of an IPv6 address its /64 counts |
//!
//! Limits are locked in the order in which they were made, which is the same for every snapshot that shares them:
//! workers never wait for each other in a circle. Nothing waits under a lock. State goes on when a limit comes again
//! as it was ([`RateLimit::settings`]); one that changed begins anew, full.

mod bucket;
mod fair;
mod keyed;
mod ranks;

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::HeaderName;

use super::{
    authz::Source,
    operation::{self, Operation, Reading, RequestFacts},
};
pub use bucket::Rate;
use bucket::{Bucket, State};
use fair::Fair;
use keyed::Keyed;

/// The rate limits of a port; never none.
#[derive(Debug, PartialEq, Eq)]
pub struct RateLimits(Box<[Arc<RateLimit>]>);

/// One rate limit, with its state.
#[derive(Debug)]
pub struct RateLimit {
    settings: Settings,
    /// The order of locking.
    made: u64,
    buckets: Buckets,
}

/// What an operator said of a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whose it is, for operators.
    pub policy: Arc<str>,
    /// How many.
    pub rate: Rate,
    /// The requests that it counts; empty for all.
    pub operations: Box<[Operation]>,
    /// By what there are several buckets.
    pub key: Key,
}

/// By what there are several buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// One for all.
    All,
    /// One for all, in turn.
    Fair,
    /// The caller's identity; its address where it shows none.
    Identity,
    /// A header's value; requests without it share a bucket.
    Header(HeaderName),
    /// The caller's address.
    Address,
}

#[derive(Debug)]
enum Buckets {
    One(Mutex<Bucket>),
    Fair(Mutex<Fair>),
    Keyed(Mutex<Keyed>),
}

/// What a client may still do, by the tightest limit that counts its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// So many at once when nothing is used.
    pub limit: u64,
    /// So many now.
    pub remaining: u64,
    /// Until nothing is used any more.
    pub reset: Duration,
}

/// A request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Whose limit it is.
    pub policy: Arc<str>,
    /// For the client.
    pub quota: Quota,
    /// Earlier than after this no try succeeds.
    pub retry_after: Duration,
}

impl RateLimits {
    /// Of these limits; `None` of none.
    #[must_use]
    pub fn new(mut limits: Vec<Arc<RateLimit>>) -> Option<Arc<Self>> {
        limits.sort_by_key(|limit| limit.made);
        (!limits.is_empty()).then(|| Arc::new(Self(limits.into())))
    }

    /// The limit that was made of these settings, for another snapshot.
    #[must_use]
    pub fn find(&self, settings: &Settings) -> Option<&Arc<RateLimit>> {
        self.0.iter().find(|limit| limit.settings == *settings)
    }

    /// Those of these limits that are none of the `others`; `None` of none.
    #[must_use]
    pub fn but_for(&self, others: &Self) -> Option<Arc<Self>> {
        let is_new = |limit: &&Arc<RateLimit>| others.find(&limit.settings).is_none();
        Self::new(self.0.iter().filter(is_new).cloned().collect())
    }

    /// Whose limits they are, for operators.
    #[must_use]
    pub fn policies(&self) -> Vec<&str> {
        self.0.iter().map(|limit| &*limit.settings.policy).collect()
    }

    /// Whether some limit counts requests of a kind alone: what is no HTTP would get around it.
    #[must_use]
    pub fn has_operations(&self) -> bool {
        self.0.iter().any(|limit| !limit.settings.operations.is_empty())
    }

    /// Counts a request of this caller, or an opaque connection (no facts); `None` when no limit counts it. `now` is
    /// the monotonic time in nanoseconds.
    ///
    /// # Errors
    /// A limit is used up: of several the one that is so for longest.
    pub fn take(
        &self,
        facts: Option<&RequestFacts<'_>>,
        source: Source<'_>,
        now: u64,
    ) -> Result<Option<Quota>, Refused> {
        // Before anything is locked: to match a request may take long, and nobody else is to wait for it.
        let counting: Vec<_> = self.0.iter().filter(|limit| limit.counts(facts)).collect();
        let mut held: Vec<_> =
            counting.into_iter().map(|limit| limit.lock(facts, source, now)).collect();
        let mut refused: Option<Refused> = None;
        for one in &mut held {
            if let Err(state) = one.check(now) {
                let longest = refused.as_ref().map_or(Duration::ZERO, |it| it.retry_after);
                if refused.is_none() || state.wait > longest {
                    refused = Some(one.refused(&state));
                }
            }
        }
        match refused {
            Some(refused) => Err(refused),
            None => Ok(held.iter_mut().map(|one| one.take(now)).reduce(Quota::tighter)),
        }
    }
}

impl RateLimit {
    /// With full buckets.
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let buckets = match &settings.key {
            Key::All => Buckets::One(Mutex::default()),
            Key::Fair => Buckets::Fair(Mutex::default()),
            Key::Identity | Key::Header(_) | Key::Address => Buckets::Keyed(Mutex::default()),
        };
        Arc::new(Self { settings, made: MADE.fetch_add(1, Relaxed), buckets })
    }

    /// What an operator said of it.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    fn counts(&self, facts: Option<&RequestFacts<'_>>) -> bool {
        let operations = &self.settings.operations;
        let takes = |facts| operation::any_takes(operations, facts, Reading::Any);
        operations.is_empty() || facts.is_some_and(takes)
    }

    fn lock(&self, facts: Option<&RequestFacts<'_>>, source: Source<'_>, now: u64) -> Held<'_> {
        let which = match &self.buckets {
            Buckets::One(bucket) => Which::One(locked(bucket)),
            Buckets::Fair(fair) => {
                let mut fair = locked(fair);
                let caller = fair.caller(caller(source), now);
                Which::Fair(fair, caller)
            }
            Buckets::Keyed(keyed) => {
                let key = self.key(facts, source);
                let mut keyed = locked(keyed);
                let slot = keyed.slot(key, caller(source), &self.settings.rate, now);
                Which::Keyed(keyed, slot)
            }
        };
        Held { limit: self, which }
    }

    fn key(&self, facts: Option<&RequestFacts<'_>>, source: Source<'_>) -> u128 {
        match &self.settings.key {
            Key::Identity | Key::All | Key::Fair => caller(source),
            Key::Address => digest(network(source.address)),
            Key::Header(name) => {
                let values = facts.map(|facts| facts.head().values(name).collect::<Vec<_>>());
                digest(values.unwrap_or_default())
            }
        }
    }
}

impl PartialEq for RateLimit {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Eq for RateLimit {}

/// A limit that is locked for one request.
struct Held<'a> {
    limit: &'a RateLimit,
    which: Which<'a>,
}

enum Which<'a> {
    One(MutexGuard<'a, Bucket>),
    Fair(MutexGuard<'a, Fair>, u128),
    Keyed(MutexGuard<'a, Keyed>, Option<u128>),
}

impl Held<'_> {
    /// Whether a request may pass.
    fn check(&mut self, now: u64) -> Result<(), State> {
        let rate = &self.limit.settings.rate;
        let state = match &mut self.which {
            Which::One(bucket) => rate.state(bucket, now),
            Which::Fair(fair, caller) => fair.ask(*caller, rate, now),
            Which::Keyed(keyed, slot) => rate.state(keyed.bucket(*slot), now),
        };
        if state.tokens > 0 { Ok(()) } else { Err(state) }
    }

    /// The request passes.
    fn take(&mut self, now: u64) -> Quota {
        let rate = &self.limit.settings.rate;
        let state = match &mut self.which {
            Which::One(bucket) => {
                rate.take(bucket, now);
                rate.state(bucket, now)
            }
            Which::Fair(fair, caller) => fair.take(*caller, rate, now),
            Which::Keyed(keyed, slot) => {
                let bucket = keyed.bucket(*slot);
                rate.take(bucket, now);
                rate.state(bucket, now)
            }
        };
        self.quota(&state)
    }

    fn quota(&self, state: &State) -> Quota {
        let limit = self.limit.settings.rate.burst();
        Quota { limit, remaining: state.tokens, reset: state.full_in }
    }

    fn refused(&self, state: &State) -> Refused {
        Refused {
            policy: Arc::clone(&self.limit.settings.policy),
            quota: self.quota(state),
            retry_after: state.wait,
        }
    }
}

impl Quota {
    /// Of two, the one that ends first.
    fn tighter(self, other: Self) -> Self {
        let key = |quota: &Self| (quota.remaining, std::cmp::Reverse(quota.reset));
        if key(&other) < key(&self) { other } else { self }
    }
}

/// No code panics while it holds one of these locks; a bucket is as good after one as before.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who asks: by identity, else by address.
fn caller(source: Source<'_>) -> u128 {
    match source.identity {
        Some(identity) => digest(identity.as_str()),
        None => digest(network(source.address)),
    }
}

/// Whoever has one IPv6 address has the /64 around it.
fn network(address: Option<IpAddr>) -> Option<IpAddr> {
    address.map(|address| match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    })
}

/// Stands for a key: of fixed length, and with secrets that no client knows, so that none can aim at another's.
fn digest(key: impl std::hash::Hash) -> u128 {
    static SECRETS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);
    let [high, low] = &*SECRETS;
    u128::from(high.hash_one(&key)) << 64 | u128::from(low.hash_one(&key))
}

#[cfg(test)]
mod tests;
