//! What is served, as clients ask for it: `/api`, `/apis`, a group's version, `/version`.
//!
//! In come the kinds in the store, out go Kubernetes' discovery documents.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    kinds::{Kind, REVIEWS},
    store::Store,
};

/// The document at a path; none where there is none.
#[must_use]
pub fn document(store: &Store, path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts[..] {
        ["version"] => Some(json!({
            "major": "1", "minor": "36", "gitVersion": "v1.36.0-weft-tests", "gitCommit": "", "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64",
        })),
        ["healthz" | "readyz" | "livez"] => Some(json!("ok")),
        ["api"] => Some(
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        ),
        ["apis"] => {
            let groups: Vec<Value> = versions(store)
                .into_iter()
                .map(|(name, versions)| group(&name, &versions))
                .collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] => {
            let versions = versions(store);
            let mut document = group(name, versions.get(name)?);
            document["kind"] = json!("APIGroup");
            document["apiVersion"] = json!("v1");
            Some(document)
        }
        ["api", version] => resources(store, "", version),
        ["apis", group, version] => resources(store, group, version),
        _ => None,
    }
}

/// The versions of each group but core's.
fn versions(store: &Store) -> BTreeMap<String, BTreeSet<String>> {
    let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for kind in store.kinds().filter(|kind| !kind.group.is_empty()) {
        groups.entry(kind.group.clone()).or_default().insert(kind.version.clone());
    }
    for (group, ..) in REVIEWS {
        groups.entry((*group).to_owned()).or_default().insert("v1".to_owned());
    }
    groups
}

fn group(name: &str, versions: &BTreeSet<String>) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions[0]})
}

fn resources(store: &Store, group: &str, version: &str) -> Option<Value> {
    let kinds = store.kinds().filter(|kind| kind.group == group && kind.version == version);
    let mut list: Vec<Value> = kinds.flat_map(|kind| of_kind(kind)).collect();
    if version == "v1" {
        list.extend(REVIEWS.iter().filter(|(of, ..)| *of == group).map(|(_, resource, kind)| {
            json!({
                "name": resource, "singularName": kind.to_lowercase(), "namespaced": false, "kind": kind,
                "verbs": ["create"],
            })
        }));
    }
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!list.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list,
        })
    })
}

fn of_kind(kind: &Kind) -> Vec<Value> {
    const VERBS: &[&str] =
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let mut list = vec![json!({
        "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
        "verbs": VERBS, "shortNames": kind.short_names,
    })];
    let mut subresource = |name: &str, of: &str, verbs: &[&str]| {
        list.push(json!({
            "name": format!("{}/{name}", kind.plural), "singularName": "", "namespaced": kind.namespaced,
            "kind": of, "verbs": verbs,
        }));
    };
    if kind.has_status {
        subresource("status", &kind.kind, &["get", "patch", "update"]);
    }
    for &name in kind.subresources {
        match name {
            "token" => subresource(name, "TokenRequest", &["create"]),
            "binding" => subresource(name, "Binding", &["create"]),
            _ => subresource(name, &kind.kind, &["update"]),
        }
    }
    list
}
