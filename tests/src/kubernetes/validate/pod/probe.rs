//! Probes, hooks and restart policies: which containers may have them, and what they must say.
//!
//! In comes a container with its defaults, out go the causes to refuse it.

use serde_json::{Value, json};

use crate::kubernetes::{failure::Cause, validate::names::is_port_name};

/// Only init containers that go on running have a restart policy of their own, probes and hooks.
pub(super) fn check_restart(container: &Value, is_init: bool, path: &str, causes: &mut Vec<Cause>) {
    let policy = &container["restartPolicy"];
    let field = format!("{path}.restartPolicy");
    match (is_init, policy) {
        (_, Value::Null) => {}
        (true, policy) if policy == "Always" => {}
        (true, policy) => causes.push(Cause::unsupported(field, policy, &["Always"])),
        (false, _) => {
            causes.push(Cause::forbidden(field, "may not be set for non-init containers"))
        }
    }
    let goes_on = !is_init || policy == "Always";
    for probe in ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
        let Some(found) = container.get(probe) else { continue };
        let field = format!("{path}.{probe}");
        if !goes_on {
            let why = "may not be set for init containers without restartPolicy=Always";
            causes.push(Cause::forbidden(field, why));
        } else if probe == "lifecycle" {
            for hook in ["postStart", "preStop"] {
                if let Some(handler) = found.get(hook) {
                    check_handler(handler, &format!("{field}.{hook}"), false, causes);
                }
            }
        } else {
            check_handler(found, &field, true, causes);
            check_timings(found, &field, probe != "readinessProbe", causes);
        }
    }
}

fn check_handler(handler: &Value, path: &str, is_probe: bool, causes: &mut Vec<Cause>) {
    let kinds: &[&str] = if is_probe {
        &["exec", "httpGet", "tcpSocket", "grpc"]
    } else {
        &["exec", "httpGet", "tcpSocket", "sleep"]
    };
    let found: Vec<&&str> = kinds.iter().filter(|kind| handler.get(**kind).is_some()).collect();
    match found[..] {
        [] => causes.push(Cause::required(path, "must specify a handler type")),
        [_] => {}
        [_, second, ..] => {
            let why = "may not specify more than 1 handler type";
            causes.push(Cause::forbidden(format!("{path}.{second}"), why));
        }
    }
    for kind in ["httpGet", "tcpSocket", "grpc"] {
        if let Some(inner) = handler.get(kind) {
            check_port(&inner["port"], &format!("{path}.{kind}.port"), causes);
        }
    }
    if let Some(scheme) = handler["httpGet"]["scheme"].as_str()
        && !["HTTP", "HTTPS"].contains(&scheme)
    {
        let field = format!("{path}.httpGet.scheme");
        causes.push(Cause::unsupported(field, &json!(scheme), &["HTTP", "HTTPS"]));
    }
}

fn check_timings(probe: &Value, path: &str, once: bool, causes: &mut Vec<Cause>) {
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        if probe[field].as_i64().is_some_and(|value| value < 0) {
            let why = "must be greater than or equal to 0";
            causes.push(Cause::invalid(format!("{path}.{field}"), &probe[field], why));
        }
    }
    if once && probe["successThreshold"].as_i64().is_some_and(|value| value != 1) {
        let field = format!("{path}.successThreshold");
        causes.push(Cause::invalid(field, &probe["successThreshold"], "must be 1"));
    }
}

/// A port by number, or by name where names are allowed.
fn check_port(port: &Value, path: &str, causes: &mut Vec<Cause>) {
    let fits = match port {
        Value::String(name) => is_port_name(name),
        port => port.as_i64().is_some_and(|number| (1..=65535).contains(&number)),
    };
    if !fits {
        causes.push(Cause::invalid(path, port, "must be between 1 and 65535, inclusive"));
    }
}
