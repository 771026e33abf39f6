//! From the JSON Schema that schemars writes to the structural schema that an API server takes.
//!
//! Comes in: a schema without references. Goes out: the same, of which every node has one type, enums stand as
//! `enum`, and nothing stands that the API server refuses or warns of. Defaults are dropped: they are the
//! accessors' to know, and a default that the API server writes into an object can never change.

use serde_json::{Map, Value};

/// Rewrites a schema and all schemas in it.
pub(super) fn rewrite(schema: &mut Value) {
    let Some(node) = schema.as_object_mut() else { return };
    drop_null(node);
    flatten_enum(node);
    for dropped in ["default", "title", "$schema", "nullable"] {
        node.remove(dropped);
    }
    // Unknown fields are pruned, and named by `kubectl`: the structural form of this is to say nothing.
    if node.get("additionalProperties") == Some(&Value::Bool(false)) {
        node.remove("additionalProperties");
    }
    rewrite_number(node);
    if let Some(Value::String(text)) = node.get_mut("description") {
        *text = plain(text);
    }
    if let Some(Value::Object(properties)) = node.get_mut("properties") {
        properties.values_mut().for_each(rewrite);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(schema) = node.get_mut(inner) {
            rewrite(schema);
        }
    }
}

/// `null` stands for an absent field, which needs no word in the schema.
fn drop_null(node: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = node.get("type")
        && let Some(only) = types.iter().find(|one| *one != "null").cloned()
    {
        node.insert("type".into(), only);
    }
    if let Some(Value::Array(values)) = node.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    let Some(Value::Array(choices)) = node.get("anyOf") else { return };
    let only_null = |choice: &Value| {
        choice["enum"].as_array().is_some_and(|all| all.iter().all(Value::is_null))
    };
    let is_null = |choice: &&Value| choice["type"] == "null" || only_null(choice);
    let (nulls, others): (Vec<&Value>, Vec<&Value>) = choices.iter().partition(is_null);
    let [Value::Object(only)] = others.as_slice() else { return };
    if nulls.is_empty() {
        return;
    }
    let only = only.clone();
    node.remove("anyOf");
    // What the field says of itself stands before what its type says.
    for (key, value) in only {
        node.entry(key).or_insert(value);
    }
}

/// An enum whose variants have docs comes as `oneOf` of constants: the docs go into the description.
fn flatten_enum(node: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = node.get("oneOf") else { return };
    let word = |variant: &Value| {
        let only = variant["enum"].as_array().filter(|values| values.len() == 1);
        variant["const"].as_str().or_else(|| only?.first()?.as_str()).map(str::to_owned)
    };
    let Some(words) = variants.iter().map(word).collect::<Option<Vec<String>>>() else { return };
    let said = words.iter().zip(variants).map(|(word, variant)| {
        let doc = plain(variant["description"].as_str().unwrap_or_default());
        format!("`{word}`: {}", doc.trim_end_matches('.'))
    });
    let said = said.collect::<Vec<_>>().join("; ");
    let description = node.get("description").and_then(Value::as_str).unwrap_or_default();
    let description = format!("{}\n\n{said}.", description.trim_end());
    node.remove("oneOf");
    node.insert("type".into(), "string".into());
    node.insert("description".into(), description.into());
    // Where the type lists its words itself it takes more than it writes.
    node.entry("enum").or_insert_with(|| words.into());
}

/// Formats that the API server does not know become the range that they mean.
fn rewrite_number(node: &mut Map<String, Value>) {
    let most = match node.get("format").and_then(Value::as_str) {
        Some("uint8") => u32::from(u8::MAX),
        Some("uint16") => u32::from(u16::MAX),
        Some("uint32") => u32::MAX,
        Some("uint" | "uint64") => {
            node.insert("format".into(), "int64".into());
            return;
        }
        _ => return,
    };
    node.insert("format".into(), "int64".into());
    node.entry("maximum").or_insert_with(|| most.into());
}

/// A doc comment as text: its lines joined to paragraphs, links without their brackets.
fn plain(doc: &str) -> String {
    let paragraphs = doc.split("\n\n").map(|paragraph| {
        let words: Vec<&str> = paragraph.split_whitespace().collect();
        words.join(" ").replace("[`", "`").replace("`]", "`")
    });
    paragraphs.filter(|paragraph| !paragraph.is_empty()).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_api_server_refuses_is_rewritten() {
        for (from, to) in [
            (json!({"type": ["string", "null"]}), json!({"type": "string"})),
            (
                json!({"type": "integer", "format": "uint32", "minimum": 0}),
                json!({"type": "integer", "format": "int64", "minimum": 0, "maximum": u32::MAX}),
            ),
            (
                json!({"type": "object", "additionalProperties": false, "default": {}}),
                json!({"type": "object"}),
            ),
            (
                json!({
                    "description": "of the field",
                    "anyOf": [{"type": "object", "description": "of the type"}, {"type": "null"}],
                }),
                json!({"description": "of the field", "type": "object"}),
            ),
            (
                json!({"anyOf": [{"type": "string"}, {"enum": [null], "nullable": true}]}),
                json!({"type": "string"}),
            ),
            (
                json!({"description": "Mode.", "oneOf": [
                    {"const": "a", "type": "string", "description": "First."},
                    {"enum": ["b"], "type": "string", "description": "Second."},
                ]}),
                json!({
                    "description": "Mode.\n\n`a`: First; `b`: Second.",
                    "type": "string",
                    "enum": ["a", "b"],
                }),
            ),
            (
                json!({"description": "See\n[`this`].\n\nMore."}),
                json!({"description": "See `this`.\n\nMore."}),
            ),
        ] {
            let mut schema = from.clone();
            rewrite(&mut schema);
            assert_eq!(schema, to, "{from}");
            let once = schema.clone();
            rewrite(&mut schema);
            assert_eq!(schema, once, "a second time changes nothing");
        }
    }

    #[test]
    fn a_choice_that_is_no_absent_field_stays() {
        let mut schema = json!({"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]});
        let before = schema.clone();
        rewrite(&mut schema);
        assert_eq!(schema, before);
    }
}
