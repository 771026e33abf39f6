//! Pods and endpoint slices: what the cluster says of its instances, and what a change of it touches.
//!
//! What a change costs, with n endpoints in the services that it touches: a slice, or a pod that matters otherwise
//! than before, builds its services anew, O(n); a pod of which nothing that is used changed costs a comparison. Each looks
//! through the networks that pods are in, which are fewer than the nodes. Who is selected is looked up by label.
//!
//! A service without a selector has the pods that its slices list: before one does, nothing says that a pod is behind it,
//! and so its rules hold at none.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use weft_proto::{Port, ServiceName, ServicePort, discovery};

use super::{Changes, Dependency, Index, built::BuiltService, labels::Labelled};
use crate::model::{
    Cidr, EndpointSlice, InstanceKey, Life, NamespacedName, Pod, Resource, ServiceSpec, TargetPort,
};

/// The cluster, as far as it was told.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    pub(super) pods: HashMap<NamespacedName, Arc<Pod>>,
    /// Which pods have which labels.
    labelled: Labelled<NamespacedName>,
    slices: HashMap<NamespacedName, Arc<EndpointSlice>>,
    /// Whose address it is, or was until the latest change: a new pod may get the address of an ended one.
    pods_at: HashMap<IpAddr, BTreeSet<NamespacedName>>,
    /// In which networks pods have addresses of their own, and how many.
    networks: BTreeMap<Cidr, usize>,
    /// The slices of a service, in the order of their names.
    slices_of: HashMap<ServiceName, BTreeMap<NamespacedName, Arc<EndpointSlice>>>,
    /// The services behind which a pod stands by their slices, also a pod that is not known (yet).
    services_of: HashMap<NamespacedName, BTreeSet<ServiceName>>,
}

impl Cluster {
    /// The slices of a service, in the order of their names.
    pub(super) fn slices(&self, service: &ServiceName) -> impl Iterator<Item = &EndpointSlice> {
        self.slices_of.get(service).into_iter().flat_map(BTreeMap::values).map(|slice| &**slice)
    }

    /// The services that a pod stands behind.
    pub(super) fn services(&self, pod: &NamespacedName) -> impl Iterator<Item = &ServiceName> {
        self.services_of.get(pod).into_iter().flatten()
    }

    /// The pod that has an address of its own.
    pub(super) fn pod_at(&self, address: IpAddr) -> Option<&Arc<Pod>> {
        let owners = self.pods_at.get(&address)?.iter().filter_map(|key| self.pods.get(key));
        // Of several, all but one are about to end.
        owners.min_by_key(|pod| pod.life as u8)
    }

    fn remember(&mut self, pod: &Arc<Pod>) {
        for address in own_addresses(pod) {
            self.pods_at.entry(*address).or_default().insert(pod.key.clone());
            *self.networks.entry(Cidr::around(*address)).or_default() += 1;
        }
        self.labelled.insert(&pod.key.namespace, &pod.labels, &pod.key);
        self.pods.insert(pod.key.clone(), Arc::clone(pod));
    }

    fn forget(&mut self, key: &NamespacedName) -> Option<Arc<Pod>> {
        let pod = self.pods.remove(key)?;
        self.labelled.remove(&key.namespace, &pod.labels, key);
        for address in own_addresses(&pod) {
            if let Some(owners) = self.pods_at.get_mut(address) {
                owners.remove(key);
                if owners.is_empty() {
                    self.pods_at.remove(address);
                }
            }
            let network = Cidr::around(*address);
            if let Some(count) = self.networks.get_mut(&network) {
                *count -= 1;
                if *count == 0 {
                    self.networks.remove(&network);
                }
            }
        }
        Some(pod)
    }

    fn forget_slice(&mut self, key: &NamespacedName) -> Option<Arc<EndpointSlice>> {
        let slice = self.slices.remove(key)?;
        if let Some(slices) = self.slices_of.get_mut(&slice.service) {
            slices.remove(key);
            if slices.is_empty() {
                self.slices_of.remove(&slice.service);
            }
        }
        Some(slice)
    }

    /// The networks in which pods have addresses of their own.
    pub(super) fn networks(&self) -> impl Iterator<Item = Cidr> {
        self.networks.keys().copied()
    }

    /// Notes behind which services pods stand, as two states of a service differ.
    pub(super) fn record_pods(
        &mut self,
        service: &ServiceName,
        old: Option<&BuiltService>,
        new: Option<&BuiltService>,
    ) {
        for pod in old.iter().flat_map(|old| old.pods.keys()) {
            if let Some(services) = self.services_of.get_mut(pod) {
                services.remove(service);
                if services.is_empty() {
                    self.services_of.remove(pod);
                }
            }
        }
        for pod in new.iter().flat_map(|new| new.pods.keys()) {
            self.services_of.entry(pod.clone()).or_default().insert(service.clone());
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        self.pods.is_empty()
            && self.labelled.is_empty()
            && self.slices.is_empty()
            && self.pods_at.is_empty()
            && self.networks.is_empty()
            && self.slices_of.is_empty()
            && self.services_of.is_empty()
    }
}

/// Those by which nobody else is meant: an ended pod's may be another one's already.
fn own_addresses(pod: &Pod) -> &[IpAddr] {
    if pod.host_network || pod.life == Life::Ended { &[] } else { &pod.addresses }
}

impl Index {
    /// Takes a new or changed pod in.
    pub fn apply_pod(&mut self, pod: Pod) -> Changes {
        self.apply_cluster([pod], [])
    }

    /// Forgets a pod.
    pub fn remove_pod(&mut self, key: &NamespacedName) -> Changes {
        let mut changes = Changes::default();
        let networks = self.outlying_networks();
        if let Some(old) = self.cluster.forget(key) {
            touch([Some(&*old)], &mut changes);
            let services: BTreeSet<_> = self.cluster.services(key).cloned().collect();
            self.rebuild_all(services, &mut changes);
        }
        changes.mesh |= networks != self.outlying_networks();
        changes
    }

    /// Takes a new or changed endpoint slice in.
    pub fn apply_slice(&mut self, slice: EndpointSlice) -> Changes {
        self.apply_cluster([], [slice])
    }

    /// Forgets an endpoint slice.
    pub fn remove_slice(&mut self, key: &NamespacedName) -> Changes {
        let mut changes = Changes::default();
        if let Some(old) = self.cluster.forget_slice(key) {
            touch_hostnames(Some(&old), None, &mut changes);
            self.rebuild_all(BTreeSet::from([old.service.clone()]), &mut changes);
        }
        changes
    }

    /// Takes pods and slices in. Services are built once at the end, however many of theirs are among them: this is
    /// how a whole cluster is read.
    pub fn apply_cluster(
        &mut self,
        pods: impl IntoIterator<Item = Pod>,
        slices: impl IntoIterator<Item = EndpointSlice>,
    ) -> Changes {
        let mut changes = Changes::default();
        let mut dirty = BTreeSet::new();
        let networks = self.outlying_networks();
        for pod in pods.into_iter().map(Arc::new) {
            let old = self.cluster.forget(&pod.key);
            self.cluster.remember(&pod);
            if old.as_ref() == Some(&pod) {
                continue;
            }
            touch([old.as_deref(), Some(&*pod)], &mut changes);
            dirty.extend(self.cluster.services(&pod.key).cloned());
        }
        for slice in slices.into_iter().map(Arc::new) {
            let old = self.cluster.forget_slice(&slice.key);
            touch_hostnames(old.as_deref(), Some(&slice), &mut changes);
            dirty.extend(old.iter().filter(|old| **old != slice).map(|old| old.service.clone()));
            if old.as_ref() != Some(&slice) {
                dirty.insert(slice.service.clone());
            }
            let of_service = self.cluster.slices_of.entry(slice.service.clone()).or_default();
            of_service.insert(slice.key.clone(), Arc::clone(&slice));
            self.cluster.slices.insert(slice.key.clone(), slice);
        }
        changes.mesh |= networks != self.outlying_networks();
        self.rebuild_all(dirty, &mut changes);
        changes
    }

    /// Every pod that is known.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.cluster.pods.values()
    }

    /// Every endpoint slice that is known, by its name.
    pub fn slices(&self) -> impl Iterator<Item = &NamespacedName> {
        self.cluster.slices.keys()
    }

    /// A pod, by its name.
    #[must_use]
    pub fn pod(&self, key: &NamespacedName) -> Option<&Arc<Pod>> {
        self.cluster.pods.get(key)
    }

    /// The pod that is this instance.
    #[must_use]
    pub fn pod_of(&self, key: &InstanceKey) -> Option<&Arc<Pod>> {
        let namespace = Arc::clone(&key.workload.namespace);
        let name = NamespacedName { namespace, name: Arc::clone(&key.instance) };
        self.cluster.pods.get(&name).filter(|pod| pod.workload == key.workload)
    }

    /// Every service port that a pod stands behind, with its own port: by the slices that list it, and by the selectors
    /// that take it. A sidecar may ask before any slice lists its pod, and must not be told of a port without rules.
    pub(super) fn ports_of_pod(&self, pod: &Pod) -> BTreeSet<(ServicePort, Port)> {
        let listed = self.cluster.services(&pod.key).flat_map(|service| {
            let ports = self.built.get(service).and_then(|built| built.pods.get(&pod.key));
            let ports = ports.into_iter().flatten();
            ports.map(move |(port, own)| {
                (ServicePort { service: service.clone(), port: *port }, *own)
            })
        });
        let selecting = self.selecting(&pod.key.namespace, &pod.labels);
        let selected = selecting.flat_map(|(name, service)| {
            let ports = service.spec.ports.iter().filter(|port| port.protocol.is_tcp());
            ports.filter_map(move |port| {
                let own = match &port.target_port {
                    None => port.port,
                    Some(TargetPort::Number(number)) => *number,
                    Some(TargetPort::Name(name)) => *pod.ports.get(name)?,
                };
                Some((ServicePort { service: name.clone(), port: port.port }, own))
            })
        });
        listed.chain(selected).collect()
    }

    /// The first service port, by name, that a pod's port stands behind.
    pub(super) fn service_port_of_pod(
        &self,
        pod: &Pod,
        port: Port,
    ) -> Option<(ServicePort, &discovery::Service)> {
        let mut ports = self.ports_of_pod(pod).into_iter().filter(|(_, own)| *own == port);
        ports.find_map(|(name, _)| {
            let declaration = &self.built.get(&name.service)?.ports.get(&name.port)?.declaration;
            Some((name, &**declaration))
        })
    }

    /// Marks the pods that a service selects: their ports may stand behind its own, or do so no longer.
    pub(super) fn touch_selected(
        &self,
        name: &ServiceName,
        service: Option<&Resource<ServiceSpec>>,
        changes: &mut Changes,
    ) {
        let Some(service) = service else { return };
        touch(self.selected_pods(name, &service.spec).map(|pod| Some(&**pod)), changes);
    }

    /// The pods behind a service: those that its slices list, and those that it selects.
    pub(super) fn pods_behind(&self, name: &ServiceName) -> BTreeSet<NamespacedName> {
        let listed = self.built.get(name).into_iter().flat_map(|built| built.pods.keys().cloned());
        let object = self.services.get(name).into_iter();
        let selected = object.flat_map(|object| self.selected_pods(name, &object.spec));
        listed.chain(selected.map(|pod| pod.key.clone())).collect()
    }

    /// The pods that a service selects.
    pub(super) fn selected_pods<'a>(
        &'a self,
        name: &'a ServiceName,
        service: &'a ServiceSpec,
    ) -> impl Iterator<Item = &'a Arc<Pod>> {
        let candidates = self.cluster.labelled.candidates(&name.namespace, &service.selector);
        let pods = candidates.filter_map(|key| self.cluster.pods.get(key));
        pods.filter(|pod| service.selects(&pod.labels))
    }
}

/// Marks what hangs on pods themselves: who is meant by their addresses, and what their sidecars take.
fn touch<'a>(pods: impl IntoIterator<Item = Option<&'a Pod>>, changes: &mut Changes) {
    for pod in pods.into_iter().flatten() {
        let addresses = own_addresses(pod).iter();
        changes.targets.extend(addresses.map(|address| Dependency::Address(*address)));
        changes.pods.insert(pod.instance());
    }
}

/// Marks the targets that name one endpoint of a service, when another is meant now.
fn touch_hostnames(
    old: Option<&EndpointSlice>,
    new: Option<&EndpointSlice>,
    changes: &mut Changes,
) {
    let named = |slice: Option<&EndpointSlice>| -> BTreeSet<(ServiceName, Arc<str>, IpAddr)> {
        let all = slice.into_iter().flat_map(|slice| {
            slice.endpoints.iter().map(|endpoint| (slice.service.clone(), endpoint))
        });
        all.filter_map(|(service, one)| Some((service, one.hostname.clone()?, one.address)))
            .collect()
    };
    let (before, after) = (named(old), named(new));
    let turned = before.symmetric_difference(&after);
    changes.targets.extend(turned.map(|(service, ..)| Dependency::Service(service.clone())));
}

#[cfg(test)]
mod tests;
