//! The demo's services, built into this binary: `weft demo-app NAME`.
//!
//! Each is an ordinary program that knows nothing of a mesh: it listens on `$PORT` (on loopback, or `$LISTEN_HOST`),
//! reaches others over HTTP by name through `$http_proxy` or without one, or at the address that a variable names. [`serve`] and [`call`] are what they
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

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use weft_proxy::clock;

use crate::command::{DemoApp, DemoAppArgs};

/// From the signal to the end of one that is process 1 of a container: meanwhile callers learn that it goes.
const LINGER: Duration = Duration::from_secs(3);

/// Runs one of them until it is ended.
pub(crate) async fn run(args: DemoAppArgs) -> anyhow::Result<()> {
    tokio::select! {
        ended = serve_as(args.name) => ended,
        () = told_to_end() => Ok(()),
    }
}

/// The kernel ends process 1 by no signal that it does not ask for; any other process is ended by it.
async fn told_to_end() {
    let signal = (std::process::id() == 1).then(|| signal(SignalKind::terminate()));
    match signal {
        Some(Ok(mut signal)) => _ = signal.recv().await,
        Some(Err(_)) | None => std::future::pending().await,
    }
    clock::sleep(LINGER).await;
}

async fn serve_as(name: DemoApp) -> anyhow::Result<()> {
    match name {
        DemoApp::Web => web::run().await,
        DemoApp::Catalog => catalog::run().await,
        DemoApp::Cart => cart::run().await,
        DemoApp::Payments => payments::run().await,
        DemoApp::Inventory => inventory::run().await,
        DemoApp::Cache => cache::run().await,
        DemoApp::Load => load::run().await,
    }
}

/// Where to listen: `$PORT` on loopback, or on the address that `$LISTEN_HOST` names.
fn listen_address() -> anyhow::Result<SocketAddr> {
    let host = std::env::var("LISTEN_HOST").unwrap_or_else(|_| "127.0.0.1".into());
    let host: IpAddr =
        host.parse().with_context(|| format!("LISTEN_HOST is {host:?}: give an address"))?;
    let port = variable("PORT")?;
    let port = port.parse().with_context(|| format!("PORT is {port:?}: give a port number"))?;
    Ok(SocketAddr::new(host, port))
}

fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name)
        .with_context(|| format!("the variable {name} is not set: `weft up` sets it"))
}
