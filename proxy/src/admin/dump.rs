//! The effective configuration as JSON: settings, identity, and what discovery said.
//!
//! For people and tools that ask what this proxy does right now. Never a key, never a token.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Admin;
use crate::{
    balance::{
        BalancingPolicy,
        policy::{Algorithm, HashKey},
    },
    clock,
    discovery::{
        Destination, Endpoint, InboundPort, InboundPorts, MeshScope, Resolution, Transport,
    },
    policy::breaker::Availability,
    route::{Backend, HttpTable, Routes, Weighted},
    tls::bundle,
};

pub(super) fn dump(admin: &Admin) -> Value {
    let directory = &admin.directory;
    json!({
        "settings": *admin.config,
        "identity": identity(admin),
        "discovery": *directory.status().borrow(),
        "application": *directory.app_health().borrow(),
        "mesh": directory.mesh().map(|mesh| scope(&mesh)),
        "inbound": directory.inbound().borrow().as_deref().map(inbound),
        "inbound_others": directory.inbound().borrow().as_deref().and_then(inbound_others),
        "destinations": directory.answers().iter().map(answer).collect::<Vec<_>>(),
    })
}

fn identity(admin: &Admin) -> Value {
    let Some(credentials) = admin.identity.credentials() else { return Value::Null };
    let svid = &credentials.svid;
    let roots: Vec<_> = credentials.bundle.roots().iter().map(bundle::fingerprint).collect();
    json!({
        "spiffe_id": svid.identity(),
        "not_before": time(svid.not_before()),
        "not_after": time(svid.not_after()),
        "valid": svid.holds_at(clock::since_epoch()),
        "roots_sha256": roots,
    })
}

/// RFC 3339.
fn time(since_epoch: std::time::Duration) -> Option<String> {
    let seconds = i64::try_from(since_epoch.as_secs()).ok()?;
    let time = time::OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    time.format(&time::format_description::well_known::Rfc3339).ok()
}

fn scope(mesh: &MeshScope) -> Value {
    let ranges: Vec<_> =
        mesh.ranges.iter().map(|(network, prefix)| format!("{network}/{prefix}")).collect();
    json!({
        "trust_domain": mesh.trust_domain,
        "address_ranges": ranges,
        "name_suffixes": mesh.suffixes,
        "namespaces": mesh.namespaces,
        "external_hosts": mesh.outside.hosts,
        "external_ports": mesh.outside.ports,
        "egress": if mesh.outside.registered_only { "registered-only" } else { "allow" },
    })
}

fn inbound(inbound: &InboundPorts) -> Value {
    let ports = inbound.ports.iter().map(|(number, port)| {
        let mut value = inbound_port(port);
        value["port"] = json!(number);
        value
    });
    ports.collect()
}

/// How ports are treated that are not listed; nothing where they are refused.
fn inbound_others(inbound: &InboundPorts) -> Option<Value> {
    inbound.others.as_ref().map(inbound_port)
}

fn inbound_port(port: &InboundPort) -> Value {
    json!({
        "protocol": port.protocol.as_str_name(),
        "mode": if port.strict { "strict" } else { "permissive" },
        "service": port.service,
        "access_rules": port.access.as_ref().map(|access| access.rules().len()),
        "rate_limits": port.rate_limits.as_ref().map(|limits| limits.policies()),
        "concurrency": port.concurrency.as_ref().map(|limit| json!({
            "policy": limit.policy,
            "max_in_flight": limit.max_in_flight,
            "in_flight": limit.gate.out(),
        })),
    })
}

fn answer((name, resolution): &(Arc<str>, Resolution)) -> Value {
    let mut value = match resolution {
        Resolution::Pending => json!({ "answer": "pending" }),
        Resolution::NotFound => json!({ "answer": "not-found" }),
        Resolution::Outside => json!({ "answer": "outside" }),
        Resolution::Mesh(found) => destination(found),
    };
    value["destination"] = json!(name);
    value
}

fn destination(found: &Destination) -> Value {
    json!({
        "answer": "mesh",
        "service": found.service,
        "label": found.label,
        "protocol": found.protocol.as_str_name(),
        "routes": found.routes.as_ref().map(|routes| self::routes(routes)),
        "balancing": found.balancing.as_deref().map(|plan| balancing(&plan.policy)),
        "external_hosts": found.external.as_deref().map(|external| &external.hosts),
        "policies": {
            "requests": found.requests.policies,
            "limits": found.limits.as_ref().map(|limits| &limits.policies),
        },
        "requests_limited": found.limits.as_ref().map(|_| json!({
            "in_flight": found.state.requests.out(),
            "waiting": found.state.requests.waiting(),
            "connections": found.state.connections.out(),
        })),
        "endpoints": found.endpoints.iter().map(|found| endpoint(found)).collect::<Vec<_>>(),
    })
}

/// The rules with their backends, as they are in force.
fn routes(routes: &Routes) -> Value {
    let rule = |name: &str, backends: &Weighted<Arc<Backend>>| {
        let backends: Vec<_> = backends
            .iter()
            .map(|(weight, backend)| json!({ "backend": backend.label, "weight": weight }))
            .collect();
        json!({ "rule": name, "backends": backends })
    };
    let http = routes.http.iter().flat_map(HttpTable::rules);
    json!({
        "http": http.map(|found| rule(&found.name, &found.backends)).collect::<Vec<_>>(),
        "opaque": routes
            .opaque
            .iter()
            .map(|found| rule(&found.name, &found.backends))
            .collect::<Vec<_>>(),
    })
}

/// What is not the default of how endpoints are balanced.
fn balancing(policy: &BalancingPolicy) -> Value {
    let (algorithm, hash) = match &policy.algorithm {
        Algorithm::PeakEwma => ("PeakEwma", None),
        Algorithm::LeastRequest => ("LeastRequest", None),
        Algorithm::RoundRobin => ("RoundRobin", None),
        Algorithm::Random => ("Random", None),
        Algorithm::RingHash(key) => ("RingHash", Some(hashed(key))),
    };
    json!({
        "algorithm": algorithm,
        "hash": hash,
        "slow_start_seconds": policy.slow_start.as_secs_f64(),
        "max_cooling_seconds": policy.max_cooling.as_secs_f64(),
        "locality": policy.locality.as_ref().map(|rule| json!({
            "failover": rule.failover,
            "min_endpoints": rule.min_endpoints,
            "min_healthy_percent": rule.min_healthy_percent,
            "max_in_flight_per_endpoint": rule.max_in_flight_per_endpoint,
        })),
    })
}

fn hashed(key: &HashKey) -> Value {
    match key {
        HashKey::Header(name) => json!({ "header": name.as_str() }),
        HashKey::Cookie(cookie) => json!({ "cookie": cookie.name }),
        HashKey::Source => json!({ "source": true }),
        HashKey::Path => json!({ "path": true }),
        HashKey::Query(name) => json!({ "query": name }),
    }
}

fn endpoint(endpoint: &Endpoint) -> Value {
    let identities = match &endpoint.transport {
        Transport::Mesh(identities) => Some(identities),
        Transport::Plain => None,
    };
    json!({
        "id": endpoint.id,
        "address": endpoint.address,
        "app_port": endpoint.app_port,
        "identities": identities,
        "zone": endpoint.zone,
        "labels": endpoint.labels,
        "workload": endpoint.workload,
        "breaker": match endpoint.health.breaker.availability(clock::process_ms()) {
            Availability::Good => "closed",
            Availability::HalfOpen => "half-open",
            Availability::Ejected => "ejected",
        },
    })
}
