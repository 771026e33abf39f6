//! What `validate` checks across the fields of a policy, as CEL for the API server. A rule never refuses what
//! `validate` takes.

use serde_json::{Value, json};

/// Rules across the spec's fields.
pub(super) fn policy() -> Value {
    json!([
        {
            "rule": "has(self.timeouts) || has(self.retry) || has(self.circuitBreaking) || has(self.limits) || \
                     has(self.loadBalancing) || has(self.rateLimits) || has(self.concurrency) || \
                     has(self.faults) || has(self.protocol)",
            "message": "it says nothing of traffic: add a section, such as timeouts or retry",
        },
        {
            "rule": "!self.targetRefs.exists(target, target.kind in ['HTTPRoute', 'GRPCRoute']) || \
                     !(has(self.circuitBreaking) || has(self.limits) || has(self.loadBalancing) || \
                     has(self.concurrency) || has(self.protocol) || \
                     (has(self.timeouts) && (has(self.timeouts.idle) || has(self.timeouts.connect))))",
            "message": "a section holds for endpoints and ports, which a route does not have: set it on a Service",
        },
        {
            "rule": "!self.targetRefs.exists(target, target.kind in ['HTTPRoute', 'GRPCRoute']) || \
                     !has(self.rateLimits) || !self.rateLimits.exists(limit, has(limit.match) && \
                     limit.match.exists(one, has(one.paths) && size(one.paths) > 0))",
            "message": "the rules of the route say the paths already: leave paths out of rateLimits",
        },
    ])
}

/// A time that is not below another one. Durations of Go are those of the Gateway API.
fn not_below(upper: &str, lower: &str, message: &str) -> Value {
    json!([{
        "rule": format!(
            "!has(self.{upper}) || !has(self.{lower}) || duration(self.{upper}) >= duration(self.{lower})"
        ),
        "message": message,
    }])
}

/// Rules across a backoff's fields.
pub(super) fn backoff() -> Value {
    not_below("max", "base", "max is shorter than base: use as much or more")
}

/// Rules across a breaker's fields.
pub(super) fn circuit_breaking() -> Value {
    let message = "maxEjection is shorter than baseEjection: use as much or more";
    not_below("maxEjection", "baseEjection", message)
}

/// Rules across the balancer's fields.
pub(super) fn load_balancing() -> Value {
    json!([{
        "rule": "has(self.hash) == (has(self.algorithm) && self.algorithm == 'RingHash')",
        "message": "algorithm RingHash and hash go together: set both or neither",
    }])
}

/// Rules across what is hashed.
pub(super) fn hash() -> Value {
    json!([
        {
            "rule": "(has(self.header) ? 1 : 0) + (has(self.cookie) ? 1 : 0) + (has(self.source) ? 1 : 0) + \
                     (has(self.path) ? 1 : 0) + (has(self.query) ? 1 : 0) == 1",
            "message": "use exactly one of header, cookie, source, path and query",
        },
        {
            "rule": "(!has(self.source) || self.source) && (!has(self.path) || self.path)",
            "message": "false hashes nothing: use true, or another field",
        },
    ])
}

/// Rules across a rate limit's fields.
pub(super) fn rate_limit() -> Value {
    json!([
        {
            "rule": "has(self.header) == (has(self.key) && self.key == 'Header')",
            "message": "key Header and header go together: set both or neither",
        },
        {
            "rule": "!(has(self.fair) && self.fair && has(self.key))",
            "message": "fair shares one limit, but key makes several: keep one of them",
        },
    ])
}

/// Rules across a fault's fields.
pub(super) fn fault() -> Value {
    json!([{
        "rule": "has(self.delay) || has(self.abort)",
        "message": "it does nothing: add delay or abort",
    }])
}
