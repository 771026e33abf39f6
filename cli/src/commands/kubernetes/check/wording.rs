//! Judgements of what namespaces say to Weft: labels that it does not know, which nobody would tell of, and settings
//! for which it refuses every pod. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use weft_control_plane::model::PodSettings;

use super::{facts::Facts, finding::Finding, pods::wish};
use crate::commands::kubernetes::INJECT;

const CHECK: &str = "namespaces";

/// What is wrong. Namespaces that cannot be read are told of elsewhere.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let namespaces = facts.namespaces.iter().flatten();
    namespaces
        .flat_map(|namespace| label(namespace).into_iter().chain(settings(namespace)))
        .collect()
}

/// A label that is neither word: the API server sends the webhook none of its pods.
fn label(namespace: &Namespace) -> Option<Finding> {
    let (name, value) = wish(namespace)?;
    if matches!(value, "enabled" | "disabled") {
        return None;
    }
    let message = format!(
        "{name} has the label {INJECT}={value}, which is no word of Weft's: it is not meshed"
    );
    let fix = format!("kubectl label --overwrite namespace {name} {INJECT}=enabled (or disabled)");
    Some(Finding::failed(CHECK, message, fix))
}

/// Settings that are wrong, in a namespace that is meshed.
fn settings(namespace: &Namespace) -> Option<Finding> {
    let (name, _) = wish(namespace).filter(|(_, value)| *value == "enabled")?;
    let annotations = namespace.metadata.annotations.as_ref()?;
    let errors = PodSettings::parse(&BTreeMap::new(), annotations).err()?;
    let listed: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let message = format!("{name} can have no meshed pod: {}", listed.join("; "));
    let fix =
        format!("kubectl annotate --overwrite namespace {name} KEY=VALUE, or KEY- to take it away");
    Some(Finding::failed(CHECK, message, fix))
}
