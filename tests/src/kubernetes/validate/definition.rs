//! Custom resource definitions: names that fit together, one stored version, structural schemas.
//!
//! In comes a definition, out go the causes to refuse it. That a schema is structural is checked, as a real server
//! does (every value has a type, or says that it needs none); CEL rules are not compiled.

use serde_json::{Value, json};

use crate::kubernetes::{failure::Cause, schema};

/// What OpenAPI has and structural schemas have not.
const UNSUPPORTED: &[&str] =
    &["$ref", "definitions", "dependencies", "patternProperties", "additionalItems", "deprecated"];

/// Checks a definition.
pub(super) fn check(definition: &Value, causes: &mut Vec<Cause>) {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (plural, group) = (text(&spec["names"]["plural"]), text(&spec["group"]));
    let wanted = format!("{plural}.{group}");
    if definition["metadata"]["name"] != wanted.as_str() {
        let why = format!("must be spec.names.plural+\".\"+spec.group, that is {wanted:?}");
        causes.push(Cause::invalid("metadata.name", &definition["metadata"]["name"], &why));
    }
    if !["Cluster", "Namespaced"].iter().any(|scope| spec["scope"] == *scope) {
        causes.push(Cause::unsupported("spec.scope", &spec["scope"], &["Cluster", "Namespaced"]));
    }
    for name in ["plural", "singular", "kind", "listKind"] {
        if text(&spec["names"][name]).is_empty() {
            causes.push(Cause::required(format!("spec.names.{name}"), ""));
        }
    }
    let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let stored = versions.iter().filter(|version| version["storage"] == true).count();
    if stored != 1 {
        let why = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid("spec.versions", &json!(stored), why));
    }
    for (index, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{index}].schema.openAPIV3Schema");
        match version["schema"].get("openAPIV3Schema") {
            None => causes.push(Cause::required(path, "schemas are required")),
            Some(schema) if schema["type"] != "object" => {
                let why = "must be object at the root";
                causes.push(Cause::invalid(format!("{path}.type"), &schema["type"], why));
            }
            Some(schema) => check_structural(schema, &path, causes),
        }
    }
}

fn check_structural(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let is_free = schema["x-kubernetes-int-or-string"] == true
        || schema["x-kubernetes-preserve-unknown-fields"] == true;
    if schema["type"].as_str().unwrap_or_default().is_empty() && !is_free {
        causes.push(Cause::required(
            format!("{path}.type"),
            "must not be empty for specified object fields",
        ));
    }
    for word in UNSUPPORTED.iter().filter(|word| !schema[**word].is_null()) {
        causes.push(Cause::forbidden(format!("{path}.{word}"), "is not supported"));
    }
    if schema["uniqueItems"] == true {
        let why = "may not be true: it takes quadratic time";
        causes.push(Cause::forbidden(format!("{path}.uniqueItems"), why));
    }
    if !schema["default"].is_null() {
        causes.extend(schema::check_default(schema, &format!("{path}.default")));
    }
    if schema["properties"].is_object() && !schema["additionalProperties"].is_null() {
        let field = format!("{path}.additionalProperties");
        causes.push(Cause::forbidden(
            field,
            "additionalProperties and properties are mutual exclusive",
        ));
    }
    if schema["type"] == "array" && schema["items"].is_null() {
        causes.push(Cause::required(format!("{path}.items"), "must be specified"));
    }
    if schema["x-kubernetes-list-type"] == "map" {
        check_list_map(schema, path, causes);
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && let Err(error) = regex::Regex::new(pattern)
    {
        let why = format!("must be a valid regular expression, but isn't: {error}");
        causes.push(Cause::invalid(format!("{path}.pattern"), &json!(pattern), &why));
    }
    for word in ["oneOf", "anyOf", "allOf"] {
        for (index, inner) in schema[word].as_array().into_iter().flatten().enumerate() {
            check_alternative(inner, &format!("{path}.{word}[{index}]"), causes);
        }
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        check_structural(inner, &format!("{path}.properties[{name}]"), causes);
    }
    for word in ["items", "additionalProperties"] {
        if schema[word].is_object() {
            check_structural(&schema[word], &format!("{path}.{word}"), causes);
        }
    }
}

/// The keys of a keyed list must be there: required, or with a default.
fn check_list_map(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let keys =
        schema["x-kubernetes-list-map-keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    if keys.is_empty() {
        let why = "must not be empty if x-kubernetes-list-type is map";
        causes.push(Cause::required(format!("{path}.x-kubernetes-list-map-keys"), why));
    }
    let required = schema["items"]["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    for key in keys.iter().filter_map(Value::as_str) {
        let property = &schema["items"]["properties"][key];
        let is_there = required.iter().any(|name| name == key) || !property["default"].is_null();
        if !is_there {
            let why = "a key of x-kubernetes-list-map-keys must be required or have a default";
            causes.push(Cause::required(format!("{path}.items.properties[{key}].default"), why));
        }
    }
}

/// Alternatives say more about values; what shapes them must be said outside.
fn check_alternative(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    for word in ["type", "default", "description", "title", "additionalProperties", "nullable"] {
        if !schema[word].is_null() {
            let why = "must be empty to be structural";
            causes.push(Cause::forbidden(format!("{path}.{word}"), why));
        }
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        check_alternative(inner, &format!("{path}.properties[{name}]"), causes);
    }
}
