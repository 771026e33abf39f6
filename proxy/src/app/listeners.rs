//! Every port that the proxy listens on, bound before anything else starts.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use super::{Addresses, StartError};
use crate::{
    config::{Config, Interception},
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
            let bindings = bind(config, name, address, workers)?;
            addresses.extend(bindings.first().map(|first| (purpose.clone(), first.address())));
            for (worker, binding) in by_worker.iter_mut().zip(bindings) {
                worker.push((purpose.clone(), binding));
            }
        }
        let admin = bind_one(config, "admin", config.admin_listen)?;
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

/// Binds an address; where traffic is intercepted, and the kernel has no IPv6, `[::]` means every address of IPv4.
fn bind(
    config: &Config,
    purpose: &'static str,
    address: SocketAddr,
    count: usize,
) -> Result<Vec<Binding>, StartError> {
    let intercepted = config.interception == Interception::Transparent;
    let bound = match net::bind(address, count) {
        Err(error) if intercepted && lacks_ipv6(address, &error) => {
            let ipv4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
            tracing::info!(purpose, %address, listening = %ipv4, "this kernel has no IPv6");
            net::bind(ipv4, count)
        }
        bound => bound,
    };
    bound.map_err(|error| StartError::Listen { address, purpose, error })
}

/// Whether every address was asked for, and could not be had because the kernel does without IPv6
/// (`ipv6.disable=1`).
fn lacks_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    let no_such_family = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    address.is_ipv6()
        && address.ip().is_unspecified()
        && error.raw_os_error() == Some(no_such_family)
}

fn bind_one(
    config: &Config,
    purpose: &'static str,
    address: SocketAddr,
) -> Result<Binding, StartError> {
    let bound = bind(config, purpose, address, 1)?.pop();
    let error = io::Error::other("nothing was bound");
    bound.ok_or(StartError::Listen { address, purpose, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kernel_without_ipv6_turns_every_address_into_ipv4s() {
        let no_family = rustix::io::Errno::AFNOSUPPORT;
        let taken = rustix::io::Errno::ADDRINUSE;
        for (address, error, expected) in [
            ("[::]:4140", no_family, true),
            ("[::]:4140", taken, false),
            ("[fd00::1]:4140", no_family, false),
            ("0.0.0.0:4140", no_family, false),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(lacks_ipv6(address, &error.into()), expected, "{address} {error}");
        }
    }
}
