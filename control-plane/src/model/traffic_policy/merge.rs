//! A more specific policy over a less specific one, field by field: what the first leaves open, the second says.
//!
//! Lists are one field: they are not joined. What is hashed belongs to the algorithm, and is taken with it.

use super::{
    Sections,
    attempts::{Backoff, Budget, Retry, Timeouts},
    endpoints::{CircuitBreaking, Limits, LoadBalancing, Locality},
    server::Concurrency,
};

/// What can lie over a less specific one of its kind.
trait Over: Clone {
    /// This, and what it leaves open from `lower`.
    fn over(&self, lower: &Self) -> Self;
}

fn over<T: Over>(upper: Option<&T>, lower: Option<&T>) -> Option<T> {
    match (upper, lower) {
        (Some(upper), Some(lower)) => Some(upper.over(lower)),
        (one, other) => one.or(other).cloned(),
    }
}

/// Fields that are values, then those that are merged themselves.
macro_rules! over {
    ($($type:ident { $($value:ident),* $(; $($nested:ident),+)? })+) => {
        $(impl Over for $type {
            fn over(&self, lower: &Self) -> Self {
                Self {
                    $($value: self.$value.clone().or_else(|| lower.$value.clone()),)*
                    $($($nested: over(self.$nested.as_ref(), lower.$nested.as_ref()),)+)?
                }
            }
        })+
    };
}

over! {
    Timeouts { request, per_try, idle, stream_idle, connect }
    Retry { attempts, conditions, statuses, grpc_codes, unsafe_methods, body_limit; backoff, budget }
    Backoff { base, max }
    Budget { percent, min_per_second }
    CircuitBreaking {
        consecutive_failures, consecutive_path_failures, window, min_requests, failure_percent,
        success_rate_deviation, base_ejection, max_ejection, max_ejected_percent, panic_percent, probes
    }
    Limits { max_connections, max_pending, max_wait, max_in_flight }
    Locality { failover, min_endpoints, min_healthy_percent, max_in_flight_per_endpoint }
}

impl Over for LoadBalancing {
    fn over(&self, lower: &Self) -> Self {
        let chosen = if self.algorithm.is_some() { self } else { lower };
        Self {
            algorithm: chosen.algorithm,
            hash: chosen.hash.clone(),
            slow_start: self.slow_start.or(lower.slow_start),
            locality: over(self.locality.as_ref(), lower.locality.as_ref()),
            max_cooling: self.max_cooling.or(lower.max_cooling),
        }
    }
}

impl Over for Concurrency {
    fn over(&self, lower: &Self) -> Self {
        Self {
            max_in_flight: self.max_in_flight,
            max_pending: self.max_pending.or(lower.max_pending),
            max_wait: self.max_wait.or(lower.max_wait),
        }
    }
}

impl Concurrency {
    /// This, and what it leaves open from a less specific one.
    #[must_use]
    pub fn over(&self, lower: &Self) -> Self {
        Over::over(self, lower)
    }
}

impl Sections {
    /// These, and what they leave open from less specific ones.
    #[must_use]
    pub fn over(&self, lower: &Self) -> Self {
        Self {
            timeouts: over(self.timeouts.as_ref(), lower.timeouts.as_ref()),
            retry: over(self.retry.as_ref(), lower.retry.as_ref()),
            circuit_breaking: over(self.circuit_breaking.as_ref(), lower.circuit_breaking.as_ref()),
            limits: over(self.limits.as_ref(), lower.limits.as_ref()),
            load_balancing: over(self.load_balancing.as_ref(), lower.load_balancing.as_ref()),
            rate_limits: self.rate_limits.clone().or_else(|| lower.rate_limits.clone()),
            concurrency: over(self.concurrency.as_ref(), lower.concurrency.as_ref()),
            faults: self.faults.clone().or_else(|| lower.faults.clone()),
        }
    }
}
