//! Which rule takes a request, among as many routes: half of them by an exact path, half by a prefix, each of a host of
//! its own among ten.

use std::{hint::black_box, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use http::{Method, Version, uri::Authority};
use weft_proxy::{
    http::{Fields, RequestHead},
    route::{
        HttpTable, Rule, Weighted,
        matcher::{HostMatch, Match, PathMatch},
    },
};

const HOSTS: usize = 10;
/// Different requests, which are asked for in turn.
const REQUESTS: usize = 64;

/// Finds the rule of a request so often, among so many routes.
pub(crate) fn run(times: usize, routes: usize) -> Result<()> {
    let table = table(routes);
    let requests = (0..REQUESTS)
        .map(|number| request(number * routes / REQUESTS))
        .collect::<Result<Vec<_>>>()?;
    for (authority, head) in requests.iter().cycle().take(times) {
        let taken = black_box(&table).decide(black_box(authority), black_box(head));
        ensure!(taken.is_some(), "no route takes {authority}{}", head.target);
        black_box(taken);
    }
    Ok(())
}

fn table(routes: usize) -> HttpTable {
    let rule = |number| {
        let name = format!("HTTPRoute shop/cart-{number} rules[0]").into();
        let backends = Weighted::new([]);
        Arc::new(Rule { name, filters: Box::default(), requests: None, backends })
    };
    HttpTable::new((0..routes).map(rule).collect(), (0..routes).map(match_of).collect())
}

fn match_of(number: usize) -> Match {
    let path = path(number);
    let path = if number.is_multiple_of(2) {
        PathMatch::Exact(path.into())
    } else {
        PathMatch::Prefix(path.into())
    };
    Match {
        rule: number,
        host: HostMatch::Exact(host(number).into()),
        path,
        method: None,
        headers: Box::default(),
        query: Box::default(),
        grpc: false,
    }
}

/// A request that this route takes, and no other.
fn request(number: usize) -> Result<(Authority, RequestHead)> {
    let head = RequestHead {
        method: Method::GET,
        target: path(number).parse().context("a path")?,
        version: Version::HTTP_11,
        headers: Fields::new(),
        upgrade: None,
        accepts_trailers: false,
    };
    Ok((host(number).parse().context("a host")?, head))
}

fn host(number: usize) -> String {
    format!("cart-{}.shop.example", number % HOSTS)
}

fn path(number: usize) -> String {
    format!("/items/{number:05}/parts")
}
