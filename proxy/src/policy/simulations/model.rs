//! A plain model of callers and endpoints: the state machines of retries, budgets, breakers and balancing driven together,
//! as the exchange drives them, in simulated time.
//!
//! Comes in: a seed, how many of each there are, the policies, how endpoints conduct themselves. Goes out: what was asked,
//! sent, answered and ejected in a stretch of time. No sockets, no real time: a run is the same for the same seed.

use std::{collections::BTreeMap, time::Duration};

use http::{Method, StatusCode};

use crate::{
    balance::{Candidates, PeakEwma, Standing, pick},
    clock::{self, Instant},
    error::ProxyError,
    policy::{
        breaker::{Breaker, BreakerSettings, Ejections, Step, Ticket, Verdict, panics},
        budget::Budget,
        retry::{Decision, Facts, Outcome, RetryPolicy, Role},
    },
    reason::Reason,
};

/// What is simulated.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Sidecars, each with a state of its own.
    pub(super) callers: usize,
    pub(super) endpoints: usize,
    /// Requests a second, of all callers together.
    pub(super) demand: u64,
    pub(super) retry: RetryPolicy,
    pub(super) attempt_timeout: Duration,
    pub(super) breaking: BreakerSettings,
    /// Endpoints are balanced by their latency, and not by chance alone.
    pub(super) by_latency: bool,
}

/// How an endpoint answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conduct {
    pub(super) fails: bool,
    /// How long it works on one request, on average; others wait.
    pub(super) works_for: Duration,
}

/// How many requests an endpoint works on at once.
const AT_ONCE: usize = 4;

/// What would wait longer than this, an endpoint turns away at once.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long that takes.
const REFUSAL: Duration = Duration::from_millis(1);

/// What happened in a stretch of time.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: u64,
    /// Attempts.
    pub(super) offered: u64,
    pub(super) succeeded: u64,
    /// Requests that did not succeed in the end.
    pub(super) failed: u64,
    /// Of them, those for which every endpoint was ejected.
    pub(super) refused: u64,
    /// Attempts by endpoint.
    pub(super) shares: Vec<u64>,
    /// Ejections by endpoint, of all callers.
    pub(super) ejections: Vec<u64>,
    /// How often an endpoint took requests again.
    pub(super) closed: u64,
    /// The most endpoints that one caller left alone or tried out at once.
    pub(super) most_out: usize,
}

impl Tally {
    /// What was offered for each request.
    pub(super) fn load(&self) -> f64 {
        self.offered as f64 / self.requests as f64
    }

    pub(super) fn success(&self) -> f64 {
        self.succeeded as f64 / self.requests as f64
    }

    pub(super) fn ejected(&self) -> u64 {
        self.ejections.iter().sum()
    }
}

pub(super) struct World {
    plan: Plan,
    random: fastrand::Rng,
    origin: Instant,
    now: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    scheduled: u64,
    callers: Vec<Caller>,
    pub(super) conducts: Vec<Conduct>,
    /// When each of the places of an endpoint is free.
    busy: Vec<[Duration; AT_ONCE]>,
    tally: Tally,
}

/// One sidecar.
struct Caller {
    budget: Budget,
    ejections: Ejections<usize>,
    known: Vec<Known>,
}

/// What a sidecar knows of an endpoint.
struct Known {
    breaker: Breaker,
    ewma: PeakEwma,
    in_flight: u32,
}

struct Request {
    caller: usize,
    retries: u32,
    tried: Vec<usize>,
}

struct Attempt {
    request: Request,
    endpoint: usize,
    ticket: Option<Ticket>,
    began: Duration,
    ending: Ending,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Succeeded,
    Failed,
    TimedOut,
}

enum Event {
    Arrives,
    Begins(Request),
    Ends(Attempt),
}

impl World {
    pub(super) fn new(seed: u64, plan: Plan) -> Self {
        let origin = clock::now();
        let known =
            || Known { breaker: Breaker::default(), ewma: PeakEwma::new(origin), in_flight: 0 };
        let caller = |_| Caller {
            budget: Budget::new(origin),
            ejections: Ejections::default(),
            known: (0..plan.endpoints).map(|_| known()).collect(),
        };
        let works = Conduct { fails: false, works_for: Duration::from_millis(20) };
        let mut world = Self {
            random: fastrand::Rng::with_seed(seed),
            origin,
            now: Duration::ZERO,
            events: BTreeMap::new(),
            scheduled: 0,
            callers: (0..plan.callers).map(caller).collect(),
            conducts: vec![works; plan.endpoints],
            busy: vec![[Duration::ZERO; AT_ONCE]; plan.endpoints],
            tally: Tally::default(),
            plan,
        };
        world.at(Duration::ZERO, Event::Arrives);
        world
    }

    /// Goes on for so long; what happened in it.
    pub(super) fn run(&mut self, time: Duration) -> Tally {
        let until = self.now + time;
        let endpoints = self.plan.endpoints;
        self.tally =
            Tally { shares: vec![0; endpoints], ejections: vec![0; endpoints], ..Tally::default() };
        while let Some(next) = self.events.first_entry()
            && next.key().0 < until
        {
            self.now = next.key().0;
            match next.remove() {
                Event::Arrives => self.arrives(),
                Event::Begins(request) => self.begins(request),
                Event::Ends(attempt) => self.ends(attempt),
            }
        }
        self.now = until;
        std::mem::take(&mut self.tally)
    }

    fn at(&mut self, time: Duration, event: Event) {
        self.scheduled += 1;
        self.events.insert((time, self.scheduled), event);
    }

    fn instant(&self) -> Instant {
        self.origin + self.now
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.now.as_millis()).expect("no run is that long")
    }

    fn arrives(&mut self) {
        let gap = Duration::from_secs(1) / u32::try_from(self.plan.demand).expect("small");
        self.at(self.now + gap, Event::Arrives);
        self.tally.requests += 1;
        let caller = self.random.usize(..self.callers.len());
        self.callers[caller].budget.deposit(self.instant());
        self.begins(Request { caller, retries: 0, tried: Vec::new() });
    }

    fn begins(&mut self, request: Request) {
        let (now, now_ms) = (self.instant(), self.millis());
        let caller = &mut self.callers[request.caller];
        let view = View { caller, plan: &self.plan, tried: &request.tried, now, now_ms };
        let Some(endpoint) = pick(&view, &mut self.random) else { return };
        if view.standing(endpoint) == Standing::Ejected {
            self.tally.refused += 1;
            self.tally.failed += 1;
            return;
        }
        let known = &mut caller.known[endpoint];
        let ticket = known.breaker.enter(now_ms);
        known.in_flight += 1;
        self.tally.offered += 1;
        self.tally.shares[endpoint] += 1;
        let (took, ending) = self.serve(endpoint);
        let attempt = Attempt { request, endpoint, ticket, began: self.now, ending };
        self.at(self.now + took, Event::Ends(attempt));
    }

    /// The endpoint works on what it was given, also when nobody waits for it any longer.
    fn serve(&mut self, endpoint: usize) -> (Duration, Ending) {
        let Conduct { fails, works_for } = self.conducts[endpoint];
        let works_for = works_for.mul_f64(0.5 + self.random.f64());
        let free = self.busy[endpoint].iter_mut().min().expect("it has places");
        if free.saturating_sub(self.now) > LONGEST_WAIT {
            return (REFUSAL, Ending::Failed);
        }
        *free = (*free).max(self.now) + works_for;
        let took = *free - self.now;
        match (took > self.plan.attempt_timeout, fails) {
            (true, _) => (self.plan.attempt_timeout, Ending::TimedOut),
            (false, true) => (took, Ending::Failed),
            (false, false) => (took, Ending::Succeeded),
        }
    }

    fn ends(&mut self, attempt: Attempt) {
        let (now, took) = (self.instant(), self.now - attempt.began);
        let known = &mut self.callers[attempt.request.caller].known[attempt.endpoint];
        known.in_flight -= 1;
        if attempt.ending != Ending::TimedOut || took.as_secs_f64() > known.ewma.seconds(now) {
            known.ewma.observe(took, now);
        }
        self.judge(&attempt);
        if attempt.ending == Ending::Succeeded {
            self.tally.succeeded += 1;
        } else {
            self.retry(attempt);
        }
    }

    fn judge(&mut self, attempt: &Attempt) {
        let Some(ticket) = attempt.ticket else { return };
        let (now_ms, total, settings) = (self.millis(), self.plan.endpoints, &self.plan.breaking);
        let Caller { ejections, known, .. } = &mut self.callers[attempt.request.caller];
        let breaker = &mut known[attempt.endpoint].breaker;
        let verdict = match attempt.ending {
            Ending::Succeeded => Verdict::Success,
            Ending::Failed => Verdict::ApplicationFailure,
            Ending::TimedOut => Verdict::PathFailure,
        };
        breaker.leave(ticket);
        match breaker.record(verdict, ticket, settings, now_ms) {
            Step::Stay => {}
            Step::Close => {
                ejections.forget(&attempt.endpoint);
                self.tally.closed += 1;
            }
            Step::Trip(_) if ejections.allows(&attempt.endpoint, total, settings) => {
                if let Some(until_ms) = breaker.eject(ticket.phase(), settings, now_ms) {
                    ejections.note(attempt.endpoint, until_ms);
                    self.tally.ejections[attempt.endpoint] += 1;
                    self.tally.most_out = self.tally.most_out.max(ejections.len());
                }
            }
            Step::Trip(_) => {}
        }
    }

    fn retry(&mut self, attempt: Attempt) {
        let Attempt { mut request, endpoint, ending, .. } = attempt;
        if !request.tried.contains(&endpoint) {
            request.tried.push(endpoint);
        }
        let error = ProxyError::after_send(Reason::AttemptTimeout, "");
        let outcome = match ending {
            Ending::TimedOut => Outcome::Failed { error: &error, kept_connection: false },
            Ending::Succeeded | Ending::Failed => Outcome::Answered {
                status: StatusCode::SERVICE_UNAVAILABLE,
                grpc_code: None,
                retry_after: None,
            },
        };
        let facts = Facts {
            role: Role::Client,
            method: &Method::GET,
            has_idempotency_key: false,
            retries_made: request.retries,
            another_endpoint: self.plan.endpoints > request.tried.len(),
            replayable: true,
            left: None,
            outcome,
        };
        let decision = self.plan.retry.decide(&facts, self.random.f64());
        let (budget, now) = (&self.callers[request.caller].budget, self.instant());
        match decision {
            Decision::Again(wait) if budget.withdraw(self.plan.retry.budget, now) => {
                request.retries += 1;
                self.at(self.now + wait, Event::Begins(request));
            }
            _ => self.tally.failed += 1,
        }
    }
}

/// The endpoints as one caller sees them for one attempt.
struct View<'a> {
    caller: &'a Caller,
    plan: &'a Plan,
    tried: &'a [usize],
    now: Instant,
    now_ms: u64,
}

impl Candidates for View<'_> {
    fn count(&self) -> usize {
        self.plan.endpoints
    }

    fn standing(&self, index: usize) -> Standing {
        let breaker = &self.caller.known[index].breaker;
        let is_out = breaker.until_ms().is_some_and(|until_ms| {
            (self.now_ms < until_ms || breaker.is_full())
                && !panics(self.caller.ejections.len(), self.plan.endpoints, &self.plan.breaking)
        });
        match is_out {
            true => Standing::Ejected,
            false if self.tried.contains(&index) => Standing::Tried,
            false => Standing::Good,
        }
    }

    fn cost(&self, index: usize) -> f64 {
        let Known { ewma, in_flight, .. } = &self.caller.known[index];
        if self.plan.by_latency { ewma.cost(*in_flight, self.now) } else { 0.0 }
    }
}
