//! Which endpoint gets a request, of as many, all of which this worker has used before.

use std::{hint::black_box, net::SocketAddr, rc::Rc, sync::Arc};

use anyhow::{Context as _, Result};
use clap::Parser;
use weft_proto::Port;
use weft_proxy::{
    balance::{EndpointSet, endpoints::MakePool},
    config::Config,
    discovery::{Destination, Endpoint, Transport},
    http::{h1, h2},
    identity::Identity,
    pool::{Dialer, EndpointPool},
    tasks::Tasks,
    telemetry::Metrics,
    tls::MutualTls,
};

const SEED: u64 = 7;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    config: Config,
}

/// Picks so often among so many endpoints.
pub(crate) fn run(times: usize, endpoints: u32) -> Result<()> {
    let make_pool = pools()?;
    let mut random = fastrand::Rng::with_seed(SEED);
    let set = set(endpoints)?;
    // The first pick of an endpoint makes what this worker knows of it.
    while set.members().count() < set.destination.endpoints.len() {
        for _ in 0..endpoints {
            set.pick(&[], None, &mut random, &*make_pool).context("there are endpoints")?;
        }
    }
    for _ in 0..times {
        black_box(black_box(&set).pick(&[], None, &mut random, &*make_pool));
    }
    Ok(())
}

fn set(endpoints: u32) -> Result<EndpointSet> {
    let endpoints = (0..endpoints).map(endpoint).collect::<Result<Vec<_>>>()?;
    let destination = Destination { endpoints, ..Destination::empty("shop/cart:80".into()) };
    Ok(EndpointSet::new(Arc::new(destination), None))
}

fn endpoint(number: u32) -> Result<Arc<Endpoint>> {
    let [_, high, middle, low] = number.to_be_bytes();
    let app_port = Port::new(80).context("a port")?;
    let address = SocketAddr::from(([10, high, middle, low], app_port.number()));
    Ok(Arc::new(Endpoint {
        id: format!("shop/cart-{number}").into(),
        address,
        app_port,
        transport: Transport::Plain,
        zone: "".into(),
        labels: std::collections::BTreeMap::default(),
        workload: None,
        alternate: None,
        health: Arc::default(),
    }))
}

/// Makes pools that are never asked for a connection.
fn pools() -> Result<Box<MakePool>> {
    let config = Command::try_parse_from(["steps", "--workload", "shop/web"])?.config;
    let metrics = Metrics::new();
    let tls = MutualTls::new(Identity::default(), config.timeouts.tls, metrics.tls());
    let (http1, http2) = (h1::ClientSettings::new(&config), h2::ClientSettings::new(&config));
    let dialer = Rc::new(Dialer::new(tls, &config.timeouts, &config.pool, http1, http2, &metrics));
    let (settings, tasks) = (config.pool, Tasks::default());
    Ok(Box::new(move |endpoint| {
        let (endpoint, dialer) = (Arc::clone(endpoint), Rc::clone(&dialer));
        EndpointPool::new(endpoint, dialer, settings.clone(), tasks.clone(), Rc::default())
    }))
}
