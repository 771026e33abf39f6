//! Custom resource definitions from the Rust types: each kind of Weft's own in [`super::kinds`] comes in,
//! a structural `CustomResourceDefinition` (apiextensions.k8s.io/v1) goes out. Pure, and the same at every run.
//!
//! A new kind gets its definition by `#[derive(JsonSchema)]` on its spec. What stands in its doc comments is
//! what `kubectl explain` says. Rules across fields are CEL, given by `#[schemars(extend("x-kubernetes-validations"
//! = …))]` beside the fields; [`Spec::RULES`] holds those that need the metadata. A cluster must never refuse
//! what the parser takes, and may let through what CEL cannot say: the object's `Accepted` condition says that.
//!
//! - [`fields`]: schemas of values that are one text or number with rules of their own.
//! - [`structural`]: from what schemars writes to what the API server takes.
//!
//! [`Spec::RULES`]: super::object::Spec::RULES

pub(super) mod fields;
mod structural;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};

use super::{
    kinds::{KINDS, KindInfo, Scope},
    object::Status,
};

/// A column that `kubectl get` shows.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its head, "Service".
    pub name: &'static str,
    /// "string", "integer", "date".
    pub r#type: &'static str,
    /// Where in the object, ".spec.service".
    pub path: &'static str,
    /// What it says.
    pub description: &'static str,
}

/// A CEL rule about the object as a whole.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// True of a right object; `self` is the object.
    pub rule: &'static str,
    /// What would be right.
    pub message: &'static str,
}

/// How a spec describes itself.
pub(super) type SchemaFn = fn(&mut SchemaGenerator) -> Schema;

/// The definitions of all kinds of Weft's own, in the order of the table.
#[must_use]
pub fn all() -> Vec<Value> {
    let described = |info: &'static KindInfo| info.schema.map(|schema| definition(info, schema));
    KINDS.iter().filter_map(described).collect()
}

fn definition(info: &KindInfo, schema: SchemaFn) -> Value {
    let (group, version) = info.api_version.split_once('/').unwrap_or(("", info.api_version));
    let scope = match info.scope {
        Scope::Namespaced => "Namespaced",
        Scope::Mesh => "Cluster",
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{group}", info.plural),
            "labels": {"app.kubernetes.io/name": "weft", "app.kubernetes.io/part-of": "weft"},
            "annotations": {"weft.dev/version": env!("CARGO_PKG_VERSION")},
        },
        "spec": {
            "group": group,
            "names": {
                "kind": info.name,
                "listKind": format!("{}List", info.name),
                "plural": info.plural,
                "singular": info.name.to_ascii_lowercase(),
                "shortNames": info.short,
                "categories": ["weft"],
            },
            "scope": scope,
            "versions": [{
                "name": version,
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": columns(info),
                "schema": {"openAPIV3Schema": object_schema(info, schema)},
            }],
        },
    })
}

fn object_schema(info: &KindInfo, schema: SchemaFn) -> Value {
    let mut settings = SchemaSettings::openapi3();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let mut spec = schema(&mut generator).to_value();
    let mut status = Status::json_schema(&mut generator).to_value();
    structural::rewrite(&mut spec);
    structural::rewrite(&mut status);
    let mut object = json!({
        "type": "object",
        "description": spec["description"],
        "properties": {
            "apiVersion": {"type": "string", "description": "The version of the object's form."},
            "kind": {"type": "string", "description": "The object's kind."},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    });
    if !info.rules.is_empty() {
        let rule = |rule: &Rule| json!({"rule": rule.rule, "message": rule.message});
        object["x-kubernetes-validations"] = info.rules.iter().map(rule).collect();
    }
    object
}

/// The kind's own columns, and those that every kind has.
fn columns(info: &KindInfo) -> Vec<Value> {
    let common = [
        Column {
            name: "Accepted",
            r#type: "string",
            path: r#".status.conditions[?(@.type=="Accepted")].status"#,
            description: "Whether the control plane took it.",
        },
        Column {
            name: "Age",
            r#type: "date",
            path: ".metadata.creationTimestamp",
            description: "Since when it is there.",
        },
    ];
    let column = |column: &Column| {
        json!({
            "name": column.name,
            "type": column.r#type,
            "jsonPath": column.path,
            "description": column.description,
        })
    };
    info.columns.iter().chain(&common).map(column).collect()
}

#[cfg(test)]
mod tests;
