//! Which workloads belong to which service, and which of their ports and instances stand behind it: by the service that a
//! workload names, and by the selectors of `Service` objects. Pods are members of none: slices list them (`slices`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use weft_proto::{ServiceName, WorkloadName};

use super::{
    Index,
    endpoint::{Instance, static_instances},
};
use crate::model::{
    Registration, Resource, ServicePortSpec, ServiceSpec, TargetPort, WorkloadPort, WorkloadSpec,
    registration::InstanceKey,
};

/// The workloads of a service, by name.
pub(super) type Members<'a> = BTreeMap<&'a WorkloadName, &'a Arc<Resource<WorkloadSpec>>>;

impl Index {
    /// The workloads of a service, by name: those that name it and those that its selector takes.
    pub(super) fn members(&self, name: &ServiceName) -> Members<'_> {
        let first = WorkloadName { namespace: Arc::clone(&name.namespace), name: "".into() };
        let selector = self.services.get(name);
        self.workloads
            .range(first..)
            .take_while(|(workload, _)| workload.namespace == name.namespace)
            .filter(|(_, workload)| {
                workload.spec.service.as_deref() == Some(&*name.name)
                    || selector.is_some_and(|s| s.spec.selects(&workload.metadata.labels))
            })
            .collect()
    }

    /// Every instance of a workload that its object allows.
    pub(super) fn instances(
        &self,
        name: &WorkloadName,
        workload: &Resource<WorkloadSpec>,
    ) -> Vec<Instance> {
        let live = self
            .registrations_of(name)
            .filter(|registration| self.check_registration(registration).is_ok())
            .map(Instance::from);
        live.chain(static_instances(name, workload)).collect()
    }

    /// The services that a workload belongs to: the one that it names, and those whose selector takes it.
    pub(super) fn services_of(
        &self,
        name: &WorkloadName,
        workload: &Resource<WorkloadSpec>,
    ) -> BTreeSet<ServiceName> {
        let selecting = self.selecting(&name.namespace, &workload.metadata.labels);
        let selecting = selecting.map(|(service, _)| service.clone());
        let named = workload.spec.service.as_deref().map(|service| ServiceName {
            namespace: Arc::clone(&name.namespace),
            name: service.into(),
        });
        selecting.chain(named).collect()
    }

    pub(super) fn registrations_of(
        &self,
        name: &WorkloadName,
    ) -> impl Iterator<Item = &Registration> {
        let first = InstanceKey { workload: name.clone(), instance: "".into() };
        let of_workload = name.clone();
        self.registrations
            .range(first..)
            .take_while(move |(key, _)| key.workload == of_workload)
            .map(|(_, registration)| registration)
    }

    /// The services whose selectors take what has these labels in a namespace.
    pub(super) fn selecting(
        &self,
        namespace: &Arc<str>,
        labels: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = (&ServiceName, &Arc<Resource<ServiceSpec>>)> {
        let candidates = self.selectors.candidates(namespace, labels);
        let services = candidates.filter_map(|name| self.services.get_key_value(name));
        services.filter(|(_, service)| service.spec.selects(labels))
    }
}

/// The workload's port behind a service's: the one that `targetPort` means by name or number; without it
/// the one of the same name, or the same number, or the only one.
pub(super) fn port_behind(port: &ServicePortSpec, workload: &WorkloadSpec) -> Option<WorkloadPort> {
    let ports = workload.ports();
    let find =
        |wanted: &dyn Fn(&WorkloadPort) -> bool| ports.iter().find(|own| wanted(own)).cloned();
    match &port.target_port {
        Some(TargetPort::Name(name)) => find(&|own| own.name == *name),
        Some(TargetPort::Number(number)) => find(&|own| own.port == Some(*number)),
        None => find(&|own| !port.name.is_empty() && own.name == port.name)
            .or_else(|| find(&|own| own.port == Some(port.port)))
            .or_else(|| find(&|own| own.service_port() == port.port))
            .or_else(|| find(&|_| ports.len() == 1)),
    }
}

#[cfg(test)]
mod tests;
