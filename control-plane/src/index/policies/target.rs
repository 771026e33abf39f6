//! What a policy's `targetRefs` mean: a reference of the policy's namespace comes in, the thing itself goes out,
//! whether it exists or not. A policy reaches no other namespace than its own, but for those of the root namespace.

use std::{collections::HashMap, sync::Arc};

use weft_proto::ServiceName;

use crate::{
    index::built::BuiltService,
    model::{
        AccessPolicySpec, Metadata, Resource, TargetKind, TargetRef, TrafficPolicySpec,
        access_policy::ROOT_NAMESPACE,
    },
};

/// What a policy can hold for. In the order of their levels, the least specific first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::index) enum Target {
    Mesh,
    Namespace(Arc<str>),
    Service {
        kind: TargetKind,
        service: ServiceName,
        /// A port's number or name.
        port: Option<String>,
    },
    Route {
        kind: TargetKind,
        namespace: String,
        name: String,
        /// A rule's name.
        rule: Option<String>,
    },
}

impl Target {
    /// What a TrafficPolicy holds for.
    pub(super) fn of_traffic(policy: &Resource<TrafficPolicySpec>) -> Vec<Self> {
        let refs = policy.spec.target_refs.iter();
        refs.filter_map(|target| Self::of(target, &policy.metadata)).collect()
    }

    /// What an AccessPolicy holds for.
    pub(super) fn of_access(policy: &Resource<AccessPolicySpec>) -> Vec<Self> {
        let namespace = &policy.metadata.namespace;
        if policy.spec.target_refs.is_empty() {
            let all = namespace == ROOT_NAMESPACE;
            return vec![if all { Self::Mesh } else { Self::Namespace(namespace.as_str().into()) }];
        }
        let refs = policy.spec.target_refs.iter();
        refs.filter_map(|target| Self::of(target, &policy.metadata)).collect()
    }

    /// What one reference means; `None` for a namespace that is not the policy's to treat.
    pub(super) fn of(target: &TargetRef, policy: &Metadata) -> Option<Self> {
        let namespace = &policy.namespace;
        match target.kind {
            TargetKind::Namespace => {
                let permitted = target.name == *namespace || namespace == ROOT_NAMESPACE;
                permitted.then(|| Self::Namespace(target.name.as_str().into()))
            }
            TargetKind::Service | TargetKind::ExternalService => Some(Self::Service {
                kind: target.kind,
                service: ServiceName {
                    namespace: namespace.as_str().into(),
                    name: target.name.as_str().into(),
                },
                port: target.section_name.clone(),
            }),
            TargetKind::HTTPRoute | TargetKind::GRPCRoute => Some(Self::Route {
                kind: target.kind,
                namespace: namespace.clone(),
                name: target.name.clone(),
                rule: target.section_name.clone(),
            }),
        }
    }

    /// The same, a port that is known by its number.
    pub(super) fn by_number(&self, built: &HashMap<ServiceName, BuiltService>) -> Self {
        let Self::Service { kind, service, port: Some(port) } = self else { return self.clone() };
        let ports = || built.get(service).into_iter().flat_map(|built| &built.ports);
        let number = ports().find(|(number, _)| number.to_string() == *port);
        let number = number.or_else(|| ports().find(|(_, it)| it.declaration.port_name == *port));
        let port = number.map_or_else(|| port.clone(), |(number, _)| number.to_string());
        Self::Service { kind: *kind, service: service.clone(), port: Some(port) }
    }

    /// For people: "Service cart port 80", "namespace shop", "the mesh".
    pub(in crate::index) fn level(&self) -> String {
        match self {
            Self::Mesh => "mesh".to_owned(),
            Self::Namespace(name) => format!("namespace {name}"),
            Self::Service { kind, service, port: None } => format!("{} {service}", kind.name()),
            Self::Service { kind, service, port: Some(port) } => {
                format!("{} {service} port {port}", kind.name())
            }
            Self::Route { kind, namespace, name, rule: None } => {
                format!("{} {namespace}/{name}", kind.name())
            }
            Self::Route { kind, namespace, name, rule: Some(rule) } => {
                format!("{} {namespace}/{name} rule {rule}", kind.name())
            }
        }
    }
}
