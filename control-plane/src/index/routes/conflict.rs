//! Which of two routes that cannot both hold at a port does: the older, then the first by namespace and name (Gateway
//! API). Routes of one port and of one kind of callers come in; out goes which of them are not in force, and why.
//!
//! | two routes | exclude each other |
//! |---|---|
//! | an HTTPRoute and a GRPCRoute | where their hosts intersect |
//! | two TCPRoutes | always: each takes every connection |
//! | two TLSRoutes | at the server names that both have; a TLSRoute without any has every other's rest |
//!
//! A route that is not in force takes nothing from those after it.

use super::precedence::Age;
use crate::model::{Kind, Route};

/// The reason of a route that an older one keeps out.
pub const CONFLICTED: &str = "Conflicted";

/// What an older route keeps from a younger one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    /// All that it takes.
    pub(super) whole: bool,
    /// By whom, in words.
    pub(super) message: String,
}

/// Those of the routes that are in force: the older first.
pub(super) fn in_force<'a, T>(routes: Vec<T>, route: impl Fn(&T) -> Route<'a>) -> Vec<T> {
    let mut routes = routes;
    routes.sort_by_cached_key(|one| order(route(one)));
    let mut kept: Vec<T> = Vec::with_capacity(routes.len());
    let mut known: Vec<Route<'a>> = Vec::with_capacity(routes.len());
    for one in routes {
        let own = route(&one);
        if !lost(own, &known).is_some_and(|lost| lost.whole) {
            known.push(own);
            kept.push(one);
        }
    }
    kept
}

/// What the other routes at its port keep from a route.
pub(super) fn lost_among<'a>(route: Route<'a>, others: Vec<Route<'a>>) -> Option<Lost> {
    // Most ports have none, and may have many other routes.
    if !others.iter().any(|other| are_rivals(route, *other)) {
        return None;
    }
    let own = order(route);
    let older = others.into_iter().filter(|other| order(*other) < own).collect();
    lost(route, &in_force(older, |route| *route))
}

/// What older routes, all of them in force, keep from a route.
fn lost(route: Route<'_>, older: &[Route<'_>]) -> Option<Lost> {
    match route {
        Route::Http(_) | Route::Grpc(_) => {
            let other = older.iter().find(|other| excludes(route, **other))?;
            let message = format!(
                "{} is older and has hosts of this route, which one of a HTTPRoute and a GRPCRoute alone can have: \
                 give them other hostnames, or other ports",
                name(*other)
            );
            Some(Lost { whole: true, message })
        }
        Route::Tcp(_) => {
            let other = older.iter().find(|other| matches!(other, Route::Tcp(_)))?;
            let message = format!(
                "{} is older and takes every connection: give them other ports, or delete one of them",
                name(*other)
            );
            Some(Lost { whole: true, message })
        }
        Route::Tls(_) => lost_names(route, older),
    }
}

fn lost_names(route: Route<'_>, older: &[Route<'_>]) -> Option<Lost> {
    let own = names(route);
    let taken = own.iter().filter_map(|host| {
        let of_tls = older.iter().filter(|other| matches!(other, Route::Tls(_)));
        let by = of_tls.into_iter().find(|other| names(**other).contains(host))?;
        Some((*host, name(*by)))
    });
    let taken: Vec<(&str, String)> = taken.collect();
    let (host, by) = taken.first()?;
    let host = if host.is_empty() {
        "every name that no other has".to_owned()
    } else {
        format!("{host:?}")
    };
    let message = format!("{by} is older and has {host}: leave it out of one of them");
    Some(Lost { whole: taken.len() == own.len(), message })
}

/// Whether one is of HTTP and the other of gRPC, and both have a host.
fn excludes(one: Route<'_>, other: Route<'_>) -> bool {
    if !are_rivals(one, other) {
        return false;
    }
    let theirs = names(other);
    names(one).iter().any(|host| theirs.iter().any(|other| intersect(host, other)))
}

/// Whether two routes exclude each other where they have one host, or one server name.
const fn are_rivals(one: Route<'_>, other: Route<'_>) -> bool {
    matches!(
        (one, other),
        (Route::Http(_), Route::Grpc(_))
            | (Route::Grpc(_), Route::Http(_))
            | (Route::Tls(_), Route::Tls(_))
            | (Route::Tcp(_), Route::Tcp(_))
    )
}

/// The hosts of a route; "" for all.
fn names<'a>(route: Route<'a>) -> Vec<&'a str> {
    match route.hostnames() {
        [] => vec![""],
        hosts => hosts.iter().map(String::as_str).collect(),
    }
}

/// Whether some host is both of these, each a name, "*.example.com", or "" for all.
fn intersect(one: &str, other: &str) -> bool {
    let covers = |wide: &str, narrow: &str| {
        wide.strip_prefix('*')
            .is_some_and(|suffix| narrow.len() > suffix.len() && narrow.ends_with(suffix))
    };
    one.is_empty() || other.is_empty() || one == other || covers(one, other) || covers(other, one)
}

/// The older is less; two of one age and name are of two kinds.
fn order(route: Route<'_>) -> (Age, Kind) {
    (Age::of(route), kind(route))
}

const fn kind(route: Route<'_>) -> Kind {
    match route {
        Route::Http(_) => Kind::HTTPRoute,
        Route::Grpc(_) => Kind::GRPCRoute,
        Route::Tls(_) => Kind::TLSRoute,
        Route::Tcp(_) => Kind::TCPRoute,
    }
}

/// "HTTPRoute shop/split".
fn name(route: Route<'_>) -> String {
    let metadata = route.metadata();
    format!("{} {}/{}", kind(route), metadata.namespace, metadata.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_intersect_where_one_name_can_be_both() {
        for (one, other, expected) in [
            ("", "a.b", true),
            ("a.b", "a.b", true),
            ("a.b", "c.b", false),
            ("*.b", "a.b", true),
            ("*.b", "b", false),
            ("*.b", "c.a.b", true),
            ("*.a.b", "*.b", true),
            ("*.a.b", "*.c.b", false),
        ] {
            assert_eq!(intersect(one, other), expected, "{one} {other}");
            assert_eq!(intersect(other, one), expected, "{other} {one}");
        }
    }
}
