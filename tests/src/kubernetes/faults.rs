//! Faults on request, and counters of what was asked.
//!
//! In come a test's wishes, out go delays, refusals and cut streams at the places where the server asks for them.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::{
    failure::Failure,
    request::{Asked, Verb},
};

/// What goes wrong, and what was counted.
#[derive(Debug, Default)]
pub struct Faults {
    throttled: AtomicU32,
    retry_after_seconds: AtomicU32,
    latency: Mutex<Duration>,
    cuts: AtomicU32,
    requests: Mutex<BTreeMap<(Verb, String), u64>>,
}

impl Faults {
    /// Refuses the next requests with 429 and a time to wait.
    pub fn throttle(&self, requests: u32, retry_after_seconds: u32) {
        self.retry_after_seconds.store(retry_after_seconds, Ordering::SeqCst);
        self.throttled.store(requests, Ordering::SeqCst);
    }

    /// Delays every request.
    pub fn delay(&self, latency: Duration) {
        *self.latency.lock().unwrap_or_else(PoisonError::into_inner) = latency;
    }

    /// Cuts so many watches in the middle of their next event, each with its connection.
    pub fn cut_watches(&self, watches: u32) {
        self.cuts.store(watches, Ordering::SeqCst);
    }

    /// How often a verb was asked of a resource (`pods`, `pods/status`, `deployments.apps`), refused or not.
    #[must_use]
    pub fn requests(&self, verb: Verb, resource: &str) -> u64 {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.get(&(verb, resource.to_owned())).copied().unwrap_or_default()
    }

    /// All that was asked for since the last time that this was called with `clear`.
    pub fn all_requests(&self, clear: bool) -> BTreeMap<(Verb, String), u64> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if clear { std::mem::take(&mut *requests) } else { requests.clone() }
    }

    /// Counts a request.
    pub(super) fn count(&self, asked: &Asked) {
        let target = &asked.target;
        let resource = match target.group.as_str() {
            "" => target.resource_and_subresource(),
            group if target.subresource.is_empty() => format!("{}.{group}", target.resource),
            group => format!("{}.{group}/{}", target.resource, target.subresource),
        };
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((asked.verb, resource)).or_default() += 1;
    }

    /// Refuses a request that is one too many.
    pub(super) fn let_through(&self) -> Result<(), Failure> {
        if take_one(&self.throttled) {
            let seconds = self.retry_after_seconds.load(Ordering::SeqCst);
            return Err(Failure::throttled(u64::from(seconds)));
        }
        Ok(())
    }

    /// How long a request is held up.
    pub(super) fn latency(&self) -> Duration {
        *self.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this watch is to be cut now.
    pub(super) fn cuts_now(&self) -> bool {
        take_one(&self.cuts)
    }
}

fn take_one(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}
