//! Injection: a pod without a sidecar comes in, as JSON; the same pod with one goes out, or why it is left alone,
//! or what is wrong with it. One code path for the webhook and for files.
//!
//! It works on JSON, not on Kubernetes' types: a field that Weft has never heard of comes out as it went in. What
//! it does can be undone to the last field ([`undo()`]), because a pod carries a record of what was replaced. Injecting
//! an injected pod takes the old sidecar out first: so a second time changes nothing, and another version brings
//! its own. It must never change a pod that it leaves alone or refuses.
//!
//! In the order in which a pod passes them:
//! - [`webhook`]: HTTPS from the API server; [`review`]: its question and the answer; [`ca_bundle`]: how it knows us;
//! - [`object`]: objects of files: where a Deployment has its pod;
//! - [`decide`]: whether the pod is injected;
//! - [`mod@undo`]: an older sidecar is taken out;
//! - [`conflicts`]: what cannot work with a sidecar is refused by name;
//! - [`probes`]: the kubelet's probes go to the sidecar, which asks the app;
//! - [`sidecar`]: the containers and the volume;
//! - [`covers`]: whether anything of that is news; [`shape`]: how JSON is read that may be anything.

pub mod ca_bundle;
mod conflicts;
mod covers;
pub mod decide;
pub mod object;
mod probes;
#[cfg(any(test, fuzzing))]
pub mod properties;
pub mod review;
mod shape;
mod sidecar;
pub mod undo;
pub mod webhook;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::model::{
    FieldError, PodSettings,
    pod_settings::{INJECTED, PREFIX, REPLACED, Sidecar, WORKLOAD},
};

use self::undo::Record;

pub use ca_bundle::keep_ca_bundle;
pub use decide::Reason;
pub use object::inject_object;
pub use undo::{undo, undo_object};
pub use webhook::{ClusterNamespaces, LookupError, Namespaces, serve};

/// The user and the group that the sidecar runs as; whose connections are not intercepted.
pub const PROXY_USER: u16 = 4140;
/// Where intercepted connections from the pod arrive.
pub const OUTBOUND_PORT: u16 = 4140;
/// Where connections to the pod arrive.
pub const INBOUND_PORT: u16 = 4143;
/// Readiness, metrics and the kubelet's probes.
pub const ADMIN_PORT: u16 = 4191;

/// The container that sets up the interception, and ends.
pub const INIT_CONTAINER: &str = "weft-init";
/// The sidecar.
pub const PROXY_CONTAINER: &str = "weft-proxy";
/// The volume with the token and the roots.
pub const VOLUME: &str = "weft-identity";

/// The container that `kubectl logs` and `kubectl exec` mean when none is named.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The version that is written on injected pods.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the injector is told, the same for every pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The sidecar's image, for pods that name none.
    pub proxy_image: String,
    /// Where sidecars find the control plane, HOST:PORT.
    pub control_plane: String,
    /// Weft's own namespace: its pods are left alone.
    pub system_namespace: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            proxy_image: format!("registry.weft.dev/proxy:{VERSION}"),
            control_plane: "weft-control-plane.weft-system.svc:4480".to_owned(),
            system_namespace: "weft-system".to_owned(),
        }
    }
}

/// A pod's namespace, as far as it has a say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels: whether its pods are injected.
    pub labels: BTreeMap<String, String>,
    /// Its annotations: the defaults of its pods.
    pub annotations: BTreeMap<String, String>,
}

/// What is known around a pod.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// What the injector is told.
    pub settings: &'a Settings,
    /// The pod's namespace.
    pub namespace: &'a Namespace,
    /// Whether somebody asks for this very pod, so that no label is needed; `disabled` on the pod still counts.
    pub asked: bool,
    /// The pod's workload, unless an annotation of the pod says another.
    pub workload: &'a str,
    /// Annotations to set first, in place of the pod's own.
    pub overrides: &'a BTreeMap<String, String>,
}

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It gets a sidecar.
    Injected {
        /// The pod (or the object around it) as it is to be.
        object: Value,
        /// What the user would want to know: it works, but perhaps not as meant.
        warnings: Vec<String>,
    },
    /// It stays as it is.
    Left(Reason),
    /// It asks for a sidecar and cannot have one as it is: every mistake.
    Refused(Vec<FieldError>),
}

/// Injects a pod, or a pod's template: an object with `metadata` and `spec`.
#[must_use]
pub fn pod(pod: &Value, context: &Context<'_>) -> Outcome {
    match decide::decide(pod, context) {
        Ok(None) => {}
        Ok(Some(reason)) => return Outcome::Left(reason),
        Err(error) => return Outcome::Refused(vec![error]),
    }
    match inject(pod, context) {
        Ok((injected, _)) if covers::covers(pod, &injected) => {
            Outcome::Left(Reason::AlreadyInjected)
        }
        Ok((object, warnings)) => Outcome::Injected { object, warnings },
        Err(errors) => Outcome::Refused(errors),
    }
}

/// Takes an older sidecar out, looks for mistakes, puts the new one in.
fn inject(pod: &Value, context: &Context<'_>) -> Result<(Value, Vec<String>), Vec<FieldError>> {
    let is_first = !undo::is_injected(pod);
    let (mut pod, mut record) = undo::take_out(pod).map_err(|error| vec![error])?;
    if is_first {
        record.keep_annotation(&pod, WORKLOAD);
    }
    record.override_annotations(&mut pod, context.overrides);
    let mut errors = shape::check(&pod);
    let annotations = shape::strings(pod.pointer("/metadata/annotations"));
    let settings = PodSettings::parse(&annotations, &context.namespace.annotations);
    let settings = settings.unwrap_or_else(|mistakes| {
        errors.extend(mistakes);
        PodSettings::default()
    });
    conflicts::find(&pod, &mut errors);
    let probes = probes::rewrite(&mut pod, &mut record, &mut errors);
    let workload = annotations.get(WORKLOAD).map_or(context.workload, String::as_str);
    if workload.is_empty() {
        errors.push(FieldError::new("metadata.name", "is missing: give the object a name"));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let plan = sidecar::Plan::new(context.settings, &settings, workload, &pod, &probes);
    let warnings = warnings(&pod, &settings, &plan);
    let told = told(context.namespace);
    if !told.is_empty() {
        record.add_annotations(&mut pod, &told);
    }
    add(&mut pod, &plan, &mut record, settings.sidecar);
    annotate(&mut pod, record, workload, settings.sidecar);
    Ok((pod, warnings))
}

/// What the control plane tells others of the pod's ports, where the namespace says it: written on the pod, because
/// it must hold for as long as the sidecar that was made by it, whatever the namespace says later.
fn told(namespace: &Namespace) -> BTreeMap<String, String> {
    let told = namespace.annotations.iter().filter(|(name, _)| {
        let name = name.strip_prefix(PREFIX);
        matches!(name, Some("skip-inbound-ports" | "opaque-ports" | "permissive-ports"))
    });
    told.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Puts the containers and the volume where they belong.
fn add(pod: &mut Value, plan: &sidecar::Plan, record: &mut Record, kind: Sidecar) {
    let init_containers = record.list(pod, "initContainers");
    match kind {
        // Before the app's own init containers: their connections are meshed, too.
        Sidecar::Native => {
            init_containers.splice(0..0, [plan.init_container(), plan.native()]);
        }
        // After them: with the interception and no sidecar yet, they could not reach anything.
        Sidecar::Classic => {
            init_containers.push(plan.init_container());
            record.list(pod, "containers").insert(0, plan.classic());
        }
    }
    record.list(pod, "volumes").push(sidecar::volume());
}

fn annotate(pod: &mut Value, mut record: Record, workload: &str, kind: Sidecar) {
    if kind == Sidecar::Classic
        && let Some(first) = pod.pointer("/spec/containers/1/name").and_then(Value::as_str)
    {
        let default = BTreeMap::from([(DEFAULT_CONTAINER.to_owned(), first.to_owned())]);
        record.add_annotations(pod, &default);
    }
    let set = BTreeMap::from([
        (INJECTED.to_owned(), VERSION.to_owned()),
        (WORKLOAD.to_owned(), workload.to_owned()),
    ]);
    let annotations: &mut Map<String, Value> = record.annotation_map(pod);
    annotations.extend(set.into_iter().map(|(name, value)| (name, Value::from(value))));
    if let Some(text) = record.written() {
        record.annotation_map(pod).insert(REPLACED.to_owned(), Value::from(text));
    }
}

/// What works, but perhaps not as its author thinks.
fn warnings(pod: &Value, settings: &PodSettings, plan: &sidecar::Plan) -> Vec<String> {
    let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str);
    let mut warnings = Vec::new();
    if let Some(policy @ ("Never" | "OnFailure")) = text("/spec/restartPolicy")
        && settings.sidecar == Sidecar::Classic
    {
        warnings.push(format!(
            "weft.dev/sidecar is classic and restartPolicy is {policy}: the pod will not end by \
             itself, since a classic sidecar goes on when the app is done; use native"
        ));
    }
    if let Some(policy @ ("Default" | "None")) = text("/spec/dnsPolicy") {
        warnings.push(format!(
            "dnsPolicy is {policy}: the sidecar finds the control plane by a name of the cluster, \
             which this pod's resolver must know"
        ));
    }
    if let Some(drain) = plan.drain_cut_from() {
        warnings.push(format!(
            "the sidecar's drain time of {}s is longer than terminationGracePeriodSeconds allows: \
             it is cut to {}s",
            drain.as_secs(),
            plan.drain().as_secs()
        ));
    }
    warnings
}

#[cfg(test)]
mod tests;
