//! What holds in the place of an object that cannot be read, and of which no readable form is known, where to leave it
//! out would let through what it keeps out: an `AccessPolicy`, the `MeshConfig`.
//!
//! | cannot be read | holds instead |
//! |---|---|
//! | an `AccessPolicy` | everything is denied to everybody where it holds; in Audit mode this is only counted |
//! | of it, a reference to a target | its namespace; in the root namespace the whole mesh |
//! | the `MeshConfig` | each of its fields that can be read |
//! | of it, `access`, `egress`, `inbound` | `Deny`, `RegisteredOnly`, `strict`; also where they are not given, but a field's name is unknown |
//!
//! Comes in: the object as JSON, and what is wrong with it. Goes out: an object of its name. It must never let through
//! what the object might keep out.

use serde_json::{Map, Value, json};

use super::{
    TargetKind,
    access_policy::ROOT_NAMESPACE,
    kinds::{Object, WEFT},
    metadata::DEFAULT_NAMESPACE,
    parse::parse_object,
};

/// The fields of a MeshConfig, and what holds of those that must not be left out.
const OF_MESH: &[(&str, Option<(&str, &str)>)] = &[
    ("trustDomain", None),
    ("inbound", Some(("mode", "strict"))),
    ("nameSuffixes", None),
    ("addressRanges", None),
    ("egress", Some(("", "RegisteredOnly"))),
    ("defaults", None),
    ("access", Some(("default", "Deny"))),
];

/// What stands for an object that cannot be read; `None` where nothing has to.
#[must_use]
pub fn stand_in(object: &Value, problem: &str) -> Option<Object> {
    let made = match object["kind"].as_str()? {
        "AccessPolicy" => with_spec(object, denying(object, targets(object)))
            .or_else(|| with_spec(object, denying(object, Vec::new()))),
        "MeshConfig" => with_spec(object, of_mesh(object)),
        _ => None,
    };
    let mut made = made?;
    match &mut made {
        Object::AccessPolicy(policy) => policy.spec.unread = Some(problem.to_owned()),
        Object::MeshConfig(config) => config.spec.unread = Some(problem.to_owned()),
        _ => return None,
    }
    Some(made)
}

/// Why an object cannot be read that this one only stands for.
#[must_use]
pub fn unread(object: &Object) -> Option<&str> {
    if let Object::AccessPolicy(policy) = object {
        policy.spec.unread.as_deref()
    } else if let Object::MeshConfig(config) = object {
        config.spec.unread.as_deref()
    } else {
        None
    }
}

/// What holds until the object can be read that this one stands for, in words.
#[must_use]
pub fn until_read(object: &Object) -> String {
    let Object::AccessPolicy(policy) = object else {
        return "until it can be read, those of its fields hold that can, and of access, egress and \
                inbound the others are closed"
            .to_owned();
    };
    let named = policy.spec.target_refs.iter().map(|target| {
        let section = target.section_name.iter().map(|port| format!(" port {port}"));
        format!("{} {}{}", target.kind.name(), target.name, section.collect::<String>())
    });
    let named: Vec<String> = named.collect();
    let namespace = &policy.metadata.namespace;
    let place = match &named[..] {
        [] if namespace == ROOT_NAMESPACE => "in the whole mesh".to_owned(),
        [] => format!("in namespace {namespace}"),
        named => format!("at {}", named.join(", ")),
    };
    let what = if policy.spec.is_audit() {
        "is counted as denied, and decides nothing"
    } else {
        "is denied"
    };
    format!("until it can be read, everything {place} {what}")
}

/// Denies everything; where it only audits, that is only counted.
fn denying(object: &Value, targets: Vec<Value>) -> Value {
    let mut spec = json!({"targetRefs": targets, "rules": [{"action": "Deny"}]});
    if object["spec"]["mode"] == "Audit" {
        spec["mode"] = "Audit".into();
    }
    spec
}

/// The references that can be read; none where one cannot.
fn targets(object: &Value) -> Vec<Value> {
    let refs = object["spec"]["targetRefs"].as_array().into_iter().flatten();
    let can_be_read = |target: &Value| {
        let spec = json!({"targetRefs": [target], "default": "Deny"});
        let Some(Object::AccessPolicy(policy)) = with_spec(object, spec) else { return false };
        let namespace = &policy.metadata.namespace;
        // One of another namespace would hold for nothing.
        policy.spec.target_refs.iter().all(|target| {
            target.kind != TargetKind::Namespace
                || target.name == *namespace
                || namespace == ROOT_NAMESPACE
        })
    };
    let all: Vec<Value> = refs.cloned().collect();
    if all.iter().all(can_be_read) { all } else { Vec::new() }
}

/// The fields that can be read, each by itself, and those that must not be left out. A field of an unknown name may be
/// one of these, misspelt or misplaced.
fn of_mesh(object: &Value) -> Value {
    let mut spec = Map::new();
    let may_be_misnamed = has_unknown_fields(object);
    for (field, closed) in OF_MESH {
        let value = &object["spec"][field];
        let is_given = !value.is_null();
        if is_given && with_spec(object, json!({ *field: value })).is_some() {
            spec.insert((*field).to_owned(), value.clone());
            continue;
        }
        if let Some((part, word)) = closed.filter(|_| is_given || may_be_misnamed) {
            let value = if part.is_empty() { json!(word) } else { json!({ part: word }) };
            spec.insert((*field).to_owned(), value);
        }
    }
    spec.into()
}

/// Whether a MeshConfig or its spec has a field that there is not, or the spec has no fields at all.
fn has_unknown_fields(object: &Value) -> bool {
    const OF_OBJECT: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
    let is_unknown = |field: &String| !OF_OBJECT.contains(&field.as_str());
    if object.as_object().is_some_and(|fields| fields.keys().any(is_unknown)) {
        return true;
    }
    match &object["spec"] {
        Value::Null => false,
        Value::Object(spec) => {
            spec.keys().any(|field| OF_MESH.iter().all(|(known, _)| known != field))
        }
        _ => true,
    }
}

/// The object with another spec, with all of its metadata that can be read, or the least.
fn with_spec(object: &Value, spec: Value) -> Option<Object> {
    let mut whole = object.clone();
    whole["spec"] = spec;
    if let Ok(object) = parse_object(&whole.to_string()) {
        return Some(object);
    }
    let metadata = &object["metadata"];
    // A number or a word like `yes` is meant as the name that it looks like.
    let namespace = match &metadata["namespace"] {
        Value::String(name) => name.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(word) => word.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => DEFAULT_NAMESPACE.to_owned(),
    };
    let least = json!({
        "apiVersion": WEFT,
        "kind": object["kind"],
        "metadata": {"name": metadata["name"], "namespace": namespace},
        "spec": whole["spec"],
    });
    parse_object(&least.to_string()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(namespace: &str, spec: &Value) -> Value {
        json!({
            "apiVersion": "weft.dev/v1alpha1",
            "kind": "AccessPolicy",
            "metadata": {"name": "who", "namespace": namespace},
            "spec": spec,
        })
    }

    /// What stands for it denies, or only counts, and where.
    fn said(object: &Value) -> String {
        assert!(parse_object(&object.to_string()).is_err(), "{object}");
        until_read(&stand_in(object, "why").expect("something stands for it"))
    }

    #[test]
    fn a_policy_that_cannot_be_read_denies_where_it_holds_as_far_as_that_can_be_read() {
        let bad = json!([{"action": "Allow", "to": [{"paths": [{"pattern": "("}]}]}]);
        let cart = json!({"kind": "Service", "name": "cart", "sectionName": "http"});
        let later = json!({"kind": "Pod", "name": "cart-0"});
        for (namespace, spec, expected) in [
            (
                "shop",
                json!({"targetRefs": [cart], "rules": bad}),
                "at Service cart port http is denied",
            ),
            (
                "shop",
                json!({"targetRefs": [cart], "later": 1}),
                "at Service cart port http is denied",
            ),
            (
                "shop",
                json!({"targetRefs": [cart, later], "rules": bad}),
                "in namespace shop is denied",
            ),
            (
                "shop",
                json!({"targetRefs": "cart", "default": "Deny"}),
                "in namespace shop is denied",
            ),
            ("shop", json!({"rules": bad}), "in namespace shop is denied"),
            ("weft-system", json!({"rules": bad}), "in the whole mesh is denied"),
            (
                "shop",
                json!({"mode": "Audit", "rules": bad}),
                "in namespace shop is counted as denied",
            ),
            ("shop", json!({"mode": "Later", "rules": bad}), "in namespace shop is denied"),
            (
                "shop",
                json!({"targetRefs": [{"kind": "Namespace", "name": "bank"}], "rules": bad}),
                "in namespace shop is denied",
            ),
        ] {
            let said = said(&policy(namespace, &spec));
            assert!(said.contains(expected), "{spec}: {said}");
        }
        let odd =
            json!({"name": "who", "namespace": "shop", "labels": {"no label": "!"}, "later": 1});
        let mut object = policy("shop", &json!({"rules": bad}));
        object["metadata"] = odd;
        let made = stand_in(&object, "why").expect("its name can be read");
        assert_eq!(unread(&made), Some("why"));
        for (namespace, expected) in [(json!(2024), "2024"), (json!(true), "true")] {
            object["metadata"] = json!({"name": "who", "namespace": namespace});
            let made = stand_in(&object, "why").expect("its name can be read");
            assert_eq!(made.metadata().namespace, expected);
        }
    }

    #[test]
    fn of_a_mesh_config_holds_what_can_be_read_and_the_rest_is_closed() {
        let mesh = |spec: Value| {
            let metadata = json!({"name": "mesh"});
            let head = json!({"apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig"});
            let mut object = head;
            object["metadata"] = metadata;
            object["spec"] = spec;
            stand_in(&object, "why").expect("something stands for it").to_json()["spec"].clone()
        };
        assert_eq!(
            mesh(
                json!({"access": {"default": "Ask"}, "egress": "Ask", "inbound": {"mode": "ask"}})
            ),
            json!({"access": {"default": "Deny"}, "egress": "RegisteredOnly", "inbound": {"mode": "strict"}}),
        );
        let kept = json!({"egress": "Allow", "defaults": {"timeouts": {"request": "1s"}}});
        let mut given = kept.clone();
        given["addressRanges"] = json!(1);
        assert_eq!(mesh(given), kept);
    }

    #[test]
    fn a_mesh_config_closes_what_a_wrong_name_may_have_meant() {
        let closed = json!({"access": {"default": "Deny"}, "egress": "RegisteredOnly", "inbound": {"mode": "strict"}});
        let mut open = closed.clone();
        open["egress"] = json!("Allow");
        let access = json!({"default": "Deny"});
        for (fields, expected) in [
            (json!({"spec": {"acces": access}}), &closed),
            (json!({"spec": {"egress": "Allow", "acces": access}}), &open),
            (json!({"access": access}), &closed),
            (json!({"access": access, "spec": {"egress": "Allow"}}), &open),
            (json!({"spec": ["access"]}), &closed),
        ] {
            let mut object = json!({
                "apiVersion": "weft.dev/v1alpha1",
                "kind": "MeshConfig",
                "metadata": {"name": "mesh"},
            });
            for (field, value) in fields.as_object().expect("fields") {
                object[field] = value.clone();
            }
            let made = stand_in(&object, "why").expect("something stands for it");
            assert_eq!(made.to_json()["spec"], *expected, "{object}");
        }
    }
}
