//! How two states of a service differ: both come in, what proxies are to be told anew goes into [`Changes`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use weft_proto::{Port, ServiceName, ServicePort, WorkloadName};

use super::{
    Changes, Dependency, EndpointChange, Index,
    built::{BuiltPort, BuiltService},
};

impl Index {
    /// Marks the pods whose ports are declared differently now, to their own sidecars and to those who dial them by
    /// address.
    pub(super) fn report_pods(
        &self,
        old: Option<&BuiltService>,
        new: Option<&BuiltService>,
        declared_anew: bool,
        changes: &mut Changes,
    ) {
        let ports = |built: Option<&BuiltService>, pod| built?.pods.get(pod).cloned();
        for pod in old.iter().chain(&new).flat_map(|built| built.pods.keys()) {
            if !declared_anew && ports(old, pod) == ports(new, pod) {
                continue;
            }
            let Some(pod) = self.pod(pod) else { continue };
            changes.pods.insert(pod.instance());
            let addresses = pod.addresses.iter();
            changes.targets.extend(addresses.map(|address| Dependency::Address(*address)));
        }
    }
}

/// Adds to `changes` how two states of a service differ. Whether its ports, or what stands behind them, do.
pub(super) fn report_difference(
    name: &ServiceName,
    old: Option<&BuiltService>,
    new: Option<&BuiltService>,
    changes: &mut Changes,
) -> bool {
    let ports = |built: Option<&BuiltService>| -> BTreeSet<Port> {
        built.map(|built| built.ports.keys().copied().collect()).unwrap_or_default()
    };
    let (before, after) = (ports(old), ports(new));
    if before != after {
        changes.targets.insert(Dependency::Service(name.clone()));
    }
    let mut inbound = before != after;
    for port in before.union(&after) {
        let one = old.and_then(|old| old.ports.get(port));
        let other = new.and_then(|new| new.ports.get(port));
        let service_port = ServicePort { service: name.clone(), port: *port };
        inbound |= one.map(what_servers_are_told) != other.map(what_servers_are_told);
        if one.map(|one| one.digest) != other.map(|other| other.digest)
            || !tell_the_same(one, other)
        {
            changes.services.insert(service_port.clone());
            endpoint_difference(&service_port, one, other, changes);
        }
    }
    inbound
}

/// Whether callers with routes of their own are told the same.
fn tell_the_same(one: Option<&BuiltPort>, other: Option<&BuiltPort>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => {
            Arc::ptr_eq(&one.consumers, &other.consumers) || one.consumers == other.consumers
        }
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// What of a port its servers' sidecars act by: policies for callers are none of theirs.
fn what_servers_are_told(port: &BuiltPort) -> (i32, &str, &BTreeMap<WorkloadName, String>) {
    (port.declaration.protocol, &port.declaration.port_name, &port.serving)
}

fn endpoint_difference(
    service_port: &ServicePort,
    old: Option<&BuiltPort>,
    new: Option<&BuiltPort>,
    changes: &mut Changes,
) {
    let none = BTreeMap::new();
    let before = old.map_or(&none, |old| &old.endpoints);
    let after = new.map_or(&none, |new| &new.endpoints);
    let change = |id: &Arc<str>, endpoint| EndpointChange {
        service_port: service_port.clone(),
        id: Arc::clone(id),
        endpoint,
    };
    let gone = before.keys().filter(|id| !after.contains_key(*id)).map(|id| change(id, None));
    let fresh = after
        .iter()
        .filter(|(id, held)| before.get(*id) != Some(held))
        .map(|(id, held)| change(id, Some(Arc::clone(&held.endpoint))));
    changes.endpoints.extend(gone.chain(fresh));
}
