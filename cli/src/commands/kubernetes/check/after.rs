//! After the installation: whether the control plane runs, and whether the pods that should be meshed are. Pure.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod, discovery::v1::EndpointSlice};

use super::{INSTALL_AGAIN, definitions, facts::Facts, finding::Finding, pods, webhook, wording};
use crate::commands::kubernetes::{CONTROL_PLANE, SYSTEM_NAMESPACE};

/// The Services through which sidecars and the API server reach the control plane.
const SERVICES: [&str; 2] = [CONTROL_PLANE, "weft-webhook"];

/// `now` in seconds since 1970.
pub(super) fn judge(facts: &Facts, meant: &[String], now: i64) -> Vec<Finding> {
    if let (Ok(None), Ok(None)) = (&facts.deployment, &facts.webhook) {
        let message = "Weft is not installed";
        let mut findings =
            vec![Finding::failed("installation", message, "weft install | kubectl apply -f -")];
        findings.extend(pods::sidecars(facts, false));
        return findings;
    }
    let mut findings = vec![control_plane(facts)];
    findings.extend(version(facts));
    findings.extend(SERVICES.map(|service| reached(service, facts)));
    findings.extend(facts.definitions.iter().map(|(name, found)| definitions::after(name, found)));
    findings.push(webhook::judge(&facts.webhook, now));
    findings.extend(wording::judge(facts));
    findings.extend(pods::security(facts, meant));
    findings.extend(pods::sidecars(facts, true));
    findings
}

fn control_plane(facts: &Facts) -> Finding {
    const CHECK: &str = "control plane";
    let deployment = match &facts.deployment {
        Ok(Some(deployment)) => deployment,
        Ok(None) => {
            let message = format!("Deployment {SYSTEM_NAMESPACE}/{CONTROL_PLANE} is not there");
            return Finding::failed(CHECK, message, INSTALL_AGAIN);
        }
        Err(why) => return Finding::unknown(CHECK, CONTROL_PLANE, why),
    };
    let available = deployment.status.as_ref().and_then(|status| status.available_replicas);
    if available.unwrap_or(0) > 0 {
        return Finding::ok(CHECK, format!("{SYSTEM_NAMESPACE}/{CONTROL_PLANE} is available"));
    }
    let why = facts.pods.as_ref().ok().and_then(|pods| pods.iter().find_map(waiting));
    let why = why.unwrap_or_else(|| "no pod of it is ready".into());
    let message = format!("{SYSTEM_NAMESPACE}/{CONTROL_PLANE} is not available: {why}");
    let fix = format!(
        "kubectl describe pod -n {SYSTEM_NAMESPACE}; kubectl logs -n {SYSTEM_NAMESPACE} deploy/{CONTROL_PLANE}"
    );
    Finding::failed(CHECK, message, fix)
}

/// What the control plane's pod waits for: "ErrImagePull: …".
fn waiting(pod: &Pod) -> Option<String> {
    if pod.metadata.namespace.as_deref() != Some(SYSTEM_NAMESPACE) {
        return None;
    }
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let state = statuses.iter().find_map(|status| status.state.as_ref()?.waiting.as_ref())?;
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    Some(format!("{}: {}", text(&state.reason), text(&state.message)))
}

/// Whether the control plane is of this command's version, as far as its image says.
fn version(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "versions";
    const OURS: &str = env!("CARGO_PKG_VERSION");
    let image = image(facts.deployment.as_ref().ok()?.as_ref()?)?;
    let name = image.split('@').next().unwrap_or(image);
    // A digest alone says nothing of a version.
    let tag = name.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/'))?;
    let version = tag.trim_start_matches('v').split('-').next();
    Some(match version {
        Some(OURS) => Finding::ok(CHECK, format!("this command and the control plane are {OURS}")),
        _ => {
            let message = format!("this command is {OURS}, the control plane runs {image}");
            let fix = format!(
                "compare: kubectl exec -n {SYSTEM_NAMESPACE} deploy/{CONTROL_PLANE} -- weft version; upgrade the \
                 older"
            );
            Finding::warning(CHECK, message, fix)
        }
    })
}

fn image(deployment: &Deployment) -> Option<&str> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    pod.containers.first()?.image.as_deref()
}

/// Whether a Service has somebody behind it.
fn reached(service: &'static str, facts: &Facts) -> Finding {
    const CHECK: &str = "services";
    let slices = match &facts.slices {
        Ok(slices) => slices,
        Err(why) => return Finding::unknown(CHECK, &format!("EndpointSlices of {service}"), why),
    };
    let ready = slices.iter().filter(|slice| belongs(slice, service)).any(|slice| {
        let mut endpoints = slice.endpoints.iter();
        endpoints.any(|endpoint| {
            endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)
        })
    });
    if ready {
        return Finding::ok(CHECK, format!("{SYSTEM_NAMESPACE}/{service} has a ready endpoint"));
    }
    let message = format!("{SYSTEM_NAMESPACE}/{service} has no ready endpoint");
    let fix = format!(
        "the control plane must be ready, and its labels match: kubectl get endpointslices -n {SYSTEM_NAMESPACE}"
    );
    Finding::failed(CHECK, message, fix)
}

fn belongs(slice: &EndpointSlice, service: &str) -> bool {
    let labels = slice.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get("kubernetes.io/service-name"))
        .is_some_and(|name| name == service)
}
