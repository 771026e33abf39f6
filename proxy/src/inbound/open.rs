//! An open connection, for as long as it may stay open.
//!
//! Comes in: what discovery says of this workload's ports, and the roots that certificates are verified against, each
//! time that one of them changes. Goes out: word when the connection must end, and why. Requests are judged one by
//! one ([`Requests`]), and told here that there is something to judge. A change that still allows a connection must
//! never touch it.

use weft_proto::Port;

use super::{
    Way,
    opaque::{self, Bytes},
};
use crate::{
    clock,
    discovery::InboundPort,
    drain::DrainTrigger,
    error::ProxyError,
    exchange::{Requests, admission::who},
    policy::authz::Source,
    reason::Reason,
    shared::Shared,
    tls::Peer,
};

/// An open connection, and what its being allowed depends on.
pub(super) struct Open<'a> {
    pub(super) port: Port,
    pub(super) way: Way,
    pub(super) source: Source<'a>,
    pub(super) peer: Option<&'a Peer>,
    pub(super) carries: Carries,
}

/// What an open connection carries.
#[derive(Debug)]
pub(super) enum Carries {
    /// Requests, and what one of them became.
    Requests(Requests),
    /// Opaque bytes.
    Bytes,
    /// Nothing yet: what it will carry is not known.
    Nothing,
}

impl Open<'_> {
    /// Completes, with why, when the connection is no longer allowed. A change of policy ends it at once. A caller
    /// whose root is no longer trusted is told to `leave`, and gets the time to drain.
    pub(super) async fn forbidden(&self, shared: &Shared, leave: &DrainTrigger) -> ProxyError {
        tokio::select! {
            error = self.revoked(shared) => error,
            error = self.distrusted(shared, leave) => error,
        }
    }

    async fn revoked(&self, shared: &Shared) -> ProxyError {
        let mut ports = shared.inbound();
        loop {
            // Before the control plane's first answer nothing is known, and nothing is revoked.
            let revoked = ports
                .borrow_and_update()
                .as_ref()
                .and_then(|ports| self.judge(shared, self.way.find(ports, self.port)));
            if let Some(error) = revoked {
                return error;
            }
            if let Carries::Requests(requests) = &self.carries {
                requests.wake();
            }
            if ports.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    fn judge(&self, shared: &Shared, port: Option<&InboundPort>) -> Option<ProxyError> {
        let Some(port) = port.filter(|port| !port.strict || self.source.identity.is_some()) else {
            let detail = format!("the policy of port {} changed: {}", self.port, who(self.source));
            return Some(ProxyError::new(Reason::PolicyChanged, detail));
        };
        match (&self.carries, &port.access) {
            (Carries::Requests(_) | Carries::Nothing, _) | (_, None) => None,
            (Carries::Bytes, Some(access)) => match opaque::access(port, self.source) {
                Bytes::Allowed => None,
                Bytes::MustBeHttp => Some(opaque::must_be_http()),
                Bytes::Denied => Some(opaque::denied(shared, access, self.source, self.port)),
            },
        }
    }

    async fn distrusted(&self, shared: &Shared, leave: &DrainTrigger) -> ProxyError {
        let Some(peer) = self.peer else { return std::future::pending().await };
        shared.mutual_tls.distrusted(peer.root).await;
        leave.start();
        clock::sleep(shared.config.timeouts.drain).await;
        let identity = &peer.identity;
        let detail = format!("{identity} was verified under a root that is no longer trusted");
        ProxyError::new(Reason::PeerUnverified, detail)
    }
}
