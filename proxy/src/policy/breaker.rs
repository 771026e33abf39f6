//! When an endpoint is left alone because requests to it fail.
//!
//! In come how requests to one endpoint ended, with the time; out comes whether it takes requests. Failures of the
//! way there (connections, resets, timeouts) and of the application (5xx, and gRPC codes that mean the same) are told
//! apart: a row of either trips the breaker by its own criterion, and both count for the share of a sliding window.
//!
//! ```text
//!           a criterion is met, and enough siblings are left
//!  Closed ---------------------------------------------------> Ejected
//!    ^                                                          |    ^
//!    | as many probes in a row succeed as there may be at once  |    | a probe fails
//!    |                                                   time   v    |
//!    +------------------------------------------------------- HalfOpen
//! ```
//!
//! - The first ejection lasts `base_ejection`; each further one twice as long, up to `max_ejection`. An endpoint that
//!   held for as long as `max_ejection` is taken for new.
//! - No more than a share of a service's endpoints is ejected at once, but one always may be; what would go beyond
//!   stays closed and trips with its next failure. When fewer than the panic threshold are left, none counts as
//!   ejected: that all fail says more of the whole than of each.
//! - Half open, only probes decide; what was sent before the ejection is late and says nothing.
//! - Success rates are compared among siblings that have enough requests in the window: an endpoint is ejected when
//!   its rate lies more than so many standard deviations below the mean. Two can never be told apart so.
//!
//! Pure: nothing here waits, locks or asks for the time. The process keeps one [`Breaker`] an endpoint and one
//! [`Ejections`] a service, and shares them among its workers.

use std::{sync::Arc, time::Duration};

use http::StatusCode;

use crate::{
    error::{self, Side},
    reason::Reason,
};

/// Slots of a window: it slides by a fifth of its length.
const SLOTS: u64 = 5;

/// When endpoints of a service are ejected, and for how long. A criterion that is zero is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures of the application in a row.
    pub consecutive_failures: u32,
    /// Failures of the way there in a row.
    pub consecutive_path_failures: u32,
    /// How far back shares and rates look.
    pub window: Duration,
    /// Requests in the window below which they say nothing.
    pub min_requests: u32,
    /// More than so many percent failed.
    pub failure_percent: u32,
    /// Standard deviations below the siblings' mean success rate, in thousandths.
    pub success_rate_deviation: u32,
    /// The first ejection.
    pub base_ejection: Duration,
    /// The longest.
    pub max_ejection: Duration,
    /// Of the endpoints so many percent may be ejected at once.
    pub max_ejected_percent: u32,
    /// When fewer percent than this are left, all are used.
    pub panic_percent: u32,
    /// So many requests at once try an endpoint out after its ejection.
    pub probes: u32,
}

impl Default for BreakerSettings {
    /// No criterion, and for the rest what a criterion needs.
    fn default() -> Self {
        Self {
            consecutive_failures: 0,
            consecutive_path_failures: 0,
            window: Duration::from_secs(10),
            min_requests: 20,
            failure_percent: 0,
            success_rate_deviation: 0,
            base_ejection: Duration::from_secs(5),
            max_ejection: Duration::from_secs(300),
            max_ejected_percent: 50,
            panic_percent: 30,
            probes: 1,
        }
    }
}

/// How a request to an endpoint ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The application answered, with no failure of its own.
    Success,
    /// The application answered that it failed.
    ApplicationFailure,
    /// No answer came: the connection, the stream or the time ended.
    PathFailure,
}

impl Verdict {
    /// What a response says of the application. 501 and UNIMPLEMENTED speak of the request.
    #[must_use]
    pub fn of_response(status: StatusCode, grpc_code: Option<u8>) -> Self {
        // UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS.
        let failed = match grpc_code {
            Some(code) => matches!(code, 2 | 4 | 13 | 14 | 15),
            None => status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED,
        };
        if failed { Self::ApplicationFailure } else { Self::Success }
    }

    /// What it says of an endpoint that there is no response, or no whole one; `None` for nothing.
    #[must_use]
    pub fn of_failure(reason: Reason) -> Option<Self> {
        (error::side(reason) == Side::Server).then_some(Self::PathFailure)
    }
}

/// Why an endpoint is ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Failures of the application in a row.
    ConsecutiveFailures,
    /// Failures of the way there in a row.
    ConsecutivePathFailures,
    /// The share of failures in the window.
    FailurePercent,
    /// It succeeds less than its siblings.
    SuccessRate,
    /// A probe failed.
    Probe,
}

impl Cause {
    /// All, in the order of their declaration.
    pub const ALL: [Self; 5] = [
        Self::ConsecutiveFailures,
        Self::ConsecutivePathFailures,
        Self::FailurePercent,
        Self::SuccessRate,
        Self::Probe,
    ];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive-failures",
            Self::ConsecutivePathFailures => "consecutive-path-failures",
            Self::FailurePercent => "failure-percent",
            Self::SuccessRate => "success-rate",
            Self::Probe => "probe",
        }
    }
}

/// Whether an endpoint takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// It does.
    Good,
    /// It takes another probe.
    HalfOpen,
    /// It does not, for now.
    Ejected,
}

/// What follows from a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Stay,
    /// The endpoint is to be ejected, where that is allowed.
    Trip(Cause),
    /// The endpoint takes requests again.
    Close,
}

/// The breaker of one endpoint.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    state: State,
    /// In a row, each at most as long as the endpoint did not hold in between.
    ejections: u32,
    closed_at_ms: u64,
    failures: u32,
    path_failures: u32,
    window: Window,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Closed,
    /// Until this time; half open after it, when so many probes succeeded already.
    Ejected { until_ms: u64, succeeded: u32 },
}

impl Breaker {
    /// Takes in how a request ended; `is_probe` when it was let through half open.
    pub fn record(
        &mut self,
        verdict: Verdict,
        is_probe: bool,
        settings: &BreakerSettings,
        now_ms: u64,
    ) -> Step {
        let step = match &mut self.state {
            State::Closed => self.record_closed(verdict, settings, now_ms),
            State::Ejected { until_ms, succeeded } if is_probe && now_ms >= *until_ms => {
                match verdict {
                    Verdict::Success if *succeeded + 1 >= settings.probes => {
                        self.close(now_ms);
                        Step::Close
                    }
                    Verdict::Success => {
                        *succeeded += 1;
                        Step::Stay
                    }
                    Verdict::ApplicationFailure | Verdict::PathFailure => {
                        *succeeded = 0;
                        Step::Trip(Cause::Probe)
                    }
                }
            }
            State::Ejected { .. } => Step::Stay,
        };
        debug_assert!(self.check_invariants());
        step
    }

    fn record_closed(&mut self, verdict: Verdict, settings: &BreakerSettings, now_ms: u64) -> Step {
        match verdict {
            Verdict::Success => (self.failures, self.path_failures) = (0, 0),
            // The way there is good.
            Verdict::ApplicationFailure => {
                (self.failures, self.path_failures) = (self.failures.saturating_add(1), 0);
            }
            Verdict::PathFailure => self.path_failures = self.path_failures.saturating_add(1),
        }
        let failed = verdict != Verdict::Success;
        self.window.add(failed, settings.window, now_ms);
        if !failed {
            return Step::Stay;
        }
        let reached = |count: u32, limit: u32| limit > 0 && count >= limit;
        if reached(self.failures, settings.consecutive_failures) {
            return Step::Trip(Cause::ConsecutiveFailures);
        }
        if reached(self.path_failures, settings.consecutive_path_failures) {
            return Step::Trip(Cause::ConsecutivePathFailures);
        }
        let (total, failed) = self.window.counts(settings.window, now_ms);
        if settings.failure_percent > 0
            && total >= u64::from(settings.min_requests)
            && failed * 100 > total * u64::from(settings.failure_percent)
        {
            return Step::Trip(Cause::FailurePercent);
        }
        Step::Stay
    }

    /// Ejects the endpoint; until when.
    pub fn eject(&mut self, settings: &BreakerSettings, now_ms: u64) -> u64 {
        let max_ms = millis(settings.max_ejection);
        let was_closed = self.state == State::Closed;
        if was_closed && now_ms.saturating_sub(self.closed_at_ms) >= max_ms {
            self.ejections = 0;
        }
        let base_ms = millis(settings.base_ejection).max(1);
        let lasts = base_ms.saturating_mul(1 << self.ejections.min(32)).min(max_ms.max(base_ms));
        self.ejections = self.ejections.saturating_add(1);
        let until_ms = now_ms.saturating_add(lasts);
        self.state = State::Ejected { until_ms, succeeded: 0 };
        self.forget();
        debug_assert!(self.check_invariants());
        until_ms
    }

    /// The share of requests in the window that succeeded, where there were enough.
    #[must_use]
    pub fn success_rate(&self, settings: &BreakerSettings, now_ms: u64) -> Option<f64> {
        let (total, failed) = self.window.counts(settings.window, now_ms);
        let enough =
            self.state == State::Closed && total > 0 && total >= settings.min_requests.into();
        enough.then(|| (total - failed) as f64 / total as f64)
    }

    fn close(&mut self, now_ms: u64) {
        self.state = State::Closed;
        self.closed_at_ms = now_ms;
        self.forget();
    }

    fn forget(&mut self) {
        (self.failures, self.path_failures) = (0, 0);
        self.window = Window::default();
    }

    /// Whether this is a state that a breaker can be in.
    fn check_invariants(&self) -> bool {
        let counts_nothing =
            self.failures == 0 && self.path_failures == 0 && self.window == Window::default();
        match self.state {
            State::Closed => true,
            State::Ejected { .. } => counts_nothing && self.ejections > 0,
        }
    }
}

/// What of a service's success rates counts as an outlier: rates below the one that comes out, if any can be.
#[must_use]
pub fn outliers_below(rates: &[f64], deviation_thousandths: u32) -> Option<f64> {
    if rates.len() < 3 || deviation_thousandths == 0 {
        return None;
    }
    let count = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / count;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count;
    Some(mean - variance.sqrt() * f64::from(deviation_thousandths) / 1_000.0)
}

/// Which endpoints of a service are ejected.
#[derive(Debug, Clone, Default)]
pub struct Ejections(Vec<(Arc<str>, u64)>);

impl Ejections {
    /// How many are ejected now; forgets the others.
    pub fn count(&mut self, now_ms: u64) -> usize {
        self.0.retain(|(_, until_ms)| now_ms < *until_ms);
        self.0.len()
    }

    /// How many were when they were last counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Until when the count stays as it is, unless another one is ejected.
    #[must_use]
    pub fn next_change_ms(&self) -> u64 {
        self.0.iter().map(|(_, until_ms)| *until_ms).min().unwrap_or(u64::MAX)
    }

    /// Whether another one of `total` may be ejected.
    pub fn allows(&mut self, total: usize, settings: &BreakerSettings, now_ms: u64) -> bool {
        let most = total * settings.max_ejected_percent.min(100) as usize / 100;
        self.count(now_ms) < most.max(1)
    }

    /// Notes an ejection.
    pub fn note(&mut self, id: &Arc<str>, until_ms: u64) {
        self.0.retain(|(ejected, _)| ejected != id);
        self.0.push((Arc::clone(id), until_ms));
    }
}

/// Whether so few of a service's endpoints are left that all are used.
#[must_use]
pub const fn panics(ejected: usize, total: usize, settings: &BreakerSettings) -> bool {
    ejected > 0 && total.saturating_sub(ejected) * 100 < total * settings.panic_percent as usize
}

/// Counts over the last slots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Window([Slot; SLOTS as usize]);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Slot {
    /// Which slot of time this is.
    number: u64,
    total: u64,
    failed: u64,
}

impl Window {
    fn add(&mut self, failed: bool, window: Duration, now_ms: u64) {
        let number = number(window, now_ms);
        let slot = &mut self.0[(number % SLOTS) as usize];
        if slot.number != number {
            *slot = Slot { number, ..Slot::default() };
        }
        slot.total += 1;
        slot.failed += u64::from(failed);
    }

    /// All requests, and those that failed.
    fn counts(&self, window: Duration, now_ms: u64) -> (u64, u64) {
        let now = number(window, now_ms);
        let of_window =
            self.0.iter().filter(|slot| slot.number + SLOTS > now && slot.number <= now);
        of_window.fold((0, 0), |(total, failed), slot| (total + slot.total, failed + slot.failed))
    }
}

fn number(window: Duration, now_ms: u64) -> u64 {
    now_ms / (millis(window) / SLOTS).max(1)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
