//! Why the proxy itself ended a request or a connection: one short, fixed, documented code.
//!
//! The same text stands in the response header `weft-reason`, the access log, the metric label, the span and
//! docs/reasons.md, which a test holds equal to this table.

use std::fmt;

/// Declares the enum once, with each reason's code and its sentence.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $meaning:literal;)+) => {
        /// Why the proxy itself ended a request or a connection.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $meaning] $name,)+
        }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The code, as headers, logs, metrics and spans show it.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// What it means, in one sentence for an operator.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)+ }
            }
        }
    };
}

reasons! {
    BadRequest = "bad-request", "The request breaks its protocol: malformed, or ambiguous framing.";
    HeadersTooLarge = "headers-too-large", "The request's headers exceed the limit of bytes or of count.";
    HeaderTimeout = "header-timeout", "The request's head did not arrive in time.";
    AuthorityMismatch = "authority-mismatch", "`:authority` and `Host` name different hosts.";
    UnsupportedVersion = "unsupported-version", "An HTTP version that the proxy does not speak.";
    DestinationForbidden = "destination-forbidden", "An application named loopback, link-local or one of the proxy's own ports as its destination.";
    DestinationUnknown = "destination-unknown", "The name is in the mesh's domain, but no service or workload has it.";
    DestinationUnresolved = "destination-unresolved", "A name outside the mesh could not be resolved by DNS.";
    DiscoveryUnavailable = "discovery-unavailable", "The destination could be in the mesh, and the control plane did not answer in time.";
    NoEndpoints = "no-endpoints", "The service has no ready endpoint.";
    BreakerOpen = "breaker-open", "Every endpoint of the service is ejected or in backoff.";
    ServiceLimit = "service-limit", "A TrafficPolicy's limit of connections, of requests in flight or of those that wait for the service is reached.";
    RouteNotFound = "route-not-found", "The service has routes, and none of their rules takes the request.";
    RouteRedirect = "route-redirect", "A route's filter redirects the request.";
    BackendInvalid = "backend-invalid", "The rule that takes the request sends it to a backend that does not exist, or may not be referred to.";
    FaultInjected = "fault-injected", "A TrafficPolicy injects this failure.";
    EgressDenied = "egress-denied", "The destination lies outside the mesh, and MeshConfig allows registered ones only.";
    AuthzDenied = "authz-denied", "No access policy allows the request, or one denies it.";
    RateLimited = "rate-limited", "A TrafficPolicy's rate limit is used up.";
    ConcurrencyLimit = "concurrency-limit", "The application has as many requests as a TrafficPolicy gives it at once.";
    DeadlineExceeded = "deadline-exceeded", "The request's deadline, handed on by its caller, has passed.";
    AttemptTimeout = "attempt-timeout", "An attempt's response head did not arrive within the attempt timeout.";
    StreamIdleTimeout = "stream-idle-timeout", "Nothing of the request or its response moved for too long.";
    ConnectRefused = "connect-refused", "The endpoint refused the connection.";
    ConnectTimeout = "connect-timeout", "The connection to the endpoint was not made in time.";
    ConnectFailed = "connect-failed", "The connection to the endpoint could not be made.";
    ConnectionLost = "connection-lost", "The connection broke before the response was complete.";
    UpstreamProtocol = "upstream-protocol", "The endpoint's answer breaks its protocol.";
    UpstreamReset = "upstream-reset", "The endpoint reset the stream.";
    UpstreamRefusedStream = "upstream-refused-stream", "The endpoint refused the stream before processing it.";
    RequestTimeout = "request-timeout", "The response did not arrive within the request timeout.";
    RequestBodyBroken = "request-body-broken", "The client ended the request's body early.";
    PeerUnverified = "peer-unverified", "The peer's certificate is not valid in this mesh: untrusted root, expired, not yet valid, or no SPIFFE ID.";
    PeerUnexpected = "peer-unexpected", "The peer is valid, but its identity is not one that is allowed there.";
    TlsFailed = "tls-failed", "The TLS handshake failed.";
    TlsTimeout = "tls-timeout", "The TLS handshake did not finish in time.";
    IdentityMissing = "identity-missing", "This proxy has no valid certificate (yet).";
    PortNotServed = "port-not-served", "This workload does not serve the port.";
    StrictRequired = "strict-required", "The port accepts mutual TLS from the mesh only, and this connection is none.";
    ProtocolMismatch = "protocol-mismatch", "The bytes are not of the protocol that the port's policy requires.";
    PolicyChanged = "policy-changed", "An open connection is no longer allowed after a change of policy.";
    ConnectionLimit = "connection-limit", "Too many connections to this proxy.";
    StreamLimit = "stream-limit", "Too many streams, or too many resets, on one connection.";
    IdleTimeout = "idle-timeout", "Nothing was sent in either direction for too long.";
    Draining = "draining", "The proxy is shutting down, and the time for open connections is over.";
    Internal = "internal", "A defect of the proxy.";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
