//! Every port that the proxy listens on, bound before anything else starts.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Addresses, StartError};
use crate::{
    config::Config,
    listen::Purpose,
    net::{self, Binding},
};

/// The data ports: for each purpose one listener a worker, which takes its own.
#[derive(Debug)]
pub(super) struct Listeners {
    addresses: Vec<(Purpose, SocketAddr)>,
    by_worker: Vec<Mutex<Vec<(Purpose, Binding)>>>,
}

impl Listeners {
    /// Binds the data ports, and the admin port.
    pub(super) fn bind(config: &Config) -> Result<(Self, Binding), StartError> {
        let workers = config.workers.max(1);
        let mut wanted = vec![
            (Purpose::Outbound, "outbound", config.outbound_listen),
            (Purpose::Inbound, "inbound", config.inbound_listen),
        ];
        for upstream in &config.upstreams {
            let purpose = Purpose::Upstream(upstream.destination.as_str().into());
            wanted.push((purpose, "an upstream", upstream.listen));
        }
        let mut addresses = Vec::new();
        let mut by_worker: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        for (purpose, name, address) in wanted {
            let bindings = bind(name, address, workers)?;
            addresses.extend(bindings.first().map(|first| (purpose.clone(), first.address())));
            for (worker, binding) in by_worker.iter_mut().zip(bindings) {
                worker.push((purpose.clone(), binding));
            }
        }
        let admin = bind_one("admin", config.admin_listen)?;
        Ok((Self { addresses, by_worker: by_worker.into_iter().map(Mutex::new).collect() }, admin))
    }

    pub(super) fn addresses(&self, admin: SocketAddr) -> Addresses {
        let upstreams = BTreeMap::new();
        let mut addresses = Addresses { outbound: admin, inbound: admin, admin, upstreams };
        for (purpose, address) in &self.addresses {
            match purpose {
                Purpose::Outbound => addresses.outbound = *address,
                Purpose::Inbound => addresses.inbound = *address,
                Purpose::Upstream(name) => {
                    addresses.upstreams.insert(name.to_string(), *address);
                }
            }
        }
        addresses
    }

    pub(super) fn own_ports(&self, admin: SocketAddr) -> Arc<[SocketAddr]> {
        self.addresses.iter().map(|(_, address)| *address).chain([admin]).collect()
    }

    /// The listeners of a worker; each worker takes its own, once.
    pub(super) fn of_worker(&self, index: usize) -> Vec<(Purpose, Binding)> {
        let Some(listeners) = self.by_worker.get(index) else { return Vec::new() };
        std::mem::take(&mut *listeners.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn bind(
    purpose: &'static str,
    address: SocketAddr,
    count: usize,
) -> Result<Vec<Binding>, StartError> {
    net::bind(address, count).map_err(|error| StartError::Listen { address, purpose, error })
}

fn bind_one(purpose: &'static str, address: SocketAddr) -> Result<Binding, StartError> {
    let bound = bind(purpose, address, 1)?.pop();
    let error = std::io::Error::other("nothing was bound");
    bound.ok_or(StartError::Listen { address, purpose, error })
}
