//! A request's host and path, changed on its way.
//!
//! Comes in: a head, and how much of its path the match took for its prefix. Goes out: the head as the backend sees
//! it. The query stays. Prefixes are replaced by whole segments, by the table of the Gateway API
//! (`HTTPPathModifier.replacePrefixMatch`): slashes are neither doubled nor lost.

use std::borrow::Cow;

use http::{
    HeaderValue, Uri, header,
    uri::{Authority, PathAndQuery},
};

use crate::{error::ProxyError, http::RequestHead, reason::Reason};

/// What changes.
#[derive(Debug, Default)]
pub struct Rewrite {
    /// The host, in all places where the request says it.
    pub host: Option<NewHost>,
    /// The path.
    pub path: Option<PathRewrite>,
}

/// A host in both forms that a head has.
#[derive(Debug, Clone)]
pub struct NewHost {
    /// For `:authority`.
    pub authority: Authority,
    /// For `Host`.
    pub field: HeaderValue,
}

/// How a path changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRewrite {
    /// It becomes this one.
    Full(Box<str>),
    /// This stands instead of the prefix by which the match took the request.
    Prefix(Box<str>),
}

impl Rewrite {
    /// Changes a head whose path begins with a prefix of so many bytes.
    ///
    /// # Errors
    /// The new target is no URI any more: it is too long.
    pub fn apply(&self, head: &mut RequestHead, prefix: usize) -> Result<(), ProxyError> {
        let mut parts = head.target.clone().into_parts();
        // The asterisk of OPTIONS is no path.
        if let Some(path) = &self.path
            && head.target.path().starts_with('/')
        {
            let path = path.apply(head.target.path(), prefix);
            let text = match head.target.query() {
                Some(query) => Cow::Owned(format!("{path}?{query}")),
                None => path,
            };
            parts.path_and_query = Some(PathAndQuery::try_from(&*text).map_err(|_| too_long())?);
        }
        if let Some(host) = &self.host {
            if parts.authority.is_some() {
                parts.authority = Some(host.authority.clone());
            }
            if parts.authority.is_none() || head.headers.contains_key(header::HOST) {
                head.headers.insert(header::HOST, host.field.clone());
            }
        }
        head.target = Uri::from_parts(parts).map_err(|_| too_long())?;
        Ok(())
    }

    /// How many bytes of the rewritten path stand where a prefix of so many bytes stood: what a further rewrite replaces.
    #[must_use]
    pub fn prefix_after(&self, prefix: usize) -> usize {
        match &self.path {
            None => prefix,
            Some(PathRewrite::Full(full)) => full.trim_end_matches('/').len(),
            Some(PathRewrite::Prefix(replacement)) => replacement.trim_end_matches('/').len(),
        }
    }
}

/// What an operator wrote was checked when it was compiled, and what a client wrote when it was read.
fn too_long() -> ProxyError {
    let detail = "the target would be too long after the route has rewritten it";
    ProxyError::new(Reason::HeadersTooLarge, detail)
}

impl PathRewrite {
    /// The new path instead of one that begins with a prefix of so many bytes, the last slash not counted.
    #[must_use]
    pub fn apply<'a>(&'a self, path: &'a str, prefix: usize) -> Cow<'a, str> {
        match self {
            Self::Full(full) => Cow::Borrowed(full),
            Self::Prefix(replacement) => {
                let rest = path.get(prefix..).unwrap_or_default();
                match (replacement.trim_end_matches('/'), rest) {
                    ("", "") => Cow::Borrowed("/"),
                    ("", rest) => Cow::Borrowed(rest),
                    (replacement, rest) => Cow::Owned(format!("{replacement}{rest}")),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Version};

    use super::*;
    use crate::http::Fields;

    #[test]
    fn prefixes_are_replaced_by_the_table_of_the_gateway_api() {
        for (path, prefix, replacement, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo//bar", "/foo", "/", "//bar"),
            ("/a/b", "", "/xyz", "/xyz/a/b"),
            ("/", "", "/xyz", "/xyz/"),
            ("/", "", "/", "/"),
        ] {
            let rewrite = PathRewrite::Prefix(replacement.into());
            assert_eq!(
                rewrite.apply(path, prefix.len()),
                expected,
                "{path} {prefix} {replacement}"
            );
        }
        assert_eq!(PathRewrite::Full("/new".into()).apply("/a/b", 2), "/new");
    }

    fn head(target: &str, host: Option<&'static str>) -> RequestHead {
        let mut headers = Fields::new();
        if let Some(host) = host {
            headers.insert(header::HOST, HeaderValue::from_static(host));
        }
        RequestHead {
            method: Method::GET,
            target: target.parse().expect("a URI"),
            version: Version::HTTP_11,
            headers,
            upgrade: None,
            accepts_trailers: false,
        }
    }

    fn rewrite(host: Option<&'static str>, path: Option<PathRewrite>) -> Rewrite {
        let host = host.map(|host| NewHost {
            authority: Authority::from_static(host),
            field: HeaderValue::from_static(host),
        });
        Rewrite { host, path }
    }

    #[test]
    fn the_host_changes_wherever_the_request_says_it_and_the_query_stays() {
        let new = rewrite(Some("one.example.org"), Some(PathRewrite::Full("/new".into())));
        for (target, host, expected_target, expected_host) in [
            ("/a?b=c", Some("old"), "/new?b=c", Some("one.example.org")),
            ("http://old/a", None, "http://one.example.org/new", None),
            ("http://old/a", Some("old"), "http://one.example.org/new", Some("one.example.org")),
        ] {
            let mut head = head(target, host);
            new.apply(&mut head, 0).expect("short");
            assert_eq!(head.target.to_string(), expected_target);
            let host = head.headers.get(header::HOST).map(|host| host.to_str().expect("text"));
            assert_eq!(host, expected_host, "{target}");
        }
    }

    #[test]
    fn an_asterisk_stays_and_what_becomes_too_long_is_refused() {
        let new = rewrite(None, Some(PathRewrite::Prefix("/long".into())));
        let mut asterisk = head("*", Some("a"));
        new.apply(&mut asterisk, 0).expect("left alone");
        assert_eq!(asterisk.target.path(), "*");
        let mut long = head(&format!("/{}", "a".repeat(65_530)), Some("a"));
        let refused = new.apply(&mut long, 0).expect_err("above what a URI may have");
        assert_eq!(refused.reason, Reason::HeadersTooLarge);
    }
}
