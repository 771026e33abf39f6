//! Breakers as the workers share them: one an endpoint, and which of a service's endpoints are ejected.
//!
//! In come the verdicts of requests ([`Trial`]); out comes, for a load of an atomic, whether an endpoint takes
//! requests. The rules are [`crate::policy::breaker`]'s. State is made when a policy first asks for it, so that an
//! endpoint without one costs a few words; locks are short, and not taken where no policy is.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{Destination, Endpoint};
use crate::{
    clock,
    policy::breaker::{
        self, Availability, Breaker, BreakerSettings, Cause, Ejections, Step, Verdict,
    },
    telemetry::TrafficMetrics,
};

/// Success rates are compared so often in a window.
const COMPARISONS: u32 = 5;

/// The breaker of one endpoint.
#[derive(Debug, Default)]
pub struct EndpointBreaker {
    /// Until when it is ejected; zero where it is closed.
    until_ms: AtomicU64,
    /// Half open: how many more may try it out.
    probes_left: AtomicU32,
    core: OnceLock<Box<Mutex<Breaker>>>,
}

impl EndpointBreaker {
    /// Whether the endpoint takes requests; one load where it is closed.
    #[must_use]
    pub fn availability(&self, now_ms: u64) -> Availability {
        match self.until_ms.load(Relaxed) {
            0 => Availability::Good,
            until_ms if now_ms < until_ms || self.probes_left.load(Relaxed) == 0 => {
                Availability::Ejected
            }
            _ => Availability::HalfOpen,
        }
    }

    /// Takes the place of a probe, where the endpoint is half open and has one.
    fn begin_probe(&self, now_ms: u64) -> bool {
        let is_half_open = match self.until_ms.load(Relaxed) {
            0 => false,
            until_ms => now_ms >= until_ms,
        };
        is_half_open
            && self.probes_left.try_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    fn end_probe(&self) {
        self.probes_left.fetch_add(1, Relaxed);
    }

    fn with<T>(&self, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let core = self.core.get_or_init(Box::default);
        act(&mut core.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What of a service's endpoints is ejected.
#[derive(Debug, Default)]
pub struct ServiceBreaking {
    ejections: Mutex<Ejections>,
    /// As of the last look.
    ejected: AtomicUsize,
    next_change_ms: AtomicU64,
    next_comparison_ms: AtomicU64,
}

impl ServiceBreaking {
    /// How many endpoints are ejected now; no lock while that cannot have changed.
    #[must_use]
    pub fn ejected(&self, now_ms: u64) -> usize {
        let held = self.ejected.load(Relaxed);
        if held == 0 || now_ms < self.next_change_ms.load(Relaxed) {
            return held;
        }
        self.with(|ejections| ejections.count(now_ms))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Ejections) -> T) -> T {
        let mut ejections = self.ejections.lock().unwrap_or_else(PoisonError::into_inner);
        let done = act(&mut ejections);
        self.next_change_ms.store(ejections.next_change_ms(), Relaxed);
        self.ejected.store(ejections.len(), Relaxed);
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
            && !breaker::panics(self.state.breaking.ejected(now_ms), self.endpoints.len(), settings)
    }

    /// Ejects an endpoint, where as many as that may be.
    fn eject(
        &self,
        endpoint: &Endpoint,
        cause: Cause,
        settings: &BreakerSettings,
        metrics: &TrafficMetrics,
    ) {
        let now_ms = clock::process_ms();
        let breaker = &endpoint.health.breaker;
        let until_ms = self.state.breaking.with(|ejections| {
            let allowed = ejections.allows(self.endpoints.len(), settings, now_ms);
            allowed.then(|| {
                let until_ms = breaker.with(|core| core.eject(settings, now_ms));
                ejections.note(&endpoint.id, until_ms);
                until_ms
            })
        });
        let Some(until_ms) = until_ms else { return };
        breaker.probes_left.store(settings.probes.max(1), Relaxed);
        breaker.until_ms.store(until_ms, Relaxed);
        metrics.ejected(cause, &self.state);
        tracing::info!(service = %self.label, endpoint = %endpoint.id, cause = cause.as_str(), for_ms = until_ms - now_ms, "endpoint ejected");
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
                let rate = |core: &mut Breaker| core.success_rate(settings, now_ms);
                Some((endpoint, endpoint.health.breaker.with(rate)?))
            })
            .collect();
        let plain: Vec<_> = rates.iter().map(|(_, rate)| *rate).collect();
        let Some(least) = breaker::outliers_below(&plain, settings.success_rate_deviation) else {
            return;
        };
        for (endpoint, _) in rates.iter().filter(|(_, rate)| *rate < least) {
            self.eject(endpoint, Cause::SuccessRate, settings, metrics);
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
    is_probe: bool,
    /// It takes a probe's place still.
    has_place: bool,
}

impl Trial {
    /// A request begins; `None` where no policy wants to know.
    #[must_use]
    pub fn begin(
        destination: &Arc<Destination>,
        endpoint: &Arc<Endpoint>,
        metrics: &Arc<TrafficMetrics>,
    ) -> Option<Self> {
        let settings = Arc::clone(destination.breaking.as_ref()?);
        let is_probe = endpoint.health.breaker.begin_probe(clock::process_ms());
        Some(Self {
            destination: Arc::clone(destination),
            endpoint: Arc::clone(endpoint),
            metrics: Arc::clone(metrics),
            settings,
            is_probe,
            has_place: is_probe,
        })
    }

    /// The response's head came: another may try the endpoint out, however long this one's body takes.
    pub fn answered(&mut self) {
        if std::mem::take(&mut self.has_place) {
            self.endpoint.health.breaker.end_probe();
        }
    }

    /// The request has ended, as far as it tells anything.
    pub fn judge(mut self, verdict: Option<Verdict>) {
        self.answered();
        let Some(verdict) = verdict else { return };
        let breaker = &self.endpoint.health.breaker;
        let now_ms = clock::process_ms();
        let step = breaker.with(|core| core.record(verdict, self.is_probe, &self.settings, now_ms));
        match step {
            Step::Stay => {}
            Step::Close => {
                breaker.until_ms.store(0, Relaxed);
                tracing::info!(service = %self.destination.label, endpoint = %self.endpoint.id, "endpoint takes requests again");
            }
            Step::Trip(cause) => {
                self.destination.eject(&self.endpoint, cause, &self.settings, &self.metrics);
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
