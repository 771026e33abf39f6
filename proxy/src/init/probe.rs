//! Probe connections: does a connection of an application come to the outbound port, and one of the proxy not?
//!
//! Comes in: the settings and the rules as they were written. Goes out: what was seen for each family, or why
//! interception does not hold. It listens where the proxy will (which does not run yet), on loopback, and connects to
//! an address that nobody has. The proxy's connection is begun first: were it redirected, it would stand first in the
//! queue, so that nobody need wait for what must not come. It leaves no port occupied: both ends are reset.
//!
//! What comes in from other machines cannot be tried from here; those rules are read back only.

use std::{
    fmt,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
    time::Duration,
};

use rustix::{fs::Uid, thread::set_thread_res_uid};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    Settings,
    destination::{self, Destination},
    error::InitError,
    read_back,
    rules::Table,
    skip::Key,
    socket::Netlink,
};
use crate::clock::{self, Instant};

/// What was seen for a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probed {
    /// A connection to this address was redirected.
    Holds(SocketAddr),
    /// Somebody listened on the outbound port already, surely the proxy, and took the connection.
    Taken(SocketAddr),
    /// All that is reachable is left out of interception.
    Skipped,
    /// There is nowhere to connect to.
    NoRoute,
}

/// A probe of one family.
pub(crate) struct Probe<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) table: &'a Table,
    pub(crate) netlink: &'a Netlink,
    pub(crate) deadline: Instant,
}

impl Probe<'_> {
    /// Tries a family.
    pub(crate) fn run(&self, family: Key) -> Result<Probed, InitError> {
        let destination = match destination::choose(self.table, family) {
            Destination::At(destination) => destination,
            Destination::Skipped => return Ok(Probed::Skipped),
            Destination::NoRoute => return Ok(Probed::NoRoute),
        };
        let Some(listener) = self.listen(destination)? else {
            self.connect(destination)?;
            return Ok(Probed::Taken(destination));
        };
        let user = self.settings.proxy_user;
        let proxys = begin_as(user, destination);
        if proxys.is_none() {
            tracing::debug!(user, "connections of the proxy's user are not probed: no CAP_SETUID");
        }
        let application = self.connect(destination)?;
        let arrived = self.arrival(&listener, &application, proxys.as_ref(), destination)?;
        match original_destination(&arrived, family) {
            Some(original) if original == destination => Ok(Probed::Holds(destination)),
            original => {
                let original = original.map_or("nowhere".to_owned(), |to| to.to_string());
                let what =
                    format!("came there as one to {original}: others' rules changed it before");
                Err(self.not_intercepted(destination, what))
            }
        }
    }

    /// Listens where redirected connections come; nothing where somebody else does.
    fn listen(&self, destination: SocketAddr) -> Result<Option<Socket>, InitError> {
        let loopback: IpAddr = match destination {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        let address = SocketAddr::new(loopback, self.settings.outbound_port.number());
        let listen = || -> io::Result<Socket> {
            let socket = tcp_socket(address)?;
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(8)?;
            Ok(socket)
        };
        match listen() {
            Ok(socket) => Ok(Some(socket)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
            Err(cause) => Err(InitError::CannotListen { address, cause }),
        }
    }

    /// Connects as this process's user, an application's stand-in.
    fn connect(&self, destination: SocketAddr) -> Result<Socket, InitError> {
        let timeout = self.time_left();
        let connect = || -> io::Result<Socket> {
            let socket = tcp_socket(destination)?;
            socket.connect_timeout(&destination.into(), timeout)?;
            Ok(socket)
        };
        connect().map_err(|error| {
            let what = match error.kind() {
                ErrorKind::TimedOut => format!(
                    "was not answered within {:?}: it has left this network namespace, or a rule drops it",
                    self.settings.timeout
                ),
                ErrorKind::ConnectionRefused => {
                    "was refused: another rule rejects it, or sends it elsewhere".to_owned()
                }
                _ => format!("failed: {error}"),
            };
            self.not_intercepted(destination, what)
        })
    }

    /// The application's connection at our end, before which the proxy's must not come.
    fn arrival(
        &self,
        listener: &Socket,
        application: &Socket,
        proxys: Option<&Socket>,
        destination: SocketAddr,
    ) -> Result<Socket, InitError> {
        let local = |socket: &Socket| socket.local_addr().ok().and_then(|local| local.as_socket());
        let (application, proxys) = (local(application), proxys.and_then(local));
        loop {
            let left = self.time_left();
            let accepted = listener.set_read_timeout(Some(left)).and_then(|()| listener.accept());
            let Ok((socket, peer)) = accepted else {
                let what = "was taken by somebody else: another rule sends it elsewhere".to_owned();
                return Err(self.not_intercepted(destination, what));
            };
            reset_at_end(&socket);
            let peer = peer.as_socket();
            if peer.is_some() && peer == proxys {
                return Err(InitError::Loops {
                    destination,
                    user: self.settings.proxy_user,
                    port: self.settings.outbound_port.number(),
                    others: read_back::others(self.netlink),
                });
            }
            // Others may connect to the port too.
            if peer.is_some() && peer == application {
                return Ok(socket);
            }
        }
    }

    fn time_left(&self) -> Duration {
        // A timeout of nothing would mean none at all.
        self.deadline.saturating_duration_since(clock::now()).max(Duration::from_millis(1))
    }

    fn not_intercepted(&self, destination: SocketAddr, what: String) -> InitError {
        let port = self.settings.outbound_port.number();
        let others = read_back::others(self.netlink);
        InitError::NotIntercepted { destination, port, what, others }
    }
}

/// Begins a connection as another user, and does not wait for it; nothing where this process may not become that user.
fn begin_as(user: u32, destination: SocketAddr) -> Option<Socket> {
    // The kernel's users are a thread's: only this one becomes another.
    let begin = move || {
        let user = Uid::from_raw(user);
        set_thread_res_uid(user, user, user).ok()?;
        let socket = tcp_socket(destination).ok()?;
        socket.set_nonblocking(true).ok()?;
        // Whether it will be made is not known yet; where there is no route it cannot come back either.
        let _ = socket.connect(&destination.into());
        Some(socket)
    };
    thread::spawn(begin).join().ok().flatten()
}

/// A socket of the address's family whose connection ends by a reset.
fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    reset_at_end(&socket);
    Ok(socket)
}

/// So that no closed connection occupies the port on which the proxy will listen.
fn reset_at_end(socket: &Socket) {
    // Where it fails the port is occupied for a minute, which the proxy's listener allows.
    let _ = socket.set_linger(Some(Duration::ZERO));
}

fn original_destination(socket: &Socket, family: Key) -> Option<SocketAddr> {
    let original = match family {
        Key::Ipv6 => socket.original_dst_v6(),
        Key::Ipv4 | Key::Port => socket.original_dst_v4(),
    };
    original.ok()?.as_socket()
}

impl fmt::Display for Probed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds(destination) => write!(f, "holds (by a connection to {destination})"),
            Self::Taken(destination) => write!(
                f,
                "holds (a connection to {destination} was taken by who listens on the outbound port)"
            ),
            Self::Skipped => f.write_str("not probed: all that there is a route to is skipped"),
            Self::NoRoute => {
                f.write_str("not probed: there is no route out of this network namespace")
            }
        }
    }
}
