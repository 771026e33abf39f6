//! What is to run: `Workload` objects come in, one plan for each replica goes out. Pure.
//!
//! A plan holds what its two processes are started with and nothing else: a replica is started again when its
//! plan changed. Whether a port is strict or permissive is not in it: that takes effect on the fly.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use weft_control_plane::model::{Object, Probe, Resource, WorkloadSpec};

/// Which replica of which workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ReplicaName {
    pub(crate) namespace: String,
    pub(crate) workload: String,
    pub(crate) index: u32,
}

impl ReplicaName {
    /// "shop/cart".
    pub(crate) fn full_workload(&self) -> String {
        format!("{}/{}", self.namespace, self.workload)
    }
}

impl fmt::Display for ReplicaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.workload, self.index)
    }
}

/// What one replica's app and sidecar are started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplicaPlan {
    pub(crate) name: ReplicaName,
    pub(crate) service: Option<String>,
    pub(crate) service_account: String,
    pub(crate) command: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) working_dir: PathBuf,
    pub(crate) ports: Vec<PlannedPort>,
    pub(crate) upstreams: Vec<PlannedUpstream>,
    pub(crate) probe: Option<Probe>,
    pub(crate) zone: String,
}

/// A port of the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedPort {
    pub(crate) name: String,
    /// Where the app listens; absent: a free one is chosen.
    pub(crate) number: Option<u16>,
    /// The variable that tells the app.
    pub(crate) env: String,
}

/// A destination that the app reaches by a local port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedUpstream {
    /// "inventory.shop:50051".
    pub(crate) destination: String,
    /// Where the sidecar listens; absent: wherever it can.
    pub(crate) local_port: Option<u16>,
    /// The variable that tells the app.
    pub(crate) env: String,
}

/// Every replica to run. Workloads without a command are run by something else. `folder` is where relative
/// paths begin.
pub(crate) fn plans(objects: &[Object], folder: &Path) -> BTreeMap<ReplicaName, ReplicaPlan> {
    let mut plans = BTreeMap::new();
    for object in objects {
        let Object::Workload(workload) = object else { continue };
        if workload.spec.command.is_empty() {
            continue;
        }
        for index in 0..workload.spec.replicas() {
            let plan = plan(workload, index, folder);
            plans.insert(plan.name.clone(), plan);
        }
    }
    plans
}

fn plan(workload: &Resource<WorkloadSpec>, index: u32, folder: &Path) -> ReplicaPlan {
    let (metadata, spec) = (&workload.metadata, &workload.spec);
    let name = ReplicaName {
        namespace: metadata.namespace.clone(),
        workload: metadata.name.clone(),
        index,
    };
    let upstream = |upstream: &weft_control_plane::model::Upstream| {
        let service = upstream.service.resolve(&metadata.namespace);
        PlannedUpstream {
            destination: format!("{}.{}:{}", service.name, service.namespace, upstream.port()),
            local_port: upstream.local_port.map(weft_proto::Port::number),
            env: upstream.env_name(),
        }
    };
    let ports = spec.ports().into_iter().map(|port| PlannedPort {
        env: port.env_name(),
        number: port.port.map(weft_proto::Port::number),
        name: port.name,
    });
    ReplicaPlan {
        service: spec.service.clone(),
        service_account: spec.service_account(&metadata.name).to_owned(),
        command: spec.command.clone(),
        env: spec.env.iter().map(|var| (var.name.clone(), var.value.clone())).collect(),
        working_dir: folder.join(spec.working_dir.as_deref().unwrap_or_default()),
        ports: ports.collect(),
        upstreams: spec.upstreams.iter().map(upstream).collect(),
        probe: spec.readiness().map(|readiness| readiness.probe),
        zone: spec.zone.clone(),
        name,
    }
}

#[cfg(test)]
mod tests {
    use weft_control_plane::model::parse_documents;

    use super::*;

    fn plans_of(yaml: &str) -> Vec<ReplicaPlan> {
        let objects: Vec<Object> = parse_documents("test", yaml)
            .into_iter()
            .map(|parsed| parsed.expect("valid").object)
            .collect();
        plans(&objects, Path::new("/home/me")).into_values().collect()
    }

    const CART: &str = "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: cart, namespace: shop}
spec:
  service: cart
  replicas: 2
  command: [./cart, --port, $(PORT)]
  workingDir: bin
  upstreams: [{service: inventory, port: 50051}]
";

    #[test]
    fn a_workload_becomes_a_plan_for_each_replica() {
        let plans = plans_of(CART);
        let names: Vec<String> = plans.iter().map(|plan| plan.name.to_string()).collect();
        assert_eq!(names, ["cart-0", "cart-1"]);
        let plan = &plans[0];
        assert_eq!(plan.service_account, "cart");
        assert_eq!(plan.working_dir, Path::new("/home/me/bin"));
        let port = PlannedPort { name: String::new(), number: None, env: "PORT".into() };
        assert_eq!(plan.ports, [port]);
        assert_eq!(plan.upstreams[0].destination, "inventory.shop:50051");
        assert_eq!(plan.upstreams[0].env, "INVENTORY_ADDR");
    }

    #[test]
    fn what_takes_effect_on_the_fly_changes_no_plan() {
        let with_mode = |mode: &str| {
            plans_of(&format!(
                "{{apiVersion: weft.dev/v1alpha1, kind: Workload, metadata: {{name: a}}, \
                 spec: {{command: [a], ports: [{{port: 80, mode: {mode}}}]}}}}"
            ))
        };
        assert_eq!(with_mode("strict"), with_mode("permissive"));
    }

    #[test]
    fn what_something_else_starts_is_not_run() {
        let yaml = "{apiVersion: weft.dev/v1alpha1, kind: Workload, metadata: {name: a}, \
                    spec: {port: 80, replicas: 3}}";
        assert!(plans_of(yaml).is_empty());
    }
}
