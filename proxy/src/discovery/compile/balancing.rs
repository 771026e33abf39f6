//! From the wire to a [`BalancingPolicy`].
//!
//! Comes in: what the control plane merged. Goes out: the policy; nothing where it says nothing but the default. It must
//! never let a cookie through that would be malformed when it is made.

use std::{sync::Arc, time::Duration};

use http::HeaderName;
use weft_proto::discovery::{self as wire, BalancingAlgorithm, hash_key::Kind};

use super::Refused;
use crate::balance::policy::{
    Algorithm, BalancingPolicy, Cookie, DEFAULT_MAX_COOLING, HashKey, Locality,
};

/// How the endpoints of a service are balanced.
pub(super) fn balancing(
    message: Option<&wire::Balancing>,
) -> Result<Option<Arc<BalancingPolicy>>, Refused> {
    let Some(message) = message else { return Ok(None) };
    let max_cooling = message.max_cooling_ms.map_or(DEFAULT_MAX_COOLING, Duration::from_millis);
    let policy = BalancingPolicy {
        algorithm: algorithm(message)?,
        slow_start: Duration::from_millis(message.slow_start_ms),
        locality: message.locality.as_ref().map(locality).transpose()?,
        max_cooling,
    };
    let is_default = policy == BalancingPolicy::default();
    Ok((!is_default).then(|| Arc::new(policy)))
}

fn algorithm(message: &wire::Balancing) -> Result<Algorithm, Refused> {
    Ok(match BalancingAlgorithm::try_from(message.algorithm) {
        Ok(BalancingAlgorithm::Unspecified | BalancingAlgorithm::PeakEwma) => Algorithm::PeakEwma,
        Ok(BalancingAlgorithm::LeastRequest) => Algorithm::LeastRequest,
        Ok(BalancingAlgorithm::RoundRobin) => Algorithm::RoundRobin,
        Ok(BalancingAlgorithm::Random) => Algorithm::Random,
        Ok(BalancingAlgorithm::RingHash) => Algorithm::RingHash(hash_key(message.hash.as_ref())?),
        Err(_) => {
            let number = message.algorithm.to_string();
            return Err(Refused::new("algorithm", number, "not known to this proxy"));
        }
    })
}

fn hash_key(message: Option<&wire::HashKey>) -> Result<HashKey, Refused> {
    let kind = message.and_then(|key| key.kind.as_ref()).ok_or_else(|| {
        Refused::new("hash", "", "say what is hashed: a header, a cookie, source, path or query")
    })?;
    Ok(match kind {
        Kind::Header(name) => HashKey::Header(
            HeaderName::try_from(name.as_str())
                .map_err(|error| Refused::new("hash.header", name.as_str(), error))?,
        ),
        Kind::Cookie(message) => HashKey::Cookie(cookie(message)?),
        Kind::Source(_) => HashKey::Source,
        Kind::Path(_) => HashKey::Path,
        Kind::Query(name) if name.is_empty() => {
            return Err(Refused::new("hash.query", "", "name a query parameter"));
        }
        Kind::Query(name) => HashKey::Query(name.as_str().into()),
    })
}

fn cookie(message: &wire::Cookie) -> Result<Cookie, Refused> {
    // A cookie's name is a token (RFC 6265 4.1.1), like a header's, in any case.
    if HeaderName::try_from(message.name.as_str()).is_err() {
        let why = "use a token, for example session";
        return Err(Refused::new("hash.cookie.name", message.name.as_str(), why));
    }
    let path = if message.path.is_empty() { "/" } else { message.path.as_str() };
    let is_path = |byte: u8| (byte == b' ' || byte.is_ascii_graphic()) && byte != b';';
    if !path.starts_with('/') || !path.bytes().all(is_path) {
        return Err(Refused::new(
            "hash.cookie.path",
            path,
            "use a path without ';', for example /",
        ));
    }
    Ok(Cookie {
        name: message.name.as_str().into(),
        made_for: message.ttl_ms.map(Duration::from_millis),
        path: path.into(),
    })
}

fn locality(message: &wire::Locality) -> Result<Locality, Refused> {
    if message.min_healthy_percent > 100 {
        let value = message.min_healthy_percent.to_string();
        return Err(Refused::new("locality.min_healthy_percent", value, "use 0 to 100"));
    }
    Ok(Locality {
        failover: message.failover.iter().map(|zone| zone.as_str().into()).collect(),
        min_endpoints: message.min_endpoints,
        min_healthy_percent: message.min_healthy_percent,
        max_in_flight_per_endpoint: message.max_in_flight_per_endpoint,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(kind: Option<Kind>) -> wire::Balancing {
        wire::Balancing {
            algorithm: BalancingAlgorithm::RingHash.into(),
            hash: Some(wire::HashKey { kind }),
            ..wire::Balancing::default()
        }
    }

    fn compiled(message: &wire::Balancing) -> BalancingPolicy {
        let policy = balancing(Some(message)).expect("good").expect("not the default");
        Arc::unwrap_or_clone(policy)
    }

    #[test]
    fn the_default_is_no_policy() {
        assert_eq!(balancing(None), Ok(None));
        let message = wire::Balancing {
            algorithm: BalancingAlgorithm::PeakEwma.into(),
            max_cooling_ms: Some(10_000),
            ..wire::Balancing::default()
        };
        assert_eq!(balancing(Some(&message)), Ok(None));
    }

    #[test]
    fn every_field_arrives() {
        let message = wire::Balancing {
            algorithm: BalancingAlgorithm::LeastRequest.into(),
            slow_start_ms: 30_000,
            max_cooling_ms: Some(0),
            locality: Some(wire::Locality {
                failover: vec!["b".to_owned()],
                min_endpoints: 2,
                min_healthy_percent: 70,
                max_in_flight_per_endpoint: 50,
            }),
            hash: None,
        };
        let expected = BalancingPolicy {
            algorithm: Algorithm::LeastRequest,
            slow_start: Duration::from_secs(30),
            max_cooling: Duration::ZERO,
            locality: Some(Locality {
                failover: vec!["b".into()],
                min_endpoints: 2,
                min_healthy_percent: 70,
                max_in_flight_per_endpoint: 50,
            }),
        };
        assert_eq!(compiled(&message), expected);
    }

    #[test]
    fn every_key_of_a_ring_arrives() {
        let cookie = wire::Cookie { name: "Who".to_owned(), ttl_ms: Some(0), path: String::new() };
        let made = Cookie { name: "Who".into(), made_for: Some(Duration::ZERO), path: "/".into() };
        let user = HeaderName::from_static("x-user");
        for (kind, expected) in [
            (Kind::Header("x-user".to_owned()), HashKey::Header(user)),
            (Kind::Cookie(cookie), HashKey::Cookie(made)),
            (Kind::Source(true), HashKey::Source),
            (Kind::Path(true), HashKey::Path),
            (Kind::Query("q".to_owned()), HashKey::Query("q".into())),
        ] {
            assert_eq!(compiled(&ring(Some(kind))).algorithm, Algorithm::RingHash(expected));
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_field() {
        let cookie = |name: &str, path: &str| {
            let (name, path) = (name.to_owned(), path.to_owned());
            ring(Some(Kind::Cookie(wire::Cookie { name, path, ttl_ms: None })))
        };
        let percent = wire::Balancing {
            locality: Some(wire::Locality {
                min_healthy_percent: 101,
                ..wire::Locality::default()
            }),
            ..wire::Balancing::default()
        };
        let unknown = wire::Balancing { algorithm: 99, ..wire::Balancing::default() };
        for (message, field) in [
            (ring(None), "hash: "),
            (ring(Some(Kind::Header("a b".to_owned()))), "hash.header: "),
            (ring(Some(Kind::Query(String::new()))), "hash.query: "),
            (cookie("a=b", ""), "hash.cookie.name: "),
            (cookie("", ""), "hash.cookie.name: "),
            (cookie("a", "/;Secure"), "hash.cookie.path: "),
            (cookie("a", "x"), "hash.cookie.path: "),
            (percent, "locality.min_healthy_percent: "),
            (unknown, "algorithm: "),
        ] {
            let refused = balancing(Some(&message)).expect_err(field).to_string();
            assert!(refused.starts_with(field), "{refused}");
        }
    }
}
