//! The network that the proxy stands on: tokio's, or the simulator's under `--cfg weft_sim`.
//!
//! Every socket of the proxy is made from these types, so that a simulation can partition, delay and cut.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

#[cfg(not(weft_sim))]
mod unacknowledged;

#[cfg(not(weft_sim))]
pub use tokio::net::{TcpListener, TcpStream};
#[cfg(weft_sim)]
pub use turmoil::net::{TcpListener, TcpStream};
#[cfg(not(weft_sim))]
pub(crate) use unacknowledged::unacknowledged;

/// Connections that wait for a worker that is busy; more than a burst of new clients. The kernel caps it at
/// `net.core.somaxconn`.
#[cfg(not(weft_sim))]
const BACKLOG: i32 = 4096;

/// The simulator's network does not tell how many bytes a peer has not acknowledged.
#[cfg(weft_sim)]
pub(crate) const fn unacknowledged(_stream: &TcpStream) -> Option<u64> {
    None
}

/// An address that is bound, ready to be listened on by one worker.
#[derive(Debug)]
pub struct Binding {
    address: SocketAddr,
    #[cfg(not(weft_sim))]
    listener: std::net::TcpListener,
}

impl Binding {
    /// The address, with the port that the system chose where 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts on the runtime that this is called on.
    ///
    /// # Errors
    /// The runtime does not take the socket.
    #[cfg(not(weft_sim))]
    #[expect(clippy::unused_async, reason = "the simulator's is asynchronous")]
    pub async fn listen(self) -> io::Result<TcpListener> {
        TcpListener::from_std(self.listener)
    }

    /// Accepts on the simulated host that this is called on.
    ///
    /// # Errors
    /// The port is taken.
    #[cfg(weft_sim)]
    pub async fn listen(self) -> io::Result<TcpListener> {
        TcpListener::bind(self.address).await
    }
}

/// The address that people know: an IPv4 peer of a dual-stack socket shows as `::ffff:10.0.0.1` otherwise.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        // As it was: a link-local address goes with its interface.
        IpAddr::V6(_) => address,
    }
}

/// Binds an address for `count` listeners, between which the kernel spreads connections (`SO_REUSEPORT`).
///
/// # Errors
/// The address is taken, also by a process that would share it, or is not this machine's.
#[cfg(not(weft_sim))]
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<Binding>> {
    if count <= 1 {
        return Ok(vec![bind_one(address, false)?]);
    }
    if address.port() != 0 {
        // Binding a shared port succeeds beside any other process of this user that shares it, and would take
        // away half of its connections. So first see whether the port is free.
        bound(address, false)?;
    }
    let first = bind_one(address, true)?;
    let address = first.address;
    let others = (1..count).map(|_| bind_one(address, true));
    std::iter::once(Ok(first)).chain(others).collect()
}

/// Binds an address; the simulator has one listener a port.
///
/// # Errors
/// Never: the simulator binds when it listens.
#[cfg(weft_sim)]
pub fn bind(address: SocketAddr, _count: usize) -> io::Result<Vec<Binding>> {
    Ok(vec![Binding { address }])
}

#[cfg(not(weft_sim))]
fn bind_one(address: SocketAddr, shared: bool) -> io::Result<Binding> {
    let socket = bound(address, shared)?;
    socket.listen(BACKLOG)?;
    let listener = std::net::TcpListener::from(socket);
    Ok(Binding { address: listener.local_addr()?, listener })
}

#[cfg(not(weft_sim))]
fn bound(address: SocketAddr, shared: bool) -> io::Result<socket2::Socket> {
    use socket2::{Domain, Protocol, Socket, Type};
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    // Ports of closed connections (TIME_WAIT) do not stand in the way of a restart.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // `[::]` means both families, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(all(test, not(weft_sim)))]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_peer_of_a_dual_stack_socket_shows_as_one() {
        for (given, shown) in [
            ("[::ffff:10.77.0.2]:80", "10.77.0.2:80"),
            ("10.77.0.2:80", "10.77.0.2:80"),
            ("[fd77::2]:80", "[fd77::2]:80"),
            ("[fe80::1%3]:80", "[fe80::1%3]:80"),
        ] {
            let given: SocketAddr = given.parse().expect("an address");
            assert_eq!(canonical(given).to_string(), shown);
        }
    }

    #[test]
    fn every_address_of_ipv6_means_both_families() {
        let any: SocketAddr = "[::]:0".parse().expect("an address");
        let bound = bind(any, 1).expect("a free port");
        let port = bound[0].address().port();
        for loopback in ["127.0.0.1", "::1"] {
            let loopback: IpAddr = loopback.parse().expect("an address");
            std::net::TcpStream::connect((loopback, port)).expect("somebody listens");
        }
    }
}
