//! Accepting connections: one accept loop per listener and worker.
//!
//! Comes in: a listening socket. Goes out: a task per connection, with the connection's original destination
//! where traffic was redirected. It refuses connections above the process-wide limit, and outlives errors of
//! single accepts. It never takes others' connections for the application's: where an outbound port that is
//! open to redirected traffic is open to the network too, only what came through loopback is served.

use std::{
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;

use crate::{
    clock,
    config::Interception,
    inbound,
    io::Socket,
    net::{self, TcpListener, TcpStream},
    outbound,
    reason::Reason,
    shared::Shared,
    telemetry::Direction,
};

/// What arrives on a listener.
#[derive(Debug, Clone)]
pub enum Purpose {
    /// The application's traffic, by HTTP proxy or by original destination.
    Outbound,
    /// The application's traffic to one destination.
    Upstream(Arc<str>),
    /// Others' traffic to the application.
    Inbound,
}

/// After an accept failed for lack of something (descriptors, memory), wait this long for it to come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts until dropped.
pub async fn accept(shared: Rc<Shared>, listener: TcpListener, purpose: Purpose) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; trying again");
                clock::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match Slot::take(&shared) {
            Some(slot) => start(&shared, stream, &purpose, slot),
            None => {
                tracing::debug!(peer = %net::canonical(peer), "too many connections");
                shared.listeners.refused(purpose.direction(), Reason::ConnectionLimit);
            }
        }
    }
}

/// Starts the task of one connection.
fn start(shared: &Rc<Shared>, stream: TcpStream, purpose: &Purpose, slot: Slot) {
    let transparent = shared.config.interception == Interception::Transparent;
    if transparent && matches!(purpose, Purpose::Outbound) && !through_loopback(&stream) {
        let peer = stream.peer_addr().map(net::canonical).ok().map(tracing::field::display);
        tracing::info!(peer, "not this machine's application: the outbound port is for it alone");
        return shared.listeners.refused(Direction::Outbound, Reason::DestinationForbidden);
    }
    let original = if transparent { net::original_destination(&stream) } else { None };
    let socket = Socket::new(stream);
    let worker = shared.clone();
    let until_the_end = (slot, shared.listeners.accepted(purpose.direction()));
    let ended = move |()| drop(until_the_end);
    // A task for each purpose: it takes the memory of the largest thing that it could become.
    let destination: Box<str> = match (purpose, original) {
        (Purpose::Inbound, original) => {
            return shared.tasks.spawn(inbound::serve(worker, socket, original).map(ended));
        }
        (Purpose::Outbound, None) => {
            return shared.tasks.spawn(outbound::explicit(worker, socket).map(ended));
        }
        (Purpose::Outbound, Some(original)) => original.to_string().into(),
        (Purpose::Upstream(name), _) => Box::from(&**name),
    };
    shared.tasks.spawn(outbound::destined(worker, socket, destination).map(ended));
}

impl Purpose {
    const fn direction(&self) -> Direction {
        match self {
            Self::Outbound | Self::Upstream(_) => Direction::Outbound,
            Self::Inbound => Direction::Inbound,
        }
    }
}

/// One of the process's connections, given back when dropped.
#[derive(Debug)]
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(shared: &Shared) -> Option<Self> {
        let open = shared.connections.fetch_add(1, Ordering::Relaxed);
        let slot = Self(shared.connections.clone());
        (open < shared.config.limits.max_connections).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether the connection was made to a loopback address: by a process of this machine, or redirected there
/// from one. No packet of another machine reaches such an address.
fn through_loopback(stream: &TcpStream) -> bool {
    stream.local_addr().is_ok_and(|local| local.ip().to_canonical().is_loopback())
}

/// Errors that concern the connection that was to be accepted, not the listener (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
