//! When an endpoint is left alone because requests to it fail.
//!
//! In come how requests to one endpoint ended ([`Verdict`]), with the time; out comes whether it takes requests. Failures
//! of the way there (connections, resets, timeouts) and of the application (5xx, and gRPC codes that mean the same) are
//! told apart: a row of either trips the breaker by its own criterion, and both count for the share of a sliding window.
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
//! - No more than a share of a service's endpoints is kept from requests at once, ejected or half open, but one always
//!   may be; what would go beyond stays closed and trips with its next failure. When fewer than the panic threshold are
//!   left, all are used: that all fail says more of the whole than of each.
//! - Half open, only probes decide. Each change begins a new phase, and a request speaks of the phase in which it began
//!   ([`Ticket`]): what ends later is late, says nothing, and takes or frees no place of another phase.
//! - Success rates are compared among siblings that have enough requests in the window: an endpoint is ejected when
//!   its rate lies more than so many standard deviations below the mean. Two can never be told apart so.
//!
//! Pure: nothing here waits, locks or asks for the time. The process keeps one [`Breaker`] an endpoint and one
//! [`Ejections`] a service, and shares them among its workers.

mod ejections;
mod verdict;
mod window;

use std::time::Duration;

pub use ejections::{Ejections, outliers, panics};
pub use verdict::Verdict;
use window::Window;

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
    /// Standard deviations below the mean success rate of the others, in thousandths.
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

/// A request's part in the life of a breaker: in which phase it began, and whether it tries the endpoint out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    phase: u64,
    is_probe: bool,
}

impl Ticket {
    /// Of a request that began while the breaker was closed, in this phase of it.
    #[must_use]
    pub const fn of_closed(phase: u64) -> Self {
        Self { phase, is_probe: false }
    }

    /// In which phase the request began.
    #[must_use]
    pub const fn phase(self) -> u64 {
        self.phase
    }

    /// Whether the request holds the place of a probe.
    #[must_use]
    pub const fn is_probe(self) -> bool {
        self.is_probe
    }
}

/// The breaker of one endpoint.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    /// Counts the changes between open and closed.
    phase: u64,
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
    /// Until this time; half open after it, when so many more may try the endpoint out, and so many succeeded already.
    Ejected { until_ms: u64, places: u32, succeeded: u32 },
}

impl Breaker {
    /// Which phase this is.
    #[must_use]
    pub const fn phase(&self) -> u64 {
        self.phase
    }

    /// Until when the endpoint is ejected, or was before it became half open; `None` while it is closed.
    #[must_use]
    pub const fn until_ms(&self) -> Option<u64> {
        match self.state {
            State::Closed => None,
            State::Ejected { until_ms, .. } => Some(until_ms),
        }
    }

    /// Whether no further request may try the endpoint out.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self.state, State::Ejected { places: 0, .. })
    }

    /// A request wants to begin; `None` when the endpoint does not take it.
    pub fn enter(&mut self, now_ms: u64) -> Option<Ticket> {
        match &mut self.state {
            State::Closed => Some(Ticket::of_closed(self.phase)),
            State::Ejected { until_ms, places, .. } if now_ms >= *until_ms && *places > 0 => {
                *places -= 1;
                Some(Ticket { phase: self.phase, is_probe: true })
            }
            State::Ejected { .. } => None,
        }
    }

    /// A request gives its place back; to be called once.
    pub fn leave(&mut self, ticket: Ticket) {
        if let State::Ejected { places, .. } = &mut self.state
            && ticket.is_probe
            && ticket.phase == self.phase
        {
            *places += 1;
        }
    }

    /// Takes in how a request ended, where it speaks of this phase: half open, only probes do.
    pub fn record(
        &mut self,
        verdict: Verdict,
        ticket: Ticket,
        settings: &BreakerSettings,
        now_ms: u64,
    ) -> Step {
        if ticket.phase != self.phase {
            return Step::Stay;
        }
        let step = match &mut self.state {
            State::Closed => self.record_closed(verdict, settings, now_ms),
            State::Ejected { .. } if !ticket.is_probe => Step::Stay,
            State::Ejected { succeeded, .. } => match verdict {
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
            },
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

    /// Ejects the endpoint for what was seen in this phase; until when. `None` when the phase is over: others have seen
    /// the same.
    pub fn eject(&mut self, phase: u64, settings: &BreakerSettings, now_ms: u64) -> Option<u64> {
        if phase != self.phase {
            return None;
        }
        let max_ms = millis(settings.max_ejection);
        let was_closed = self.state == State::Closed;
        if was_closed && now_ms.saturating_sub(self.closed_at_ms) >= max_ms {
            self.ejections = 0;
        }
        let base_ms = millis(settings.base_ejection).max(1);
        let lasts = base_ms.saturating_mul(1 << self.ejections.min(32)).min(max_ms.max(base_ms));
        self.ejections = self.ejections.saturating_add(1);
        let until_ms = now_ms.saturating_add(lasts);
        self.change(State::Ejected { until_ms, places: settings.probes.max(1), succeeded: 0 });
        debug_assert!(self.check_invariants());
        Some(until_ms)
    }

    /// Forgets all that it knows: no policy wants to know it any longer.
    pub fn reset(&mut self) {
        self.change(State::Closed);
        (self.ejections, self.closed_at_ms) = (0, 0);
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
        self.change(State::Closed);
        self.closed_at_ms = now_ms;
    }

    /// A new phase begins, in which nothing is known yet.
    fn change(&mut self, state: State) {
        self.state = state;
        self.phase += 1;
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
