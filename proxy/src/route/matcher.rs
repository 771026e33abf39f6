//! What a match of a route demands of a request.
//!
//! Comes in: a request's host and head. Goes out: whether the match takes it, which it does when everything that it
//! names holds. Paths are compared raw, as the client sent them, without the query; hosts without port and case;
//! several fields of one name as one, their values joined by ", " (RFC 9110 5.3).

use std::borrow::Cow;

use http::{HeaderName, Method, uri::Authority};
use weft_proto::Pattern;

use super::query;
use crate::http::RequestHead;

/// One match of a rule.
#[derive(Debug)]
pub struct Match {
    /// Whose it is: an index into the table's rules.
    pub rule: usize,
    /// Which hosts.
    pub host: HostMatch,
    /// Which paths.
    pub path: PathMatch,
    /// Which method; `None` for any.
    pub method: Option<Method>,
    /// All of them must hold.
    pub headers: Box<[(HeaderName, ValueMatch)]>,
    /// All of them must hold, each for the first parameter of its name.
    pub query: Box<[(Box<str>, ValueMatch)]>,
    /// gRPC requests only.
    pub grpc: bool,
}

/// Which hosts a match or a rule takes; in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostMatch {
    /// Every one, also none.
    Any,
    /// This one.
    Exact(Box<str>),
    /// Those that end so and have one label or more before it; begins with a dot.
    Below(Box<str>),
}

/// Which paths a match takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// Every one, also the asterisk.
    Any,
    /// This one.
    Exact(Box<str>),
    /// Those that begin with these whole segments; without a slash at the end, so that "/" is empty and takes all.
    Prefix(Box<str>),
    /// Those that the pattern takes whole.
    Pattern(Pattern),
}

/// Which values of a field or a parameter a match takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueMatch {
    /// This one.
    Exact(Box<str>),
    /// Those that the pattern takes whole; never one that is not UTF-8.
    Pattern(Pattern),
    /// Those that begin so.
    Prefix(Box<str>),
    /// Every one, if there is one.
    Present,
}

/// A request's host as matches know it: lower case, without port and trailing dot.
#[must_use]
pub fn host(authority: &Authority) -> Cow<'_, str> {
    let host = authority.host();
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

impl Match {
    /// Whether it takes a request, host and path aside, which the table has looked up.
    #[must_use]
    pub fn holds(&self, head: &RequestHead) -> bool {
        self.method.as_ref().is_none_or(|method| *method == head.method)
            && (!self.grpc || head.is_grpc())
            && self.headers.iter().all(|(name, value)| field_holds(head, name, value))
            && self.query_holds(head)
    }

    fn query_holds(&self, head: &RequestHead) -> bool {
        if self.query.is_empty() {
            return true;
        }
        let query = head.target.query().unwrap_or_default();
        self.query.iter().all(|(name, wanted)| {
            query::parameter(query, name).is_some_and(|value| wanted.takes(&value))
        })
    }
}

fn field_holds(head: &RequestHead, name: &HeaderName, wanted: &ValueMatch) -> bool {
    let mut values = head.values(name);
    let Some(first) = values.next() else { return false };
    let Some(second) = values.next() else { return wanted.takes(first) };
    let mut joined = first.to_vec();
    for value in std::iter::once(second).chain(values) {
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(value);
    }
    wanted.takes(&joined)
}

impl HostMatch {
    /// Whether it takes this host, in lower case.
    #[must_use]
    pub fn takes(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(wanted) => **wanted == *host,
            Self::Below(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        }
    }
}

impl PathMatch {
    /// Whether it takes this path.
    #[must_use]
    pub fn takes(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(wanted) => **wanted == *path,
            Self::Prefix(prefix) => {
                prefix.is_empty()
                    || path
                        .strip_prefix(&**prefix)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Pattern(pattern) => pattern.matches(path),
        }
    }

    /// How many bytes of a path that it takes are the prefix that it names.
    #[must_use]
    pub fn prefix_length(&self) -> usize {
        match self {
            Self::Prefix(prefix) => prefix.len(),
            Self::Any | Self::Exact(_) | Self::Pattern(_) => 0,
        }
    }
}

impl ValueMatch {
    /// Whether it takes this value.
    #[must_use]
    pub fn takes(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(wanted) => wanted.as_bytes() == value,
            Self::Pattern(pattern) => {
                std::str::from_utf8(value).is_ok_and(|value| pattern.matches(value))
            }
            Self::Prefix(prefix) => value.starts_with(prefix.as_bytes()),
            Self::Present => true,
        }
    }
}
