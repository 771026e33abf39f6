//! Reads objects from files, folders and stdin: YAML of several documents, or JSON; a `List` is taken apart.
//!
//! Only the syntax is checked here; what an object means, the control plane checks.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Deserialize as _;
use serde_json::Value;

use crate::failure::Failure;

/// Every object of the given files, in order. Objects without a namespace get the given one.
pub(super) fn read(paths: &[PathBuf], namespace: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let mut objects = Vec::new();
    for path in paths {
        for (name, text) in texts(path)? {
            objects.extend(parse(&name, &text)?);
        }
    }
    if let Some(namespace) = namespace {
        objects.iter_mut().for_each(|object| give_namespace(object, namespace));
    }
    Ok(objects)
}

/// The texts of a file, of a folder's files by name, or of stdin.
pub(crate) fn texts(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read objects from stdin")?;
        return Ok(vec![("stdin".into(), text)]);
    }
    if path.is_dir() {
        return yaml_files(path)?.iter().map(|file| text(file)).collect();
    }
    Ok(vec![text(path)?])
}

fn text(path: &Path) -> anyhow::Result<(String, String)> {
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => Ok((name, text)),
        Err(error) => {
            let what = format!("cannot read {name}: {error}");
            Err(Failure::new(what, "name a file or folder of YAML objects that you may read")
                .into())
        }
    }
}

fn yaml_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let is_objects = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("yaml" | "yml" | "json"))
    };
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(is_objects).collect();
    files.sort();
    Ok(files)
}

fn parse(name: &str, text: &str) -> anyhow::Result<Vec<Value>> {
    let wrong = |error: String| {
        let next = "an object has apiVersion, kind, metadata and spec; `---` stands between two";
        anyhow::Error::from(Failure::new(format!("{name}: {error}"), next))
    };
    let mut objects = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        let value = Value::deserialize(document).map_err(|error| wrong(error.to_string()))?;
        match value {
            Value::Null => {}
            Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                match list.remove("items") {
                    Some(Value::Array(items)) => objects.extend(items),
                    _ => return Err(wrong("the List has no items".into())),
                }
            }
            Value::Object(_) => objects.push(value),
            other => return Err(wrong(format!("{other} is no object"))),
        }
    }
    Ok(objects)
}

fn give_namespace(object: &mut Value, namespace: &str) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.entry("namespace").or_insert_with(|| namespace.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_lists_and_json_are_read_in_order() {
        let text = "kind: A\n---\n---\nkind: List\nitems: [{kind: B}, {kind: C}]\n---\n{\"kind\": \"D\"}\n";
        let objects = parse("x.yaml", text).expect("valid");
        let kinds: Vec<&str> =
            objects.iter().filter_map(|object| object["kind"].as_str()).collect();
        assert_eq!(kinds, ["A", "B", "C", "D"]);
    }

    #[test]
    fn broken_syntax_names_the_file_and_the_line() {
        let error = parse("x.yaml", "kind: A\n  spec: [").expect_err("broken").to_string();
        assert!(error.starts_with("x.yaml: ") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_given_namespace_fills_only_a_missing_one() {
        let mut objects =
            parse("x", "metadata: {name: a}\n---\nmetadata: {namespace: b}").expect("valid");
        objects.iter_mut().for_each(|object| give_namespace(object, "shop"));
        assert_eq!(objects[0]["metadata"]["namespace"], "shop");
        assert_eq!(objects[1]["metadata"]["namespace"], "b");
    }
}
