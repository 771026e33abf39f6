//! The columns in which `weft get` shows objects of each kind.

use std::collections::BTreeSet;

use comfy_table::Table;
use serde_json::Value;
use weft_control_plane::status::judge::SERVES_NOTHING;

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
        _ => Vec::new(),
    }
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
    let Some(conditions) = object["status"]["conditions"].as_array() else { return "-".into() };
    let failing = conditions.iter().find(|condition| condition["status"] != "True");
    if let Some(condition) = failing {
        let reason = text(&condition["reason"]);
        return match condition["type"].as_str() {
            Some("Accepted") => format!("refused: {reason}"),
            Some("ResolvedRefs") => format!("unresolved: {reason}"),
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
