//! `pods/binding`: what a scheduler does to give a pod its node.
//!
//! In comes a Binding, out goes `Success`; the pod has a node from then on, and never another.

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    failure::{Cause, Failure},
    kinds::{Kind, built_in},
    metadata::now,
    request::Asked,
    server::Server,
    store::Key,
    write::Written,
};

/// Gives a pod a node.
///
/// # Errors
/// When there is no such pod, it has a node, or the binding names none.
pub fn bind(server: &Server, kind: &Kind, asked: &Asked) -> Result<Written, Failure> {
    let binding = asked.json()?;
    let name = &asked.target.name;
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    if node.is_empty() {
        let cause = Cause::required("target.name", "");
        return Err(Failure::invalid(&built_in("pods"), name, &[cause]));
    }
    let mut store = server.store();
    let key = Key::new(kind, &asked.target.namespace, name);
    let pod = store.get(&key).ok_or_else(|| Failure::not_found(kind, name))?;
    if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
        let why = format!("pod {name} is already assigned to node \"{node}\"");
        return Err(Failure::conflict(kind, name, &why));
    }
    if pod["metadata"]["deletionTimestamp"].is_string() {
        let why = format!("pod {name} is being deleted, cannot be assigned to a host");
        return Err(Failure::conflict(kind, name, &why));
    }
    let mut pod = Value::clone(pod);
    pod["spec"]["nodeName"] = json!(node);
    let scheduled = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": now()});
    match pod["status"]["conditions"].as_array_mut() {
        Some(conditions) => conditions.push(scheduled),
        None => pod["status"]["conditions"] = json!([scheduled]),
    }
    store.put(key, pod);
    server.announce(&store);
    let object = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(Written { object, code: StatusCode::CREATED, warnings: Vec::new() })
}
