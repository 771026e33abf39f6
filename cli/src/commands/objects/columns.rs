//! The columns in which `weft get` shows objects of each kind.

use std::collections::BTreeSet;

use comfy_table::Table;
use serde_json::Value;
use weft_control_plane::{
    index::routes::CONTROLLER,
    model::access_policy::ROOT_NAMESPACE,
    status::{judge::SERVES_NOTHING, routes::PARTIALLY_INVALID},
};

use crate::output;

/// A table of objects of one kind. `connected` are the workloads, "NAMESPACE/NAME", with a sidecar there.
pub(super) fn table(
    objects: &[Value],
    connected: &BTreeSet<String>,
    with_namespace: bool,
    wide: bool,
) -> Table {
    let kind = objects.first().and_then(|object| object["kind"].as_str()).unwrap_or_default();
    let mut columns = Vec::new();
    if with_namespace {
        columns.push("namespace");
    }
    columns.push("name");
    columns.extend(own_columns(kind));
    columns.push("state");
    if wide {
        columns.extend(["generation", "labels", "created"]);
    }
    let mut table = output::table(&columns);
    for object in objects {
        let mut row = row(object, kind, with_namespace);
        row.push(state(object, connected));
        if wide {
            let metadata = &object["metadata"];
            row.push(text(&metadata["generation"]));
            row.push(pairs(&metadata["labels"]));
            row.push(text(&metadata["creationTimestamp"]));
        }
        table.add_row(row);
    }
    table
}

fn own_columns(kind: &str) -> &'static [&'static str] {
    match kind {
        "Service" => &["ports", "workloads"],
        "Workload" => &["service", "replicas", "ports", "command"],
        "HTTPRoute" | "GRPCRoute" | "TLSRoute" => &["parents", "hosts", "rules"],
        "TCPRoute" => &["parents", "rules"],
        "ReferenceGrant" => &["from", "to"],
        "TrafficPolicy" => &["targets", "sections"],
        "AccessPolicy" => &["targets", "mode", "rules", "default"],
        "ExternalService" => &["hosts", "ports"],
        _ => &[],
    }
}

fn row(object: &Value, kind: &str, with_namespace: bool) -> Vec<String> {
    let metadata = &object["metadata"];
    let mut row = Vec::new();
    if with_namespace {
        row.push(text(&metadata["namespace"]));
    }
    row.push(text(&metadata["name"]));
    row.extend(own_cells(object, kind));
    row
}

fn own_cells(object: &Value, kind: &str) -> Vec<String> {
    let spec = &object["spec"];
    match kind {
        "Service" => {
            let selected = pairs(&spec["selector"]);
            let selected = if selected == "-" { "that name it".into() } else { selected };
            vec![ports(spec), selected]
        }
        "Workload" => {
            let replicas = spec["replicas"].as_u64().unwrap_or(1).to_string();
            let words = spec["command"].as_array().map_or_else(Vec::new, |words| {
                words.iter().filter_map(Value::as_str).collect::<Vec<_>>()
            });
            vec![text(&spec["service"]), replicas, ports(spec), or_dash(shorten(&words.join(" ")))]
        }
        "HTTPRoute" | "GRPCRoute" | "TLSRoute" => {
            vec![parents(spec), list(&spec["hostnames"], text), rules(spec)]
        }
        "TCPRoute" => vec![parents(spec), rules(spec)],
        "ReferenceGrant" => vec![list(&spec["from"], granted), list(&spec["to"], granted)],
        "TrafficPolicy" => vec![targets(object), sections(spec)],
        "AccessPolicy" => {
            let mode = spec["mode"].as_str().unwrap_or("Enforce").to_owned();
            let rules = spec["rules"].as_array().map_or(0, Vec::len).to_string();
            vec![targets(object), mode, rules, text(&spec["default"])]
        }
        "ExternalService" => {
            let hosts = spec["hosts"].as_array().into_iter().flatten().filter_map(Value::as_str);
            vec![shorten(&hosts.collect::<Vec<_>>().join(",")), ports(spec)]
        }
        _ => Vec::new(),
    }
}

/// "cart:80, other/web, Gateway edge".
fn parents(spec: &Value) -> String {
    list(&spec["parentRefs"], |parent| {
        let place = parent["sectionName"].as_str().map(str::to_owned);
        let place = place.or_else(|| Some(parent["port"].as_u64()?.to_string()));
        let kind = match parent["kind"].as_str().unwrap_or("Gateway") {
            "Service" => String::new(),
            kind => format!("{kind} "),
        };
        let namespace = parent["namespace"].as_str().map(|namespace| format!("{namespace}/"));
        let place = place.map(|place| format!(":{place}"));
        let name = text(&parent["name"]);
        format!("{kind}{}{name}{}", namespace.unwrap_or_default(), place.unwrap_or_default())
    })
}

/// How many; without any, a route of HTTP has one.
fn rules(spec: &Value) -> String {
    spec["rules"].as_array().map_or(1, Vec::len).to_string()
}

/// "HTTPRoute in shop", "Service cart".
fn granted(entry: &Value) -> String {
    let namespace = entry["namespace"].as_str().map(|namespace| format!(" in {namespace}"));
    let name = entry["name"].as_str().map(|name| format!(" {name}"));
    format!("{}{}", text(&entry["kind"]), namespace.or(name).unwrap_or_default())
}

fn list(values: &Value, of_one: impl Fn(&Value) -> String) -> String {
    let values = values.as_array().into_iter().flatten();
    or_dash(values.map(of_one).collect::<Vec<_>>().join(", "))
}

/// What a policy holds for: "Service/cart:http, Namespace/shop".
fn targets(object: &Value) -> String {
    let of_one = |target: &Value| {
        let section = target["sectionName"].as_str().map(|section| format!(":{section}"));
        format!(
            "{}/{}{}",
            text(&target["kind"]),
            text(&target["name"]),
            section.unwrap_or_default()
        )
    };
    let all = object["spec"]["targetRefs"].as_array().into_iter().flatten().map(of_one);
    let all = all.collect::<Vec<_>>().join(", ");
    match (all.as_str(), object["metadata"]["namespace"].as_str()) {
        ("", Some(ROOT_NAMESPACE)) => "the mesh".into(),
        ("", Some(namespace)) => format!("Namespace/{namespace}"),
        _ => or_dash(all),
    }
}

/// The sections that a policy sets: "retry, timeouts".
fn sections(spec: &Value) -> String {
    let names = spec.as_object().into_iter().flat_map(|spec| spec.keys());
    let names: Vec<&str> = names.map(String::as_str).filter(|name| *name != "targetRefs").collect();
    or_dash(names.join(", "))
}

/// "http:80/grpc, 9090".
fn ports(spec: &Value) -> String {
    let of_one = |port: &Value| {
        let number = port["servicePort"].as_u64().or_else(|| port["port"].as_u64());
        let number = number.map_or_else(|| "auto".to_owned(), |number| number.to_string());
        let protocol = port["appProtocol"].as_str().or_else(|| port["protocol"].as_str());
        let protocol = protocol.filter(|protocol| *protocol != "TCP");
        let name = port["name"].as_str().map_or_else(String::new, |name| format!("{name}:"));
        format!("{name}{number}{}", protocol.map_or_else(String::new, |p| format!("/{p}")))
    };
    match spec["ports"].as_array() {
        Some(ports) => or_dash(ports.iter().map(of_one).collect::<Vec<_>>().join(", ")),
        None if spec["port"].is_u64() || spec["protocol"].is_string() => of_one(spec),
        None => "-".into(),
    }
}

/// "ready", "running" for a workload that serves nothing, or in words why not: the first condition that does
/// not hold. `describe` says more.
fn state(object: &Value, connected: &BTreeSet<String>) -> String {
    let conditions: Vec<&Value> = conditions(object).map(|(_, condition)| condition).collect();
    if conditions.is_empty() {
        return "-".into();
    }
    let partial = |condition: &Value| condition["type"] == PARTIALLY_INVALID;
    let failing = conditions.iter().find(|condition| condition["status"] != "True");
    let failing = failing.or_else(|| conditions.iter().find(|condition| partial(condition)));
    if let Some(condition) = failing {
        let reason = text(&condition["reason"]);
        return match condition["type"].as_str() {
            Some("Accepted") => format!("refused: {reason}"),
            Some("ResolvedRefs") => format!("unresolved: {reason}"),
            Some(PARTIALLY_INVALID) => format!("in part: {reason}"),
            Some("Programmed") => format!("not ready: {}", text(&condition["message"])),
            _ => format!("not {}: {reason}", text(&condition["type"])),
        };
    }
    let programmed = conditions.iter().find(|condition| condition["type"] == "Programmed");
    match programmed {
        None => "accepted".into(),
        Some(condition) if condition["reason"] != SERVES_NOTHING => "ready".into(),
        Some(_) if connected.contains(&full_name(object)) => "running".into(),
        Some(_) => "not running: no sidecar is connected".into(),
    }
}

/// Every condition of an object; of a route, with the parent at which the control plane says it.
pub(super) fn conditions(object: &Value) -> impl Iterator<Item = (Option<String>, &Value)> {
    let status = &object["status"];
    let own = status["conditions"].as_array().into_iter().flatten();
    let entries = status["parents"].as_array().into_iter().flatten();
    let entries = entries.filter(|parent| parent["controllerName"] == CONTROLLER);
    let of_parents = entries.flat_map(|parent| {
        let reference = serde_json::json!({ "parentRefs": [parent["parentRef"]] });
        let name = parents(&reference);
        let conditions = parent["conditions"].as_array().into_iter().flatten();
        conditions.map(move |condition| (Some(name.clone()), condition))
    });
    own.map(|condition| (None, condition)).chain(of_parents)
}

fn full_name(object: &Value) -> String {
    let metadata = &object["metadata"];
    format!("{}/{}", text(&metadata["namespace"]), text(&metadata["name"]))
}

/// "app=cart,version=v1".
pub(super) fn pairs(map: &Value) -> String {
    let pairs = map.as_object().map_or_else(Vec::new, |map| {
        map.iter().map(|(key, value)| format!("{key}={}", text(value))).collect()
    });
    or_dash(pairs.join(","))
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => or_dash(text.clone()),
        other => other.to_string(),
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".into() } else { text }
}

fn shorten(text: &str) -> String {
    const LONGEST: usize = 40;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_show_name_number_and_protocol() {
        for (spec, shown) in [
            (json!({}), "-"),
            (json!({"port": 8080}), "8080"),
            (json!({"protocol": "grpc"}), "auto/grpc"),
            (json!({"ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}), "http:80"),
            (json!({"ports": [{"port": 1}, {"port": 9, "servicePort": 2}]}), "1, 2"),
        ] {
            assert_eq!(ports(&spec), shown, "{spec}");
        }
    }

    #[test]
    fn a_route_shows_its_parents_and_what_is_said_at_them() {
        let parents =
            json!([{"group": "", "kind": "Service", "name": "cart", "port": 80}, {"name": "edge"}]);
        let said = |r#type: &str, status: &str, reason: &str| json!({"type": r#type, "status": status, "reason": reason, "message": ""});
        let accepted = said("Accepted", "True", "Accepted");
        for (theirs, ours, expected) in [
            (json!([]), json!([accepted]), "accepted"),
            (json!([said("Accepted", "False", "Theirs")]), json!([accepted]), "accepted"),
            (
                json!([]),
                json!([said("Accepted", "False", "NoMatchingParent")]),
                "refused: NoMatchingParent",
            ),
            (
                json!([]),
                json!([accepted, said("PartiallyInvalid", "True", "UnsupportedValue")]),
                "in part: UnsupportedValue",
            ),
        ] {
            let object = json!({
                "kind": "HTTPRoute",
                "metadata": {"namespace": "shop", "name": "split"},
                "spec": {"parentRefs": parents, "rules": [{}, {}]},
                "status": {"parents": [
                    {"parentRef": parents[1], "controllerName": "example.com/gateways", "conditions": theirs},
                    {"parentRef": parents[0], "controllerName": CONTROLLER, "conditions": ours},
                ]},
            });
            assert_eq!(own_cells(&object, "HTTPRoute"), ["cart:80, Gateway edge", "-", "2"]);
            assert_eq!(state(&object, &BTreeSet::new()), expected);
        }
    }

    #[test]
    fn policies_show_what_they_hold_for_and_what_they_set() {
        let target = json!([{"kind": "Service", "name": "cart", "sectionName": "http"}]);
        let policy = json!({
            "metadata": {"namespace": "shop"},
            "spec": {"targetRefs": target, "timeouts": {}, "retry": {}},
        });
        assert_eq!(own_cells(&policy, "TrafficPolicy"), ["Service/cart:http", "retry, timeouts"]);
        for (namespace, shown) in [("weft-system", "the mesh"), ("shop", "Namespace/shop")] {
            let policy = json!({
                "metadata": {"namespace": namespace},
                "spec": {"mode": "Audit", "default": "Deny", "rules": [{}, {}]},
            });
            assert_eq!(own_cells(&policy, "AccessPolicy"), [shown, "Audit", "2", "Deny"]);
        }
    }

    #[test]
    fn the_state_is_a_word_or_why_not() {
        let condition = |r#type: &str, status: &str, reason: &str| json!({"type": r#type, "status": status, "reason": reason, "message": "no instance"});
        let client = condition("Programmed", "True", SERVES_NOTHING);
        let good = [
            condition("Accepted", "True", "Accepted"),
            condition("Programmed", "True", "Programmed"),
            condition("ResolvedRefs", "True", "ResolvedRefs"),
        ];
        let connected = BTreeSet::from(["shop/cart".to_owned()]);
        for (name, conditions, expected) in [
            ("cart", json!(null), "-"),
            ("cart", json!(good), "ready"),
            ("cart", json!([good[0]]), "accepted"),
            ("cart", json!([good[0], client]), "running"),
            ("web", json!([client]), "not running: no sidecar is connected"),
            (
                "cart",
                json!([condition("Programmed", "False", "NoInstances")]),
                "not ready: no instance",
            ),
            (
                "cart",
                json!([condition("ResolvedRefs", "False", "PortNotServed")]),
                "unresolved: PortNotServed",
            ),
            ("cart", json!([condition("Accepted", "False", "Conflict")]), "refused: Conflict"),
        ] {
            let object = json!({
                "metadata": {"namespace": "shop", "name": name},
                "status": {"conditions": conditions},
            });
            assert_eq!(state(&object, &connected), expected, "{conditions}");
        }
    }
}
