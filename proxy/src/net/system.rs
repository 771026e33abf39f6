//! The operating system's network, by tokio and socket2.

use std::{io, net::SocketAddr, time::Duration};

pub use tokio::net::{TcpListener, TcpStream};

use super::canonical;
use crate::{clock, dns::Resolver};

mod unacknowledged;
pub(crate) use unacknowledged::unacknowledged;

/// Connections that wait for a worker that is busy; more than a burst of new clients. The kernel caps it at
/// `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A connection on which nothing moves is asked after this long whether its peer is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// And again so often, so many times, before it breaks: a minute after its machine or the way to it is gone, who
/// waits for its answer hears of it. (A peer that is asked in vain to take bytes is the kernel's to give up:
/// `tcp_retries2`.)
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_PROBES: u32 = 3;

/// An address of several is given up on after this.
const FIRST_ATTEMPTS: Duration = Duration::from_secs(2);

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

/// Connects to an address.
///
/// # Errors
/// As the system says.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keep_alive())?;
    Ok(stream)
}

/// Connects to `HOST:PORT`: to the first of the name's addresses that accepts.
///
/// # Errors
/// The name has no address, or none accepts.
pub async fn connect_by_name(authority: &str, resolver: &Resolver) -> io::Result<TcpStream> {
    let mut addresses = resolver.authority(authority).await?.into_iter().peekable();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    while let Some(address) = addresses.next() {
        let connected = match addresses.peek() {
            // One that is silent leaves time for the next.
            Some(_) => match clock::timeout(FIRST_ATTEMPTS, connect(address)).await {
                Ok(connected) => connected,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            },
            None => connect(address).await,
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn keep_alive() -> socket2::TcpKeepalive {
    socket2::TcpKeepalive::new()
        .with_time(KEEP_ALIVE)
        .with_interval(KEEP_ALIVE_INTERVAL)
        .with_retries(KEEP_ALIVE_PROBES)
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
    // Accepted connections inherit it.
    socket.set_tcp_keepalive(&keep_alive())?;
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

/// What has broken a connection since somebody was told last.
pub(crate) fn failed(stream: &TcpStream) -> Option<io::Error> {
    stream.take_error().ok().flatten()
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

    #[tokio::test]
    async fn connections_notice_that_their_peer_is_gone() {
        let local: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let binding = bind(local, 1).expect("a free port").pop().expect("one");
        let address = binding.address();
        let listener = binding.listen().await.expect("a runtime");
        let (near, far) = tokio::join!(connect(address), listener.accept());
        for stream in [near.expect("connected"), far.expect("accepted").0] {
            let socket = socket2::SockRef::from(&stream);
            assert!(socket.keepalive().expect("a socket"));
            assert_eq!(socket.tcp_keepalive_time().expect("a socket"), KEEP_ALIVE);
            assert_eq!(socket.tcp_keepalive_interval().expect("a socket"), KEEP_ALIVE_INTERVAL);
            assert_eq!(socket.tcp_keepalive_retries().expect("a socket"), KEEP_ALIVE_PROBES);
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
