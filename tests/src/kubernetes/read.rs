//! Reading: one object, and lists, whole or in pages that belong together.
//!
//! In come requests that are allowed, out go objects as of one version. A page's continue token carries the list's
//! version and the last key, so that later pages show what there was at the first.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{
    failure::Failure,
    kinds::Kind,
    request::{Asked, Options, Target},
    store::{Key, Store},
};

/// One object.
///
/// # Errors
/// When it is not there.
pub fn get(store: &Store, kind: &Kind, target: &Target) -> Result<Value, Failure> {
    let key = Key::new(kind, &target.namespace, &target.name);
    let object = store.get(&key).ok_or_else(|| Failure::not_found(kind, &target.name))?;
    Ok(shown(kind, object))
}

/// An object in the version in which it was asked for.
#[must_use]
pub fn shown(kind: &Kind, object: &Value) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = Value::String(kind.api_version());
    object["kind"] = Value::String(kind.kind.clone());
    object
}

/// A list, or a page of one.
///
/// # Errors
/// When the version is not to be had, or an option makes no sense.
pub fn list(store: &Store, kind: &Kind, asked: &Asked) -> Result<Value, Failure> {
    let options = &asked.options;
    options.fields.check(&kind.qualified())?;
    let (version, start) = start_of(store, options)?;
    let namespace = if kind.namespaced { asked.target.namespace.as_str() } else { "" };
    let resource = kind.qualified();
    let objects: BTreeMap<Key, Arc<Value>> = if version == store.version() {
        let now = store.list(&resource, namespace);
        now.map(|(key, object)| (key.clone(), Arc::clone(object))).collect()
    } else {
        store.list_at(&resource, namespace, version)?
    };
    let selected: Vec<(&Key, &Arc<Value>)> = objects
        .iter()
        .filter(|(key, _)| start.as_ref().is_none_or(|start| *key > start))
        .filter(|(_, object)| options.labels.selects(object) && options.fields.selects(object))
        .collect();
    let page = if options.limit == 0 { selected.len() } else { options.limit };
    let items: Vec<Value> =
        selected.iter().take(page).map(|(_, object)| shown(kind, object)).collect();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if let (true, Some((last, _))) = (selected.len() > page, selected.get(page.saturating_sub(1))) {
        metadata["continue"] = Value::String(continue_token(version, last));
        if options.labels.is_empty() && options.fields.is_empty() {
            metadata["remainingItemCount"] = json!(selected.len() - page);
        }
    }
    Ok(json!({
        "kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(), "metadata": metadata, "items": items,
    }))
}

/// As of which version a list is, and after which key it begins.
fn start_of(store: &Store, options: &Options) -> Result<(u64, Option<Key>), Failure> {
    if !options.continue_token.is_empty() {
        if !matches!(options.resource_version.as_str(), "" | "0") {
            return Err(Failure::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let (version, key) = of_continue_token(&options.continue_token)
            .ok_or_else(|| Failure::bad_request("continue key is not valid"))?;
        return Ok((version, Some(key)));
    }
    let asked = version_of(&options.resource_version)?;
    if asked > store.version() {
        return Err(Failure::version_too_large(asked, store.version()));
    }
    match options.resource_version_match.as_str() {
        "Exact" if asked > 0 => Ok((asked, None)),
        "Exact" => Err(Failure::bad_request(
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        )),
        "" | "NotOlderThan" => Ok((store.version(), None)),
        other => Err(Failure::bad_request(format!(
            "resourceVersionMatch: Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\""
        ))),
    }
}

/// Reads a `resourceVersion`; empty is 0.
///
/// # Errors
/// When it is not a number.
pub fn version_of(text: &str) -> Result<u64, Failure> {
    match text {
        "" => Ok(0),
        text => text.parse().map_err(|_| {
            Failure::bad_request(format!(
                "resourceVersion: Invalid value: {text:?}: must be a number"
            ))
        }),
    }
}

/// Clients must not look into a token; hexadecimal keeps them from it and needs no escapes in a query.
fn continue_token(version: u64, last: &Key) -> String {
    let text = format!("{version} {} {} {}", last.resource, last.namespace, last.name);
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn of_continue_token(token: &str) -> Option<(u64, Key)> {
    let bytes = token.as_bytes().chunks(2).map(|pair| {
        std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok())
    });
    let text = String::from_utf8(bytes.collect::<Option<Vec<u8>>>()?).ok()?;
    let [version, resource, namespace, name] = text.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    let (resource, namespace, name) = (resource.to_owned(), namespace.to_owned(), name.to_owned());
    Some((version.parse().ok()?, Key { resource, namespace, name }))
}
