//! The policy of a port as it stands now, for connections that are open.
//!
//! Comes in: what discovery says of this workload's ports, each time it says something new. Goes out: the policy for
//! the next request, at the cost of one load while nothing changed; and word when an open connection is no longer
//! allowed. A change that still allows a connection must never touch it.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use weft_proto::{Port, discovery::Protocol};

use crate::{
    discovery::{InboundPort, InboundPorts, Subscription},
    exchange::origin::Requests,
    policy::authz::{Access, Decision, Deed, Source},
    shared::Shared,
};

/// A port's policy as it stands now.
#[derive(Debug)]
pub struct LivePort {
    port: Port,
    ports: RefCell<Subscription<Option<Arc<InboundPorts>>>>,
    current: RefCell<Rc<InboundPort>>,
}

impl LivePort {
    /// A port, and the policy by which its connection was accepted.
    #[must_use]
    pub fn new(shared: &Shared, port: Port, accepted: InboundPort) -> Self {
        Self {
            port,
            ports: RefCell::new(shared.inbound()),
            current: RefCell::new(Rc::new(accepted)),
        }
    }

    /// The policy now. Of a port that is served no longer the last one: its connections end by themselves.
    #[must_use]
    pub fn now(&self) -> Rc<InboundPort> {
        let mut ports = self.ports.borrow_mut();
        if ports.has_changed().unwrap_or(false) {
            let ports = ports.borrow_and_update();
            if let Some(port) = ports.as_ref().and_then(|ports| ports.port(self.port)) {
                *self.current.borrow_mut() = Rc::new(port.clone());
            }
        }
        self.current.borrow().clone()
    }
}

/// What an open connection carries.
#[derive(Debug)]
pub(super) enum Carries {
    /// Requests: each is judged by itself, so only those under way are to be ended, and only where no request of the
    /// caller's could pass.
    Requests(Requests),
    /// Opaque bytes.
    Bytes,
}

/// Completes when an open connection to a port is no longer allowed.
pub(super) async fn revoked(shared: &Shared, port: Port, source: Source<'_>, carries: &Carries) {
    let mut ports = shared.inbound();
    loop {
        // Before the control plane's first answer nothing is known, and nothing is revoked.
        let is_revoked = ports
            .borrow_and_update()
            .as_ref()
            .is_some_and(|ports| !is_allowed(ports.port(port), source, carries));
        if is_revoked {
            return;
        }
        if ports.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

fn is_allowed(port: Option<&InboundPort>, source: Source<'_>, carries: &Carries) -> bool {
    let Some(port) = port else { return false };
    if port.strict && source.identity.is_none() {
        return false;
    }
    let Some(access) = &port.access else { return true };
    match carries {
        Carries::Requests(requests) => {
            !requests.are_in_flight() || access.decide(source, Deed::AnyRequest).allowed
        }
        Carries::Bytes => bytes(access, port.protocol, source) == Bytes::Allowed,
    }
}

/// What access policy says of opaque bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bytes {
    Allowed,
    /// Refused by a rule or a default.
    Denied,
    /// Rules speak of HTTP, and the port does not say that it carries something else: they must be HTTP.
    MustBeHttp,
}

/// Whether a caller may send opaque bytes to a port of this protocol.
pub(super) fn bytes(access: &Access, protocol: Protocol, source: Source<'_>) -> Bytes {
    let is_opaque = matches!(protocol, Protocol::Tcp | Protocol::Tls);
    if access.has_operations() && !is_opaque {
        return Bytes::MustBeHttp;
    }
    if decide_bytes(access, source).allowed { Bytes::Allowed } else { Bytes::Denied }
}

/// The decision about opaque bytes, with whose word it is.
pub(super) fn decide_bytes<'a>(access: &'a Access, source: Source<'_>) -> Decision<'a> {
    access.decide(source, Deed::Bytes)
}
