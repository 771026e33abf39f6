//! The kubelet's probes, which come from outside the mesh: a strict port would refuse them, and one that answered
//! them would be open. So each goes to the sidecar's admin port, as HTTP, and the sidecar asks the app from inside
//! the pod: `/probe/CONTAINER/KIND`. Probes that run a command never leave the container and stay as they are; all
//! timings stay.
//!
//! A pod comes in; the rewritten pod goes out, with what the sidecar must know (ports by number) and the record of
//! what stood there.

use serde_json::{Map, Value, json};

use super::{
    ADMIN_PORT,
    shape::{CONTAINER_LISTS, containers_mut, is_restartable, text},
    undo::Record,
};
use crate::model::FieldError;

/// A place where a container says how it is asked.
pub(super) struct Place {
    /// Where, in a container.
    pub(super) pointer: &'static str,
    /// What the sidecar calls it.
    pub(super) kind: &'static str,
    /// Which handlers there are taken over: a hook's `tcpSocket` does nothing in Kubernetes either.
    handlers: &'static [&'static str],
}

/// Every place that is rewritten.
pub(super) const PLACES: [Place; 5] = [
    Place { pointer: "/startupProbe", kind: "startup", handlers: PROBE },
    Place { pointer: "/readinessProbe", kind: "readiness", handlers: PROBE },
    Place { pointer: "/livenessProbe", kind: "liveness", handlers: PROBE },
    Place { pointer: "/lifecycle/postStart", kind: "post-start", handlers: HOOK },
    Place { pointer: "/lifecycle/preStop", kind: "pre-stop", handlers: HOOK },
];
const PROBE: &[&str] = &["httpGet", "tcpSocket", "grpc"];
const HOOK: &[&str] = &["httpGet"];

/// Kubernetes' default of a probe's `timeoutSeconds`.
const PROBE_TIMEOUT: u64 = 1;

/// Sends the probes to the sidecar. Returns what it must know of each, by "CONTAINER/KIND".
pub(super) fn rewrite(
    pod: &mut Value,
    record: &mut Record,
    errors: &mut Vec<FieldError>,
) -> Map<String, Value> {
    let mut known = Map::new();
    for list in CONTAINER_LISTS {
        for (index, container) in containers_mut(pod, list).enumerate() {
            if list == "initContainers" && !is_restartable(container) {
                continue;
            }
            let name = text(container, "name").unwrap_or_default().to_owned();
            for place in &PLACES {
                let field = format!("spec.{list}[{index}]{}", place.pointer.replace('/', "."));
                let key = format!("{name}/{}", place.kind);
                match rewrite_one(container, place, &key) {
                    Ok(None) => {}
                    Ok(Some((original, entry))) => {
                        record.handler(&key, original);
                        known.insert(key, entry);
                    }
                    Err(error) => {
                        let field = format!("{field}.{}", error.field);
                        errors.push(FieldError::new(field, error.message));
                    }
                }
            }
        }
    }
    known
}

/// Returns the handler that stood there, and the sidecar's entry.
fn rewrite_one(
    container: &mut Value,
    place: &Place,
    key: &str,
) -> Result<Option<(Value, Value)>, FieldError> {
    let Some(asked) = container.pointer(place.pointer) else { return Ok(None) };
    let handler = place.handlers.iter().copied().find(|handler| asked[*handler].is_object());
    let Some(handler) = handler else { return Ok(None) };
    // A hook has none: the kubelet waits for it, before a pod's end for as long as the grace period.
    let is_probe = place.handlers.contains(&"grpc");
    let timeout = is_probe.then(|| asked["timeoutSeconds"].as_u64().unwrap_or(PROBE_TIMEOUT));
    let mut resolved = asked[handler].clone();
    resolved["port"] = port(container, &resolved["port"])
        .map_err(|message| FieldError::new(format!("{handler}.port"), message))?;
    if handler == "httpGet" {
        complete_http(&mut resolved);
    }
    let mut entry = json!({handler: resolved});
    if let Some(timeout) = timeout {
        entry["timeoutSeconds"] = timeout.into();
    }
    let Some(asked) = container.pointer_mut(place.pointer).and_then(Value::as_object_mut) else {
        return Ok(None);
    };
    let original = asked.remove(handler).unwrap_or_default();
    asked.insert("httpGet".to_owned(), ours(key));
    Ok(Some((json!({handler: original}), entry)))
}

/// The handler that stands in a place of ours.
pub(super) fn ours(key: &str) -> Value {
    json!({"path": format!("/probe/{key}"), "port": ADMIN_PORT})
}

/// Kubernetes' defaults, so that the sidecar need not know them.
fn complete_http(handler: &mut Value) {
    let defaults = [("path", "/"), ("scheme", "HTTP")];
    for (field, default) in defaults {
        if text(handler, field).is_none_or(str::is_empty) {
            handler[field] = Value::from(default);
        }
    }
}

/// A port by number: names are those of the container's own ports. Kubernetes also takes a number as text.
fn port(container: &Value, port: &Value) -> Result<Value, String> {
    let is_port = |number: u64| (1..=65535).contains(&number);
    let wrong = || format!("{port} is no port: use a number from 1 to 65535 or a port's name");
    let Some(name) = port.as_str() else {
        return port.as_u64().filter(|number| is_port(*number)).map(Value::from).ok_or_else(wrong);
    };
    let named = container["ports"].as_array().into_iter().flatten();
    let named = named.filter(|port| text(port, "name") == Some(name));
    let number = named.filter_map(|port| port["containerPort"].as_u64()).next();
    if let Some(number) = number.or_else(|| name.parse().ok()).filter(|number| is_port(*number)) {
        return Ok(Value::from(number));
    }
    let container = text(container, "name").unwrap_or_default();
    Err(format!("{name:?} names no port of container {container:?}: use one of its ports"))
}
