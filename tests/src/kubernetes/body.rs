//! The shape of what clients send: the right kind, fields of the right types, and none that nobody knows.
//!
//! In comes JSON, out goes JSON in which every field is known. Whether values make sense is decided in `validate`.

use serde_json::{Value, json};

use super::{
    failure::{Cause, Failure},
    kinds::{Kind, Shape},
    quantity::amount,
    request::{FieldValidation, Options},
    schema,
};

/// Checks an object's shape; unknown fields are dropped, and warned of or refused as asked.
///
/// # Errors
/// When it is another kind, or its fields have other types.
pub fn check(kind: &Kind, object: &mut Value, options: &Options) -> Result<Vec<String>, Failure> {
    check_kind(kind, object)?;
    // A definition describes fields of these names, and has none.
    if !kind.is_custom() && kind.kind != "CustomResourceDefinition" {
        check_quantities(object)?;
    }
    let mut unknown = Vec::new();
    let mut causes = Vec::new();
    match &kind.shape {
        Shape::Typed(through) => {
            let known = through(object.clone()).map_err(|error| {
                let (version, name) = (&kind.version, &kind.kind);
                Failure::bad_request(format!(
                    "{name} in version \"{version}\" cannot be handled as a {name}: {error}"
                ))
            })?;
            prune(object, &known, "", &mut unknown);
        }
        Shape::Schema(schema) => {
            check_metadata(object, &mut unknown)?;
            causes = schema::check(schema, object, &mut unknown);
        }
    }
    answer(kind, object, options, unknown, causes)
}

/// Refuses, or warns of, what was found.
fn answer(
    kind: &Kind,
    object: &Value,
    options: &Options,
    unknown: Vec<String>,
    causes: Vec<Cause>,
) -> Result<Vec<String>, Failure> {
    let warnings: Vec<String> =
        unknown.iter().map(|field| format!("unknown field \"{field}\"")).collect();
    if options.field_validation == FieldValidation::Strict && !warnings.is_empty() {
        let (version, name) = (&kind.version, &kind.kind);
        return Err(Failure::bad_request(format!(
            "{name} in version \"{version}\" cannot be handled as a {name}: strict decoding error: {}",
            warnings.join(", ")
        )));
    }
    refuse(kind, object, &causes)?;
    let silent = options.field_validation == FieldValidation::Ignore;
    Ok(if silent { Vec::new() } else { warnings })
}

/// Checks the shape of a part of an object, as apply takes it: what is missing is not missed, and nothing is filled in.
///
/// # Errors
/// As [`check`].
pub fn check_partial(
    kind: &Kind,
    object: &mut Value,
    options: &Options,
) -> Result<Vec<String>, Failure> {
    let Shape::Schema(schema) = &kind.shape else { return check(kind, object, options) };
    check_kind(kind, object)?;
    let (mut unknown, mut known) = (Vec::new(), object.clone());
    let mut causes = schema::check(schema, &mut known, &mut unknown);
    causes.retain(|cause| cause.reason != "FieldValueRequired");
    prune(object, &known, "", &mut Vec::new());
    check_metadata(object, &mut unknown)?;
    answer(kind, object, options, unknown, causes)
}

fn refuse(kind: &Kind, object: &Value, causes: &[Cause]) -> Result<(), Failure> {
    if causes.is_empty() {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Err(Failure::invalid(kind, name, causes))
}

/// The kind must be the path's; a body that does not say is taken for it.
fn check_kind(kind: &Kind, object: &mut Value) -> Result<(), Failure> {
    if !object.is_object() {
        return Err(Failure::bad_request("the body of the request is no object"));
    }
    let api_version = kind.api_version();
    let said = |object: &Value, name: &str| object[name].as_str().unwrap_or_default().to_owned();
    let (said_version, said_kind) = (said(object, "apiVersion"), said(object, "kind"));
    if !said_version.is_empty() && said_version != api_version {
        return Err(Failure::bad_request(format!(
            "the API version in the data ({said_version}) does not match the expected API version ({api_version})"
        )));
    }
    if !said_kind.is_empty() && said_kind != kind.kind {
        return Err(Failure::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: the object provided is a {said_kind}",
            kind.kind, kind.version, kind.kind
        )));
    }
    object["apiVersion"] = Value::String(api_version);
    object["kind"] = Value::String(kind.kind.clone());
    if object["metadata"].is_null() {
        object["metadata"] = json!({});
    }
    Ok(())
}

fn check_metadata(object: &mut Value, unknown: &mut Vec<String>) -> Result<(), Failure> {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    let known = serde_json::from_value::<ObjectMeta>(object["metadata"].clone())
        .and_then(serde_json::to_value)
        .map_err(|error| Failure::bad_request(format!("error decoding metadata: {error}")))?;
    prune(&mut object["metadata"], &known, "metadata", unknown);
    Ok(())
}

/// Drops what the type did not keep, and nulls, which mean absent.
fn prune(object: &mut Value, known: &Value, path: &str, unknown: &mut Vec<String>) {
    match (object, known) {
        (Value::Object(fields), Value::Object(kept)) => {
            fields.retain(|name, value| {
                if !value.is_null() && !kept.contains_key(name) {
                    unknown.push(joined(path, name));
                }
                !value.is_null() && kept.contains_key(name)
            });
            for (name, value) in fields {
                prune(value, &kept[name], &joined(path, name), unknown);
            }
        }
        (Value::Array(items), Value::Array(kept)) => {
            for (index, (item, kept)) in items.iter_mut().zip(kept).enumerate() {
                prune(item, kept, &format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Quantities may be written as numbers, which the types know as text alone; what is none cannot be read.
fn check_quantities(object: &mut Value) -> Result<(), Failure> {
    match object {
        Value::Array(items) => items.iter_mut().try_for_each(check_quantities),
        Value::Object(fields) => fields.iter_mut().try_for_each(|(name, value)| match value {
            Value::Object(quantities) if matches!(name.as_str(), "limits" | "requests") => {
                quantities.values_mut().try_for_each(check_quantity)
            }
            value => check_quantities(value),
        }),
        _ => Ok(()),
    }
}

fn check_quantity(quantity: &mut Value) -> Result<(), Failure> {
    if quantity.is_number() {
        *quantity = json!(quantity.to_string());
    }
    if quantity.is_null() || quantity.as_str().and_then(amount).is_some() {
        return Ok(());
    }
    Err(Failure::bad_request(format!(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$', not {quantity}"
    )))
}
