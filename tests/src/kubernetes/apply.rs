//! Server-side apply: what one manager wants, laid over what there is.
//!
//! In come the live object, what is applied and by whom; out goes the object to be, with its owners. A field of
//! another manager with another value is a conflict, unless force takes it; a field that this manager applied before
//! and does not any more is removed, unless others own it too.

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    failure::Failure,
    kinds::Kind,
    lists::{Merging, merging},
    metadata::now,
    ownership::{
        Difference, Owned, Owner, owners,
        path::{Fields, Path, Step, fields_of, item_step, leads_to, remove_at, text_of},
        set_owners,
    },
};

/// Lays what is applied over an object.
///
/// # Errors
/// When fields of others would change, and `force` is not set.
pub fn apply(
    kind: &Kind,
    live: &Value,
    applied: &Value,
    manager: &Owner,
    force: bool,
) -> Result<Value, Failure> {
    let wanted = fields_of(kind, applied);
    let mut entries = owners(live);
    let before = entries.iter().position(|entry| entry.owner == *manager);
    let before = before.map(|index| entries.remove(index).fields).unwrap_or_default();

    let mut object = live.clone();
    merge(kind, &mut object, applied, &mut Path::new());
    let difference = Difference::between(kind, live, &object);
    let taken: Fields = wanted.intersection(&difference.changed).cloned().collect();
    if !force {
        refuse_conflicts(&entries, &taken)?;
    }
    for entry in &mut entries {
        entry.fields.retain(|path| !taken.contains(path));
    }
    remove_given_up(&mut object, &before, &wanted, &entries);
    let time = now();
    entries.push(Owned { owner: manager.clone(), time, fields: wanted });
    let there = fields_of(kind, &object);
    for entry in &mut entries {
        entry.fields.retain(|path| there.contains(path));
    }
    set_owners(&mut object, &entries);
    Ok(object)
}

fn refuse_conflicts(entries: &[Owned], taken: &Fields) -> Result<(), Failure> {
    let conflicts: Vec<(&Owner, &Path)> = entries
        .iter()
        .flat_map(|entry| entry.fields.intersection(taken).map(|path| (&entry.owner, path)))
        .collect();
    if conflicts.is_empty() {
        return Ok(());
    }
    let mut message = match conflicts[..] {
        [(owner, path)] => {
            format!(
                "Apply failed with 1 conflict: conflict with {}: {}",
                shown(owner),
                text_of(path)
            )
        }
        _ => format!("Apply failed with {} conflicts:", conflicts.len()),
    };
    if conflicts.len() > 1 {
        let mut last = None;
        for (owner, path) in &conflicts {
            if last != Some(owner) {
                let mark = if last.is_none() { ' ' } else { '\n' };
                message += &format!("{mark}conflicts with {}:", shown(owner));
            }
            message += &format!("\n- {}", text_of(path));
            last = Some(owner);
        }
    }
    let mut failure = Failure::new(StatusCode::CONFLICT, "Conflict", message);
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|(owner, path)| {
            json!({
                "reason": "FieldManagerConflict", "message": format!("conflict with {}", shown(owner)),
                "field": text_of(path),
            })
        })
        .collect();
    failure.details = json!({"causes": causes});
    Err(failure)
}

/// An owner, as messages write it.
fn shown(owner: &Owner) -> String {
    let mut text = format!("\"{}\"", owner.manager);
    if !owner.subresource.is_empty() {
        text += &format!(" with subresource \"{}\"", owner.subresource);
    }
    if owner.operation == "Update" {
        text += &format!(" using {}", owner.api_version);
    }
    text
}

/// Removes what this manager applied before and does not any more, as far as nobody else owns it or inside it.
fn remove_given_up(object: &mut Value, before: &Fields, wanted: &Fields, others: &[Owned]) {
    let is_kept = |path: &Path| {
        let below = |fields: &Fields| {
            fields.range(path.clone()..).next().is_some_and(|next| next.starts_with(path))
        };
        below(wanted) || others.iter().any(|entry| below(&entry.fields))
    };
    // An item goes before, and with, what is in it.
    for path in before.difference(wanted) {
        if !is_key(path) && !is_kept(path) {
            remove_at(object, path);
        }
    }
}

/// Whether a path leads to a field by which its item is found: that one stays as long as the item.
fn is_key(path: &[Step]) -> bool {
    match path {
        [.., Step::Item(keys), Step::Field(name)] => {
            serde_json::from_str::<Value>(keys).is_ok_and(|keys| keys.get(name).is_some())
        }
        _ => false,
    }
}

/// Writes what is applied into an object.
fn merge(kind: &Kind, object: &mut Value, applied: &Value, path: &mut Path) {
    match (merging(kind, path, applied), applied) {
        (Merging::Fields, Value::Object(fields)) => {
            if !object.is_object() {
                *object = json!({});
            }
            for (name, value) in fields {
                path.push(Step::Field(name.clone()));
                merge(kind, &mut object[name], value, path);
                path.pop();
            }
        }
        (Merging::Set, Value::Array(items)) => {
            let there = as_list(object);
            for item in items {
                if !there.contains(item) {
                    there.push(item.clone());
                }
            }
        }
        (Merging::Keyed(keys), Value::Array(items)) => {
            let there = as_list(object);
            for item in items {
                let step = item_step(item, &keys);
                let index =
                    there.iter().position(|one| leads_to(&step, one)).unwrap_or_else(|| {
                        there.push(json!({}));
                        there.len() - 1
                    });
                path.push(step);
                for (name, value) in item.as_object().into_iter().flatten() {
                    path.push(Step::Field(name.clone()));
                    merge(kind, &mut there[index][name], value, path);
                    path.pop();
                }
                path.pop();
            }
        }
        _ => *object = applied.clone(),
    }
}

fn as_list(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = json!([]);
    }
    value.as_array_mut().expect("it was just made one")
}
