//! When a request is sent once more.
//!
//! Only what is provably safe: nothing reached the application, or the method is idempotent (RFC 9110 9.2.2)
//! and no response head came. Once per request; to another endpoint where there is one (the balancer sees to
//! that). Only the client's sidecar retries; the server's resends only its own idle-close race, when a kept
//! connection to the application turns out closed.

use http::Method;

use crate::error::{Delivery, ProxyError};

/// Attempts that one request may have, the first included.
pub const MAX_ATTEMPTS: u32 = 2;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The client's sidecar.
    Client,
    /// The server's sidecar, towards its application.
    Server {
        /// The connection had been used before and was found closed without a byte of the response.
        kept_connection_closed: bool,
    },
}

/// Whether another attempt may follow one that failed without a response head. The body must be replayable;
/// that is asked separately.
#[must_use]
pub fn permits(role: Role, method: &Method, attempts_made: u32, failure: &ProxyError) -> bool {
    if attempts_made >= MAX_ATTEMPTS || !failure.elsewhere_may_succeed() {
        return false;
    }
    let safe = failure.delivery == Delivery::Nothing || is_idempotent(method);
    match role {
        Role::Client => safe,
        Role::Server { kept_connection_closed } => kept_connection_closed && safe,
    }
}

/// Whether a request may be sent again though it may have been served (RFC 9110 section 9.2.2).
#[must_use]
pub fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE]
        .contains(method)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    #[test]
    fn a_request_is_resent_only_when_that_is_safe() {
        let refused = || ProxyError::new(Reason::ConnectRefused, "");
        let lost = || ProxyError::after_send(Reason::ConnectionLost, "");
        let timeout = || ProxyError::new(Reason::DiscoveryUnavailable, "");
        let kept = Role::Server { kept_connection_closed: true };
        let fresh = Role::Server { kept_connection_closed: false };
        let rows = [
            (Role::Client, Method::GET, 1, refused(), true),
            (Role::Client, Method::POST, 1, refused(), true),
            (Role::Client, Method::POST, 2, refused(), false),
            (Role::Client, Method::GET, 1, lost(), true),
            (Role::Client, Method::PUT, 1, lost(), true),
            (Role::Client, Method::POST, 1, lost(), false),
            (Role::Client, Method::PATCH, 1, lost(), false),
            (Role::Client, Method::GET, 1, timeout(), false),
            (kept, Method::GET, 1, lost(), true),
            (kept, Method::POST, 1, lost(), false),
            (kept, Method::POST, 1, ProxyError::new(Reason::ConnectionLost, ""), true),
            (fresh, Method::GET, 1, lost(), false),
            (fresh, Method::GET, 1, refused(), false),
        ];
        for (role, method, attempts, failure, expected) in rows {
            let permitted = permits(role, &method, attempts, &failure);
            assert_eq!(permitted, expected, "{role:?} {method} {attempts} {failure}");
        }
    }
}
