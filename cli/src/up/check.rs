//! What the objects of a file say together that cannot work.
//!
//! Comes in: every object with its place, each right by itself. Goes out: mistakes, with which nothing of the
//! file is taken over; and warnings, which hold up nothing, because `weft apply` or another program may bring
//! what is missing. Reads no file; only whether working folders exist is asked of the disk.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::Path,
};

use weft_control_plane::{
    index::Index,
    model::{Object, ObjectKey},
    status::{self, refused::Refused},
};
use weft_proto::TrustDomain;

/// An object and where the user wrote it.
#[derive(Debug)]
pub(crate) struct Placed {
    /// "shop.yaml:12".
    pub(crate) place: String,
    pub(crate) object: Object,
}

impl Placed {
    fn says(&self, what: &str) -> String {
        format!("{}: {}: {what}", self.place, self.object.key())
    }
}

/// What must be righted before anything is taken over. `folder` is where relative paths begin.
pub(crate) fn mistakes(objects: &[Placed], folder: &Path) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut first_places: BTreeMap<ObjectKey, &str> = BTreeMap::new();
    for placed in objects {
        match first_places.entry(placed.object.key()) {
            Entry::Vacant(free) => {
                free.insert(&placed.place);
            }
            Entry::Occupied(first) => mistakes.push(placed.says(&format!(
                "metadata.name: it stands at {} already: remove one, or give it another name",
                first.get()
            ))),
        }
        mistakes.extend(no_working_folder(&placed.object, folder).map(|what| placed.says(&what)));
    }
    mistakes
}

fn no_working_folder(object: &Object, folder: &Path) -> Option<String> {
    let Object::Workload(workload) = object else { return None };
    let written = workload.spec.working_dir.as_deref()?;
    let path = folder.join(written);
    let needed = !workload.spec.command.is_empty() && !path.is_dir();
    needed.then(|| {
        format!(
            "spec.workingDir: {written:?} is no folder: {} must exist (a relative path begins in the folder \
             of the file)",
            path.display()
        )
    })
}

/// What will not work as it is written, unless something else adds to it.
pub(crate) fn warnings(objects: &[Placed]) -> Vec<String> {
    // References are followed as the control plane does; its trust domain plays no part in them.
    let mut index = Index::new(TrustDomain::default());
    index.apply_all(objects.iter().map(|placed| &placed.object));
    let mut warnings = Vec::new();
    for placed in objects {
        let judged = status::judge(&placed.object, &index, &Refused::default());
        let of_parents = judged.parents.into_iter().flat_map(|(_, said)| said);
        let judged = judged.conditions.into_iter().chain(of_parents);
        let unresolved = judged.filter(|said| said.r#type == "ResolvedRefs" && !said.holds);
        warnings.extend(unresolved.map(|said| placed.says(&said.message)));
        warnings.extend(not_started(&placed.object).map(|what| placed.says(what)));
    }
    warnings
}

fn not_started(object: &Object) -> Option<&'static str> {
    let Object::Workload(workload) = object else { return None };
    // Instances with an address of their own have no sidecar, and nothing to start.
    let started = !workload.spec.command.is_empty() || !workload.spec.addresses.is_empty();
    (!started).then_some(
        "spec.command is empty: nothing is started for it: give the program and its arguments, or start it \
         and its `weft proxy` yourself",
    )
}

#[cfg(test)]
mod tests {
    use weft_control_plane::model::parse_documents;

    use super::*;

    fn objects(files: &[(&str, &[&str])]) -> Vec<Placed> {
        let parsed = files.iter().flat_map(|(file, objects)| {
            parse_documents(file, &objects.join("\n---\n")).into_iter().map(move |parsed| {
                let parsed = parsed.expect("right by itself");
                Placed { place: format!("{file}:{}", parsed.line), object: parsed.object }
            })
        });
        parsed.collect()
    }

    fn workload(name: &str, spec: &str) -> String {
        format!(
            "{{apiVersion: weft.dev/v1alpha1, kind: Workload, metadata: {{name: {name}}}, spec: {{{spec}}}}}"
        )
    }

    #[test]
    fn an_object_that_stands_twice_is_a_mistake_that_names_both_places() {
        let (cart, other) = (workload("cart", "command: [a]"), workload("web", "command: [a]"));
        let again = objects(&[("a.yaml", &[&cart, &other, &cart]), ("b.yaml", &[&cart])]);
        let right = "already: remove one, or give it another name";
        assert_eq!(
            mistakes(&again, Path::new("/")),
            [
                format!(
                    "a.yaml:5: Workload default/cart: metadata.name: it stands at a.yaml:1 {right}"
                ),
                format!(
                    "b.yaml:1: Workload default/cart: metadata.name: it stands at a.yaml:1 {right}"
                ),
            ]
        );
        assert!(mistakes(&objects(&[("a.yaml", &[&cart, &other])]), Path::new("/")).is_empty());
    }

    #[test]
    fn a_working_folder_must_be_there() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("bin")).expect("made");
        for (spec, mistaken) in [
            ("command: [a], workingDir: bin", false),
            ("command: [a], workingDir: .", false),
            ("command: [a]", false),
            ("command: [a], workingDir: sbin", true),
            ("workingDir: sbin", false),
        ] {
            let found = mistakes(&objects(&[("a.yaml", &[&workload("a", spec)])]), folder.path());
            assert_eq!(found.len(), usize::from(mistaken), "{spec}: {found:?}");
            assert!(
                found.iter().all(|text| text.contains("spec.workingDir: \"sbin\" is no folder"))
            );
        }
    }

    #[test]
    fn what_nothing_in_the_file_brings_is_warned_of() {
        let cart = workload("cart", "service: cart, command: [a]");
        let service = |target: &str| {
            format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: cart}}, spec: {{ports: [{{port: 80{target}}}]}}}}"
            )
        };
        let calls = |to: &str| workload("web", &format!("command: [a], upstreams: [{{{to}}}]"));
        let two =
            workload("cart", "service: cart, command: [a], ports: [{name: a, port: 1}, {name: b}]");
        let cases: &[(&[&str], &str)] = &[
            (&[&cart, &calls("service: cart")], ""),
            (&[&cart, &service("")], ""),
            (&[&workload("far", "port: 80, addresses: [{address: 10.0.0.1}]")], ""),
            (&[&workload("cart", "replicas: 0, command: [a]")], ""),
            (
                &[&calls("service: crat")],
                "spec.upstreams[0].service: there is no service default/crat",
            ),
            (&[&cart, &calls("service: cart.shop")], "there is no service shop/cart"),
            (
                &[&cart, &calls("service: cart, port: 81")],
                "spec.upstreams[0].port: service default/cart has no port 81: it has 80",
            ),
            (&[&two, &service(", targetPort: c")], "80 (targetPort c)"),
            (&[&workload("cart", "service: cart, command: []")], "spec.command is empty"),
            (&[&workload("cart", "service: cart")], "spec.command is empty"),
        ];
        for (texts, expected) in cases {
            let found = warnings(&objects(&[("a.yaml", texts)]));
            match *expected {
                "" => assert!(found.is_empty(), "{texts:?}: {found:?}"),
                text => {
                    assert!(found.iter().any(|said| said.contains(text)), "{texts:?}: {found:?}")
                }
            }
        }
    }
}
