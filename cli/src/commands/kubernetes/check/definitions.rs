//! Judgements of the definitions of Weft's own kinds: whether those in the cluster are this version's. Pure.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use super::{super::cluster::Answer, INSTALL_AGAIN, finding::Finding};

const CHECK: &str = "definitions";
/// Which version of Weft wrote a definition.
const VERSION: &str = "weft.dev/version";

type Found = Answer<Option<CustomResourceDefinition>>;

/// Whether this version's definition may take the place of what is there.
pub(super) fn before(name: &str, found: &Found) -> Finding {
    let definition = match found {
        Ok(Some(definition)) => definition,
        Ok(None) => return Finding::ok(CHECK, format!("the name {name} is free")),
        Err(why) => return Finding::unknown(CHECK, name, why),
    };
    let written_by = version(definition);
    match written_by {
        None => {
            let message = format!("{name} is there, and was not made by Weft");
            let fix = "find out whose it is; Weft cannot run beside another owner of weft.dev";
            Finding::failed(CHECK, message, fix)
        }
        Some(theirs) if numbers(theirs) > numbers(env!("CARGO_PKG_VERSION")) => {
            let message = format!("{name} is of the newer version {theirs}");
            let fix = format!(
                "use `weft` of version {theirs}, or leave the definitions: weft install --no-crds"
            );
            Finding::failed(CHECK, message, fix)
        }
        Some(theirs) => {
            Finding::ok(CHECK, format!("{name} is of version {theirs}: apply renews it"))
        }
    }
}

/// Whether the definition is there, in force, and this version's.
pub(super) fn after(name: &str, found: &Found) -> Finding {
    let definition = match found {
        Ok(Some(definition)) => definition,
        Ok(None) => {
            return Finding::failed(CHECK, format!("{name} is not there"), INSTALL_AGAIN);
        }
        Err(why) => return Finding::unknown(CHECK, name, why),
    };
    let conditions = definition.status.as_ref().and_then(|status| status.conditions.as_ref());
    let unmet = conditions.into_iter().flatten().find(|condition| {
        ["Established", "NamesAccepted"].contains(&&*condition.type_) && condition.status != "True"
    });
    if let Some(condition) = unmet {
        let why = condition.message.as_deref().unwrap_or_default();
        let message = format!("{name} is not in force: {}: {why}", condition.type_);
        return Finding::failed(CHECK, message, format!("kubectl describe crd {name}"));
    }
    let ours = weft_control_plane::model::crd::all();
    let ours = ours.iter().find(|ours| ours["metadata"]["name"] == name).map(|ours| &ours["spec"]);
    let theirs = serde_json::to_value(&definition.spec).unwrap_or_default();
    if ours.is_some_and(|ours| includes(&theirs, ours)) {
        return Finding::ok(CHECK, format!("{name} is this version's"));
    }
    let theirs = version(definition).unwrap_or("unknown");
    let message =
        format!("{name} is of version {theirs}, not {}", concat!(env!("CARGO_PKG_VERSION"), "'s"));
    Finding::warning(CHECK, message, INSTALL_AGAIN)
}

fn version(definition: &CustomResourceDefinition) -> Option<&str> {
    definition.metadata.annotations.as_ref()?.get(VERSION).map(String::as_str)
}

/// "0.10.2" as numbers, so that 0.10 is newer than 0.9.
fn numbers(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// Whether everything that ours says stands in theirs: the API server adds defaults of its own.
fn includes(theirs: &Value, ours: &Value) -> bool {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => ours
            .iter()
            .all(|(key, ours)| theirs.get(key).is_some_and(|theirs| includes(theirs, ours))),
        (Value::Array(theirs), Value::Array(ours)) => {
            theirs.len() == ours.len()
                && theirs.iter().zip(ours).all(|(theirs, ours)| includes(theirs, ours))
        }
        // 1 and 1.0 are one number.
        (Value::Number(theirs), Value::Number(ours)) => theirs.as_f64() == ours.as_f64(),
        (theirs, ours) => theirs == ours,
    }
}
