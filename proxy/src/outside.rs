//! Destinations outside the mesh that nobody registers: passed through at once, in plain, where the mesh lets traffic
//! out.
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
    destination::{Found, Service, authority},
    discovery::{Destination, Endpoint},
    error::ProxyError,
    http::{Response, Takeover},
    io::Socket,
    reason::Reason,
    shared::Shared,
    tcp::{self, End, Spliced},
};

/// What telemetry calls every destination outside: their names are unbounded in number.
pub const LABEL: &str = "outside";

/// The service that `HOST:PORT` outside the mesh stands for, kept until its DNS answer is too old.
///
/// # Errors
/// Traffic may not leave the mesh, or the name cannot be resolved, or may not be named.
pub async fn service(shared: &Rc<Shared>, name: &str) -> Result<Rc<Service>, ProxyError> {
    may_leave(shared, name)?;
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
/// Traffic may not leave the mesh, the name cannot be resolved or may not be named, or no address accepts.
pub async fn connect(shared: &Rc<Shared>, name: &str) -> Result<Socket, ProxyError> {
    may_leave(shared, name)?;
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

/// Forwards between the application and a server outside, for as long as traffic may leave the mesh.
pub async fn splice(shared: &Rc<Shared>, client: &impl End, server: &impl End) -> Spliced {
    let forbidden = async {
        shared.destinations.directory().until_registered_only().await;
        Reason::EgressDenied
    };
    let idle = shared.config.timeouts.tcp_idle;
    let bounds = tcp::Bounds::new(idle, forbidden);
    tcp::splice_within(client, server, bounds).await
}

/// What becomes of a connection that a response has taken over goes on only for as long as traffic may leave the mesh,
/// where it leads outside.
pub fn bound_takeover(service: &Service, response: &mut Response) {
    if service.is_outside()
        && let Some(Takeover::Splice(server)) =
            response.takeover.take_if(|takeover| matches!(takeover, Takeover::Splice(_)))
    {
        response.takeover = Some(Takeover::Outside(server));
    }
}

/// The service that registers a host outside, on the port of `address` (`IP:PORT`), where the application was going.
/// Its endpoints are those that the name has by DNS, not the address: the name is the application's word only, and
/// whoever said one that is registered could reach any address otherwise.
///
/// # Errors
/// The control plane did not say in time.
pub async fn registered(
    shared: &Rc<Shared>,
    host: &str,
    address: &str,
) -> Result<Option<Rc<Service>>, ProxyError> {
    let mesh = shared.destinations.directory().mesh();
    let (Some(mesh), Some((_, port))) = (mesh, address.rsplit_once(':')) else { return Ok(None) };
    if !mesh.outside.registers(host) {
        return Ok(None);
    }
    match shared.destinations.find(&format!("{host}:{port}")).await {
        Ok(Found::Mesh(service)) => Ok(Some(service)),
        Ok(Found::Outside) => Ok(None),
        // Registered, but not on this port.
        Err(error) if error.reason == Reason::DestinationUnknown => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a connection to an address outside, `IP:PORT`, may be for a registered host, and so is to be looked at.
#[must_use]
pub fn may_be_registered(shared: &Shared, name: &str) -> bool {
    let Ok(address) = name.parse::<SocketAddr>() else { return false };
    let mesh = shared.destinations.directory().mesh();
    mesh.is_some_and(|mesh| mesh.outside.may_register(address.port()))
}

/// Whether somebody registers a host (lower case, no dot at the end), on whatever port.
#[must_use]
pub fn registers(shared: &Shared, host: &str) -> bool {
    let mesh = shared.destinations.directory().mesh();
    mesh.is_some_and(|mesh| mesh.outside.registers(host))
}

/// Why a name outside the mesh has no address.
#[must_use]
pub fn unresolved(name: &str, why: &str) -> ProxyError {
    ProxyError::new(Reason::DestinationUnresolved, format!("cannot resolve {name}: {why}"))
}

/// Whether traffic may leave the mesh to where nobody is registered.
fn may_leave(shared: &Shared, name: &str) -> Result<(), ProxyError> {
    if !shared.destinations.directory().registered_only() {
        return Ok(());
    }
    let detail = format!(
        "no ExternalService registers {name}, and MeshConfig lets out what is registered only"
    );
    Err(ProxyError::new(Reason::EgressDenied, detail))
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
        not_this_proxy(&shared.own_ports, *address)?;
    }
    Ok((addresses, valid_until))
}

/// Refuses this proxy's own ports: a request would go round in circles.
///
/// # Errors
/// `destination-forbidden`.
pub fn not_this_proxy(own_ports: &[SocketAddr], address: SocketAddr) -> Result<(), ProxyError> {
    let same_port = |own: &&SocketAddr| own.port() == address.port();
    let mut own = own_ports.iter().filter(same_port);
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
