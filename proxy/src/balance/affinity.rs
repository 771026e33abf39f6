//! What ties a request to an endpoint, where its service is balanced by a hash.
//!
//! Comes in: a request's head and where the application's connection comes from. Goes out: a key for the ring, and the
//! cookie that the client gets when it has none. Computed once a request, so that all its attempts have the same key;
//! for a service that is not balanced by a hash nothing is.

use std::{fmt::Write, net::IpAddr};

use http::{HeaderValue, header};

use super::{
    Plan,
    policy::{Algorithm, Cookie, HashKey},
    ring,
};
use crate::http::{Fields, RequestHead, ResponseHead};

/// What ties a request to an endpoint.
#[derive(Debug, Default)]
pub struct Affinity {
    key: Option<u64>,
    set_cookie: Option<HeaderValue>,
}

impl Affinity {
    /// Of a request under a plan. `source` is asked only where it counts.
    #[must_use]
    pub fn of_request(
        plan: Option<&Plan>,
        head: &RequestHead,
        source: impl FnOnce() -> Option<IpAddr>,
    ) -> Self {
        match plan.map(|plan| &plan.policy.algorithm) {
            Some(Algorithm::RingHash(key)) => Self::hashed(key, head, source),
            Some(
                Algorithm::PeakEwma
                | Algorithm::LeastRequest
                | Algorithm::RoundRobin
                | Algorithm::Random,
            )
            | None => Self::default(),
        }
    }

    /// Of opaque bytes under a plan: only where they come from is known.
    #[must_use]
    pub fn of_connection(plan: Option<&Plan>, source: impl FnOnce() -> Option<IpAddr>) -> Self {
        match plan.map(|plan| &plan.policy.algorithm) {
            Some(Algorithm::RingHash(HashKey::Source)) => {
                Self { key: source().map(of_address), set_cookie: None }
            }
            _ => Self::default(),
        }
    }

    /// The place on the ring; `None` for any.
    #[must_use]
    pub const fn key(&self) -> Option<u64> {
        self.key
    }

    /// Gives the client its cookie.
    pub fn mark(&self, response: &mut ResponseHead) {
        if let Some(cookie) = &self.set_cookie {
            response.headers.append(header::SET_COOKIE, cookie.clone());
        }
    }

    fn hashed(key: &HashKey, head: &RequestHead, source: impl FnOnce() -> Option<IpAddr>) -> Self {
        let found = match key {
            HashKey::Header(name) => head.values(name).next().map(of_bytes),
            HashKey::Cookie(cookie) => return Self::of_cookie(cookie, &head.headers),
            HashKey::Source => source().map(of_address),
            HashKey::Path => Some(of_bytes(head.target.path().as_bytes())),
            HashKey::Query(name) => {
                head.target.query().and_then(|query| parameter(query, name)).map(of_bytes)
            }
        };
        Self { key: found, set_cookie: None }
    }

    fn of_cookie(cookie: &Cookie, headers: &Fields) -> Self {
        if let Some(value) = cookie_value(headers, &cookie.name) {
            return Self { key: Some(of_bytes(value)), set_cookie: None };
        }
        let Some(lifetime) = cookie.made_for else { return Self::default() };
        let value = format!("{:016x}", fastrand::u64(..));
        let mut text = format!("{}={value}; Path={}; HttpOnly", cookie.name, cookie.path);
        if !lifetime.is_zero() {
            // Zero would delete it. Writing to a String cannot fail.
            let _ = write!(text, "; Max-Age={}", lifetime.as_secs().max(1));
        }
        // The name and the path were checked when the policy was compiled.
        let set_cookie = HeaderValue::try_from(text).ok();
        Self { key: Some(of_bytes(value.as_bytes())), set_cookie }
    }
}

fn of_bytes(bytes: &[u8]) -> u64 {
    ring::hash(bytes)
}

fn of_address(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => of_bytes(&address.octets()),
        IpAddr::V6(address) => of_bytes(&address.octets()),
    }
}

/// A cookie's value (RFC 6265 4.2; HTTP/2 may split the field).
fn cookie_value<'a>(headers: &'a Fields, name: &str) -> Option<&'a [u8]> {
    headers
        .get_all(header::COOKIE)
        .flat_map(|field| field.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii)
        .find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// A query parameter's first value, as it is written.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a [u8]> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use http::{Method, StatusCode, Version};

    use super::*;
    use crate::balance::BalancingPolicy;

    fn head(target: &str, fields: &[(&'static str, &str)]) -> RequestHead {
        let mut headers = Fields::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().expect("a value"));
        }
        RequestHead {
            method: Method::GET,
            target: target.parse().expect("a target"),
            version: Version::HTTP_11,
            headers,
            upgrade: None,
            accepts_trailers: false,
        }
    }

    fn plan(key: HashKey) -> Plan {
        let algorithm = Algorithm::RingHash(key);
        let policy = BalancingPolicy { algorithm, ..BalancingPolicy::default() };
        Plan::new(&Arc::new(policy), &[], "")
    }

    fn cookie(made_for: Option<Duration>) -> HashKey {
        HashKey::Cookie(Cookie { name: "who".into(), made_for, path: "/".into() })
    }

    fn key(of: HashKey, target: &str, fields: &[(&'static str, &str)]) -> Option<u64> {
        let source = || Some("10.0.0.7".parse().expect("an address"));
        Affinity::of_request(Some(&plan(of)), &head(target, fields), source).key()
    }

    #[test]
    fn what_is_hashed_alone_decides() {
        let user = || HashKey::Header("x-user".parse().expect("a name"));
        let query = || HashKey::Query("q".into());
        let ada = &[("x-user", "ada")];
        for (of, same, other) in [
            (user(), [("/a", &ada[..]), ("/b", ada)], ("/a", &[("x-user", "bob")][..])),
            (HashKey::Path, [("/a?x", ada), ("/a?y", &[])], ("/b?x", ada)),
            (query(), [("/a?p=2&q=1", ada), ("/b?q=1&q=3", &[])], ("/a?q=2", ada)),
            (
                cookie(None),
                [
                    ("/", &[("cookie", "a=1; who=ada")]),
                    ("/x", &[("cookie", "b"), ("cookie", "who=ada;c=2")]),
                ],
                ("/", &[("cookie", "who=adam")]),
            ),
        ] {
            let [one, two] = same.map(|(target, fields)| key(of.clone(), target, fields));
            assert!(one.is_some() && one == two, "{of:?}");
            assert_ne!(one, key(of.clone(), other.0, other.1), "{of:?}");
        }
        for of in [user(), query(), cookie(None)] {
            assert_eq!(key(of, "/", &[("cookie", "whose=1")]), None);
        }
        assert!(key(HashKey::Source, "/", &[]).is_some());
    }

    #[test]
    fn an_address_is_the_same_in_both_forms() {
        let of = |text: &str| of_address(text.parse().expect("an address"));
        assert_eq!(of("::ffff:10.0.0.7"), of("10.0.0.7"));
    }

    #[test]
    fn a_client_without_a_cookie_gets_one_that_leads_to_the_same_endpoint() {
        for (lifetime, attributes) in [
            (Duration::ZERO, "; Path=/; HttpOnly"),
            (Duration::from_millis(1), "; Path=/; HttpOnly; Max-Age=1"),
            (Duration::from_secs(3600), "; Path=/; HttpOnly; Max-Age=3600"),
        ] {
            let plan = plan(cookie(Some(lifetime)));
            let first = Affinity::of_request(Some(&plan), &head("/", &[]), || None);
            let mut response = ResponseHead::new(StatusCode::OK);
            first.mark(&mut response);
            let set = response.headers.get(header::SET_COOKIE).expect("a cookie");
            let set = set.to_str().expect("text");
            let pair = set.strip_suffix(attributes).unwrap_or_else(|| panic!("{set}"));

            let next = Affinity::of_request(Some(&plan), &head("/", &[("cookie", pair)]), || None);
            assert_eq!(next.key(), first.key());
            let mut response = ResponseHead::new(StatusCode::OK);
            next.mark(&mut response);
            assert!(response.headers.is_empty(), "it has one");
        }
    }

    #[test]
    fn nothing_is_computed_where_nothing_is_hashed() {
        let never = || panic!("asked");
        assert_eq!(Affinity::of_request(None, &head("/", &[]), never).key(), None);
        let plan = Plan::new(&Arc::default(), &[], "");
        assert_eq!(Affinity::of_request(Some(&plan), &head("/", &[]), never).key(), None);
        assert_eq!(Affinity::of_connection(Some(&plan), never).key(), None);
    }
}
