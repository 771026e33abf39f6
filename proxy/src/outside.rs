//! Destinations outside the mesh: passed through at once, in plain.
//!
//! A name is resolved here and becomes a service of plain endpoints; an address is one already. What an
//! application may not name is refused for resolved addresses too, so that no DNS answer can point the proxy
//! at loopback or at itself.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    rc::Rc,
    sync::Arc,
};

use weft_proto::Port;

use crate::{
    clock,
    destination::{Service, authority},
    discovery::{Destination, Endpoint},
    error::ProxyError,
    io::Socket,
    reason::Reason,
    shared::Shared,
};

/// What telemetry calls every destination outside: their names are unbounded in number.
pub const LABEL: &str = "outside";

/// The service that `HOST:PORT` outside the mesh stands for, kept until its DNS answer is too old.
///
/// # Errors
/// The name cannot be resolved, or may not be named.
pub async fn service(shared: &Rc<Shared>, name: &str) -> Result<Rc<Service>, ProxyError> {
    if let Some(service) = shared.destinations.kept(name) {
        return Ok(service);
    }
    let (addresses, valid_until) = addresses(shared, name).await?;
    let endpoints = addresses
        .into_iter()
        .filter_map(|address| Port::new(address.port()).map(|port| (address, port)))
        .map(|(address, port)| Arc::new(Endpoint::plain(address, port)))
        .collect();
    let destination = Destination { endpoints, ..Destination::empty(LABEL.into()) };
    Ok(shared.destinations.keep_outside(name, destination, valid_until))
}

/// A plain connection to `HOST:PORT` outside the mesh: the first address that accepts.
///
/// # Errors
/// The name cannot be resolved or may not be named, or no address accepts.
pub async fn connect(shared: &Rc<Shared>, name: &str) -> Result<Socket, ProxyError> {
    let (addresses, _) = addresses(shared, name).await?;
    let mut last = ProxyError::new(Reason::DestinationUnresolved, format!("{name} has no address"));
    for address in addresses {
        match shared.destinations.dialer().connect(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn addresses(
    shared: &Rc<Shared>,
    name: &str,
) -> Result<(Vec<SocketAddr>, Option<clock::Instant>), ProxyError> {
    let malformed = || ProxyError::new(Reason::BadRequest, format!("{name:?} is not HOST:PORT"));
    let (host, port) = name.rsplit_once(':').ok_or_else(malformed)?;
    let port: Port = port.parse().map_err(|_| malformed())?;
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    let (ips, valid_until) = match literal.parse::<IpAddr>() {
        Ok(ip) => (vec![ip], None),
        Err(_) => {
            let answer = shared.resolver.resolve(host).await?;
            (answer.addresses, Some(answer.valid_until))
        }
    };
    let addresses: Vec<_> = ips.into_iter().map(|ip| SocketAddr::new(ip, port.number())).collect();
    for address in &addresses {
        authority::allowed(*address)?;
        not_this_proxy(shared, *address)?;
    }
    Ok((addresses, valid_until))
}

/// Refuses this proxy's own ports: a request would go round in circles.
fn not_this_proxy(shared: &Shared, address: SocketAddr) -> Result<(), ProxyError> {
    let same_port = |own: &&SocketAddr| own.port() == address.port();
    let mut own = shared.own_ports.iter().filter(same_port);
    let is_own = own.any(|own| {
        own.ip() == address.ip() || (own.ip().is_unspecified() && is_local(address.ip()))
    });
    if is_own {
        let detail = format!("{address} is one of this proxy's own ports");
        return Err(ProxyError::new(Reason::DestinationForbidden, detail));
    }
    Ok(())
}

/// Whether the address is this host's: only then can a socket be bound to it.
fn is_local(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}
