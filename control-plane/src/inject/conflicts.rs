//! What cannot work beside a sidecar: names and ports that are the sidecar's, and its user, whose connections leave
//! around the mesh. A pod without a sidecar comes in, every mistake goes out by its field.

use serde_json::Value;

use super::{
    ADMIN_PORT, INBOUND_PORT, INIT_CONTAINER, OUTBOUND_PORT, PROXY_CONTAINER, PROXY_USER, VOLUME,
    shape::{CONTAINER_LISTS, containers, text},
};
use crate::model::FieldError;

/// Looks for all of them.
pub(super) fn find(pod: &Value, errors: &mut Vec<FieldError>) {
    for list in CONTAINER_LISTS {
        for (index, container) in containers(pod, list).enumerate() {
            let field = format!("spec.{list}[{index}]");
            name(container, &field, errors);
            user(pod, container, &field, errors);
            ports(container, &field, errors);
        }
    }
    for (index, volume) in containers(pod, "volumes").enumerate() {
        if text(volume, "name") == Some(VOLUME) {
            let message = format!("\"{VOLUME}\" is the sidecar's volume: use another name");
            errors.push(FieldError::new(format!("spec.volumes[{index}].name"), message));
        }
    }
}

fn name(container: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let Some(name @ (INIT_CONTAINER | PROXY_CONTAINER)) = text(container, "name") else { return };
    let message = format!(
        "\"{name}\" is the name of a container that the injector adds, and this one is not its: \
         use another name"
    );
    errors.push(FieldError::new(format!("{field}.name"), message));
}

/// A container's own user goes before its pod's.
fn user(pod: &Value, container: &Value, field: &str, errors: &mut Vec<FieldError>) {
    const USER: &str = "securityContext.runAsUser";
    let of = |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_u64);
    let own = of(container, "/securityContext/runAsUser");
    if own.or(of(pod, "/spec/securityContext/runAsUser")) != Some(u64::from(PROXY_USER)) {
        return;
    }
    let field = if own.is_some() { format!("{field}.{USER}") } else { format!("spec.{USER}") };
    if errors.iter().any(|error| error.field == field) {
        return;
    }
    let name = text(container, "name").unwrap_or_default();
    let message = format!(
        "{PROXY_USER} is the sidecar's user, whose connections are not intercepted: container \
         {name:?} would leave around the mesh; use another user"
    );
    errors.push(FieldError::new(field, message));
}

fn ports(container: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let ports = container.get("ports").and_then(Value::as_array).into_iter().flatten();
    for (index, port) in ports.enumerate() {
        let number = port.get("containerPort").and_then(Value::as_u64).unwrap_or_default();
        let reserved = [OUTBOUND_PORT, INBOUND_PORT, ADMIN_PORT];
        if reserved.iter().any(|reserved| u64::from(*reserved) == number) {
            let field = format!("{field}.ports[{index}].containerPort");
            let message = format!("{number} is a port of the sidecar: let the app use another");
            errors.push(FieldError::new(field, message));
        }
    }
}
