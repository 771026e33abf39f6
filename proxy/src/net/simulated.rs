//! The simulated network, by turmoil: hosts in one thread, whose packets a simulation delays, holds and drops.
//!
//! It differs from a real one where turmoil does: a port has one listener, nothing is redirected, no connection
//! can be reset on purpose, and what a partition dropped of an open connection is never sent again.

use std::{fmt, io, net::SocketAddr, time::Duration};

use futures_util::FutureExt;
use turmoil::ToSocketAddrs;
pub use turmoil::net::TcpStream;

use crate::{clock, dns::Resolver};

/// TCP asks again after this, and then after twice as long each time (RFC 6298 section 2).
const FIRST_RETRANSMISSION: Duration = Duration::from_secs(1);

/// A listening port of the simulated host.
pub struct TcpListener(turmoil::net::TcpListener);

/// A port that is bound, ready to be listened on.
#[derive(Debug)]
pub struct Binding {
    address: SocketAddr,
    listener: TcpListener,
}

impl TcpListener {
    /// Connects to a simulated host. Where a partition drops the SYN, it is sent again, as TCP does: turmoil calls
    /// that a refusal, but a real one takes a packet's time.
    ///
    /// # Errors
    /// Nobody listens there, or the name is no host's.
    pub async fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
        let mut pause = FIRST_RETRANSMISSION;
        loop {
            let began = clock::now();
            match TcpStream::connect(&address).await {
                Err(error)
                    if error.kind() == io::ErrorKind::ConnectionRefused
                        && clock::now() == began =>
                {
                    clock::sleep(pause).await;
                    pause *= 2;
                }
                connected => return connected,
            }
        }
    }

    /// Binds a port of the simulated host: of all its addresses, or of loopback.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        turmoil::net::TcpListener::bind(address).await.map(Self)
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// Never.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }

    /// The address, with the port that was chosen where 0 was asked for.
    ///
    /// # Errors
    /// Never.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl axum::serve::Listener for TcpListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            if let Ok(accepted) = self.0.accept().await {
                return accepted;
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TcpListener").field(&self.0.local_addr().ok()).finish()
    }
}

impl Binding {
    /// The address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts on the simulated host that it was bound on.
    ///
    /// # Errors
    /// Never.
    #[expect(clippy::unused_async, reason = "as the system's")]
    pub async fn listen(self) -> io::Result<TcpListener> {
        Ok(self.listener)
    }
}

/// Connects to a simulated host. Where a partition drops the SYN, it is sent again, as TCP does: turmoil calls
/// that a refusal, but a real one takes a packet's time.
///
/// # Errors
/// Nobody listens there, or the name is no host's.
pub async fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
    let mut pause = FIRST_RETRANSMISSION;
    loop {
        let began = clock::now();
        match TcpStream::connect(&address).await {
            Err(error)
                if error.kind() == io::ErrorKind::ConnectionRefused && clock::now() == began =>
            {
                clock::sleep(pause).await;
                pause *= 2;
            }
            connected => return connected,
        }
    }
}

/// Connects to `HOST:PORT`, where the host may be a simulated one's name.
///
/// # Errors
/// Nobody listens there, or the name is no host's.
pub async fn connect_by_name(authority: &str, _resolver: &Resolver) -> io::Result<TcpStream> {
    connect(authority).await
}

/// Binds a port of the simulated host for one listener, however many are wanted.
///
/// # Errors
/// The port is taken.
pub fn bind(address: SocketAddr, _count: usize) -> io::Result<Vec<Binding>> {
    let bound = TcpListener::bind(address).now_or_never();
    let listener = bound.expect("the simulator binds without waiting")?;
    Ok(vec![Binding { address: listener.local_addr()?, listener }])
}

/// Nothing is redirected.
#[must_use]
pub const fn original_destination(_stream: &TcpStream) -> Option<SocketAddr> {
    None
}

/// Nobody tells how many bytes the peer has not acknowledged.
pub(crate) const fn unacknowledged(_stream: &TcpStream) -> Option<u64> {
    None
}

/// What broke a connection shows in its next read or write alone.
pub(crate) const fn failed(_stream: &TcpStream) -> Option<std::io::Error> {
    None
}

/// The peer sees a FIN, or a reset where something is unread.
pub const fn reset_at_end(_stream: &TcpStream) {}
