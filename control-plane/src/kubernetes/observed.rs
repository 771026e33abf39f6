//! Pods and endpoint slices as they are read from the API: only the fields used, so that the rest of a pod is never
//! held, and how they become what the index knows.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{core::v1 as core, discovery::v1 as discovery},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use serde::Deserialize;
use weft_proto::{Port, ServiceName, WorkloadName};

use crate::model::{
    EndpointSlice, Life, NamespacedName, Pod, SliceEndpoint, SlicePort,
    pod::{OwnerReference, workload_name},
    pod_settings::PodSettings,
};

/// The container that is a sidecar.
const SIDECAR: &str = "weft-proxy";
/// A service account that none is named for.
const DEFAULT_ACCOUNT: &str = "default";
/// Whose endpoints a slice holds.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A pod, as far as it is used.
#[derive(Debug, Clone, Default, Deserialize, Resource)]
#[resource(inherit = core::Pod)]
pub(super) struct SeenPod {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: SeenPodSpec,
    #[serde(default)]
    status: SeenPodStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SeenPodSpec {
    service_account_name: Option<String>,
    host_network: bool,
    containers: Vec<SeenContainer>,
    init_containers: Vec<SeenContainer>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct SeenContainer {
    name: String,
    ports: Vec<SeenPort>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SeenPort {
    name: Option<String>,
    container_port: u16,
    protocol: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SeenPodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<SeenAddress>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct SeenAddress {
    #[serde(default)]
    ip: String,
}

/// An endpoint slice, as far as it is used.
#[derive(Debug, Clone, Default, Deserialize, Resource)]
#[resource(inherit = discovery::EndpointSlice)]
#[serde(rename_all = "camelCase")]
pub(super) struct SeenSlice {
    metadata: ObjectMeta,
    #[serde(default)]
    address_type: String,
    #[serde(default)]
    endpoints: Option<Vec<discovery::Endpoint>>,
    #[serde(default)]
    ports: Option<Vec<discovery::EndpointPort>>,
}

/// Which object this is; `None` only for one that no API hands out.
pub(super) fn key(metadata: &ObjectMeta) -> Option<NamespacedName> {
    let namespace = metadata.namespace.as_deref()?.into();
    Some(NamespacedName { namespace, name: metadata.name.as_deref()?.into() })
}

impl SeenPod {
    pub(super) fn key(&self) -> Option<NamespacedName> {
        key(&self.metadata)
    }

    /// The pod as the index knows it.
    pub(super) fn into_pod(self) -> Option<Pod> {
        let key = self.key()?;
        let none = BTreeMap::new();
        let annotations = self.metadata.annotations.as_ref().unwrap_or(&none);
        let labels = self.metadata.labels.as_ref().unwrap_or(&none);
        let owners = self.metadata.owner_references.iter().flatten().map(|owner| OwnerReference {
            kind: owner.kind.clone(),
            name: owner.name.clone(),
            controller: owner.controller == Some(true),
        });
        let owners: Vec<_> = owners.collect();
        let name = workload_name(annotations, labels, &owners, &key.name);
        let settings = PodSettings::of_running(annotations);
        let life = match self.status.phase.as_str() {
            "Succeeded" | "Failed" => Life::Ended,
            _ if self.metadata.deletion_timestamp.is_some() => Life::Terminating,
            _ => Life::Running,
        };
        let listed = self.status.pod_ips.iter().map(|address| address.ip.as_str());
        let first = self.status.pod_ip.as_deref();
        let mut addresses = Vec::new();
        for address in first.into_iter().chain(listed).filter_map(|text| text.parse().ok()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let mut containers = self.spec.containers.iter().chain(&self.spec.init_containers);
        let named = containers.clone().flat_map(|container| &container.ports);
        let ports = named.filter_map(SeenPort::named).collect();
        Some(Pod {
            uid: self.metadata.uid.as_deref().unwrap_or_default().into(),
            workload: WorkloadName { namespace: Arc::clone(&key.namespace), name: name.into() },
            service_account: self
                .spec
                .service_account_name
                .as_deref()
                .filter(|name| !name.is_empty())
                .unwrap_or(DEFAULT_ACCOUNT)
                .into(),
            addresses,
            host_network: self.spec.host_network,
            meshed: containers.any(|container| container.name == SIDECAR),
            life,
            settings: Arc::new(settings),
            labels: labels.clone(),
            ports,
            key,
        })
    }
}

impl SeenPort {
    /// A port of TCP that has a name.
    fn named(&self) -> Option<(String, Port)> {
        let is_tcp = self.protocol.as_ref().is_none_or(|protocol| protocol == "TCP");
        let name = self.name.clone().filter(|_| is_tcp)?;
        Some((name, Port::new(self.container_port)?))
    }
}

impl SeenSlice {
    pub(super) fn key(&self) -> Option<NamespacedName> {
        key(&self.metadata)
    }

    /// The slice as the index knows it; `None` for one of names instead of addresses, or of no service.
    pub(super) fn into_slice(self) -> Option<EndpointSlice> {
        let key = self.key()?;
        if self.address_type == "FQDN" {
            return None;
        }
        let service = self.metadata.labels.as_ref()?.get(SERVICE_NAME)?.as_str().into();
        let service = ServiceName { namespace: Arc::clone(&key.namespace), name: service };
        let ports = self.ports.unwrap_or_default().into_iter().filter_map(slice_port).collect();
        let endpoints = self.endpoints.unwrap_or_default().into_iter();
        let endpoints = endpoints.filter_map(slice_endpoint).collect();
        Some(EndpointSlice { key, service, ports, endpoints })
    }
}

/// A port of a slice; only TCP takes part in the mesh.
fn slice_port(port: discovery::EndpointPort) -> Option<SlicePort> {
    if port.protocol.is_some_and(|protocol| protocol != "TCP") {
        return None;
    }
    let number = Port::new(u16::try_from(port.port?).ok()?)?;
    Some(SlicePort { name: port.name.unwrap_or_default(), port: number })
}

/// An endpoint of a slice. What its conditions leave open counts as Kubernetes' API says.
fn slice_endpoint(endpoint: discovery::Endpoint) -> Option<SliceEndpoint> {
    let address = endpoint.addresses.first()?.parse().ok()?;
    let conditions = endpoint.conditions.unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    let pod = endpoint.target_ref.filter(|target| target.kind.as_deref() == Some("Pod"));
    Some(SliceEndpoint {
        address,
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
        pod: pod.and_then(|target| target.name).map(Arc::from),
        hostname: endpoint.hostname.map(Arc::from),
        zone: endpoint.zone.unwrap_or_default().into(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The API leaves out what is empty.
    #[test]
    fn a_pod_is_read_with_whatever_it_leaves_out() {
        let named = json!({"name": "app", "ports": [{"name": "http", "containerPort": 8080}]});
        let without = json!({"name": "weft-proxy", "image": "weft-proxy"});
        let specs = [
            (json!({"containers": [without]}), 0),
            (json!({"containers": [named.clone()], "initContainers": [without.clone()]}), 1),
            (json!({"containers": [without, named]}), 1),
        ];
        for (spec, ports) in specs {
            let metadata = json!({"name": "web", "namespace": "shop"});
            let pod = json!({"metadata": metadata, "spec": spec});
            let pod: SeenPod = serde_json::from_value(pod).expect("a pod");
            let pod = pod.into_pod().expect("it has a name");
            assert_eq!(pod.ports.len(), ports, "{spec}");
        }
        let bare = json!({"metadata": {"name": "web", "namespace": "shop"}});
        let pod: SeenPod = serde_json::from_value(bare).expect("a pod");
        assert!(!pod.into_pod().expect("it has a name").meshed);
    }
}
