//! CONNECT in explicit mode: the application tunnels to a destination through the proxy (RFC 9110 9.3.6).
//!
//! gRPC clients behind `http_proxy` do this, and so does TLS of the application's own. What comes inside to a
//! mesh destination is detected like any other connection; outside the mesh the bytes are passed through.

use std::rc::Rc;

use http::StatusCode;

use super::Origin;
use crate::{
    destination::{Found, authority},
    error::ProxyError,
    http::{Body, Onward, RequestHead, Response, ResponseHead, ServerEnd, Takeover},
    outside,
    reason::Reason,
    shared::Shared,
};

/// The port of a CONNECT target that names none. RFC 9110 wants one; HTTPS is what clients mean.
const DEFAULT_PORT: u16 = 443;

/// Answers CONNECT: 200 when the destination is known (and, outside the mesh, reached), and what becomes of
/// the connection.
///
/// # Errors
/// The destination is malformed, forbidden, unknown or unreachable; or the caller is not the local
/// application.
pub async fn tunnel(
    shared: &Rc<Shared>,
    origin: &Origin,
    head: &RequestHead,
) -> Result<Response, ProxyError> {
    let Origin::Outbound(_) = origin else {
        return Err(ProxyError::new(
            Reason::BadRequest,
            "CONNECT is for the local application's proxy port",
        ));
    };
    if head.version == http::Version::HTTP_2 {
        let detail = "CONNECT over HTTP/2 is not supported; use HTTP/1.1";
        return Err(ProxyError::new(Reason::UnsupportedVersion, detail));
    }
    let Some(named) = head.target.authority().cloned() else {
        return Err(ProxyError::new(Reason::BadRequest, "CONNECT names no destination"));
    };
    let name = authority::canonical(&named, DEFAULT_PORT)?;
    let takeover = match shared.destinations.find(&name).await? {
        Found::Mesh(_) => Takeover::Tunnel { destination: name },
        Found::Outside => {
            let socket = outside::connect(shared, &name).await?;
            Takeover::Outside(Onward::new(ServerEnd::Connection(socket)))
        }
    };
    let mut response = Response::new(ResponseHead::new(StatusCode::OK), Body::Empty);
    response.takeover = Some(takeover);
    Ok(response)
}
