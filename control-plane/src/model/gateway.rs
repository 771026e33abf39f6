//! The Gateway API's routes, for use in a mesh: a route's parent is a service. Own types, by the v1 channel's
//! definitions; what a definition of the Gateway API would refuse is refused when an object is read.
//!
//! Comes in: what an operator wrote. Goes out: specs that hold all of it, also what Weft has no support for, so that
//! every such field can be named in the object's status and in the answer to whoever applies it, and is still there
//! when the object is written on. It must never lose a field, nor take one for supported that is not.
//!
//! - [`other`]: the fields that Weft does not know; [`check`]: checks that several kinds share.
//! - [`reference`](mod@reference): parents and backends; [`matching`]: paths, headers, query parameters;
//!   [`filter`]: filters, [`rewrite`]: redirects and rewrites; [`time`]: timeouts and retries.
//! - [`http_route`], [`grpc_route`], [`opaque_route`] (TCP and TLS), [`reference_grant`]: the kinds.
//! - [`route`]: a route of any kind, for whom the kind does not matter; [`salvage`]: one that cannot be read as a whole.

mod check;
pub mod filter;
pub mod grpc_route;
pub mod http_route;
pub mod matching;
pub mod opaque_route;
pub mod other;
pub mod reference;
pub mod reference_grant;
pub mod rewrite;
pub mod route;
pub mod salvage;
pub mod time;

/// The group of the Gateway API's kinds.
pub const GROUP: &str = "gateway.networking.k8s.io";

#[cfg(test)]
mod tests;
