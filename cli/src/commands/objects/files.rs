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
use weft_control_plane::store::is_object_file;

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

/// Whether stdin is meant.
pub(crate) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The texts of a file, of a folder's files by name, or of stdin.
pub(crate) fn texts(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    if is_stdin(path) {
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
    // As in the control plane's own folder; a dangling link is not there.
    let is_objects = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(is_object_file) && path.is_file()
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
    fn editors_files_and_dangling_links_in_a_folder_are_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["b.yaml", "a.yml", ".a.yaml", "#a.yaml#", "#a.yaml", "a.yaml~", "notes.txt"] {
            fs::write(folder.path().join(name), "kind: A").expect("written");
        }
        for name in [".#a.yaml", "gone.yaml"] {
            std::os::unix::fs::symlink("me@here.1234", folder.path().join(name)).expect("linked");
        }
        fs::create_dir(folder.path().join("folder.yaml")).expect("made");
        let texts = texts(folder.path()).expect("read");
        let names: Vec<_> = texts.iter().filter_map(|(name, _)| name.rsplit('/').next()).collect();
        assert_eq!(names, ["a.yml", "b.yaml"]);
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
