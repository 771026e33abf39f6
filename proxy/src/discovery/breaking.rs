//! Breakers as the workers share them: one an endpoint, and which of a service's endpoints are ejected.
//!
//! In come the verdicts of requests ([`Trial`]); out comes, for a load of an atomic, whether an endpoint takes
//! requests. The rules are [`crate::policy::breaker`]'s. State is made when a policy first asks for it, so that an
//! endpoint without one costs a few words; locks are short, and not taken where no policy is, nor for a request to an
//! endpoint that is closed until it ends.
//!
//! Two locks: a service's ejections, and an endpoint's breaker. Whoever needs both takes them in this order, and decides
//! under both: what was seen before may have been acted on by another worker. An endpoint that is gone, and a service
//! without a policy, are never ejected any more, whatever is still under way.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{Destination, Ejection, Endpoint, EndpointHealth, ejections::EjectionNote};
use crate::{
    clock,
    policy::breaker::{
        self, Availability, Breaker, BreakerSettings, Cause, Ejections, Step, Ticket, Verdict,
    },
    telemetry::TrafficMetrics,
};

/// Success rates are compared so often in a window.
const COMPARISONS: u32 = 5;

/// The breaker of one endpoint. The atomics repeat what its core says, for those who only look.
#[derive(Debug, Default)]
pub struct EndpointBreaker {
    phase: AtomicU64,
    /// Until when it is ejected; zero where it is closed.
    until_ms: AtomicU64,
    /// Half open, no further request may try it out.
    is_full: AtomicBool,
    /// Its service has it no longer.
    is_gone: AtomicBool,
    core: OnceLock<Box<Mutex<Breaker>>>,
    note: EjectionNote,
}

impl EndpointBreaker {
    /// Why, since and until when it is ejected; `None` where it is closed. Takes no lock.
    #[must_use]
    pub fn ejection(&self) -> Option<Ejection> {
        match self.until_ms.load(Relaxed) {
            0 => None,
            until_ms => Some(self.note.read(until_ms)),
        }
    }

    /// Whether the endpoint takes requests; one load where it is closed.
    #[must_use]
    pub fn availability(&self, now_ms: u64) -> Availability {
        match self.until_ms.load(Relaxed) {
            0 => Availability::Good,
            until_ms if now_ms < until_ms || self.is_full.load(Relaxed) => Availability::Ejected,
            _ => Availability::HalfOpen,
        }
    }

    /// A request wants to begin; `None` when the endpoint does not take it. Where it is closed there is no lock: a phase
    /// that ends in this moment makes a ticket that says nothing.
    fn enter(&self, now_ms: u64) -> Option<Ticket> {
        let phase = self.phase.load(Relaxed);
        if self.until_ms.load(Relaxed) == 0 {
            return Some(Ticket::of_closed(phase));
        }
        self.with(|core| core.enter(now_ms))
    }

    /// Forgets what is known, if anything is.
    fn reset(&self) {
        if self.core.get().is_some() {
            self.with(Breaker::reset);
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut core = lock(self.core.get_or_init(Box::default));
        let done = act(&mut core);
        self.phase.store(core.phase(), Relaxed);
        self.is_full.store(core.is_full(), Relaxed);
        // Zero says that it is closed.
        self.until_ms.store(core.until_ms().map_or(0, |until_ms| until_ms.max(1)), Relaxed);
        done
    }
}

/// What of a service's endpoints is ejected.
#[derive(Debug, Default)]
pub struct ServiceBreaking {
    held: Mutex<Held>,
    /// How many endpoints do not take their share: as many as are held.
    out: AtomicUsize,
    next_comparison_ms: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    ejections: Ejections<Ejected>,
    /// No policy ejects anything.
    is_off: bool,
}

/// One endpoint, whatever it is called.
#[derive(Debug)]
struct Ejected(Arc<EndpointHealth>);

impl PartialEq for Ejected {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl ServiceBreaking {
    /// How many endpoints are ejected now, those that are being tried out not among them.
    #[must_use]
    pub fn ejected(&self, now_ms: u64) -> usize {
        lock(&self.held).ejections.ejected(now_ms)
    }

    /// From now on the service has the endpoints `after` where it had those `before`, and a policy that ejects or none.
    /// Ejections of endpoints that are gone end, and without a policy all do.
    pub(super) fn follow(
        &self,
        before: &[Arc<Endpoint>],
        after: &[Arc<Endpoint>],
        policy: Option<&BreakerSettings>,
    ) {
        self.with(|held| {
            let was_off = std::mem::replace(&mut held.is_off, policy.is_none());
            if held.is_off && was_off {
                return;
            }
            if held.is_off {
                held.ejections.take().for_each(|ejected| ejected.0.breaker.reset());
                after.iter().for_each(|endpoint| endpoint.health.breaker.reset());
            }
            let stays: HashSet<_> = after.iter().map(|it| Arc::as_ptr(&it.health)).collect();
            for endpoint in before.iter().filter(|it| !stays.contains(&Arc::as_ptr(&it.health))) {
                endpoint.health.breaker.is_gone.store(true, Relaxed);
                held.ejections.forget(&Ejected(Arc::clone(&endpoint.health)));
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Held) -> T) -> T {
        let mut held = lock(&self.held);
        let done = act(&mut held);
        self.out.store(held.ejections.len(), Relaxed);
        done
    }

    /// Whether it is time to compare success rates: true for one of those who ask.
    fn is_time_to_compare(&self, window: Duration, now_ms: u64) -> bool {
        let due = self.next_comparison_ms.load(Relaxed);
        let pause = u64::try_from((window / COMPARISONS).as_millis()).unwrap_or(u64::MAX).max(1);
        now_ms >= due
            && self
                .next_comparison_ms
                .compare_exchange(due, now_ms.saturating_add(pause), Relaxed, Relaxed)
                .is_ok()
    }
}

impl Destination {
    /// Whether an endpoint must be left alone: it is ejected, and enough others are left.
    #[must_use]
    pub fn is_ejected(&self, endpoint: &Endpoint, now_ms: u64) -> bool {
        let Some(settings) = &self.breaking else { return false };
        endpoint.health.breaker.availability(now_ms) == Availability::Ejected
            && !self.panics(settings)
    }

    /// Whether all endpoints must be left alone, and there are some.
    #[must_use]
    pub fn all_ejected(&self, now_ms: u64) -> bool {
        self.state.breaking.out.load(Relaxed) > 0
            && !self.endpoints.is_empty()
            && self.endpoints.iter().all(|endpoint| self.is_ejected(endpoint, now_ms))
    }

    fn panics(&self, settings: &BreakerSettings) -> bool {
        breaker::panics(self.state.breaking.out.load(Relaxed), self.endpoints.len(), settings)
    }

    /// Ejects an endpoint for what was seen in this phase of its breaker, where as many as that may be.
    fn eject(
        &self,
        endpoint: &Endpoint,
        (cause, phase): (Cause, u64),
        settings: &BreakerSettings,
        metrics: &TrafficMetrics,
    ) {
        let now_ms = clock::process_ms();
        let breaker = &endpoint.health.breaker;
        let until_ms = self.state.breaking.with(|held| {
            let ejected = Ejected(Arc::clone(&endpoint.health));
            // This snapshot may be an old one.
            let is_there = |it: &&Arc<Endpoint>| !it.health.breaker.is_gone.load(Relaxed);
            let total = self.endpoints.iter().filter(is_there).count();
            if held.is_off
                || breaker.is_gone.load(Relaxed)
                || !held.ejections.allows(&ejected, total, settings)
            {
                return None;
            }
            let until_ms = breaker.with(|core| core.eject(phase, settings, now_ms))?;
            held.ejections.note(ejected, until_ms);
            Some(until_ms)
        });
        let Some(until_ms) = until_ms else { return };
        breaker.note.write(cause, now_ms);
        metrics.ejected(cause, &self.state.breaking);
        tracing::info!(service = %self.label, endpoint = %endpoint.id, cause = cause.as_str(), for_ms = until_ms - now_ms, "endpoint ejected");
    }

    /// An endpoint takes its share again, unless another worker has ejected it since.
    fn take_back(&self, endpoint: &Endpoint) {
        self.state.breaking.with(|held| {
            if endpoint.health.breaker.with(|core| core.until_ms()).is_none() {
                held.ejections.forget(&Ejected(Arc::clone(&endpoint.health)));
            }
        });
        tracing::info!(service = %self.label, endpoint = %endpoint.id, "endpoint takes requests again");
    }

    /// Ejects the endpoints that succeed much less than their siblings.
    fn compare_success(&self, settings: &BreakerSettings, metrics: &TrafficMetrics) {
        let now_ms = clock::process_ms();
        if settings.success_rate_deviation == 0
            || !self.state.breaking.is_time_to_compare(settings.window, now_ms)
        {
            return;
        }
        let known = self.endpoints.iter().filter(|it| it.health.breaker.core.get().is_some());
        let rates: Vec<_> = known
            .filter_map(|endpoint| {
                let rate =
                    |core: &mut Breaker| Some((core.success_rate(settings, now_ms)?, core.phase()));
                let (rate, phase) = endpoint.health.breaker.with(rate)?;
                Some((endpoint, rate, phase))
            })
            .collect();
        let plain: Vec<_> = rates.iter().map(|(_, rate, _)| *rate).collect();
        for place in breaker::outliers(&plain, settings) {
            let (endpoint, _, phase) = &rates[place];
            self.eject(endpoint, (Cause::SuccessRate, *phase), settings, metrics);
        }
    }
}

/// One request to an endpoint whose breaker is told how it ends. Dropped without a verdict, it says nothing.
#[derive(Debug)]
pub struct Trial {
    destination: Arc<Destination>,
    endpoint: Arc<Endpoint>,
    metrics: Arc<TrafficMetrics>,
    settings: Arc<BreakerSettings>,
    ticket: Ticket,
    /// It takes a probe's place still.
    has_place: bool,
}

/// The endpoint does not take the request: it is ejected, or others try it out.
#[derive(Debug)]
pub struct Rejected;

impl Trial {
    /// A request begins; `None` where nobody wants to know how it ends: there is no policy, or so few endpoints are left
    /// that it is sent to an ejected one all the same.
    ///
    /// # Errors
    /// It may not be sent to this endpoint.
    pub fn begin(
        destination: &Arc<Destination>,
        endpoint: &Arc<Endpoint>,
        metrics: &Arc<TrafficMetrics>,
    ) -> Result<Option<Self>, Rejected> {
        let Some(settings) = &destination.breaking else { return Ok(None) };
        match endpoint.health.breaker.enter(clock::process_ms()) {
            Some(ticket) => Ok(Some(Self {
                destination: Arc::clone(destination),
                endpoint: Arc::clone(endpoint),
                metrics: Arc::clone(metrics),
                settings: Arc::clone(settings),
                ticket,
                has_place: ticket.is_probe(),
            })),
            None if destination.panics(settings) => Ok(None),
            None => Err(Rejected),
        }
    }

    /// The response's head came: another may try the endpoint out, however long this one's body takes.
    pub fn answered(&mut self) {
        if std::mem::take(&mut self.has_place) {
            self.endpoint.health.breaker.with(|core| core.leave(self.ticket));
        }
    }

    /// The request has ended, as far as it tells anything.
    pub fn judge(mut self, verdict: Option<Verdict>) {
        self.answered();
        let Some(verdict) = verdict else { return };
        let breaker = &self.endpoint.health.breaker;
        let now_ms = clock::process_ms();
        match breaker.with(|core| core.record(verdict, self.ticket, &self.settings, now_ms)) {
            Step::Stay => {}
            Step::Close => self.destination.take_back(&self.endpoint),
            Step::Trip(cause) => {
                let seen = (cause, self.ticket.phase());
                self.destination.eject(&self.endpoint, seen, &self.settings, &self.metrics);
            }
        }
        self.destination.compare_success(&self.settings, &self.metrics);
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.answered();
    }
}

#[cfg(test)]
impl EndpointBreaker {
    /// One that is ejected until then for this, since then.
    pub(super) fn ejected(ejection: Ejection) -> Self {
        let breaker = Self { until_ms: ejection.until_ms.into(), ..Self::default() };
        breaker.note.write(ejection.cause, ejection.since_ms);
        breaker
    }
}

/// No code panics while it holds a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
