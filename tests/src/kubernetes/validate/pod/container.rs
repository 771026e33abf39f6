//! Containers: what each must say, and what its names refer to.
//!
//! In comes a container with its defaults and the pod's volumes, out go the causes to refuse it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{list, probe::check_restart};
use crate::kubernetes::{
    failure::Cause,
    quantity::amount,
    validate::names::{is_label, is_port_name, not_label},
};

/// Checks a container.
pub(super) fn check_container(
    container: &Value,
    is_init: bool,
    path: &str,
    volumes: &BTreeSet<&str>,
    causes: &mut Vec<Cause>,
) {
    let name = container["name"].as_str().unwrap_or_default();
    match name {
        "" => causes.push(Cause::required(format!("{path}.name"), "")),
        name if !is_label(name) => causes.push(not_label(&format!("{path}.name"), name)),
        _ => {}
    }
    let image = container["image"].as_str().unwrap_or_default();
    if image.is_empty() {
        causes.push(Cause::required(format!("{path}.image"), ""));
    } else if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        causes.push(Cause::invalid(format!("{path}.image"), &json!(image), why));
    }
    check_restart(container, is_init, path, causes);
    check_ports(container, path, causes);
    check_environment(container, path, causes);
    check_mounts(container, path, volumes, causes);
    check_security(container, path, causes);
    check_resources(container, path, causes);
}

fn check_ports(container: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut names = BTreeSet::new();
    for (index, port) in list(&container["ports"]).iter().enumerate() {
        let path = format!("{path}.ports[{index}]");
        if let Some(name) = port["name"].as_str().filter(|name| !name.is_empty()) {
            if !is_port_name(name) {
                let why = if name.len() > 15 {
                    "must be no more than 15 characters"
                } else {
                    "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-), with at least one letter"
                };
                causes.push(Cause::invalid(format!("{path}.name"), &json!(name), why));
            }
            if !names.insert(name) {
                causes.push(Cause::duplicate(format!("{path}.name"), &json!(name)));
            }
        }
        let number = &port["containerPort"];
        if !number.as_i64().is_some_and(|number| (1..=65535).contains(&number)) {
            let why = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(format!("{path}.containerPort"), number, why));
        }
        if !["TCP", "UDP", "SCTP"].iter().any(|one| port["protocol"] == *one) {
            let field = format!("{path}.protocol");
            causes.push(Cause::unsupported(field, &port["protocol"], &["SCTP", "TCP", "UDP"]));
        }
    }
}

fn check_environment(container: &Value, path: &str, causes: &mut Vec<Cause>) {
    const FIELDS: &[&str] = &[
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    for (index, variable) in list(&container["env"]).iter().enumerate() {
        let path = format!("{path}.env[{index}]");
        if variable["name"].as_str().unwrap_or_default().is_empty() {
            causes.push(Cause::required(format!("{path}.name"), ""));
        }
        let Some(from) = variable.get("valueFrom") else { continue };
        let path = format!("{path}.valueFrom");
        let sources = from.as_object().map_or(0, serde_json::Map::len);
        if sources != 1 {
            let why = "must specify exactly one source";
            causes.push(Cause::invalid(path.clone(), &json!(""), why));
        }
        if variable["value"].as_str().is_some_and(|value| !value.is_empty()) {
            let why = "may not be specified when `value` is not empty";
            causes.push(Cause::invalid(path.clone(), &json!(""), why));
        }
        if let Some(field) = from["fieldRef"]["fieldPath"].as_str() {
            let of_map = ["metadata.labels['", "metadata.annotations['"];
            if !FIELDS.contains(&field) && !of_map.iter().any(|start| field.starts_with(start)) {
                let field_path = format!("{path}.fieldRef.fieldPath");
                causes.push(Cause::unsupported(field_path, &json!(field), FIELDS));
            }
        }
    }
}

fn check_mounts(container: &Value, path: &str, volumes: &BTreeSet<&str>, causes: &mut Vec<Cause>) {
    let mut places = BTreeSet::new();
    for (index, mount) in list(&container["volumeMounts"]).iter().enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        if !volumes.contains(mount["name"].as_str().unwrap_or_default()) {
            causes.push(Cause::not_found(format!("{path}.name"), &mount["name"]));
        }
        let place = mount["mountPath"].as_str().unwrap_or_default();
        if place.is_empty() {
            causes.push(Cause::required(format!("{path}.mountPath"), ""));
        } else if !places.insert(place) {
            let field = format!("{path}.mountPath");
            causes.push(Cause::invalid(field, &json!(place), "must be unique"));
        }
    }
}

fn check_security(container: &Value, path: &str, causes: &mut Vec<Cause>) {
    let security = &container["securityContext"];
    let path = format!("{path}.securityContext");
    for field in ["runAsUser", "runAsGroup"] {
        let id = &security[field];
        if !id.is_null() && !id.as_i64().is_some_and(|id| (0..=2_147_483_647).contains(&id)) {
            let why = "must be between 0 and 2147483647, inclusive";
            causes.push(Cause::invalid(format!("{path}.{field}"), id, why));
        }
    }
    if security["allowPrivilegeEscalation"] == false {
        let adds_admin =
            list(&security["capabilities"]["add"]).iter().any(|one| one == "CAP_SYS_ADMIN");
        if security["privileged"] == true || adds_admin {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            causes.push(Cause::invalid(path, security, why));
        }
    }
}

fn check_resources(container: &Value, path: &str, causes: &mut Vec<Cause>) {
    let resources = &container["resources"];
    let amount_of = |list: &str, name: &str| amount(resources[list][name].as_str()?);
    for list in ["limits", "requests"] {
        for (name, quantity) in resources[list].as_object().into_iter().flatten() {
            if amount_of(list, name).is_some_and(|amount| amount < 0.0) {
                let field = format!("{path}.resources.{list}[{name}]");
                causes.push(Cause::invalid(field, quantity, "must be greater than or equal to 0"));
            }
        }
    }
    for (name, request) in resources["requests"].as_object().into_iter().flatten() {
        let limit = amount_of("limits", name);
        if amount_of("requests", name).zip(limit).is_some_and(|(request, limit)| request > limit) {
            let limit = resources["limits"][name].as_str().unwrap_or_default();
            let why = format!("must be less than or equal to {name} limit of {limit}");
            causes.push(Cause::invalid(format!("{path}.resources.requests"), request, &why));
        }
    }
}
