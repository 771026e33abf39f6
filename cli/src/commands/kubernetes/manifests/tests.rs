//! The embedded manifests: that they are the kustomize base, what options change, and what they must promise.

use std::{collections::BTreeSet, fs, path::PathBuf};

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: InstallArgs,
}

fn with(options: &[&str]) -> Vec<Value> {
    let line =
        Line::try_parse_from([&["install"], options].concat()).expect("the options are right");
    objects(&line.options).expect("the manifests are right")
}

fn base() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/k8s/base")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// "KIND NAMESPACE/NAME".
fn name(object: &Value) -> String {
    let metadata = &object["metadata"];
    format!(
        "{} {}/{}",
        text(&object["kind"]),
        text(&metadata["namespace"]),
        text(&metadata["name"])
    )
}

fn find<'a>(objects: &'a [Value], wanted: &str) -> &'a Value {
    let found = objects.iter().find(|object| name(object) == wanted);
    found.unwrap_or_else(|| panic!("{wanted} is not installed"))
}

#[test]
fn without_options_the_kustomize_base_is_installed() {
    let listed = fs::read_to_string(base().join("kustomization.yaml")).expect("it is there");
    let listed: Value = serde_norway::from_str(&listed).expect("it is YAML");
    let files: Vec<&str> =
        listed["resources"].as_sequence().expect("a list").iter().map(text).collect();
    let embedded: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
    assert_eq!(embedded, files, "kustomization.yaml lists other files");
    let mut expected = Vec::new();
    for file in files {
        let yaml = fs::read_to_string(base().join(file)).expect("the file is there");
        for document in Deserializer::from_str(&yaml) {
            expected.push(Value::deserialize(document).expect("it is YAML"));
        }
    }
    let printed = to_yaml(&with(&[])).expect("it can be written");
    let printed: Vec<Value> = Deserializer::from_str(&printed)
        .map(|document| Value::deserialize(document).expect("what is printed is YAML"))
        .collect();
    assert_eq!(printed, expected);
}

#[test]
fn every_file_of_the_base_is_listed() {
    let there = |folder: PathBuf, prefix: &str| -> Vec<String> {
        let entries = fs::read_dir(folder).expect("the folder").flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.ends_with(".yaml")).map(|name| format!("{prefix}{name}")).collect()
    };
    let mut files: BTreeSet<String> = there(base(), "").into_iter().collect();
    files.extend(there(base().join("crds"), "crds/"));
    files.remove("kustomization.yaml");
    assert_eq!(files, FILES.iter().map(|(name, _)| (*name).to_owned()).collect());
}

#[test]
fn options_change_what_they_name_and_nothing_else() {
    let plain = with(&[]);
    for (options, expected) in [
        (vec!["--image", "example.org/weft:2"], "image: example.org/weft:2\n"),
        (vec!["--proxy-image", "example.org/p:2"], "- --proxy-image=example.org/p:2\n"),
        (vec!["--trust-domain", "mesh.example.org"], "- --trust-domain=mesh.example.org\n"),
        (vec!["--inbound-mode", "strict"], "- --inbound-mode=strict\n"),
    ] {
        let changed = with(&options);
        let differing: Vec<(&Value, &Value)> =
            plain.iter().zip(&changed).filter(|(one, two)| one != two).collect();
        let [(before, after)] = differing[..] else { panic!("{options:?} changes one object") };
        let lines = |value| serde_norway::to_string(value).expect("it is YAML");
        let (before, after) = (lines(before), lines(after));
        let new: Vec<&str> = after.lines().filter(|line| !before.contains(*line)).collect();
        let [line] = new[..] else { panic!("{options:?} changes one line: {new:?}") };
        assert_eq!(format!("{}\n", line.trim_start()), expected);
        assert_eq!(before.lines().count(), after.lines().count(), "{options:?}");
    }
    let without = with(&["--no-crds"]);
    assert!(without.iter().all(|object| object["kind"] != DEFINITION));
    assert!(without.len() < plain.len());
}

#[test]
fn images_that_are_none_are_refused_with_what_would_be_one() {
    for wrong in ["", " ", "a b", "/x", ":1"] {
        let error = Line::try_parse_from(["install", &format!("--image={wrong}")]).err();
        let error = error.unwrap_or_else(|| panic!("{wrong:?} is taken")).to_string();
        assert!(error.contains("[:TAG]"), "{error}");
    }
}

#[test]
fn one_apply_works_in_this_order() {
    let objects = with(&[]);
    let kinds: Vec<&str> = objects.iter().map(|object| text(&object["kind"])).collect();
    assert_eq!(kinds[0], "Namespace");
    assert_eq!(kinds.last(), Some(&"MutatingWebhookConfiguration"));
    let place = |kind| kinds.iter().position(|known| *known == kind).expect("it is there");
    assert!(place(DEFINITION) < place("Deployment"));
    assert!(place("ServiceAccount") < place("Deployment"));
    let names: BTreeSet<String> = objects.iter().map(name).collect();
    assert_eq!(names.len(), objects.len(), "an object stands twice");
}

#[test]
fn the_images_are_of_this_version() {
    let objects = with(&[]);
    let pod =
        &find(&objects, "Deployment weft-system/weft-control-plane")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let version = concat!(":", env!("CARGO_PKG_VERSION"));
    assert!(text(&container["image"]).ends_with(version), "{:?}", container["image"]);
    let arguments = container["args"].as_sequence().expect("arguments");
    let proxy = arguments.iter().map(text).find(|argument| argument.starts_with("--proxy-image="));
    assert!(proxy.is_some_and(|proxy| proxy.ends_with(version)), "{proxy:?}");
    let shop = fs::read_to_string(base().join("../../../examples/kubernetes/shop.yaml"));
    let shop = shop.expect("the example is there");
    let mut images = shop.lines().filter(|line| line.trim_start().starts_with("image:"));
    assert!(images.all(|line| line.ends_with(version)), "the shop runs another version");
}

#[test]
fn the_control_plane_runs_without_any_privilege() {
    let objects = with(&[]);
    let pod =
        &find(&objects, "Deployment weft-system/weft-control-plane")["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["capabilities"]["drop"][0], "ALL");
    assert!(pod["containers"][0]["resources"]["limits"]["cpu"].is_null());
    let namespace = &find(&objects, "Namespace /weft-system")["metadata"]["labels"];
    assert_eq!(namespace["pod-security.kubernetes.io/enforce"], "restricted");
}

#[test]
fn no_right_is_wider_than_a_reader_would_guess() {
    let objects = with(&[]);
    let mut writes = BTreeSet::new();
    for object in &objects {
        for rule in object["rules"].as_sequence().into_iter().flatten() {
            let words = |field: &str| -> Vec<String> {
                let list = rule[field].as_sequence().into_iter().flatten();
                list.map(|word| text(word).to_owned()).collect()
            };
            let (resources, verbs, named) =
                (words("resources"), words("verbs"), !rule["resourceNames"].is_null());
            let all = [&words("apiGroups")[..], &resources, &verbs].concat();
            assert!(!all.iter().any(|word| word == "*"), "{rule:?} gives everything");
            assert!(
                resources != ["secrets"] || object["kind"] == "Role",
                "Secrets of every namespace"
            );
            let unnamed = verbs
                .iter()
                .filter(|verb| !named && !["get", "list", "watch"].contains(&verb.as_str()));
            writes.extend(unnamed.map(|verb| format!("{verb} {}", resources.join("+"))));
        }
    }
    let expected = [
        "create configmaps",
        "create secrets",
        "create tokenreviews",
        "patch httproutes/status+grpcroutes/status+tlsroutes/status+tcproutes/status",
        "patch workloads/status+meshconfigs/status+trafficpolicies/status+accesspolicies/status+externalservices/status",
    ];
    assert_eq!(writes, expected.map(str::to_owned).into());
}

#[test]
fn a_dead_webhook_stops_nothing() {
    let objects = with(&[]);
    let webhooks = &find(&objects, "MutatingWebhookConfiguration /weft-injector")["webhooks"];
    let webhooks = webhooks.as_sequence().expect("webhooks");
    assert_eq!(webhooks.len(), 2);
    for webhook in webhooks {
        assert_eq!(webhook["failurePolicy"], "Ignore");
        assert!(webhook["timeoutSeconds"].as_u64().is_some_and(|seconds| seconds <= 5));
        assert_eq!(webhook["sideEffects"], "None");
        assert!(webhook["clientConfig"]["caBundle"].is_null(), "it is written at run time");
        let rule = &webhook["rules"][0];
        assert_eq!(
            (&rule["resources"][0], &rule["operations"][0]),
            (&"pods".into(), &"CREATE".into())
        );
        let namespaces = webhook["namespaceSelector"]["matchExpressions"].as_sequence();
        let kept_out = namespaces.into_iter().flatten().any(|expression| {
            let values: Vec<&str> =
                expression["values"].as_sequence().into_iter().flatten().map(text).collect();
            expression["operator"] == "NotIn"
                && values == ["kube-system", "kube-node-lease", "weft-system"]
        });
        assert!(kept_out, "{webhook:?} is asked about the system's namespaces");
    }
}
