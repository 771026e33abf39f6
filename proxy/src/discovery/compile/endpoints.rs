//! How a service's endpoints are used, from the wire's merged form: breaker, limits, and the times of connections.
//!
//! Every message can be acted on: a zero means that a criterion is not used, or a limit not set; what a criterion
//! needs beside itself is the default where it is zero.

use std::time::Duration;

use weft_proto::discovery as wire;

use crate::policy::{breaker::BreakerSettings, limits::ServiceLimits};

/// When endpoints are ejected; `None` where no criterion is used.
pub(super) fn breaking(message: &wire::EndpointPolicy) -> Option<BreakerSettings> {
    let breaker = message.breaker.as_ref()?;
    let default = BreakerSettings::default();
    let time = |millis: u64, default| match millis {
        0 => default,
        millis => Duration::from_millis(millis),
    };
    let settings = BreakerSettings {
        consecutive_failures: breaker.consecutive_failures,
        consecutive_path_failures: breaker.consecutive_path_failures,
        window: time(breaker.window_ms, default.window),
        min_requests: breaker.min_requests,
        failure_percent: breaker.failure_percent,
        success_rate_deviation: breaker.success_rate_deviation,
        base_ejection: time(breaker.base_ejection_ms, default.base_ejection),
        max_ejection: time(breaker.max_ejection_ms, default.max_ejection),
        max_ejected_percent: breaker.max_ejected_percent,
        panic_percent: breaker.panic_percent,
        probes: breaker.probes.max(default.probes),
    };
    let criteria = [
        settings.consecutive_failures,
        settings.consecutive_path_failures,
        settings.failure_percent,
        settings.success_rate_deviation,
    ];
    criteria.iter().any(|criterion| *criterion > 0).then_some(settings)
}

/// Limits and times; `None` where none is set.
pub(super) fn limits(message: &wire::EndpointPolicy) -> Option<ServiceLimits> {
    let limits = message.limits.unwrap_or_default();
    let time = |millis: Option<u64>| millis.filter(|it| *it > 0).map(Duration::from_millis);
    let compiled = ServiceLimits {
        max_connections: limits.max_connections,
        max_in_flight: limits.max_in_flight,
        max_pending: limits.max_pending,
        max_wait: Duration::from_millis(limits.max_wait_ms),
        connect_timeout: time(message.connect_timeout_ms),
        idle_timeout: time(message.idle_timeout_ms),
        policies: message.policies.iter().map(|name| name.as_str().into()).collect(),
    };
    let is_set = compiled.max_connections > 0
        || compiled.max_in_flight > 0
        || compiled.connect_timeout.is_some()
        || compiled.idle_timeout.is_some();
    is_set.then_some(compiled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_without_a_criterion_or_a_limit_is_none() {
        let empty = wire::EndpointPolicy {
            breaker: Some(wire::Breaker { window_ms: 5, ..Default::default() }),
            limits: Some(wire::ConnectionLimits { max_pending: 5, ..Default::default() }),
            ..Default::default()
        };
        assert_eq!((breaking(&empty), limits(&empty)), (None, None));
        let nothing = wire::EndpointPolicy::default();
        assert_eq!((breaking(&nothing), limits(&nothing)), (None, None));
    }

    #[test]
    fn what_a_criterion_needs_is_there() {
        let breaker = wire::Breaker { consecutive_failures: 3, ..Default::default() };
        let policy = wire::EndpointPolicy { breaker: Some(breaker), ..Default::default() };
        let expected = BreakerSettings {
            consecutive_failures: 3,
            min_requests: 0,
            max_ejected_percent: 0,
            panic_percent: 0,
            ..BreakerSettings::default()
        };
        assert_eq!(breaking(&policy), Some(expected));
    }

    #[test]
    fn times_of_connections_stand_without_limits() {
        let policy = wire::EndpointPolicy {
            connect_timeout_ms: Some(250),
            idle_timeout_ms: Some(0),
            ..Default::default()
        };
        let compiled = limits(&policy).expect("set");
        assert_eq!(compiled.connect_timeout, Some(Duration::from_millis(250)));
        assert_eq!(compiled.idle_timeout, None);
    }
}
