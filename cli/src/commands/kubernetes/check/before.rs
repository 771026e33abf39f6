//! Before the installation: whether the cluster lets Weft in, and whether something is in its way. Pure.

use super::{
    definitions,
    facts::{Facts, Right},
    finding::Finding,
    pods,
};
use crate::commands::kubernetes::SYSTEM_NAMESPACE;

pub(super) fn judge(facts: &Facts, rights: &[Right], meant: &[String]) -> Vec<Finding> {
    let mut findings = vec![of_rights(rights), admission(facts), system(facts)];
    findings.extend(facts.definitions.iter().map(|(name, found)| definitions::before(name, found)));
    findings.extend(pods::security(facts, meant));
    findings
}

fn of_rights(rights: &[Right]) -> Finding {
    const CHECK: &str = "your rights";
    if let Some((what, why)) =
        rights.iter().find_map(|right| Some((&right.what, right.allowed.as_ref().err()?)))
    {
        return Finding::unknown(CHECK, what, why);
    }
    let missing: Vec<&str> = rights
        .iter()
        .filter(|right| right.allowed != Ok(true))
        .map(|right| right.what.as_str())
        .collect();
    if missing.is_empty() {
        return Finding::ok(CHECK, "you may make everything that `weft install` prints");
    }
    let message = format!("you may not {}", missing.join(", "));
    Finding::failed(
        CHECK,
        message,
        "let an administrator of the cluster install Weft, or give you these rights",
    )
}

/// Whether the API server knows configurations of webhooks at all.
fn admission(facts: &Facts) -> Finding {
    const CHECK: &str = "admission webhooks";
    match &facts.webhook {
        Ok(_) => Finding::ok(CHECK, "the API server knows admissionregistration.k8s.io/v1"),
        Err(why) if why.contains("not find the requested resource") => {
            let fix = "turn the admission plug-in MutatingAdmissionWebhook on";
            Finding::failed(CHECK, "the API server knows no MutatingWebhookConfiguration", fix)
        }
        Err(why) => Finding::unknown(CHECK, "mutatingwebhookconfigurations", why),
    }
}

/// Whether the namespace is free, or Weft's already.
fn system(facts: &Facts) -> Finding {
    const CHECK: &str = "installation";
    let namespace = match &facts.system {
        Ok(Some(namespace)) => namespace,
        Ok(None) => return Finding::ok(CHECK, format!("the name {SYSTEM_NAMESPACE} is free")),
        Err(why) => return Finding::unknown(CHECK, &format!("namespace {SYSTEM_NAMESPACE}"), why),
    };
    let labels = namespace.metadata.labels.as_ref();
    let ours = labels.and_then(|labels| labels.get("app.kubernetes.io/part-of"));
    if ours.is_none_or(|part| part != "weft") {
        let message = format!("namespace {SYSTEM_NAMESPACE} is there, and was not made by Weft");
        let fix = format!(
            "if it is empty, delete it: kubectl delete namespace {SYSTEM_NAMESPACE}; Weft can have no other"
        );
        return Finding::failed(CHECK, message, fix);
    }
    if namespace.metadata.deletion_timestamp.is_some() {
        let message = format!("namespace {SYSTEM_NAMESPACE} is being deleted");
        return Finding::failed(CHECK, message, "wait until it is gone");
    }
    let fix = "apply changes it to this version; `weft check` says how it is now";
    Finding::warning(CHECK, "Weft is installed already", fix)
}
