//! What holds for requests, from the wire's merged form: durations, sets and bits checked once.
//!
//! Refuses what the attempts of a request could not act on: a status that is none, a gRPC code that does not exist, a
//! condition that this proxy does not know, a share above the whole.

use std::time::Duration;

use http::StatusCode;
use weft_proto::discovery::{self as wire, RetryCondition};

use super::{Refused, operations::operations};
use crate::policy::{
    RequestPolicy,
    budget::BudgetSettings,
    fault::{Abort, Fault},
    retry::{Backoff, Conditions, RetryPolicy},
    timeout::{Limit, RequestTimeouts},
};

/// gRPC's highest code, UNAUTHENTICATED.
const LAST_GRPC_CODE: u32 = 16;

/// Where only a first bound is given, the wait grows tenfold at most.
const BACKOFF_GROWTH: u32 = 10;

/// What holds for the requests of a service or of a rule.
pub(in crate::discovery) fn requests(
    message: &wire::RequestPolicy,
) -> Result<RequestPolicy, Refused> {
    let retry = message
        .retry
        .as_ref()
        .map(|message| retry(message).map_err(|refused| refused.within("retry")));
    let faults = message.faults.iter().enumerate().map(|(index, message)| {
        fault(message).map_err(|refused| refused.within(&format!("faults[{index}]")))
    });
    Ok(RequestPolicy {
        timeouts: RequestTimeouts {
            request: Limit::from_ms(message.request_timeout_ms),
            attempt: Limit::from_ms(message.attempt_timeout_ms),
            stream_idle: Limit::from_ms(message.stream_idle_timeout_ms),
        },
        retry: retry.transpose()?.unwrap_or_default(),
        faults: faults.collect::<Result<_, _>>()?,
        policies: message.policies.iter().map(|name| name.as_str().into()).collect(),
    })
}

fn retry(message: &wire::Retry) -> Result<RetryPolicy, Refused> {
    let default = RetryPolicy::default();
    Ok(RetryPolicy {
        attempts: message.attempts.unwrap_or(default.attempts),
        backoff: backoff(message, default.backoff)?,
        conditions: conditions(&message.conditions)?,
        statuses: message
            .statuses
            .iter()
            .map(|&number| status(number))
            .collect::<Result<_, _>>()?,
        grpc_codes: message
            .grpc_codes
            .iter()
            .map(|&number| grpc_code("grpc_codes", number))
            .collect::<Result<_, _>>()?,
        unsafe_methods: message.unsafe_methods,
        body_limit: message
            .body_limit_bytes
            .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        budget: budget(message, default.budget)?,
    })
}

fn backoff(message: &wire::Retry, default: Backoff) -> Result<Backoff, Refused> {
    let base = message.backoff_base_ms.map(Duration::from_millis);
    let max = message.backoff_max_ms.map(Duration::from_millis);
    let backoff = match (base, max) {
        (None, None) => default,
        (Some(base), None) => Backoff { base, max: base.saturating_mul(BACKOFF_GROWTH) },
        (None, Some(max)) => Backoff { base: default.base.min(max), max },
        (Some(base), Some(max)) => Backoff { base, max },
    };
    if backoff.max < backoff.base {
        let text = backoff.max.as_millis().to_string();
        return Err(Refused::new("backoff_max_ms", text, "it lies below backoff_base_ms"));
    }
    Ok(backoff)
}

fn conditions(numbers: &[i32]) -> Result<Conditions, Refused> {
    if numbers.is_empty() {
        return Ok(Conditions::ALL);
    }
    let mut conditions = Conditions::NONE;
    for &number in numbers {
        match RetryCondition::try_from(number) {
            Ok(RetryCondition::ConnectFailure) => conditions.connect_failure = true,
            Ok(RetryCondition::Reset) => conditions.reset = true,
            Ok(RetryCondition::RefusedStream) => conditions.refused_stream = true,
            Ok(RetryCondition::AttemptTimeout) => conditions.attempt_timeout = true,
            Ok(RetryCondition::Unspecified) | Err(_) => {
                let why = "not known to this proxy";
                return Err(Refused::new("conditions", number.to_string(), why));
            }
        }
    }
    Ok(conditions)
}

fn fault(message: &wire::Fault) -> Result<Fault, Refused> {
    if !(0.0..=100.0).contains(&message.percent) {
        let why = "use a percentage from 0 to 100";
        return Err(Refused::new("percent", message.percent.to_string(), why));
    }
    let status = match message.status {
        0 => None,
        number => Some(abort_status(number)?),
    };
    let grpc_code = message.grpc_code.map(|number| grpc_code("grpc_code", number)).transpose()?;
    Ok(Fault {
        operations: operations(&message.operations)?,
        percent: message.percent,
        delay: Duration::from_millis(message.delay_ms),
        abort: (status.is_some() || grpc_code.is_some()).then_some(Abort { status, grpc_code }),
    })
}

fn abort_status(number: u32) -> Result<StatusCode, Refused> {
    let status = u16::try_from(number).ok().filter(|number| (200..=599).contains(number));
    status
        .and_then(|number| StatusCode::from_u16(number).ok())
        .ok_or_else(|| Refused::new("status", number.to_string(), "use a status from 200 to 599"))
}

fn status(number: u32) -> Result<StatusCode, Refused> {
    let status = u16::try_from(number).ok().and_then(|number| StatusCode::from_u16(number).ok());
    status
        .filter(|status| status.is_client_error() || status.is_server_error())
        .ok_or_else(|| Refused::new("statuses", number.to_string(), "use a status from 400 to 599"))
}

fn grpc_code(field: &str, number: u32) -> Result<u8, Refused> {
    let code = u8::try_from(number).ok().filter(|_| (1..=LAST_GRPC_CODE).contains(&number));
    code.ok_or_else(|| Refused::new(field, number.to_string(), "use a gRPC code from 1 to 16"))
}

fn budget(message: &wire::Retry, default: BudgetSettings) -> Result<BudgetSettings, Refused> {
    let percent = message.budget_percent.unwrap_or(default.percent);
    if percent > 100 {
        let why = "use a percentage from 0 to 100";
        return Err(Refused::new("budget_percent", percent.to_string(), why));
    }
    let min_per_second = message.budget_min_per_second.unwrap_or(default.min_per_second);
    Ok(BudgetSettings { percent, min_per_second })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_message_is_the_default() {
        let compiled = requests(&wire::RequestPolicy::default()).expect("valid");
        assert_eq!(compiled, RequestPolicy::default());
        let message =
            wire::RequestPolicy { retry: Some(wire::Retry::default()), ..Default::default() };
        assert_eq!(requests(&message).expect("valid"), RequestPolicy::default());
    }

    #[test]
    fn every_field_arrives() {
        let message = wire::RequestPolicy {
            request_timeout_ms: Some(5_000),
            attempt_timeout_ms: Some(0),
            retry: Some(wire::Retry {
                attempts: Some(3),
                backoff_base_ms: Some(10),
                conditions: vec![RetryCondition::Reset.into()],
                statuses: vec![503],
                grpc_codes: vec![14],
                unsafe_methods: true,
                body_limit_bytes: Some(7),
                budget_percent: Some(50),
                ..Default::default()
            }),
            policies: vec!["TrafficPolicy shop/cart".to_owned()],
            ..Default::default()
        };
        let compiled = requests(&message).expect("valid");
        assert_eq!(compiled.timeouts.request, Limit::After(Duration::from_secs(5)));
        assert_eq!(compiled.timeouts.attempt, Limit::Never);
        assert_eq!(compiled.timeouts.stream_idle, Limit::Default);
        assert_eq!(compiled.policies, ["TrafficPolicy shop/cart".into()].into());
        let expected = RetryPolicy {
            attempts: 3,
            backoff: Backoff { base: Duration::from_millis(10), max: Duration::from_millis(100) },
            conditions: Conditions { reset: true, ..Conditions::NONE },
            statuses: [StatusCode::SERVICE_UNAVAILABLE].into(),
            grpc_codes: [14].into(),
            unsafe_methods: true,
            body_limit: Some(7),
            budget: BudgetSettings { percent: 50, min_per_second: 10 },
        };
        assert_eq!(compiled.retry, expected);
    }

    #[test]
    fn what_could_not_be_acted_on_is_refused_by_name() {
        let retry = |retry| wire::RequestPolicy { retry: Some(retry), ..Default::default() };
        let default = wire::Retry::default;
        for (message, field) in [
            (retry(wire::Retry { statuses: vec![200], ..default() }), "retry.statuses"),
            (retry(wire::Retry { statuses: vec![700], ..default() }), "retry.statuses"),
            (retry(wire::Retry { grpc_codes: vec![0], ..default() }), "retry.grpc_codes"),
            (retry(wire::Retry { grpc_codes: vec![17], ..default() }), "retry.grpc_codes"),
            (retry(wire::Retry { conditions: vec![99], ..default() }), "retry.conditions"),
            (retry(wire::Retry { budget_percent: Some(101), ..default() }), "retry.budget_percent"),
            (
                retry(wire::Retry {
                    backoff_base_ms: Some(9),
                    backoff_max_ms: Some(8),
                    ..default()
                }),
                "retry.backoff_max_ms",
            ),
        ] {
            let refused = requests(&message).expect_err("it cannot be acted on");
            assert_eq!(refused.field, field);
        }
    }

    #[test]
    fn faults_arrive_and_those_that_could_not_be_made_are_refused() {
        let with = |fault| wire::RequestPolicy { faults: vec![fault], ..Default::default() };
        let fault = wire::Fault {
            percent: 2.5,
            delay_ms: 40,
            status: 503,
            grpc_code: Some(14),
            ..Default::default()
        };
        let abort = Abort { status: Some(StatusCode::SERVICE_UNAVAILABLE), grpc_code: Some(14) };
        let delay = Duration::from_millis(40);
        let expected =
            Fault { operations: Box::default(), percent: 2.5, delay, abort: Some(abort) };
        assert_eq!(*requests(&with(fault.clone())).expect("valid").faults, [expected]);
        for (wrong, field) in [
            (wire::Fault { percent: 100.5, ..fault.clone() }, "faults[0].percent"),
            (wire::Fault { percent: f64::NAN, ..fault.clone() }, "faults[0].percent"),
            (wire::Fault { status: 101, ..fault.clone() }, "faults[0].status"),
            (wire::Fault { grpc_code: Some(0), ..fault }, "faults[0].grpc_code"),
        ] {
            assert_eq!(requests(&with(wrong)).expect_err("it cannot be made").field, field);
        }
    }
}
