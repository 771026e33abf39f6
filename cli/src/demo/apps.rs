//! The demo's services, built into this binary: `weft demo-app NAME`.
//!
//! Each is an ordinary program that knows nothing of a mesh: it listens on `$PORT`, reaches others over HTTP by
//! name through `$http_proxy`, or at the address that a variable names. [`serve`] and [`call`] are what they
//! share.

mod cache;
mod call;
mod cart;
mod catalog;
mod inventory;
mod load;
mod payments;
mod serve;
mod web;

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;

use crate::command::{DemoApp, DemoAppArgs};

/// Runs one of them until it is ended.
pub(crate) async fn run(args: DemoAppArgs) -> anyhow::Result<()> {
    match args.name {
        DemoApp::Web => web::run().await,
        DemoApp::Catalog => catalog::run().await,
        DemoApp::Cart => cart::run().await,
        DemoApp::Payments => payments::run().await,
        DemoApp::Inventory => inventory::run().await,
        DemoApp::Cache => cache::run().await,
        DemoApp::Load => load::run().await,
    }
}

/// Where to listen: `$PORT` on loopback.
fn listen_address() -> anyhow::Result<SocketAddr> {
    let port = variable("PORT")?;
    let port = port.parse().with_context(|| format!("PORT is {port:?}: give a port number"))?;
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name)
        .with_context(|| format!("the variable {name} is not set: `weft up` sets it"))
}
