//! An object as its author ordered it. JSON comes in, with the value that it was made from; the same JSON goes out with
//! every field where it stood, new ones behind, list entries known again by their `name`. What did not change keeps
//! the very form that it had.

use anyhow::Context as _;
use serde_json::Value as Json;
use serde_norway::{Mapping, Value};

/// Orders `new` like `old`.
pub(super) fn in_order(new: &Json, old: &Value) -> anyhow::Result<Value> {
    if json(old)? == *new {
        return Ok(old.clone());
    }
    match (new, old) {
        (Json::Object(new), Value::Mapping(old)) => fields(new, old),
        (Json::Array(new), Value::Sequence(old)) => new
            .iter()
            .map(|item| in_order(item, counterpart(item, old)))
            .collect::<Result<_, _>>()
            .map(Value::Sequence),
        _ => plain(new),
    }
}

fn fields(new: &serde_json::Map<String, Json>, old: &Mapping) -> anyhow::Result<Value> {
    let mut ordered = Mapping::new();
    let mut rest = new.clone();
    for (key, value) in old {
        if let Some(item) = rest.remove(&text(key)?) {
            ordered.insert(key.clone(), in_order(&item, value)?);
        }
    }
    for (key, item) in &rest {
        ordered.insert(Value::String(key.clone()), plain(item)?);
    }
    Ok(Value::Mapping(ordered))
}

/// A key as JSON has it: there a number is text.
fn text(key: &Value) -> anyhow::Result<String> {
    match (key, json(key)?) {
        (Value::String(text), _) => Ok(text.clone()),
        (_, json) => Ok(json.to_string()),
    }
}

/// What an entry of a list was: the one of the same name.
fn counterpart<'a>(item: &Json, old: &'a [Value]) -> &'a Value {
    const NONE: &Value = &Value::Null;
    let Some(name) = item.get("name").and_then(Json::as_str) else { return NONE };
    let is_named = |value: &&Value| value.get("name").and_then(Value::as_str) == Some(name);
    old.iter().find(is_named).unwrap_or(NONE)
}

fn json(value: &Value) -> anyhow::Result<Json> {
    serde_json::to_value(value).context("an object cannot be read as JSON")
}

fn plain(json: &Json) -> anyhow::Result<Value> {
    serde_norway::to_value(json).context("an object cannot be written as YAML")
}
