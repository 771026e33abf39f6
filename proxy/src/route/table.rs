//! The HTTP routes of a service port: the first match, in the order of precedence, that takes a request.
//!
//! Comes in: matches in order, then request after request. Goes out: the rule whose match came first. A walk along the
//! list would cost each request as much as there are routes; so matches are found by host and by path, and only those
//! that both lead to are looked at: exact paths by hash, prefixes along a tree of segments, patterns one by one. What
//! comes first in the list still wins, wherever it was found.

use std::{collections::HashMap, sync::Arc};

use http::uri::Authority;

use super::{
    Rule,
    matcher::{self, HostMatch, Match, PathMatch},
};
use crate::http::RequestHead;

/// A name of more bytes is nobody's in DNS (RFC 1035 2.3.4): only matches for any host take it.
const MAX_HOST: usize = 253;

/// The HTTP routes of a service port.
#[derive(Debug)]
pub struct HttpTable {
    rules: Box<[Arc<Rule>]>,
    /// In the order of precedence.
    matches: Box<[Match]>,
    any_host: Paths,
    hosts: HashMap<Box<str>, Paths>,
    /// By what comes after the asterisk, ".example.com".
    below: HashMap<Box<str>, Paths>,
}

/// The rule that takes a request.
#[derive(Debug)]
pub struct Taken<'a> {
    /// The rule.
    pub rule: &'a Arc<Rule>,
    /// How many bytes of the path are the prefix by which the match took it.
    pub prefix: usize,
}

/// Matches by their path, each as its place in the order of precedence.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Box<str>, Vec<usize>>,
    prefixes: Segments,
    patterns: Vec<usize>,
}

/// A tree of path segments.
#[derive(Debug, Default)]
struct Segments {
    /// The matches whose prefix ends here.
    here: Vec<usize>,
    below: HashMap<Box<str>, Segments>,
}

impl HttpTable {
    /// A table of these rules, whose matches come in the order of precedence. Each match's rule is one of them.
    #[must_use]
    pub fn new(rules: Vec<Arc<Rule>>, matches: Vec<Match>) -> Self {
        let mut table = Self {
            rules: rules.into(),
            matches: Box::default(),
            any_host: Paths::default(),
            hosts: HashMap::new(),
            below: HashMap::new(),
        };
        for (place, one) in matches.iter().enumerate() {
            let paths = match &one.host {
                HostMatch::Any => &mut table.any_host,
                HostMatch::Exact(host) => table.hosts.entry(host.clone()).or_default(),
                HostMatch::Below(suffix) => table.below.entry(suffix.clone()).or_default(),
            };
            paths.insert(place, &one.path);
        }
        table.matches = matches.into();
        table
    }

    /// The rule that takes a request; `None` where none does.
    #[must_use]
    pub fn decide(&self, authority: &Authority, head: &RequestHead) -> Option<Taken<'_>> {
        let mut search = Search { table: self, head, path: head.target.path(), first: usize::MAX };
        search.among(&self.any_host);
        if !self.hosts.is_empty() || !self.below.is_empty() {
            search.among_hosts(&matcher::host(authority));
        }
        let taken = self.matches.get(search.first)?;
        let rule = self.rules.get(taken.rule)?;
        Some(Taken { rule, prefix: taken.path.prefix_length() })
    }

    /// The rules, in order.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.iter()
    }
}

impl Paths {
    /// Places come in rising order, and so every list is sorted.
    fn insert(&mut self, place: usize, path: &PathMatch) {
        match path {
            PathMatch::Any => self.prefixes.here.push(place),
            PathMatch::Exact(path) => self.exact.entry(path.clone()).or_default().push(place),
            PathMatch::Prefix(prefix) => {
                let mut at = &mut self.prefixes;
                for segment in segments(prefix) {
                    at = at.below.entry(segment.into()).or_default();
                }
                at.here.push(place);
            }
            PathMatch::Pattern(_) => self.patterns.push(place),
        }
    }
}

/// The segments of a path; none where it does not begin with a slash.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').into_iter().flat_map(|path| path.split('/'))
}

/// The search for the first match that takes one request.
struct Search<'a> {
    table: &'a HttpTable,
    head: &'a RequestHead,
    path: &'a str,
    /// The place of the first match found so far.
    first: usize,
}

impl Search<'_> {
    fn among_hosts(&mut self, host: &str) {
        if host.len() > MAX_HOST {
            return;
        }
        let table = self.table;
        if let Some(paths) = table.hosts.get(host) {
            self.among(paths);
        }
        if table.below.is_empty() {
            return;
        }
        // A name that begins with a dot has no label before it.
        for (dot, _) in host.match_indices('.').filter(|(dot, _)| *dot > 0) {
            if let Some(paths) = table.below.get(&host[dot..]) {
                self.among(paths);
            }
        }
    }

    fn among(&mut self, paths: &Paths) {
        if let Some(places) = paths.exact.get(self.path) {
            self.try_all(places, false);
        }
        let mut at = &paths.prefixes;
        self.try_all(&at.here, false);
        for segment in segments(self.path) {
            let Some(next) = at.below.get(segment) else { break };
            at = next;
            self.try_all(&at.here, false);
        }
        self.try_all(&paths.patterns, true);
    }

    /// Takes the first of these that holds, unless an earlier one was found.
    fn try_all(&mut self, places: &[usize], check_path: bool) {
        for &place in places.iter().take_while(|place| **place < self.first) {
            let one = &self.table.matches[place];
            if one.holds(self.head) && (!check_path || one.path.takes(self.path)) {
                self.first = place;
                return;
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
