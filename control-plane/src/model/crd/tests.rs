//! The definitions: what the API server demands of them, and that the files in `deploy/` hold them.

use std::{fs, path::PathBuf};

use super::*;
use crate::model::kinds::{Fields, WEFT};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/k8s/base/crds")
}

/// How a definition stands in its file.
fn file(definition: &Value) -> (String, String) {
    let name = definition["metadata"]["name"].as_str().expect("a name");
    let yaml = serde_norway::to_string(definition).expect("it is YAML");
    let head = "# Made from control-plane/src/model: change it there, then make this file anew with\n\
                #   WEFT_REGENERATE=1 cargo test -p weft-control-plane --lib model::crd\n";
    (format!("{name}.yaml"), format!("{head}{yaml}"))
}

#[test]
fn the_files_in_deploy_are_what_the_types_say() {
    if std::env::var_os("WEFT_REGENERATE").is_some() {
        fs::create_dir_all(folder()).expect("made");
        for (name, text) in all().iter().map(file) {
            fs::write(folder().join(name), text).expect("written");
        }
    }
    let mut expected: Vec<String> = Vec::new();
    for (name, text) in all().iter().map(file) {
        let found = fs::read_to_string(folder().join(&name)).unwrap_or_default();
        let command = "WEFT_REGENERATE=1 cargo test -p weft-control-plane --lib model::crd";
        assert!(
            found == text,
            "deploy/k8s/base/crds/{name} is not what the types say; make it anew: {command}"
        );
        expected.push(name);
    }
    let there = fs::read_dir(folder()).expect("the folder").flatten();
    let there: Vec<String> = there.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    let strangers: Vec<&String> = there.iter().filter(|name| !expected.contains(name)).collect();
    assert!(strangers.is_empty(), "no kind has the files {strangers:?}");
}

#[test]
fn every_kind_of_wefts_own_has_a_definition() {
    let own: Vec<&str> =
        KINDS.iter().filter(|info| info.api_version == WEFT).map(|info| info.name).collect();
    let defined = all();
    let defined: Vec<&str> =
        defined.iter().filter_map(|crd| crd["spec"]["names"]["kind"].as_str()).collect();
    assert_eq!(defined, own);
    assert!(KINDS.iter().all(|info| (info.fields == Fields::Strict) == info.schema.is_some()));
}

/// Every schema below one, with its path. `value` is whether it only constrains (below anyOf).
fn walk<'a>(path: &str, schema: &'a Value, visit: &mut impl FnMut(&str, &'a Value)) {
    visit(path, schema);
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), inner, visit);
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            walk(&format!("{path}[]"), &schema[key], visit);
        }
    }
}

fn each_schema(mut visit: impl FnMut(&str, &Value)) {
    for crd in &all() {
        let kind = crd["spec"]["names"]["kind"].as_str().expect("a kind");
        for version in crd["spec"]["versions"].as_array().expect("versions") {
            walk(kind, &version["schema"]["openAPIV3Schema"], &mut visit);
        }
    }
}

#[test]
fn schemas_are_structural() {
    each_schema(|path, schema| {
        assert!(schema["type"].is_string(), "{path} has no single type: {schema}");
        for refused in ["$ref", "oneOf", "nullable", "default", "definitions", "title", "const"] {
            assert!(schema.get(refused).is_none(), "{path} has {refused}");
        }
        assert_ne!(schema["additionalProperties"], false, "{path}");
        // What apiextensions-apiserver knows (its `SupportedFormats`), as far as it is used here.
        let format = schema["format"].as_str();
        assert!(
            format.is_none_or(|format| ["int32", "int64", "date-time"].contains(&format)),
            "{path}: {format:?}"
        );
        let constrained = schema["anyOf"].as_array().into_iter().flatten();
        assert!(constrained.into_iter().all(|one| one.get("type").is_none()), "{path}");
    });
}

#[test]
fn every_field_is_described() {
    each_schema(|path, schema| {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let metadata = !path.contains('.') && name == "metadata";
            let said = property["description"].as_str().unwrap_or_default();
            assert!(metadata || said.ends_with('.'), "{path}.{name}: {said:?} is no description");
            assert!(!said.contains("[`"), "{path}.{name}: {said:?} links what readers do not have");
        }
    });
}

#[test]
fn lists_that_rules_walk_are_bounded() {
    // The API server estimates the cost of each rule from these bounds, and refuses what could be dear.
    each_schema(|path, schema| {
        let rules = schema["x-kubernetes-validations"].as_array();
        let walked = rules.is_some_and(|rules| {
            rules.iter().any(|rule| rule["rule"].as_str().is_some_and(|r| r.contains("self.all(")))
        });
        assert!(!walked || schema["maxItems"].is_u64(), "{path} has no maxItems");
    });
}

#[test]
fn every_rule_says_what_would_be_right() {
    let mut seen = 0;
    each_schema(|path, schema| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let (text, message) = (rule["rule"].as_str(), rule["message"].as_str());
            let text = text.expect("a rule");
            assert!(message.is_some_and(|message| message.len() > 20), "{path}: {rule}");
            let balance = |open, close| text.matches(open).count() == text.matches(close).count();
            assert!(balance('(', ')') && balance('[', ']'), "{path}: {text}");
            assert!(!text.contains("  "), "{path}: {text}");
            seen += 1;
        }
    });
    assert!(seen > 5, "only {seen} rules");
}

#[test]
fn what_the_parser_knows_the_schema_knows() {
    let mut paths = Vec::new();
    each_schema(|path, schema| paths.push((path.to_owned(), schema.clone())));
    let find = |path: &str| {
        let found = paths.iter().find(|(known, _)| known == path);
        found.unwrap_or_else(|| panic!("{path} is not described")).1.clone()
    };
    assert_eq!(find("Workload.spec.ports[].servicePort")["maximum"], 65535);
    assert_eq!(find("Workload.spec.ports[].mode")["enum"], json!(["strict", "permissive"]));
    assert_eq!(find("Workload.spec.upstreams[]")["required"], json!(["service"]));
    assert_eq!(find("Workload.spec.readiness.http")["required"], json!(["path"]));
    assert_eq!(find("Workload.spec.ports")["maxItems"], 16);
    assert_eq!(find("Workload.spec.replicas")["minimum"], 0);
    assert_eq!(
        find("MeshConfig.status.conditions[]")["required"],
        json!(["type", "status", "reason"])
    );
    assert_eq!(find("MeshConfig")["x-kubernetes-validations"][0]["rule"], MESH_RULE);
}

const MESH_RULE: &str = "self.metadata.name == 'mesh'";

#[test]
fn the_parser_says_of_the_samples_what_an_api_server_says() {
    let samples: Value = serde_norway::from_str(include_str!("samples.yaml")).expect("it is YAML");
    let mut wrong = String::new();
    for sample in samples.as_array().expect("a list") {
        let kind = sample["kind"].as_str().expect("a kind");
        let usual = if kind == "MeshConfig" { "mesh" } else { "sample" };
        let name = sample["name"].as_str().unwrap_or(usual);
        let object = json!({
            "apiVersion": WEFT,
            "kind": kind,
            "metadata": {"name": name},
            "spec": sample["spec"],
        });
        let verdict = crate::model::parse_object(&object.to_string());
        if verdict.is_ok() != (sample["right"] == true) {
            wrong += &format!("{}: {verdict:?}\n", sample["what"]);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
