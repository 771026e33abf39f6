//! What a request became that asked for another protocol: bytes, between its client and its server.
//!
//! Comes in: the client's end, which is a connection of HTTP/1 or a stream of HTTP/2, and what the response has taken
//! over. Goes out: bytes both ways, until either side ends them, for as long as the request itself could go on: access
//! policy ends them on the server's side, and what leaves the mesh only goes on while that may be left.

use std::rc::Rc;

use super::{Exchange, Origin};
use crate::{
    http::{Onward, Takeover},
    outside,
    reason::Reason,
    shared::Shared,
    tcp::{self, End},
    telemetry::Direction,
};

impl Exchange {
    /// Carries what a request of this connection became, to its end. Cut short when dropped.
    pub async fn go_on(&self, client: &impl End, takeover: Takeover) {
        match (&self.origin, takeover) {
            (Origin::Inbound(_), Takeover::Splice(server)) => {
                self.to_application(client, &server).await;
            }
            (Origin::Outbound(_), takeover) => onward(&self.shared, client, takeover).await,
            // Only a request of the local application opens a tunnel to a destination.
            (Origin::Inbound(_), Takeover::Tunnel { .. } | Takeover::Outside(_)) => {}
        }
    }

    /// For as long as the request may go on.
    async fn to_application(&self, client: &impl End, server: &Onward) {
        let forbidden = async {
            let Some(passage) = server.passage() else { return std::future::pending().await };
            let error = passage.ended().await;
            let (_, remote) = self.origin.client();
            let peer = remote.map(tracing::field::display);
            tracing::info!(reason = %error.reason, detail = %error.detail, peer, "upgraded connection ended");
            self.shared.listeners.refused(Direction::Inbound, error.reason);
            error.reason
        };
        let idle = self.shared.config.timeouts.tcp_idle;
        let bounds = tcp::Bounds::new(idle, forbidden);
        tcp::splice_within(client, &server.end, bounds).await;
    }
}

/// What follows an Upgrade of the local application's, or its tunnel to outside the mesh.
pub(crate) async fn onward(shared: &Rc<Shared>, client: &impl End, takeover: Takeover) {
    match takeover {
        Takeover::Splice(server) => {
            tcp::splice(client, &server.end, shared.config.timeouts.tcp_idle).await;
        }
        Takeover::Outside(server) => {
            let ended = outside::splice(shared, client, &server.end).await;
            if ended.reason == Some(Reason::EgressDenied) {
                shared.listeners.closed(Direction::Outbound, ended.reason);
            }
        }
        Takeover::Tunnel { .. } => {}
    }
}
