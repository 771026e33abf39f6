//! HTTP: one seam for all codecs, so that the exchange does not know which one feeds it.
//!
//! A server codec turns a client's connection into [`Request`]s and asks a [`Handler`] for each one's
//! [`Response`]; a client codec sends a request on a kept connection and returns the response. Bodies stream
//! through [`Body`], frame by frame, with the sender held back by a slow reader.

pub mod body;
pub mod fields;
pub mod forward;
pub mod grpc;
pub mod h1;
pub mod h2;
pub mod message;
#[cfg(any(test, fuzzing))]
pub mod properties;
pub mod replay;
pub mod respond;
pub mod retry_after;
pub mod returns;
pub mod send_error;
pub mod side;
pub mod spare;

pub use body::{Body, BodyError, Frame};
pub use fields::Fields;
pub use h2::Tunnel;
pub use message::{
    Interim, Onward, Request, RequestHead, Response, ResponseHead, ServerEnd, Takeover,
};
pub use respond::{Asked, Audience};
pub use returns::{Awaiting, Returns};
pub use send_error::SendError;
pub use spare::Spare;

use crate::error::ProxyError;

/// What answers requests: the exchange.
///
/// One handler serves one client connection. It must not fail: an error becomes a response with a reason.
/// The future is dropped when the client goes away; that cancels what was sent upstream.
pub trait Handler {
    /// Answers one request.
    fn handle(&self, request: Request) -> impl Future<Output = Response>;

    /// The response to a message that the codec itself refuses: malformed, or beyond a limit.
    fn refuse(&self, error: ProxyError, asked: Asked) -> Response {
        respond::respond(&error, asked, Audience::Stranger)
    }

    /// Carries what a request became of a connection that carries others too, to its end. What is dropped before is reset.
    fn carry(&self, client: &Tunnel, takeover: Takeover) -> impl Future<Output = ()> {
        let _ = client;
        async move { drop(takeover) }
    }
}

/// How a server codec's work on a connection ended.
#[derive(Debug)]
pub enum Served {
    /// The connection is closed; a reason when the proxy ended it, or it broke.
    Closed(Option<crate::reason::Reason>),
    /// The connection lives on as something else; bytes that the client sent early are unread in the socket.
    TakenOver(crate::io::Socket, Takeover),
}
