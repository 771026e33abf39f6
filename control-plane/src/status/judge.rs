//! What there is to say of each object. Pure: the object, the index and what sidecars refused decide.
//!
//! | type | of | holds when |
//! |---|---|---|
//! | `Accepted` | all | the object is valid and may take effect |
//! | `ResolvedRefs` | Service | each of its ports has a workload behind it |
//! | | Workload | its service and its upstreams exist, with the ports that it names |
//! | (routes) | | see [`routes`] |
//! | | TrafficPolicy, AccessPolicy | everything that it names is there |
//! | `Programmed` | Service | callers are told of at least one ready endpoint |
//! | | Workload | at least one of its instances is ready, or it serves no port |
//! | | TrafficPolicy, AccessPolicy | it is in force, and no sidecar refuses it |
//!
//! A policy that only refers to what is not there is not accepted: it holds for nothing. Of an object that cannot be
//! read nothing else is said than `Accepted`, with the reason `Invalid`.

use weft_proto::{ServiceName, ServicePort, WorkloadName};

use super::{Judged, Judgement, refused::Refused, routes};
use crate::{
    index::{Index, policies::facts::PolicyFacts, routes::standing::UNSUPPORTED},
    model::{
        ExternalServiceSpec, MeshConfigSpec, Metadata, Object, ObjectKey, Resource, Route,
        ServiceSpec, WorkloadSpec,
        gateway::reference_grant::ReferenceGrantSpec,
        stand_in::{unread, until_read},
    },
    store::Unreadable,
};

const ACCEPTED: &str = "Accepted";
const RESOLVED: &str = "ResolvedRefs";
const PROGRAMMED: &str = "Programmed";
const INVALID: &str = "Invalid";
/// The reason of a policy that a sidecar refuses.
pub const REFUSED: &str = "Refused";
/// The reason of a workload that only calls others: there is nothing to tell callers of.
pub const SERVES_NOTHING: &str = "ServesNothing";

/// All that there is to say of an object, as the index knows it.
#[must_use]
pub fn judge(object: &Object, index: &Index, refused: &Refused) -> Judged {
    let conditions = conditions(object, index, refused);
    Judged { conditions, parents: routes::parents(object, index, refused) }
}

/// What there is to say of an object that cannot be read, a route's at each of its parents.
#[must_use]
pub fn invalid(unreadable: &Unreadable) -> Judged {
    let holds = match unread(&unreadable.outline) {
        Some(_) => until_read(&unreadable.outline),
        None => "what it said before, if anything, holds".to_owned(),
    };
    let message = format!("{}; {holds}", unreadable.problem);
    let said = vec![no(ACCEPTED, INVALID, message)];
    let Some(route) = Route::of(&unreadable.outline) else { return said.into() };
    let parents = route.parents().iter().filter(|parent| parent.is_service());
    let parents = parents.map(|parent| (parent.clone(), said.clone())).collect();
    Judged { conditions: Vec::new(), parents }
}

/// Every condition of the object by itself.
fn conditions(object: &Object, index: &Index, refused: &Refused) -> Vec<Judgement> {
    if let Some(problem) = unread(object) {
        return vec![no(ACCEPTED, INVALID, format!("{problem}; {}", until_read(object)))];
    }
    match object {
        Object::Service(service) => of_service(service, index),
        Object::Workload(workload) => of_workload(workload, index),
        Object::MeshConfig(config) => vec![of_mesh(&config.spec, index)],
        Object::ReferenceGrant(grant) => vec![of_grant(&grant.spec)],
        // What there is to say of a route is said at its parents.
        Object::HTTPRoute(_) | Object::GRPCRoute(_) | Object::TLSRoute(_) | Object::TCPRoute(_) => {
            Vec::new()
        }
        Object::TrafficPolicy(policy) => {
            of_policy(&object.key(), &index.traffic_policy_facts(policy), refused)
        }
        Object::AccessPolicy(policy) => {
            of_policy(&object.key(), &index.access_policy_facts(policy), refused)
        }
        Object::ExternalService(service) => vec![of_external(service, index)],
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

fn of_policy(key: &ObjectKey, facts: &PolicyFacts, refused: &Refused) -> Vec<Judgement> {
    let missing = facts.unresolved.first();
    let accepted = match (&facts.conflict, missing) {
        (Some(conflict), _) => no(ACCEPTED, "Conflicted", conflict.clone()),
        (None, Some((reason, message))) if facts.holds_for_nothing() => {
            no(ACCEPTED, reason, message.clone())
        }
        (None, _) => match &facts.idle {
            Some(message) if facts.is_idle_everywhere() => {
                no(ACCEPTED, UNSUPPORTED, message.clone())
            }
            Some(message) => Judgement { message: message.clone(), ..yes(ACCEPTED, ACCEPTED) },
            None => yes(ACCEPTED, ACCEPTED),
        },
    };
    let resolved = match missing {
        Some((reason, message)) => no(RESOLVED, reason, message.clone()),
        None => yes(RESOLVED, RESOLVED),
    };
    let programmed = match refused.of(&key.to_string()) {
        Some(message) => no(PROGRAMMED, REFUSED, message.to_owned()),
        None if !accepted.holds => no(PROGRAMMED, "NotAccepted", accepted.message.clone()),
        None => yes(PROGRAMMED, PROGRAMMED),
    };
    vec![accepted, resolved, programmed]
}

fn of_external(service: &Resource<ExternalServiceSpec>, index: &Index) -> Judgement {
    let name = ServiceName {
        namespace: service.metadata.namespace.as_str().into(),
        name: service.metadata.name.as_str().into(),
    };
    if index.is_shadowed(&name) {
        let message = format!(
            "metadata.name: there is a Service {name}, which goes before: give this object another name"
        );
        return no(ACCEPTED, "Conflicted", message);
    }
    match index.registered_before(&name) {
        Some((host, other)) => {
            let message = format!(
                "spec.hosts: {host} is registered by ExternalService {other}, which is older and goes before: \
                 leave it out of one of them"
            );
            no(ACCEPTED, "Conflicted", message)
        }
        None => yes(ACCEPTED, ACCEPTED),
    }
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
    no(ACCEPTED, UNSUPPORTED, said.join("; "))
}
