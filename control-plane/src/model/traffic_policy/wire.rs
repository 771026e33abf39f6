//! Merged sections as proxies get them. What was left open is either absent, where the proxy has a default of its
//! own, or filled in here, where the message has no room for "absent": the constants say with what.

use weft_proto::discovery;

use super::{
    Sections,
    attempts::Retry,
    endpoints::{CircuitBreaking, Hash, Limits, LoadBalancing, Locality},
    server::{Concurrency, Fault, RateLimit},
};
use crate::model::{
    amount::{Span, Time, Whole},
    matching::{HeaderName, RequestMatch},
};

/// What a breaker does where a policy has the section `circuitBreaking` and leaves this open.
mod breaker {
    pub(super) const CONSECUTIVE_FAILURES: u32 = 5;
    pub(super) const CONSECUTIVE_PATH_FAILURES: u32 = 5;
    pub(super) const WINDOW_MS: u64 = 10_000;
    pub(super) const MIN_REQUESTS: u32 = 20;
    pub(super) const BASE_EJECTION_MS: u64 = 5_000;
    pub(super) const MAX_EJECTION_MS: u64 = 300_000;
    pub(super) const MAX_EJECTED_PERCENT: u32 = 50;
    pub(super) const PANIC_PERCENT: u32 = 30;
    pub(super) const PROBES: u32 = 1;
}

/// How many requests wait, and how long, where a policy has the section `limits` and leaves this open.
const MAX_PENDING: u32 = 1_024;
const MAX_WAIT_MS: u64 = 1_000;

/// When the own zone is left, where a policy has `locality` and leaves this open.
const MIN_ENDPOINTS: u32 = 1;
const MIN_HEALTHY_PERCENT: u32 = 50;

/// The time of a rate limit that names none.
const PER_MS: u64 = 1_000;

impl Sections {
    /// What callers' sidecars do with a request; `None` when nothing is said of it.
    #[must_use]
    pub fn request_policy(&self) -> Option<discovery::RequestPolicy> {
        let said = self.of_requests();
        if said == Self::default() {
            return None;
        }
        let timeouts = said.timeouts.unwrap_or_default();
        Some(discovery::RequestPolicy {
            request_timeout_ms: timeouts.request.map(Span::millis),
            attempt_timeout_ms: timeouts.per_try.map(Span::millis),
            stream_idle_timeout_ms: timeouts.stream_idle.map(Span::millis),
            retry: said.retry.as_ref().map(retry),
            faults: said.faults.iter().flatten().map(fault).collect(),
            policies: Vec::new(),
        })
    }

    /// How callers' sidecars use the endpoints; `None` when nothing is said of it.
    #[must_use]
    pub fn endpoint_policy(&self) -> Option<discovery::EndpointPolicy> {
        let said = self.of_endpoints();
        if said == Self::default() {
            return None;
        }
        let timeouts = said.timeouts.unwrap_or_default();
        Some(discovery::EndpointPolicy {
            balancing: said.load_balancing.as_ref().map(balancing),
            breaker: said.circuit_breaking.as_ref().map(breaker),
            limits: said.limits.as_ref().map(limits),
            connect_timeout_ms: timeouts.connect.map(Span::millis),
            idle_timeout_ms: timeouts.idle.map(Span::millis),
            policies: Vec::new(),
        })
    }
}

fn retry(retry: &Retry) -> discovery::Retry {
    let backoff = retry.backoff.clone().unwrap_or_default();
    let budget = retry.budget.clone().unwrap_or_default();
    let conditions = retry.conditions.iter().flatten();
    let base = backoff.base.map(Span::millis);
    // Two levels may each say one of them: the cap is never below the first time.
    let max = backoff.max.map(Span::millis).map(|max| base.map_or(max, |base| max.max(base)));
    discovery::Retry {
        attempts: retry.attempts.map(Whole::get),
        backoff_base_ms: base,
        backoff_max_ms: max,
        conditions: conditions.map(|it| discovery::RetryCondition::from(*it).into()).collect(),
        statuses: retry.statuses.iter().flatten().map(|status| status.get()).collect(),
        grpc_codes: retry.grpc_codes.iter().flatten().map(|code| code.number()).collect(),
        unsafe_methods: retry.unsafe_methods.unwrap_or_default(),
        body_limit_bytes: retry.body_limit.map(|bytes| bytes.get().into()),
        budget_percent: budget.percent.map(Whole::get),
        budget_min_per_second: budget.min_per_second.map(Whole::get),
    }
}

fn fault(fault: &Fault) -> discovery::Fault {
    let abort = fault.abort.as_ref();
    discovery::Fault {
        operations: fault.r#match.iter().map(RequestMatch::to_wire).collect(),
        percent: fault.percent.number(),
        delay_ms: fault.delay.map_or(0, Span::millis),
        status: abort.map_or(0, |abort| abort.status.get()),
        grpc_code: abort.and_then(|abort| abort.grpc_code).map(|code| code.number()),
    }
}

fn breaker(breaking: &CircuitBreaking) -> discovery::Breaker {
    let deviation = breaking.success_rate_deviation;
    let number = |said: Option<u32>, default| said.unwrap_or(default);
    let time = |said: Option<Time>, default| said.map_or(default, Span::millis);
    let base = time(breaking.base_ejection, breaker::BASE_EJECTION_MS);
    discovery::Breaker {
        consecutive_failures: number(
            breaking.consecutive_failures.map(Whole::get),
            breaker::CONSECUTIVE_FAILURES,
        ),
        consecutive_path_failures: number(
            breaking.consecutive_path_failures.map(Whole::get),
            breaker::CONSECUTIVE_PATH_FAILURES,
        ),
        window_ms: time(breaking.window, breaker::WINDOW_MS),
        min_requests: number(breaking.min_requests.map(Whole::get), breaker::MIN_REQUESTS),
        failure_percent: number(breaking.failure_percent.map(Whole::get), 0),
        success_rate_deviation: deviation.map_or(0, |deviation| deviation.thousandths()),
        base_ejection_ms: base,
        // Two levels may each say one of them: the cap is never below the first time.
        max_ejection_ms: time(breaking.max_ejection, breaker::MAX_EJECTION_MS).max(base),
        max_ejected_percent: number(
            breaking.max_ejected_percent.map(Whole::get),
            breaker::MAX_EJECTED_PERCENT,
        ),
        panic_percent: number(breaking.panic_percent.map(Whole::get), breaker::PANIC_PERCENT),
        probes: number(breaking.probes.map(Whole::get), breaker::PROBES),
    }
}

fn limits(limits: &Limits) -> discovery::ConnectionLimits {
    discovery::ConnectionLimits {
        max_connections: limits.max_connections.map_or(0, Whole::get),
        max_pending: limits.max_pending.map_or(MAX_PENDING, Whole::get),
        max_wait_ms: limits.max_wait.map_or(MAX_WAIT_MS, Span::millis),
        max_in_flight: limits.max_in_flight.map_or(0, Whole::get),
    }
}

fn balancing(balancing: &LoadBalancing) -> discovery::Balancing {
    let algorithm = balancing.algorithm.map(discovery::BalancingAlgorithm::from);
    discovery::Balancing {
        algorithm: algorithm.unwrap_or_default().into(),
        hash: balancing.hash.as_ref().map(hash),
        slow_start_ms: balancing.slow_start.map_or(0, Span::millis),
        locality: balancing.locality.as_ref().map(locality),
        max_cooling_ms: balancing.max_cooling.map(Span::millis),
    }
}

fn hash(hash: &Hash) -> discovery::HashKey {
    use discovery::hash_key::Kind;
    let header = hash.header.as_ref().map(|name| Kind::Header(name.lower()));
    let cookie = hash.cookie.as_ref().map(|cookie| {
        let path = cookie.path.as_ref().map_or("/", |path| path.as_str()).to_owned();
        let ttl_ms = cookie.ttl.map(Span::millis);
        Kind::Cookie(discovery::Cookie { name: cookie.name.as_str().to_owned(), ttl_ms, path })
    });
    let source = hash.source.filter(|it| *it).map(Kind::Source);
    let path = hash.path.filter(|it| *it).map(Kind::Path);
    let query = hash.query.clone().map(Kind::Query);
    discovery::HashKey { kind: header.or(cookie).or(source).or(path).or(query) }
}

fn locality(locality: &Locality) -> discovery::Locality {
    let healthy = locality.min_healthy_percent;
    discovery::Locality {
        failover: locality.failover.clone().unwrap_or_default(),
        min_endpoints: locality.min_endpoints.map_or(MIN_ENDPOINTS, Whole::get),
        min_healthy_percent: healthy.map_or(MIN_HEALTHY_PERCENT, Whole::get),
        max_in_flight_per_endpoint: locality.max_in_flight_per_endpoint.map_or(0, Whole::get),
    }
}

impl RateLimit {
    /// As it travels; `policy` says whose it is.
    #[must_use]
    pub fn to_wire(&self, policy: String) -> discovery::RateLimit {
        let key = self.key.map(discovery::RateLimitKey::from).unwrap_or_default();
        discovery::RateLimit {
            policy,
            requests: self.requests.get().into(),
            per_ms: self.per.map_or(PER_MS, Span::millis),
            burst: self.burst.unwrap_or(self.requests).get().into(),
            operations: self.r#match.iter().map(RequestMatch::to_wire).collect(),
            key: key.into(),
            header: self.header.as_ref().map(HeaderName::lower).unwrap_or_default(),
            fair: self.fair.unwrap_or_default(),
        }
    }
}

impl Concurrency {
    /// As it travels; `policy` says whose it is.
    #[must_use]
    pub fn to_wire(&self, policy: String) -> discovery::Concurrency {
        discovery::Concurrency {
            policy,
            max_in_flight: self.max_in_flight.get(),
            max_pending: self.max_pending.map_or(0, Whole::get),
            max_wait_ms: self.max_wait.map_or(MAX_WAIT_MS, Span::millis),
        }
    }
}
