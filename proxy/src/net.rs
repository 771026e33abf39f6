//! The network that the proxy stands on: tokio's, or the simulator's under `--cfg weft_sim`.
//!
//! Every socket of the proxy is made from these types, so that a simulation can partition, delay and cut.

use std::{io, net::SocketAddr};

#[cfg(not(weft_sim))]
pub use tokio::net::{TcpListener, TcpStream};
#[cfg(weft_sim)]
pub use turmoil::net::{TcpListener, TcpStream};

/// Connections that wait for a worker that is busy; more than a burst of new clients. The kernel caps it at
/// `net.core.somaxconn`.
#[cfg(not(weft_sim))]
const BACKLOG: i32 = 4096;

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
    socket.bind(&address.into())?;
    Ok(socket)
}
