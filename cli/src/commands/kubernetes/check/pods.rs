//! Judgements of pods and their namespaces: who should have a sidecar and has none, whose sidecar is not ready,
//! where an init container may not do what it must. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};

use super::{
    facts::{Facts, ROOTS},
    finding::Finding,
};
use crate::commands::kubernetes::{INJECT, SYSTEM_NAMESPACE};

const CHECK: &str = "sidecars";
/// Written into a pod by the injector: the version that it is of.
const INJECTED: &str = "weft.dev/injected";
/// The sidecar's container.
const SIDECAR: &str = "weft-proxy";
/// Namespaces whose pods are never meshed.
const NEVER: [&str; 3] = ["kube-system", "kube-node-lease", SYSTEM_NAMESPACE];
/// So many names are listed; of more only the number is said.
const MOST_NAMES: usize = 5;

/// What a pod has to do with the mesh.
#[derive(Debug, PartialEq, Eq)]
enum Standing<'a> {
    /// It has a sidecar of this version.
    Meshed { version: &'a str, ready: bool },
    /// Nobody asks for a sidecar.
    NotAsked,
    /// One is asked for, and there can be none.
    LeftAlone(&'static str),
    /// One is asked for, by a way that the webhook cannot see.
    AnnotatedOnly,
    /// One is asked for, and there is none.
    Missing,
}

fn standing<'a>(pod: &'a Pod, namespace: Option<&str>) -> Standing<'a> {
    let metadata = &pod.metadata;
    let annotation =
        |name| metadata.annotations.as_ref().and_then(|annotations| annotations.get(name));
    if let Some(version) = annotation(INJECTED) {
        return Standing::Meshed { version, ready: is_ready(pod) };
    }
    let label = metadata.labels.as_ref().and_then(|labels| labels.get(INJECT)).map(String::as_str);
    let annotated = annotation(INJECT).map(String::as_str);
    if label.or(annotated).or(namespace) != Some("enabled") {
        return Standing::NotAsked;
    }
    let spec = pod.spec.as_ref();
    if spec.and_then(|spec| spec.host_network) == Some(true) {
        return Standing::LeftAlone("on the node's network");
    }
    if spec.and_then(|spec| spec.os.as_ref()).is_some_and(|os| os.name == "windows") {
        return Standing::LeftAlone("on Windows");
    }
    if label.is_none() && namespace != Some("enabled") {
        return Standing::AnnotatedOnly;
    }
    Standing::Missing
}

fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let statuses =
        status.map(|status| [&status.init_container_statuses, &status.container_statuses]);
    let mut statuses = statuses.into_iter().flatten().flatten().flatten();
    statuses.any(|status| status.name == SIDECAR && status.ready)
}

/// Whether the pod still runs, or will.
fn lives(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// "NAMESPACE/NAME".
fn name(pod: &Pod) -> String {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", text(&pod.metadata.namespace), text(&pod.metadata.name))
}

/// Pods that live, each with what it has to do with the mesh.
fn standings<'a>(pods: &'a [Pod], namespaces: &'a [Namespace]) -> Vec<(&'a Pod, Standing<'a>)> {
    let wishes: BTreeMap<&str, &str> = namespaces.iter().filter_map(wish).collect();
    let in_mesh = |pod: &&Pod| {
        lives(pod) && !pod.metadata.namespace.as_deref().is_some_and(|name| NEVER.contains(&name))
    };
    let standing = |pod: &'a Pod| {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        (pod, standing(pod, wishes.get(namespace).copied()))
    };
    pods.iter().filter(in_mesh).map(standing).collect()
}

/// What a namespace wants for its pods.
pub(super) fn wish(namespace: &Namespace) -> Option<(&str, &str)> {
    let wish = namespace.metadata.labels.as_ref()?.get(INJECT)?;
    Some((namespace.metadata.name.as_deref()?, wish))
}

/// All about sidecars. Without a Weft in the cluster none should be left.
pub(super) fn sidecars(facts: &Facts, installed: bool) -> Vec<Finding> {
    let (pods, namespaces) = match (&facts.pods, &facts.namespaces) {
        (Ok(pods), Ok(namespaces)) => (pods, namespaces),
        (Err(why), _) => return vec![Finding::unknown(CHECK, "pods", why)],
        (_, Err(why)) => return vec![Finding::unknown(CHECK, "namespaces", why)],
    };
    let standings = standings(pods, namespaces);
    if !installed {
        return left_behind(&standings).into_iter().collect();
    }
    let mut findings = missing(&standings);
    findings.extend(unready(&standings));
    findings.extend(outdated(&standings));
    findings.extend(left_alone(&standings));
    let meshed = meshed_pods(&standings).count();
    findings.push(Finding::ok(CHECK, format!("pods that have one: {meshed}")));
    findings.extend(roots(&standings, facts));
    findings
}

fn meshed_pods<'a>(
    standings: &'a [(&'a Pod, Standing<'a>)],
) -> impl Iterator<Item = (&'a Pod, &'a str, bool)> {
    standings.iter().filter_map(|(pod, standing)| match standing {
        Standing::Meshed { version, ready } => Some((*pod, *version, *ready)),
        _ => None,
    })
}

fn left_behind(standings: &[(&Pod, Standing<'_>)]) -> Option<Finding> {
    let left: Vec<String> = meshed_pods(standings).map(|(pod, ..)| name(pod)).collect();
    let message = format!("left without a control plane: {}", some(&left)?);
    let fix = format!(
        "take the label {INJECT} from their namespaces and pods, and restart them: kubectl rollout restart -n \
         NAMESPACE deployment"
    );
    Some(Finding::failed(CHECK, message, fix))
}

fn missing(standings: &[(&Pod, Standing<'_>)]) -> Vec<Finding> {
    let of = |wanted: &Standing<'_>| -> Vec<String> {
        standings.iter().filter(|(_, found)| found == wanted).map(|(pod, _)| name(pod)).collect()
    };
    let mut findings = Vec::new();
    if let Some(pods) = some(&of(&Standing::Missing)) {
        let message =
            format!("missing in {pods}: made before the label, or while the webhook was away");
        let fix = "make them anew: kubectl rollout restart -n NAMESPACE deployment/NAME";
        findings.push(Finding::failed(CHECK, message, fix));
    }
    if let Some(pods) = some(&of(&Standing::AnnotatedOnly)) {
        let message = format!(
            "missing in {pods}: asked for by an annotation, in a namespace without the label"
        );
        let fix =
            format!("make {INJECT} a label of the pod: the API server sends the webhook no others");
        findings.push(Finding::failed(CHECK, message, fix));
    }
    findings
}

fn unready(standings: &[(&Pod, Standing<'_>)]) -> Option<Finding> {
    let unready: Vec<String> =
        meshed_pods(standings).filter(|(.., ready)| !ready).map(|(pod, ..)| name(pod)).collect();
    let message = format!("not ready in {}", some(&unready)?);
    let fix = "see why: kubectl logs -n NAMESPACE POD -c weft-proxy (or -c weft-init), and kubectl describe pod";
    Some(Finding::failed(CHECK, message, fix))
}

fn outdated(standings: &[(&Pod, Standing<'_>)]) -> Option<Finding> {
    const OURS: &str = env!("CARGO_PKG_VERSION");
    let mut versions = BTreeSet::new();
    let mut others = Vec::new();
    for (pod, version, _) in meshed_pods(standings).filter(|(_, version, _)| *version != OURS) {
        versions.insert(version);
        others.push(name(pod));
    }
    let versions = versions.into_iter().collect::<Vec<_>>().join(", ");
    let message = format!("of version {versions}, not {OURS}, in {}", some(&others)?);
    let fix = "make them anew: kubectl rollout restart -n NAMESPACE deployment/NAME";
    Some(Finding::warning(CHECK, message, fix))
}

fn left_alone(standings: &[(&Pod, Standing<'_>)]) -> Vec<Finding> {
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (pod, standing) in standings {
        if let Standing::LeftAlone(why) = standing {
            reasons.entry(why).or_default().push(name(pod));
        }
    }
    let said = |(why, pods): (&str, Vec<String>)| {
        Some(Finding::ok(CHECK, format!("none possible {why}: {}", some(&pods)?)))
    };
    reasons.into_iter().filter_map(said).collect()
}

/// Whether each namespace with a sidecar has the roots that it trusts.
fn roots(standings: &[(&Pod, Standing<'_>)], facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "roots";
    let needed: BTreeSet<&str> =
        meshed_pods(standings).filter_map(|(pod, ..)| pod.metadata.namespace.as_deref()).collect();
    let found = match &facts.roots {
        Ok(found) => found,
        Err(why) => return Some(Finding::unknown(CHECK, &format!("ConfigMaps {ROOTS}"), why)),
    };
    let good: BTreeSet<&str> = found
        .iter()
        .filter(|roots| has_roots(roots))
        .filter_map(|roots| roots.metadata.namespace.as_deref())
        .collect();
    let without: Vec<&str> = needed.difference(&good).copied().collect();
    if without.is_empty() {
        return (!needed.is_empty())
            .then(|| Finding::ok(CHECK, format!("{ROOTS} is in every meshed namespace")));
    }
    let message = format!("ConfigMap {ROOTS} is missing or empty in {}", without.join(", "));
    let fix = "the control plane writes it: kubectl logs -n weft-system deploy/weft-control-plane";
    Some(Finding::failed(CHECK, message, fix))
}

fn has_roots(roots: &ConfigMap) -> bool {
    let pem = roots.data.as_ref().and_then(|data| data.get("roots.pem"));
    pem.is_some_and(|pem| pem.contains("BEGIN CERTIFICATE"))
}

/// Whether the namespaces that are meshed, or are meant to be, let the init container have what it needs.
pub(super) fn security(facts: &Facts, meant: &[String]) -> Vec<Finding> {
    const CHECK: &str = "pod security";
    let namespaces = match &facts.namespaces {
        Ok(namespaces) => namespaces,
        Err(why) => return vec![Finding::unknown(CHECK, "namespaces", why)],
    };
    let mut findings = Vec::new();
    let mut fine = Vec::new();
    for namespace in namespaces {
        let name = namespace.metadata.name.clone().unwrap_or_default();
        let meshed = wish(namespace).is_some_and(|(_, wish)| wish == "enabled");
        if !(meshed || meant.contains(&name)) {
            continue;
        }
        match enforced(namespace) {
            Some(level @ ("baseline" | "restricted")) => findings.push(forbidding(&name, level)),
            _ => fine.push(name),
        }
    }
    for name in meant {
        if !namespaces.iter().any(|namespace| namespace.metadata.name.as_ref() == Some(name)) {
            let message = format!("there is no namespace {name}");
            findings.push(Finding::failed(
                CHECK,
                message,
                format!("kubectl create namespace {name}"),
            ));
        }
    }
    if !fine.is_empty() {
        let message = format!("weft-init may have NET_ADMIN in {}", fine.join(", "));
        findings.push(Finding::ok(CHECK, message));
    }
    findings
}

fn enforced(namespace: &Namespace) -> Option<&str> {
    let labels = namespace.metadata.labels.as_ref()?;
    labels.get("pod-security.kubernetes.io/enforce").map(String::as_str)
}

fn forbidding(namespace: &str, level: &str) -> Finding {
    let message = format!(
        "namespace {namespace} enforces {level}, which forbids weft-init the capability NET_ADMIN: no meshed pod \
         can be made there"
    );
    let fix = format!(
        "kubectl label --overwrite namespace {namespace} pod-security.kubernetes.io/enforce=privileged \
         pod-security.kubernetes.io/warn={level}"
    );
    Finding::failed("pod security", message, fix)
}

/// "3 pods (shop/a, shop/b, …)"; nothing of none.
fn some(names: &[String]) -> Option<String> {
    let listed = names.iter().take(MOST_NAMES).cloned().collect::<Vec<_>>().join(", ");
    let more = if names.len() > MOST_NAMES { ", …" } else { "" };
    match names.len() {
        0 => None,
        1 => Some(format!("1 pod ({listed})")),
        count => Some(format!("{count} pods ({listed}{more})")),
    }
}
