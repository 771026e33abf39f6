//! The operating system's network, by tokio and socket2.

use std::{io, net::SocketAddr};

use tokio::net::ToSocketAddrs;
pub use tokio::net::{TcpListener, TcpStream};

use super::canonical;

mod unacknowledged;
pub(crate) use unacknowledged::unacknowledged;

/// Connections that wait for a worker that is busy; more than a burst of new clients. The kernel caps it at
/// `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// An address that is bound, ready to be listened on by one worker.
#[derive(Debug)]
pub struct Binding {
    address: SocketAddr,
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
    #[expect(clippy::unused_async, reason = "the simulator's is asynchronous")]
    pub async fn listen(self) -> io::Result<TcpListener> {
        TcpListener::from_std(self.listener)
    }
}

/// Connects to an address, or to one that a name resolves to.
///
/// # Errors
/// As the system says.
pub async fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
    TcpStream::connect(address).await
}

/// Binds an address for `count` listeners, between which the kernel spreads connections (`SO_REUSEPORT`).
///
/// # Errors
/// The address is taken, also by a process that would share it, or is not this machine's.
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

fn bind_one(address: SocketAddr, shared: bool) -> io::Result<Binding> {
    let socket = bound(address, shared)?;
    socket.listen(BACKLOG)?;
    let listener = std::net::TcpListener::from(socket);
    Ok(Binding { address: listener.local_addr()?, listener })
}

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

/// Where a redirected connection was going (`SO_ORIGINAL_DST`); `None` when it was not redirected.
#[must_use]
pub fn original_destination(stream: &TcpStream) -> Option<SocketAddr> {
    let socket = socket2::SockRef::from(stream);
    let local = canonical(stream.local_addr().ok()?);
    let original = match local {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    // The kernel knows a destination for every connection that it tracks, redirected or not.
    original.ok()?.as_socket().filter(|original| *original != local)
}

/// Makes the end of the connection a reset, whatever is unsent or unread; the kernel sends it when the stream
/// is dropped.
pub fn reset_at_end(stream: &TcpStream) {
    // Where it fails the peer sees a FIN instead.
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

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
