//! The objects of an installation: the files of `deploy/k8s/base`, embedded, in the order in which one apply works.
//!
//! Comes in: what the user wants otherwise than they say. Goes out: the objects, as YAML values that keep the order
//! of their fields. Without options they are what `kubectl kustomize deploy/k8s/base` prints.

use anyhow::Context as _;
use serde::Deserialize as _;
use serde_norway::{Deserializer, Value};

use crate::command::InstallArgs;

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../../deploy/k8s/base/", $name)))),+]
    };
}

/// As `kustomization.yaml` lists them.
const FILES: &[(&str, &str)] = files![
    "namespace.yaml",
    "crds/workloads.weft.dev.yaml",
    "crds/meshconfigs.weft.dev.yaml",
    "crds/trafficpolicies.weft.dev.yaml",
    "crds/accesspolicies.weft.dev.yaml",
    "crds/externalservices.weft.dev.yaml",
    "rbac.yaml",
    "control-plane.yaml",
    "network-policy.yaml",
    "webhook.yaml",
];

/// The kind of the definitions of Weft's own kinds.
pub(super) const DEFINITION: &str = "CustomResourceDefinition";

/// The objects to apply.
pub(super) fn objects(options: &InstallArgs) -> anyhow::Result<Vec<Value>> {
    let mut objects = Vec::new();
    for (name, text) in FILES {
        for document in Deserializer::from_str(text) {
            let object =
                Value::deserialize(document).with_context(|| format!("{name} is broken"))?;
            objects.push(object);
        }
    }
    if options.no_crds {
        objects.retain(|object| object["kind"] != DEFINITION);
    }
    let deployment = objects.iter_mut().find(|object| object["kind"] == "Deployment");
    let container =
        deployment.map(|deployment| &mut deployment["spec"]["template"]["spec"]["containers"][0]);
    configure(container.context("the manifests hold no Deployment")?, options);
    Ok(objects)
}

/// The whole as one text for `kubectl apply -f -`.
pub(super) fn to_yaml(objects: &[Value]) -> anyhow::Result<String> {
    let documents: Result<Vec<String>, _> = objects.iter().map(serde_norway::to_string).collect();
    Ok(documents?.join("---\n"))
}

fn configure(container: &mut Value, options: &InstallArgs) {
    if let Some(image) = &options.image {
        container["image"] = image.clone().into();
    }
    let trust_domain = options.trust_domain.as_ref().map(ToString::to_string);
    let inbound_mode = options.inbound_mode.map(|mode| mode.as_str().to_owned());
    for (flag, value) in [
        ("--proxy-image=", options.proxy_image.clone()),
        ("--trust-domain=", trust_domain),
        ("--inbound-mode=", inbound_mode),
    ] {
        if let Some(value) = value {
            set_argument(&mut container["args"], flag, &value);
        }
    }
}

/// Gives a flag another value; one that is not there yet is added.
fn set_argument(arguments: &mut Value, flag: &str, value: &str) {
    let Some(arguments) = arguments.as_sequence_mut() else { return };
    let argument = Value::from(format!("{flag}{value}"));
    let given = |known: &&mut Value| known.as_str().is_some_and(|known| known.starts_with(flag));
    match arguments.iter_mut().find(given) {
        Some(known) => *known = argument,
        None => arguments.push(argument),
    }
}

#[cfg(test)]
mod tests;
