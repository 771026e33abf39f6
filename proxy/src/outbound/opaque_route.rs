//! Where opaque bytes go that were sent to a service with routes: the rule that takes the connection, and one of its
//! backends.
//!
//! Comes in: the service, and the server name that the client's TLS asks for, if any. Goes out: the service whose
//! endpoints are dialled. A backend's own routes are not followed. Where a service has routes for opaque bytes, what no
//! rule takes goes nowhere.

use std::rc::Rc;

use weft_proto::discovery::Protocol;

use crate::{
    destination::Service, detect::Detected, error::ProxyError, io::Socket, reason::Reason,
    route::Target, shared::Shared, undeclared::Found,
};

/// Whether the server name that the client's TLS asks for decides: what it says first must then be waited for.
pub(super) fn is_by_server_name(service: &Service) -> bool {
    let snapshot = service.snapshot();
    let routes = snapshot.destination.routes.as_ref();
    routes.is_some_and(|routes| routes.opaque.by_name())
}

/// Waits for what the client says first. HTTP is HTTP where the service does not declare otherwise; of all else it is
/// the server name that counts, where there is one.
///
/// # Errors
/// Nothing came in time.
pub(super) async fn server_name<D>(
    shared: &Rc<Shared>,
    socket: &Socket,
    protocol: Protocol,
) -> Result<(Found<D>, Option<String>), ProxyError> {
    let first = super::first_bytes(shared, socket).await;
    match first.map_err(|reason| ProxyError::new(reason, "no TLS came"))? {
        Some(version @ (Detected::Http1 | Detected::Http2))
            if protocol == Protocol::Unspecified =>
        {
            Ok((Found::Http(version), None))
        }
        Some(Detected::Tls(hello)) => Ok((Found::Opaque(None), hello.server_name)),
        Some(_) => Ok((Found::Opaque(None), None)),
        None => Ok((Found::Nothing, None)),
    }
}

/// The service whose endpoints get a connection, chosen anew for each.
///
/// # Errors
/// `route-not-found` when no rule takes it; `backend-invalid` when the rule leads nowhere; `discovery-unavailable`.
pub(super) async fn backend(
    shared: &Rc<Shared>,
    service: &Rc<Service>,
    server_name: Option<&str>,
) -> Result<Rc<Service>, ProxyError> {
    let snapshot = service.snapshot();
    let rules = snapshot.destination.routes.as_ref().map(|routes| &routes.opaque);
    let Some(rules) = rules.filter(|rules| !rules.is_empty()) else { return Ok(service.clone()) };
    let Some(rule) = rules.decide(server_name) else {
        let named = server_name.map_or_else(
            || "without a server name".to_owned(),
            |name| format!("with the server name {name:?}"),
        );
        let detail = format!("no rule of {} takes a connection {named}", service.label);
        return Err(ProxyError::new(Reason::RouteNotFound, detail));
    };
    let invalid =
        |why: &str| ProxyError::new(Reason::BackendInvalid, format!("{}: {why}", rule.name));
    let drawn = service.draw(|random| rule.backends.choose(random).cloned());
    let backend = drawn.ok_or_else(|| invalid("it has no backend with a weight"))?;
    if let Target::Invalid(why) = &backend.target {
        return Err(invalid(why));
    }
    tracing::debug!(service = %service.label, route = %rule.name, backend = %backend.label, "routed");
    shared.destinations.backend(service, &backend.label).await
}

#[cfg(test)]
mod tests;
