//! What there is to say of each object. Pure: the object and the index decide.
//!
//! | type | of | holds when |
//! |---|---|---|
//! | `Accepted` | all | the object is valid and may take effect |
//! | `ResolvedRefs` | Service | each of its ports has a workload behind it |
//! | | Workload | its service and its upstreams exist, with the ports that it names |
//! | (routes) | | see [`routes`] |
//! | `Programmed` | Service | callers are told of at least one ready endpoint |
//! | | Workload | at least one of its instances is ready, or it serves no port |

use weft_proto::{ServiceName, ServicePort, WorkloadName};

use super::{Judged, Judgement, routes};
use crate::{
    index::Index,
    model::{
        MeshConfigSpec, Metadata, Object, Resource, ServiceSpec, WorkloadSpec,
        gateway::reference_grant::ReferenceGrantSpec,
    },
};

const ACCEPTED: &str = "Accepted";
const RESOLVED: &str = "ResolvedRefs";
const PROGRAMMED: &str = "Programmed";
/// The reason of a workload that only calls others: there is nothing to tell callers of.
pub const SERVES_NOTHING: &str = "ServesNothing";

/// All that there is to say of an object, as the index knows it.
#[must_use]
pub fn judge(object: &Object, index: &Index) -> Judged {
    Judged { conditions: conditions(object, index), parents: routes::parents(object, index) }
}

/// Every condition of the object by itself.
fn conditions(object: &Object, index: &Index) -> Vec<Judgement> {
    match object {
        Object::Service(service) => of_service(service, index),
        Object::Workload(workload) => of_workload(workload, index),
        Object::MeshConfig(config) => vec![of_mesh(&config.spec, index)],
        Object::ReferenceGrant(grant) => vec![of_grant(&grant.spec)],
        // What there is to say of a route is said at its parents.
        Object::HTTPRoute(_) | Object::GRPCRoute(_) | Object::TLSRoute(_) | Object::TCPRoute(_) => {
            Vec::new()
        }
        Object::Namespace(_) | Object::ServiceAccount(_) => vec![yes(ACCEPTED, ACCEPTED)],
    }
}

fn yes(r#type: &'static str, reason: &'static str) -> Judgement {
    Judgement { r#type, holds: true, reason, message: String::new() }
}

fn no(r#type: &'static str, reason: &'static str, message: String) -> Judgement {
    Judgement { r#type, holds: false, reason, message }
}

fn of_service(service: &Resource<ServiceSpec>, index: &Index) -> Vec<Judgement> {
    let name = ServiceName {
        namespace: service.metadata.namespace.as_str().into(),
        name: service.metadata.name.as_str().into(),
    };
    // Between a change of the store and that of the index the object may be unknown there.
    let Some(facts) = index.service_facts(&name) else { return vec![yes(ACCEPTED, ACCEPTED)] };
    let resolved = if facts.members.is_empty() {
        no(RESOLVED, "NoWorkloads", no_workloads(service))
    } else if !facts.unserved.is_empty() {
        let ports = facts.unserved.join(", ");
        let message = format!(
            "spec.ports: no workload of the service has a port for {ports}: correct targetPort, or add the \
             port to a Workload"
        );
        no(RESOLVED, "PortNotServed", message)
    } else {
        yes(RESOLVED, RESOLVED)
    };
    let programmed = if facts.endpoints == 0 {
        no(PROGRAMMED, "NoEndpoints", "no ready instance stands behind the service".to_owned())
    } else {
        yes(PROGRAMMED, PROGRAMMED)
    };
    vec![yes(ACCEPTED, ACCEPTED), resolved, programmed]
}

fn no_workloads(service: &Resource<ServiceSpec>) -> String {
    let (namespace, name) = (&service.metadata.namespace, &service.metadata.name);
    let selector: Vec<String> =
        service.spec.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if selector.is_empty() {
        return format!(
            "no Workload in {namespace} has spec.service {name:?}, and spec.selector is empty"
        );
    }
    let selector = selector.join(",");
    format!(
        "spec.selector {selector} matches no Workload in {namespace}: compare metadata.labels there"
    )
}

fn of_workload(workload: &Resource<WorkloadSpec>, index: &Index) -> Vec<Judgement> {
    let name = workload_name(&workload.metadata);
    let resolved = match unresolved(workload, &name, index) {
        Some((reason, message)) => no(RESOLVED, reason, message),
        None => yes(RESOLVED, RESOLVED),
    };
    let programmed = match index.instance_counts(&name) {
        _ if workload.spec.ports().is_empty() => yes(PROGRAMMED, SERVES_NOTHING),
        (0, _) => no(PROGRAMMED, "NoInstances", "no instance has registered".to_owned()),
        (_, 0) => no(PROGRAMMED, "NotReady", "no registered instance is ready".to_owned()),
        (_, _) => yes(PROGRAMMED, PROGRAMMED),
    };
    vec![yes(ACCEPTED, ACCEPTED), resolved, programmed]
}

fn workload_name(metadata: &Metadata) -> WorkloadName {
    WorkloadName {
        namespace: metadata.namespace.as_str().into(),
        name: metadata.name.as_str().into(),
    }
}

/// The first thing that a workload names and that is not there.
fn unresolved(
    workload: &Resource<WorkloadSpec>,
    name: &WorkloadName,
    index: &Index,
) -> Option<(&'static str, String)> {
    if let Some(service) = &workload.spec.service {
        let service =
            ServiceName { namespace: name.namespace.clone(), name: service.as_str().into() };
        if index.has_service_object(&service) && !index.serves(name, &service) {
            let message = format!(
                "spec.service: none of the workload's ports stands behind a port of Service {service}: \
                 compare its targetPort with spec.ports"
            );
            return Some(("PortNotServed", message));
        }
    }
    for (position, upstream) in workload.spec.upstreams.iter().enumerate() {
        let service = upstream.service.resolve(&name.namespace);
        let wanted = ServicePort { service: service.clone(), port: upstream.port() };
        if index.service(&wanted).is_some() {
            continue;
        }
        let field = format!("spec.upstreams[{position}]");
        let ports = index.ports_of(&service);
        return Some(if ports.is_empty() {
            let message = format!(
                "{field}.service: there is no service {service}: correct the name, or have a Workload in \
                 {} say spec.service {:?}",
                service.namespace, service.name
            );
            ("ServiceNotFound", message)
        } else {
            let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
            let (port, ports) = (wanted.port, ports.join(", "));
            (
                "PortNotFound",
                format!("{field}.port: service {service} has no port {port}: it has {ports}"),
            )
        });
    }
    None
}

fn of_mesh(config: &MeshConfigSpec, index: &Index) -> Judgement {
    match &config.trust_domain {
        Some(domain) if domain != index.trust_domain() => no(
            ACCEPTED,
            "TrustDomainDiffers",
            format!(
                "spec.trustDomain is \"{domain}\", but the control plane was started with \"{}\": restart \
                 it with the other, or leave the field out",
                index.trust_domain()
            ),
        ),
        _ => yes(ACCEPTED, ACCEPTED),
    }
}

/// What a grant says beyond what is known may narrow it: that part grants nothing.
fn of_grant(grant: &ReferenceGrantSpec) -> Judgement {
    let unsupported = grant.unsupported();
    if unsupported.is_empty() {
        return yes(ACCEPTED, ACCEPTED);
    }
    let said: Vec<String> = unsupported.iter().map(ToString::to_string).collect();
    no(ACCEPTED, "UnsupportedValue", said.join("; "))
}
