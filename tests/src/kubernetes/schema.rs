//! Custom resources against their definition's `openAPIV3Schema`: unknown fields dropped, defaults filled in, values
//! checked.
//!
//! In come a structural schema and an object, out go the object as it is stored and what is wrong with it.
//! `x-kubernetes-validations` (CEL) are not evaluated: a rule written in CEL is held only by a real API server.

use regex::Regex;
use serde_json::{Map, Value, json};

use super::failure::Cause;

/// Prunes, defaults and checks an object; answers what is wrong with it.
pub fn check(schema: &Value, object: &mut Value, unknown: &mut Vec<String>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let Value::Object(fields) = object else { return causes };
    let is_own = |name: &str| matches!(name, "apiVersion" | "kind" | "metadata");
    fields.retain(|name, value| {
        let is_known =
            is_own(name) || preserves(schema) || schema["properties"].get(name).is_some();
        if !is_known {
            unknown.push(name.clone());
        }
        is_known && !value.is_null()
    });
    fill_in(schema, fields);
    for (name, value) in fields.iter_mut().filter(|(name, _)| !is_own(name)) {
        if let Some(inner) = schema["properties"].get(name) {
            fit(inner, value, name, unknown, &mut causes);
        }
    }
    require(schema, object, "", &mut causes);
    causes
}

fn fit(
    schema: &Value,
    value: &mut Value,
    path: &str,
    unknown: &mut Vec<String>,
    causes: &mut Vec<Cause>,
) {
    if !check_type(schema, value, path, causes) {
        return;
    }
    match value {
        Value::Object(_) => fit_map(schema, value, path, unknown, causes),
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                fit(&schema["items"], item, &format!("{path}[{index}]"), unknown, causes);
            }
            check_list(schema, value, path, causes);
        }
        _ => {}
    }
    check_value(schema, value, path, causes);
}

fn fit_map(
    schema: &Value,
    value: &mut Value,
    path: &str,
    unknown: &mut Vec<String>,
    causes: &mut Vec<Cause>,
) {
    let Value::Object(fields) = value else { return };
    fields.retain(|name, value| {
        let known = &schema["properties"][name];
        let is_known = !known.is_null() || holds_any(schema);
        if !is_known {
            unknown.push(format!("{path}.{name}"));
        }
        // A null where none may be is absent.
        is_known && (!value.is_null() || known["nullable"] == true || known["type"].is_null())
    });
    fill_in(schema, fields);
    for (name, value) in fields {
        let known = &schema["properties"][name];
        let inner = if known.is_null() { &schema["additionalProperties"] } else { known };
        if inner.is_object() {
            fit(inner, value, &format!("{path}.{name}"), unknown, causes);
        }
    }
    require(schema, value, path, causes);
}

/// Sets what is not said, after nulls that mean absent are gone.
fn fill_in(schema: &Value, fields: &mut Map<String, Value>) {
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        if !inner["default"].is_null() && !fields.contains_key(name) {
            fields.insert(name.clone(), inner["default"].clone());
        }
    }
}

/// What is wrong with a value by itself, such as a default.
#[must_use]
pub fn check_default(schema: &Value, path: &str) -> Vec<Cause> {
    let (mut unknown, mut causes) = (Vec::new(), Vec::new());
    let mut value = schema["default"].clone();
    fit(schema, &mut value, path, &mut unknown, &mut causes);
    let why = "must not have unknown fields";
    causes.extend(unknown.into_iter().map(|field| Cause::invalid(field, &value, why)));
    causes
}

/// Whether a map takes any name.
fn holds_any(schema: &Value) -> bool {
    preserves(schema)
        || schema["additionalProperties"] == true
        || schema["additionalProperties"].is_object()
}

fn preserves(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true
}

fn require(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in required.filter(|name| value.get(name).is_none()) {
        let field = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        causes.push(Cause::required(field, ""));
    }
}

/// Whether a value has the type that the schema wants; says so when not.
fn check_type(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) -> bool {
    if schema["x-kubernetes-int-or-string"] == true {
        let fits = value.is_string() || value.is_i64() || value.is_u64();
        if !fits {
            causes.push(wrong_type(path, value, "integer,string"));
        }
        return fits;
    }
    let Some(wanted) = schema["type"].as_str() else { return true };
    let fits = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    } || (value.is_null() && schema["nullable"] == true);
    if !fits {
        causes.push(wrong_type(path, value, wanted));
    }
    fits && !value.is_null()
}

fn wrong_type(path: &str, value: &Value, wanted: &str) -> Cause {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let why = format!("{path} in body must be of type {wanted}: \"{found}\"");
    Cause { reason: "FieldValueTypeInvalid", ..Cause::invalid(path, &json!(found), &why) }
}

fn check_value(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut refuse = |why: String| causes.push(Cause::invalid(path, value, &why));
    if let Some(number) = value.as_f64() {
        let bound = |name: &str| schema[name].as_f64();
        if let Some(minimum) = bound("minimum") {
            let exclusive = schema["exclusiveMinimum"] == true;
            if number < minimum || (exclusive && number <= minimum) {
                let or_equal = if exclusive { "" } else { " or equal to" };
                refuse(format!("{path} in body should be greater than{or_equal} {minimum}"));
            }
        }
        if let Some(maximum) = bound("maximum") {
            let exclusive = schema["exclusiveMaximum"] == true;
            if number > maximum || (exclusive && number >= maximum) {
                let or_equal = if exclusive { "" } else { " or equal to" };
                refuse(format!("{path} in body should be less than{or_equal} {maximum}"));
            }
        }
    }
    if let Some(text) = value.as_str() {
        let length = text.chars().count() as u64;
        if schema["minLength"].as_u64().is_some_and(|least| length < least) {
            refuse(format!("{path} in body should be at least {} chars long", schema["minLength"]));
        }
        if schema["maxLength"].as_u64().is_some_and(|most| length > most) {
            refuse(format!("{path} in body should be at most {} chars long", schema["maxLength"]));
        }
        if let Some(pattern) = schema["pattern"].as_str()
            && !Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
        {
            refuse(format!("{path} in body should match '{pattern}'"));
        }
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let allowed: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
        causes.push(Cause::unsupported(path, value, &allowed));
    }
    check_alternatives(schema, value, path, causes);
}

/// `oneOf`, `anyOf`, `allOf` and `not` say more about values; they prune and default nothing.
fn check_alternatives(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let holds = |schema: &Value| is_valid(schema, value);
    let count = |name: &str| {
        schema[name].as_array().map(|all| (all.iter().filter(|one| holds(one)).count(), all.len()))
    };
    let mut refuse = |why: String| causes.push(Cause::invalid(path, value, &why));
    if count("oneOf").is_some_and(|(valid, _)| valid != 1) {
        refuse(format!("{path} must validate one and only one schema (oneOf)"));
    }
    if count("anyOf").is_some_and(|(valid, _)| valid == 0) {
        refuse(format!("{path} must validate at least one schema (anyOf)"));
    }
    if count("allOf").is_some_and(|(valid, all)| valid != all) {
        refuse(format!("{path} must validate all the schemas (allOf)"));
    }
    if schema["not"].is_object() && holds(&schema["not"]) {
        refuse(format!("{path} must not validate the schema (not)"));
    }
}

fn is_valid(schema: &Value, value: &Value) -> bool {
    let mut causes = Vec::new();
    if !check_type(schema, value, "", &mut causes) {
        return causes.is_empty();
    }
    check_value(schema, value, "", &mut causes);
    require(schema, value, "", &mut causes);
    let properties = schema["properties"].as_object().into_iter().flatten();
    let mut inside = properties.filter_map(|(name, inner)| Some((inner, value.get(name)?)));
    causes.is_empty() && inside.all(|(inner, value)| is_valid(inner, value))
}

fn check_list(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let Value::Array(items) = value else { return };
    let length = items.len() as u64;
    if schema["minItems"].as_u64().is_some_and(|least| length < least) {
        let why = format!("{path} in body should have at least {} items", schema["minItems"]);
        causes.push(Cause::invalid(path, &json!(length), &why));
    }
    if schema["maxItems"].as_u64().is_some_and(|most| length > most) {
        let why = format!("must have at most {} items", schema["maxItems"]);
        let mut cause = Cause::invalid(path, &json!(length), &why);
        cause.reason = "FieldValueTooMany";
        cause.message = format!("Too many: {length}: {why}");
        causes.push(cause);
    }
    let keys: Vec<&str> = schema["x-kubernetes-list-map-keys"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let identity = |item: &Value| match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => Some(item.clone()),
        Some("map") => {
            Some(keys.iter().map(|key| ((*key).to_owned(), item[key].clone())).collect())
        }
        _ => None,
    };
    let mut seen = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let Some(identity) = identity(item) else { return };
        if seen.contains(&identity) {
            causes.push(Cause::duplicate(format!("{path}[{index}]"), &identity));
        }
        seen.push(identity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(properties: Value) -> Value {
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}})
    }

    #[test]
    fn objects_are_pruned_defaulted_and_rid_of_nulls() {
        let schema = spec(json!({
            "count": {"type": "integer", "default": 3},
            "inner": {"type": "object", "default": {}, "properties": {"deep": {"type": "string", "default": "x"}}},
            "maybe": {"type": "string", "nullable": true},
            "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        }));
        let mut object = json!({"spec": {
            "count": null, "maybe": null, "other": 1, "any": {"a": 1}, "labels": {"a": "b"},
        }});
        let mut unknown = Vec::new();

        let causes = check(&schema, &mut object, &mut unknown);

        assert_eq!((causes, unknown), (Vec::new(), vec!["spec.other".to_owned()]));
        let wanted = json!({
            "count": 3, "inner": {"deep": "x"}, "maybe": null, "any": {"a": 1}, "labels": {"a": "b"},
        });
        assert_eq!(object["spec"], wanted);
    }

    #[test]
    fn values_are_refused_by_what_the_schema_says() {
        let schema = spec(json!({
            "port": {"x-kubernetes-int-or-string": true},
            "only": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "maxItems": 2, "items": {"type": "string"}},
            "open": {"type": "number", "minimum": 0, "exclusiveMinimum": true},
        }));
        for (value, field) in [
            (json!({"port": 1.5}), Some("spec.port")),
            (json!({"port": "http"}), None),
            (json!({"port": 80}), None),
            (json!({"only": {}}), Some("spec.only")),
            (json!({"only": {"a": "1", "b": "1"}}), Some("spec.only")),
            (json!({"only": {"a": "1"}}), None),
            (json!({"set": ["a", "a"]}), Some("spec.set[1]")),
            (json!({"set": ["a", "b", "c"]}), Some("spec.set")),
            (json!({"open": 0}), Some("spec.open")),
            (json!({"open": 0.5}), None),
            (json!({"open": "1"}), Some("spec.open")),
        ] {
            let causes = check(&schema, &mut json!({"spec": value}), &mut Vec::new());
            let found = causes.first().map(|cause| cause.field.as_str());
            assert_eq!(found, field, "{value}: {causes:?}");
        }
    }
}
