//! A kind of HTTP request, as access rules, rate limits and faults name it: by method, path, headers and host.
//!
//! Comes in: a request's head, and how careful the asker has to be. Goes out: whether the operation takes it. What
//! an application makes of a spelling is not known here, so there are two ways to ask ([`Reading`]): what refuses
//! takes a request when any spelling of it fits, what allows only when every one does. It never changes a request.
//!
//! - Methods are compared as they are; [`Reading::Any`] ignores their case.
//! - Paths: see [`path`]. Exact and prefix match decoded text; a prefix takes whole segments; a pattern takes the
//!   whole decoded path. [`Reading::Any`] ignores the case of letters and a `/` at the end.
//! - Of a header with several values, [`Reading::Any`] wants one of them, also one between commas, or all of them
//!   joined; [`Reading::Every`] wants each. `host` is what HTTP/2 says in `:authority`, too.
//! - Hosts come without port, in any case, with or without a dot at the end. `*.example.com` takes every name below
//!   `example.com`, not itself.

pub mod path;

use std::{borrow::Cow, cell::OnceCell};

use http::{HeaderName, Method, header::COOKIE};
use weft_proto::Pattern;

use crate::{destination::authority, http::RequestHead};
use path::Readings;

/// How careful the asker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Of what refuses or counts: one spelling that fits is enough, so that no other one dodges it.
    Any,
    /// Of what allows: every spelling must fit, so that none gets more than is meant.
    Every,
}

/// What of a request decides; read when it is first needed.
#[derive(Debug)]
pub struct RequestFacts<'a> {
    head: &'a RequestHead,
    host: OnceCell<Option<Box<str>>>,
    paths: OnceCell<Readings<'a>>,
}

impl<'a> RequestFacts<'a> {
    /// Of this head. Costs nothing until an operation asks.
    #[must_use]
    pub const fn new(head: &'a RequestHead) -> Self {
        Self { head, host: OnceCell::new(), paths: OnceCell::new() }
    }

    /// The request's head.
    #[must_use]
    pub const fn head(&self) -> &'a RequestHead {
        self.head
    }

    /// Lower case, without port and without a dot at the end; `None` when the request names none.
    fn host(&self) -> Option<&str> {
        let host = self.host.get_or_init(|| {
            let authority = authority::of_request(self.head).ok()?;
            let host = authority.host();
            Some(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase().into())
        });
        host.as_deref()
    }

    fn paths(&self) -> &Readings<'a> {
        self.paths.get_or_init(|| Readings::of(self.head.target.path()))
    }
}

/// A kind of HTTP request: each of the fields that are not empty must hold; of a list one entry must, but of the
/// headers all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Operation {
    /// Methods.
    pub methods: Box<[Method]>,
    /// Paths.
    pub paths: Box<[PathMatch]>,
    /// Headers.
    pub headers: Box<[HeaderMatch]>,
    /// Hosts.
    pub hosts: Box<[HostMatch]>,
}

/// Paths of a kind, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// The whole path.
    Exact(Box<str>),
    /// Whole segments, without a `/` at the end.
    Prefix(Box<str>),
    /// The whole path.
    Pattern(Patterns),
}

/// A pattern, with case and without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patterns {
    exact: Pattern,
    ignoring_case: Pattern,
}

/// A header, and what its value is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderMatch {
    /// The header's name.
    pub name: HeaderName,
    /// Its value.
    pub value: ValueMatch,
}

/// What a value is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueMatch {
    /// This.
    Exact(Box<str>),
    /// It begins so.
    Prefix(Box<str>),
    /// The whole value.
    Pattern(Pattern),
    /// Whatever.
    Present,
}

/// A host, lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostMatch {
    /// This name or address.
    Exact(Box<str>),
    /// All names that end so: a suffix with its dot, ".example.com".
    Below(Box<str>),
}

/// Whether a request is of any of these kinds; of none where there are none.
#[must_use]
pub fn any_takes(operations: &[Operation], facts: &RequestFacts<'_>, reading: Reading) -> bool {
    operations.iter().any(|operation| operation.takes(facts, reading))
}

impl Operation {
    /// Whether a request is of this kind.
    #[must_use]
    pub fn takes(&self, facts: &RequestFacts<'_>, reading: Reading) -> bool {
        self.takes_method(&facts.head.method, reading)
            && (self.hosts.is_empty() || self.takes_host(facts.host()))
            && self.headers.iter().all(|header| header.takes(facts.head, reading))
            && (self.paths.is_empty() || self.takes_path(facts.paths(), reading))
    }

    fn takes_method(&self, method: &Method, reading: Reading) -> bool {
        self.methods.is_empty()
            || self.methods.iter().any(|wanted| match reading {
                Reading::Any => wanted.as_str().eq_ignore_ascii_case(method.as_str()),
                Reading::Every => wanted == method,
            })
    }

    fn takes_host(&self, host: Option<&str>) -> bool {
        host.is_some_and(|host| {
            self.hosts.iter().any(|wanted| match wanted {
                HostMatch::Exact(name) => **name == *host,
                HostMatch::Below(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
            })
        })
    }

    fn takes_path(&self, paths: &Readings<'_>, reading: Reading) -> bool {
        let takes = |path: &str| self.paths.iter().any(|wanted| wanted.takes(path, reading));
        match (paths, reading) {
            (Readings::Unreadable, _) => reading == Reading::Any,
            (Readings::Plain(path), _) => takes(path),
            (Readings::Several(paths), Reading::Any) => paths.iter().any(|path| takes(path)),
            (Readings::Several(paths), Reading::Every) => paths.iter().all(|path| takes(path)),
        }
    }
}

impl PathMatch {
    fn takes(&self, path: &str, reading: Reading) -> bool {
        match (self, reading) {
            (Self::Exact(wanted), Reading::Every) => **wanted == *path,
            (Self::Exact(wanted), Reading::Any) => {
                let path = path.trim_end_matches('/');
                wanted.trim_end_matches('/').eq_ignore_ascii_case(path)
            }
            (Self::Prefix(wanted), Reading::Every) => {
                path.strip_prefix(&**wanted).is_some_and(ends_segment)
            }
            (Self::Prefix(wanted), Reading::Any) => {
                let begins = path.get(..wanted.len());
                begins.is_some_and(|begins| begins.eq_ignore_ascii_case(wanted))
                    && ends_segment(&path[wanted.len()..])
            }
            (Self::Pattern(patterns), Reading::Every) => patterns.exact.matches(path),
            (Self::Pattern(patterns), Reading::Any) => {
                let bare = path.trim_end_matches('/');
                patterns.ignoring_case.matches(path)
                    || bare.len() < path.len() && patterns.ignoring_case.matches(bare)
            }
        }
    }
}

/// Whether what follows a prefix begins a new segment, or is nothing.
fn ends_segment(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}

impl Patterns {
    /// Of this pattern.
    ///
    /// # Errors
    /// It would take too much memory without regard to case.
    pub fn new(exact: Pattern) -> Result<Self, weft_proto::PatternError> {
        let ignoring_case = exact.ignoring_case()?;
        Ok(Self { exact, ignoring_case })
    }
}

impl HeaderMatch {
    fn takes(&self, head: &RequestHead, reading: Reading) -> bool {
        let values = head.values(&self.name).map(String::from_utf8_lossy);
        let values: Vec<Cow<'_, str>> = values.collect();
        if values.is_empty() {
            return false;
        }
        match reading {
            Reading::Every => values.iter().all(|value| self.value.takes(value)),
            Reading::Any => self.takes_any(&values),
        }
    }

    /// Whether it takes one of the values, a part of one between commas, or what an application makes of them all: one
    /// value, joined as RFC 9110 section 5.3 and, for cookies, RFC 9113 section 8.2.3 say.
    fn takes_any(&self, values: &[Cow<'_, str>]) -> bool {
        let mut parts = values.iter().flat_map(|value| value.split(','));
        if values.iter().any(|value| self.value.takes(value))
            || parts.any(|part| self.value.takes(part.trim()))
        {
            return true;
        }
        let between = if self.name == COOKIE { "; " } else { ", " };
        values.len() > 1 && self.value.takes(&values.join(between))
    }
}

impl ValueMatch {
    fn takes(&self, value: &str) -> bool {
        match self {
            Self::Exact(wanted) => **wanted == *value,
            Self::Prefix(wanted) => value.starts_with(&**wanted),
            Self::Pattern(pattern) => pattern.matches(value),
            Self::Present => true,
        }
    }
}

#[cfg(test)]
mod tests;
