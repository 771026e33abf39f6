//! Services: their ports, their addresses, and what of them stays.
//!
//! In comes a Service's spec with its defaults, out go the causes to refuse it.

use std::{collections::BTreeSet, net::IpAddr};

use serde_json::{Value, json};

use super::names::{check_labels, is_label, is_port_name, is_subdomain, not_label, not_subdomain};
use crate::kubernetes::failure::Cause;

/// Checks a Service's spec.
pub(super) fn check(spec: &Value, causes: &mut Vec<Cause>) {
    const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    let kind = spec["type"].as_str().unwrap_or_default();
    if !TYPES.contains(&kind) {
        causes.push(Cause::unsupported("spec.type", &spec["type"], TYPES));
    }
    check_labels(&spec["selector"], "spec.selector", causes);
    let is_headless = spec["clusterIP"] == "None";
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    if ports.is_empty() && !is_headless && kind != "ExternalName" {
        causes.push(Cause::required("spec.ports", ""));
    }
    check_ports(ports, causes);
    if kind == "ExternalName" {
        let name = spec["externalName"].as_str().unwrap_or_default();
        if name.is_empty() {
            causes.push(Cause::required("spec.externalName", ""));
        } else if !is_subdomain(name.trim_end_matches('.')) {
            causes.push(not_subdomain("spec.externalName", name));
        }
        if spec["clusterIP"].as_str().is_some_and(|address| !address.is_empty()) {
            let why = "may not be set when `type` is 'ExternalName'";
            causes.push(Cause::forbidden("spec.clusterIPs[0]", why));
        }
    }
    if let Some(address) = spec["clusterIP"].as_str()
        && !address.is_empty()
        && !is_headless
        && address.parse::<IpAddr>().is_err()
    {
        let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        causes.push(Cause::invalid("spec.clusterIPs[0]", &json!(address), why));
    }
}

fn check_ports(ports: &[Value], causes: &mut Vec<Cause>) {
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        let name = port["name"].as_str().unwrap_or_default();
        if name.is_empty() && ports.len() > 1 {
            causes.push(Cause::required(format!("{path}.name"), ""));
        } else if !name.is_empty() {
            if !is_label(name) {
                causes.push(not_label(&format!("{path}.name"), name));
            }
            if !names.insert(name) {
                causes.push(Cause::duplicate(format!("{path}.name"), &json!(name)));
            }
        }
        let is_port =
            |value: &Value| value.as_i64().is_some_and(|port| (1..=65535).contains(&port));
        if !is_port(&port["port"]) {
            let why = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(format!("{path}.port"), &port["port"], why));
        }
        let fits = match &port["targetPort"] {
            Value::String(name) => is_port_name(name),
            number => is_port(number),
        };
        if !fits {
            let why = "must be a port number between 1 and 65535, or a port's name of at most 15 characters";
            causes.push(Cause::invalid(format!("{path}.targetPort"), &port["targetPort"], why));
        }
        if !["TCP", "UDP", "SCTP"].iter().any(|one| port["protocol"] == *one) {
            let field = format!("{path}.protocol");
            causes.push(Cause::unsupported(field, &port["protocol"], &["SCTP", "TCP", "UDP"]));
        }
        if !numbers.insert((port["port"].to_string(), port["protocol"].to_string())) {
            let both = json!({"port": port["port"], "protocol": port["protocol"]});
            causes.push(Cause::duplicate(path, &both));
        }
    }
}

/// A Service keeps its cluster address, as long as it is of a type that has one.
pub(super) fn check_change(before: &Value, after: &Value, causes: &mut Vec<Cause>) {
    let (old, new) = (&before["spec"]["clusterIP"], &after["spec"]["clusterIP"]);
    let has_one = |service: &Value| service["spec"]["type"] != "ExternalName";
    let is_set = old.as_str().is_some_and(|address| !address.is_empty());
    if has_one(before) && has_one(after) && is_set && old != new {
        let why = "may not change once set";
        causes.push(Cause::invalid("spec.clusterIPs[0]", &json!([new]), why));
    }
}
