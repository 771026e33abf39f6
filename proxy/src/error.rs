//! Every way in which the proxy ends a request, folded into one type.
//!
//! Each stage has its own error enum; [`ProxyError`] is what they all become, once, in the exchange. It
//! answers the questions that the exchange asks: whose fault, is another attempt safe, which status, which
//! reason.

use std::{borrow::Cow, fmt};

use http::StatusCode;

use crate::reason::Reason;

/// On which side of the proxy a failure happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client's: its request or its connection.
    Client,
    /// The proxy's own: a limit, a missing certificate, an unknown destination.
    Proxy,
    /// The server's: the endpoint or the way to it.
    Server,
}

/// How much of the request may have reached the application: what decides whether another attempt is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Provably nothing: the connection failed, the stream was refused, GOAWAY lay below it, or the server's
    /// sidecar said `not-delivered`.
    Nothing,
    /// Something may have.
    Unknown,
}

/// Why the proxy ends a request, with all that the exchange must know of it.
#[derive(Debug)]
pub struct ProxyError {
    /// The documented code.
    pub reason: Reason,
    /// How much may have reached the application.
    pub delivery: Delivery,
    /// What exactly happened, for logs and operators; names what was expected and what was found.
    pub detail: Cow<'static, str>,
    /// The answer, where it is not the reason's own.
    answer: (Option<StatusCode>, Option<u8>),
    /// The endpoint's sidecar said so of itself: whatever the reason, another endpoint may do better.
    of_endpoint: bool,
}

impl ProxyError {
    /// An error before anything was sent.
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            delivery: Delivery::Nothing,
            detail: detail.into(),
            answer: (None, None),
            of_endpoint: false,
        }
    }

    /// An error after something may have reached the application.
    pub fn after_send(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { delivery: Delivery::Unknown, ..Self::new(reason, detail) }
    }

    /// What the endpoint's sidecar says of a request that never reached its application.
    pub fn of_endpoint(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { of_endpoint: true, ..Self::new(reason, detail) }
    }

    /// The same, answered with another status, and for gRPC another code, than the reason's own.
    #[must_use]
    pub fn answered_with(self, status: Option<StatusCode>, grpc_code: Option<u8>) -> Self {
        Self { answer: (status, grpc_code), ..self }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn side(&self) -> Side {
        side(self.reason)
    }

    /// The HTTP status that the client gets.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.answer.0.unwrap_or_else(|| status(self.reason))
    }

    /// The gRPC code that a gRPC client gets.
    #[must_use]
    pub fn grpc_status(&self) -> u8 {
        self.answer.1.unwrap_or_else(|| grpc_status(self.reason))
    }

    /// Whether the endpoint's sidecar could not connect to its application.
    #[must_use]
    pub const fn is_without_application(&self) -> bool {
        let reason = self.reason;
        self.of_endpoint
            && matches!(
                reason,
                Reason::ConnectRefused | Reason::ConnectTimeout | Reason::ConnectFailed
            )
    }

    /// Whether the failure is the endpoint's, so that another endpoint may do better.
    #[must_use]
    pub const fn elsewhere_may_succeed(&self) -> bool {
        self.of_endpoint || matches!(self.side(), Side::Server)
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

impl std::error::Error for ProxyError {}

/// Whose fault each reason is.
#[must_use]
pub const fn side(reason: Reason) -> Side {
    match reason {
        Reason::BadRequest
        | Reason::HeadersTooLarge
        | Reason::HeaderTimeout
        | Reason::AuthorityMismatch
        | Reason::UnsupportedVersion
        | Reason::DestinationForbidden
        | Reason::RequestBodyBroken
        | Reason::StrictRequired
        | Reason::ProtocolMismatch
        | Reason::PortNotServed
        | Reason::StreamLimit
        | Reason::EgressDenied
        | Reason::AuthzDenied
        | Reason::RateLimited
        | Reason::DeadlineExceeded
        | Reason::IdleTimeout => Side::Client,
        Reason::DestinationUnknown
        | Reason::DestinationUnresolved
        | Reason::DiscoveryUnavailable
        | Reason::NoEndpoints
        | Reason::BreakerOpen
        | Reason::ServiceLimit
        | Reason::RouteNotFound
        | Reason::RouteRedirect
        | Reason::BackendInvalid
        | Reason::FaultInjected
        | Reason::ConcurrencyLimit
        | Reason::IdentityMissing
        | Reason::PolicyChanged
        | Reason::ConnectionLimit
        | Reason::Draining
        | Reason::Internal => Side::Proxy,
        Reason::ConnectRefused
        | Reason::ConnectTimeout
        | Reason::ConnectFailed
        | Reason::ConnectionLost
        | Reason::UpstreamProtocol
        | Reason::UpstreamReset
        | Reason::UpstreamRefusedStream
        | Reason::RequestTimeout
        | Reason::AttemptTimeout
        | Reason::StreamIdleTimeout
        | Reason::PeerUnverified
        | Reason::PeerUnexpected
        | Reason::TlsFailed
        | Reason::TlsTimeout => Side::Server,
    }
}

/// The status of each reason (RFC 9110 section 15): 4xx for what the client did, 502 for what the endpoint
/// did, 503 for what may pass, 504 for what took too long.
#[must_use]
pub const fn status(reason: Reason) -> StatusCode {
    match reason {
        Reason::BadRequest | Reason::AuthorityMismatch | Reason::RequestBodyBroken => {
            StatusCode::BAD_REQUEST
        }
        Reason::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Reason::HeaderTimeout | Reason::IdleTimeout => StatusCode::REQUEST_TIMEOUT,
        Reason::UnsupportedVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        Reason::DestinationForbidden
        | Reason::StrictRequired
        | Reason::PolicyChanged
        | Reason::EgressDenied
        | Reason::AuthzDenied => StatusCode::FORBIDDEN,
        Reason::RouteNotFound => StatusCode::NOT_FOUND,
        // The filter says which one.
        Reason::RouteRedirect => StatusCode::FOUND,
        Reason::ProtocolMismatch | Reason::PortNotServed => StatusCode::MISDIRECTED_REQUEST,
        Reason::StreamLimit | Reason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Reason::DestinationUnknown
        | Reason::DestinationUnresolved
        | Reason::ConnectFailed
        | Reason::ConnectionLost
        | Reason::UpstreamProtocol
        | Reason::UpstreamReset
        | Reason::PeerUnverified
        | Reason::PeerUnexpected
        | Reason::TlsFailed => StatusCode::BAD_GATEWAY,
        Reason::ConnectRefused
        | Reason::UpstreamRefusedStream
        | Reason::NoEndpoints
        | Reason::BreakerOpen
        | Reason::ServiceLimit
        | Reason::ConcurrencyLimit
        // Unless the policy says another.
        | Reason::FaultInjected
        | Reason::DiscoveryUnavailable
        | Reason::IdentityMissing
        | Reason::ConnectionLimit
        | Reason::Draining => StatusCode::SERVICE_UNAVAILABLE,
        Reason::ConnectTimeout
        | Reason::RequestTimeout
        | Reason::AttemptTimeout
        | Reason::StreamIdleTimeout
        | Reason::DeadlineExceeded
        | Reason::TlsTimeout => StatusCode::GATEWAY_TIMEOUT,
        Reason::BackendInvalid | Reason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The gRPC status of each reason, for requests that are gRPC: UNAVAILABLE (14) where another try may
/// succeed, DEADLINE_EXCEEDED (4), PERMISSION_DENIED (7), RESOURCE_EXHAUSTED (8), UNIMPLEMENTED
/// (12), INTERNAL (13).
#[must_use]
pub const fn grpc_status(reason: Reason) -> u8 {
    match reason {
        Reason::RequestTimeout
        | Reason::AttemptTimeout
        | Reason::StreamIdleTimeout
        | Reason::DeadlineExceeded => 4,
        Reason::DestinationForbidden
        | Reason::StrictRequired
        | Reason::PolicyChanged
        | Reason::EgressDenied
        | Reason::AuthzDenied => 7,
        Reason::HeadersTooLarge | Reason::StreamLimit | Reason::RateLimited => 8,
        Reason::RouteNotFound | Reason::RouteRedirect => 12,
        Reason::BadRequest
        | Reason::AuthorityMismatch
        | Reason::UnsupportedVersion
        | Reason::ProtocolMismatch
        | Reason::UpstreamProtocol
        | Reason::RequestBodyBroken
        | Reason::Internal => 13,
        Reason::HeaderTimeout
        | Reason::DestinationUnknown
        | Reason::DestinationUnresolved
        | Reason::DiscoveryUnavailable
        | Reason::NoEndpoints
        | Reason::BreakerOpen
        | Reason::ServiceLimit
        | Reason::BackendInvalid
        | Reason::FaultInjected
        | Reason::ConcurrencyLimit
        | Reason::ConnectRefused
        | Reason::ConnectTimeout
        | Reason::ConnectFailed
        | Reason::ConnectionLost
        | Reason::UpstreamReset
        | Reason::UpstreamRefusedStream
        | Reason::PeerUnverified
        | Reason::PeerUnexpected
        | Reason::TlsFailed
        | Reason::TlsTimeout
        | Reason::IdentityMissing
        | Reason::PortNotServed
        | Reason::ConnectionLimit
        | Reason::IdleTimeout
        | Reason::Draining => 14,
    }
}
