//! Rate limits and the concurrency limit of a port: from the wire to what counts.
//!
//! Comes in: the messages, and what was in force at the port before. Goes out: limits that go on from where those were
//! that say the same; a changed rate limit begins anew, a changed concurrency limit counts what is in flight.

use std::{sync::Arc, time::Duration};

use http::HeaderName;
use weft_proto::discovery::{self as wire, RateLimitKey};

use super::{InboundPort, Refused, operations::operations};
use crate::policy::{
    concurrency::Concurrency,
    rate_limit::{Key, Rate, RateLimit, RateLimits, Settings},
};

const NANOSECONDS_PER_MS: u64 = 1_000_000;

/// The rate limits of a port.
pub(super) fn rate_limits(
    messages: &[wire::RateLimit],
    before: Option<&InboundPort>,
) -> Result<Option<Arc<RateLimits>>, Refused> {
    let before = before.and_then(|before| before.rate_limits.as_deref());
    let mut limits = Vec::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        let settings = settings(message)
            .map_err(|refused| refused.within(&format!("rate_limits[{index}]")))?;
        let known = before.and_then(|before| before.find(&settings));
        // Two that say the same count alike: the second would charge the first one's bucket twice.
        if limits.iter().any(|limit: &Arc<RateLimit>| *limit.settings() == settings) {
            continue;
        }
        limits.push(known.map_or_else(|| RateLimit::new(settings), Arc::clone));
    }
    Ok(RateLimits::new(limits))
}

fn settings(message: &wire::RateLimit) -> Result<Settings, Refused> {
    let per = message.per_ms.checked_mul(NANOSECONDS_PER_MS);
    let rate = per.and_then(|per| Rate::new(message.requests, per, message.burst));
    let rate = rate.ok_or_else(|| {
        let value =
            format!("{} in {} ms, {} at once", message.requests, message.per_ms, message.burst);
        Refused::new("requests", value, "use at least 1 of each")
    })?;
    Ok(Settings {
        policy: message.policy.as_str().into(),
        rate,
        operations: operations(&message.operations)?,
        key: key(message)?,
    })
}

/// Where there is a bucket for each caller, nobody takes from another: to be fair is nothing more.
fn key(message: &wire::RateLimit) -> Result<Key, Refused> {
    match RateLimitKey::try_from(message.key) {
        Ok(RateLimitKey::Unspecified) if message.fair => Ok(Key::Fair),
        Ok(RateLimitKey::Unspecified) => Ok(Key::All),
        Ok(RateLimitKey::Identity) => Ok(Key::Identity),
        Ok(RateLimitKey::Address) => Ok(Key::Address),
        Ok(RateLimitKey::Header) => HeaderName::from_bytes(message.header.as_bytes())
            .map(Key::Header)
            .map_err(|_| Refused::new("header", &message.header, "use a header's name")),
        Err(_) => Err(Refused::new("key", message.key.to_string(), "not known to this proxy")),
    }
}

/// The concurrency limit of a port.
pub(super) fn concurrency(
    message: Option<&wire::Concurrency>,
    before: Option<&InboundPort>,
) -> Result<Option<Arc<Concurrency>>, Refused> {
    let Some(message) = message else { return Ok(None) };
    if message.max_in_flight == 0 {
        let why = "use at least 1: with none the application would get no request";
        return Err(Refused::new("concurrency.max_in_flight", "0", why));
    }
    let known = before.and_then(|before| before.concurrency.as_ref());
    Ok(Some(Arc::new(Concurrency {
        policy: message.policy.as_str().into(),
        max_in_flight: message.max_in_flight,
        max_pending: message.max_pending,
        max_wait: Duration::from_millis(message.max_wait_ms),
        gate: known.map(|known| Arc::clone(&known.gate)).unwrap_or_default(),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> wire::RateLimit {
        wire::RateLimit {
            policy: "TrafficPolicy shop/cart rateLimits[0]".to_owned(),
            requests: 10,
            per_ms: 1000,
            burst: 10,
            ..wire::RateLimit::default()
        }
    }

    fn port(
        messages: &[wire::RateLimit],
        max_in_flight: u32,
        before: Option<&InboundPort>,
    ) -> InboundPort {
        let concurrency = wire::Concurrency { max_in_flight, ..wire::Concurrency::default() };
        InboundPort {
            rate_limits: rate_limits(messages, before).expect("good"),
            concurrency: super::concurrency(Some(&concurrency), before).expect("good"),
            ..InboundPort::plain(wire::Protocol::Http1, "shop/cart:80".into())
        }
    }

    #[test]
    fn a_limit_goes_on_when_it_comes_again_as_it_was() {
        let limit = |port: &InboundPort, message| {
            let limits = port.rate_limits.clone().expect("some");
            let settings = settings(&message).expect("good");
            Arc::clone(limits.find(&settings).expect("it is there"))
        };
        let first = port(&[message()], 5, None);
        let other = wire::RateLimit { requests: 20, ..message() };
        let second = port(&[other.clone(), message()], 7, Some(&first));
        assert!(Arc::ptr_eq(&limit(&first, message()), &limit(&second, message())));
        let third = port(std::slice::from_ref(&other), 7, Some(&second));
        assert!(Arc::ptr_eq(&limit(&second, other.clone()), &limit(&third, other)));
        let gate = |port: &InboundPort| Arc::clone(&port.concurrency.as_ref().expect("some").gate);
        assert!(Arc::ptr_eq(&gate(&first), &gate(&third)));
        let fresh = port(&[message()], 5, None);
        assert!(!Arc::ptr_eq(&limit(&first, message()), &limit(&fresh, message())));
        assert!(port(&[], 5, Some(&first)).rate_limits.is_none());
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_field() {
        let by_header = |header: &str| wire::RateLimit {
            key: RateLimitKey::Header.into(),
            header: header.to_owned(),
            ..message()
        };
        for (message, expected) in [
            (
                wire::RateLimit { requests: 0, ..message() },
                r#"rate_limits[0].requests: "0 in 1000 ms"#,
            ),
            (wire::RateLimit { burst: 0, ..message() }, "rate_limits[0].requests: "),
            (wire::RateLimit { per_ms: u64::MAX, ..message() }, "rate_limits[0].requests: "),
            (by_header(""), r#"rate_limits[0].header: """#),
            (wire::RateLimit { key: 77, ..message() }, r#"rate_limits[0].key: "77""#),
        ] {
            let error = rate_limits(&[message], None).expect_err(expected).to_string();
            assert!(error.starts_with(expected), "{error} lacks {expected}");
        }
        let none = wire::Concurrency::default();
        let error = concurrency(Some(&none), None).expect_err("0").to_string();
        assert!(error.starts_with("concurrency.max_in_flight: \"0\""), "{error}");
    }
}
