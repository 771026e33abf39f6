//! What `validate` checks across a Workload's fields, as CEL for the API server. A rule never refuses what
//! `validate` takes. Only what every supported version knows (1.29 on) is used: no optionals, no `isIP`.
//!
//! The API server refuses a definition when a rule could cost more than 10 million units: the product of the bounds
//! of the lists that it walks, times some 50 for a comparison of names of at most 63 characters. The dearest rules here
//! walk addresses x ports x ports, 256 x 16 x 16, and come to a third of that.

use serde_json::{Value, json};

/// A port's name, or nothing: a field that is left out is not there for CEL.
macro_rules! name {
    ($port:literal) => {
        concat!("(has(", $port, ".name) ? ", $port, ".name : '')")
    };
}

/// Rules across the spec's fields. Where no `ports` are written, one port without a name is meant.
pub(super) fn spec() -> Value {
    json!([
        {
            "rule": "!has(self.ports) || size(self.ports) == 0 || !(has(self.port) || has(self.protocol))",
            "message": "port and protocol stand beside ports: move them into an entry there",
        },
        {
            "rule": concat!(
                "!has(self.readiness) || !has(self.readiness.port) || ",
                "((has(self.ports) && size(self.ports) > 0) ? ",
                "self.ports.exists(port, ", name!("port"), " == self.readiness.port) : ",
                "(self.readiness.port == '' && ",
                "(has(self.port) || has(self.protocol) || has(self.service))))",
            ),
            "message": "readiness.port names none of the workload's ports",
        },
        {
            "rule": concat!(
                "!has(self.addresses) || ((has(self.ports) && size(self.ports) > 0) ? ",
                "self.addresses.all(at, !has(at.ports) || at.ports.all(own, ",
                "self.ports.exists(port, ", name!("port"), " == ", name!("own"), "))) : ",
                "self.addresses.all(at, !has(at.ports) || at.ports.all(own, ", name!("own"), " == '' && ",
                "(has(self.port) || has(self.protocol) || has(self.service)))))",
            ),
            "message": "a port of an address names none of the workload's ports",
        },
        {
            "rule": concat!(
                "!has(self.addresses) || ((has(self.ports) && size(self.ports) > 0) ? ",
                "self.addresses.all(at, self.ports.all(port, has(port.port) || ",
                "(has(at.ports) && at.ports.exists(own, ", name!("own"), " == ", name!("port"), ")))) : ",
                "(has(self.port) || !(has(self.protocol) || has(self.service)) || ",
                "self.addresses.all(at, has(at.ports) && at.ports.exists(own, ", name!("own"), " == ''))))",
            ),
            "message": "a port has no number at an address: set port, or a port of the address",
        },
    ])
}

/// Rules about the list of ports.
pub(super) fn ports() -> Value {
    // As `WorkloadPort::service_port` says it.
    const SERVICE_PORTS: &str = "self.all(one, self.exists_one(two, \
        (has(two.servicePort) ? two.servicePort : has(two.port) ? two.port : 80) == \
        (has(one.servicePort) ? one.servicePort : has(one.port) ? one.port : 80)))";
    json!([
        {
            "rule": "size(self) <= 1 || self.all(port, has(port.name) && size(port.name) > 0)",
            "message": "one of several ports has no name: give each a name",
        },
        {
            "rule": concat!(
                "self.all(one, self.exists_one(two, ", name!("two"), " == ", name!("one"), "))"
            ),
            "message": "two ports have one name: use another name",
        },
        {
            "rule": "self.all(one, !has(one.port) || \
                     self.exists_one(two, has(two.port) && two.port == one.port))",
            "message": "a port stands twice: use another number",
        },
        {
            "rule": SERVICE_PORTS,
            "message": "two ports have one servicePort: set servicePort of one",
        },
    ])
}

/// Rules about the list of upstreams.
pub(super) fn upstreams() -> Value {
    // A name that is made from a service's is compared as the service's: what `Upstream::env_name` does with it is
    // beyond what an API server can bound. Those that still meet are named by the `Accepted` condition.
    json!([
        {
            "rule": "self.all(one, self.exists_one(two, has(two.env) == has(one.env) && \
                     (has(one.env) ? two.env == one.env : two.service == one.service)))",
            "message": "two upstreams set one variable: set env of one",
        },
        {
            "rule": "self.all(one, !has(one.localPort) || \
                     self.exists_one(two, has(two.localPort) && two.localPort == one.localPort))",
            "message": "a localPort stands twice: use another port",
        },
    ])
}

/// Rules across the probe's fields.
pub(super) fn readiness() -> Value {
    json!([{
        "rule": "!(has(self.http) && has(self.tcp))",
        "message": "http and tcp stand side by side: keep one of them",
    }])
}
