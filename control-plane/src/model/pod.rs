//! Which workload a pod is an instance of. A pod's metadata comes in, a name goes out: the one that its sidecar
//! registers under, that metrics carry and that `weft proxies` shows.

use std::collections::BTreeMap;

use super::pod_settings::WORKLOAD;

/// The label by which a Deployment tells its ReplicaSets apart.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// A CronJob's Jobs end in the minute they were due, counted from 1970: eight digits since 1989.
const LEAST_MINUTE_DIGITS: usize = 8;

/// One of a pod's owners: `metadata.ownerReferences`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnerReference {
    /// "ReplicaSet", "Job", …
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Whether it is the one that manages the pod.
    pub controller: bool,
}

/// The name of a pod's workload: what the annotation says, else what its controller belongs to (a Deployment
/// for a ReplicaSet, a CronJob for a Job), else the pod's own name.
#[must_use]
pub fn workload_name(
    annotations: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
    owner_references: &[OwnerReference],
    pod_name: &str,
) -> String {
    if let Some(name) = annotations.get(WORKLOAD) {
        return name.clone();
    }
    let Some(owner) = owner_references.iter().find(|owner| owner.controller) else {
        return pod_name.to_owned();
    };
    let name = match owner.kind.as_str() {
        "ReplicaSet" => deployment_of(&owner.name, labels),
        "Job" => cron_job_of(&owner.name),
        _ => None,
    };
    name.unwrap_or(&owner.name).to_owned()
}

fn deployment_of<'a>(replica_set: &'a str, labels: &BTreeMap<String, String>) -> Option<&'a str> {
    let hash = labels.get(TEMPLATE_HASH)?;
    let name = replica_set.strip_suffix(hash.as_str())?.strip_suffix('-')?;
    (!name.is_empty()).then_some(name)
}

fn cron_job_of(job: &str) -> Option<&str> {
    let (name, minute) = job.rsplit_once('-')?;
    let is_minute =
        minute.len() >= LEAST_MINUTE_DIGITS && minute.bytes().all(|byte| byte.is_ascii_digit());
    (is_minute && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(kind: &str, name: &str, controller: bool) -> OwnerReference {
        OwnerReference { kind: kind.to_owned(), name: name.to_owned(), controller }
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_pod_belongs_to_what_made_its_controller() {
        for (kind, name, workload) in [
            ("ReplicaSet", "cart-5d4f8c7b9", "cart"),
            ("ReplicaSet", "cart-v2-5d4f8c7b9", "cart-v2"),
            // A ReplicaSet of nobody's: the hash is not in its name.
            ("ReplicaSet", "cart", "cart"),
            ("ReplicaSet", "-5d4f8c7b9", "-5d4f8c7b9"),
            ("StatefulSet", "db", "db"),
            ("DaemonSet", "agent", "agent"),
            ("Job", "report-28912345", "report"),
            ("Job", "report-2024", "report-2024"),
            ("Job", "report", "report"),
            ("Job", "28912345", "28912345"),
            ("Rollout", "cart-5d4f8c7b9", "cart-5d4f8c7b9"),
        ] {
            let labels = map(&[("pod-template-hash", "5d4f8c7b9")]);
            let owners = [owner("Other", "other", false), owner(kind, name, true)];
            let found = workload_name(&map(&[]), &labels, &owners, "cart-5d4f8c7b9-x2x4z");
            assert_eq!(found, workload, "{kind} {name}");
        }
    }

    #[test]
    fn a_replica_set_without_the_hash_in_its_labels_stands_for_itself() {
        let owners = [owner("ReplicaSet", "cart-5d4f8c7b9", true)];
        assert_eq!(workload_name(&map(&[]), &map(&[]), &owners, "x"), "cart-5d4f8c7b9");
    }

    #[test]
    fn a_pod_without_a_controller_is_its_own_workload() {
        assert_eq!(workload_name(&map(&[]), &map(&[]), &[], "debug"), "debug");
        let owners = [owner("Node", "node-1", false)];
        assert_eq!(workload_name(&map(&[]), &map(&[]), &owners, "debug"), "debug");
    }

    #[test]
    fn the_annotation_has_the_first_word() {
        let owners = [owner("StatefulSet", "db", true)];
        let annotations = map(&[("weft.dev/workload", "ledger")]);
        assert_eq!(workload_name(&annotations, &map(&[]), &owners, "db-0"), "ledger");
    }
}
