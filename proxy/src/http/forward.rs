//! Who the caller is, said to the application. (Being written.)

use std::net::SocketAddr;

use http::HeaderMap;
use weft_proto::SpiffeId;

/// For a request of the local application.
pub fn outbound(_fields: &mut HeaderMap) {}

/// For a request to the local application: `peer` is the verified caller.
pub fn inbound(_fields: &mut HeaderMap, _peer: Option<&SpiffeId>, _remote: Option<SocketAddr>) {}
