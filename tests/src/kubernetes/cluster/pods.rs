//! Pods in every state, without a kubelet: made by their spec, moved by patches of their status.
//!
//! In come a pod's name and how it is to be, out go pods that are so. A deleted pod that has a node stays Terminating
//! until it is removed, which is what a kubelet would do at last.

use std::net::IpAddr;

use k8s_openapi::{
    api::core::v1::{Container, ContainerPort, Pod, PodSpec},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{
    Api as Objects, ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::Cluster;
use crate::wait;

/// An image that nobody pulls.
pub const IMAGE: &str = "registry.k8s.io/pause:3.10";

/// What a pod is to be like.
#[derive(Debug, Clone, Default)]
pub struct PodWish {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// Its annotations.
    pub annotations: Vec<(String, String)>,
    /// Its service account; `default` when empty.
    pub service_account: String,
    /// Its node; without one it goes at once when it is deleted, and a scheduler may take it.
    pub node: String,
    /// Named ports of its one container.
    pub ports: Vec<(String, u16)>,
}

impl PodWish {
    /// A pod of a name, on a node.
    #[must_use]
    pub fn named(name: &str, node: &str) -> Self {
        Self { name: name.to_owned(), node: node.to_owned(), ..Self::default() }
    }

    /// With a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    /// With an annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.push((key.to_owned(), value.to_owned()));
        self
    }

    /// As this service account.
    #[must_use]
    pub fn service_account(mut self, name: &str) -> Self {
        name.clone_into(&mut self.service_account);
        self
    }

    /// With a named port.
    #[must_use]
    pub fn port(mut self, name: &str, number: u16) -> Self {
        self.ports.push((name.to_owned(), number));
        self
    }

    /// The pod, as it is sent to the API.
    #[must_use]
    pub fn to_pod(&self) -> Pod {
        let ports = self.ports.iter().map(|(name, number)| ContainerPort {
            name: Some(name.clone()).filter(|name| !name.is_empty()),
            container_port: i32::from(*number),
            ..ContainerPort::default()
        });
        let container = Container {
            name: "app".to_owned(),
            image: Some(IMAGE.to_owned()),
            ports: Some(ports.collect()),
            ..Container::default()
        };
        let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Pod {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(self.labels.iter().cloned().collect()),
                annotations: Some(self.annotations.iter().cloned().collect()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                containers: vec![container],
                service_account_name: some(&self.service_account),
                node_name: some(&self.node),
                automount_service_account_token: Some(false),
                ..PodSpec::default()
            }),
            status: None,
        }
    }
}

impl Cluster {
    /// A pod as wished, created and nothing more: pending, without an address.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn pod(&self, namespace: &str, wish: &PodWish) -> Pod {
        self.create(&self.objects(namespace), &wish.to_pod()).await
    }

    /// A pod as wished that runs under these addresses and is ready.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn running_pod(&self, namespace: &str, wish: &PodWish, ips: &[IpAddr]) -> Pod {
        self.pod(namespace, wish).await;
        self.set_running(namespace, &wish.name, ips, true).await
    }

    /// Makes a pod running under these addresses, ready or not.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn set_running(
        &self,
        namespace: &str,
        name: &str,
        ips: &[IpAddr],
        ready: bool,
    ) -> Pod {
        let all: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip.to_string()})).collect();
        let mut status = json!({
            "phase": "Running", "podIPs": all, "hostIP": "192.0.2.1", "startTime": Time(Timestamp::now()),
            "conditions": conditions(ready),
        });
        if let Some(ip) = ips.first() {
            status["podIP"] = json!(ip.to_string());
        }
        self.patch_pod_status(namespace, name, status).await
    }

    /// Makes a running pod ready or unready.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn set_ready(&self, namespace: &str, name: &str, ready: bool) -> Pod {
        let status = json!({"conditions": conditions(ready)});
        self.patch_pod_status(namespace, name, status).await
    }

    /// Makes a pod one that is over: `Succeeded` or `Failed`.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn set_phase(&self, namespace: &str, name: &str, phase: &str) -> Pod {
        let status = json!({"phase": phase, "conditions": conditions(false)});
        self.patch_pod_status(namespace, name, status).await
    }

    /// Patches a pod's status, strategically.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn patch_pod_status(&self, namespace: &str, name: &str, status: Value) -> Pod {
        let pods: Objects<Pod> = self.objects(namespace);
        let patch = Patch::Strategic(json!({"status": status}));
        let patched = pods.patch_status(name, &PatchParams::default(), &patch).await;
        patched.unwrap_or_else(|error| panic!("status of pod {namespace}/{name}: {error}"))
    }

    /// Gives a pod its node, as a scheduler does.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn bind_pod(&self, namespace: &str, name: &str, node: &str) {
        let pods: Objects<Pod> = self.objects(namespace);
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let bound: Result<Value, _> =
            pods.create_subresource("binding", name, &PostParams::default(), &binding).await;
        bound.unwrap_or_else(|error| panic!("binding of pod {namespace}/{name}: {error}"));
    }

    /// Deletes a pod that has a node: it is Terminating from then on, and stays.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn terminate_pod(&self, namespace: &str, name: &str) {
        let pods: Objects<Pod> = self.objects(namespace);
        let deleted = pods.delete(name, &DeleteParams::default().grace_period(300)).await;
        deleted.unwrap_or_else(|error| panic!("deletion of pod {namespace}/{name}: {error}"));
    }

    /// Removes a pod at once, as a kubelet does at last.
    ///
    /// # Panics
    /// When it is refused, or does not go.
    pub async fn remove_pod(&self, namespace: &str, name: &str) {
        let pods: Objects<Pod> = self.objects(namespace);
        let uid = pods.get_opt(name).await.ok().flatten().and_then(|pod| pod.uid());
        let deleted = pods.delete(name, &DeleteParams::default().grace_period(0)).await;
        deleted.unwrap_or_else(|error| panic!("removal of pod {namespace}/{name}: {error}"));
        wait::until_true("a removed pod is gone", || async {
            let found = pods.get_opt(name).await.expect("the API answers");
            found.is_none_or(|pod| pod.uid() != uid)
        })
        .await;
    }
}

fn conditions(ready: bool) -> Value {
    let status = if ready { "True" } else { "False" };
    let now = Time(Timestamp::now());
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastTransitionTime": now});
    json!([
        condition("PodScheduled", "True"),
        condition("Initialized", "True"),
        condition("ContainersReady", status),
        condition("Ready", status),
    ])
}
