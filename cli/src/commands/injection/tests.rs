//! Manifests as they come out: what is changed, what stays byte for byte, what is said.

use clap::Parser as _;
use serde_json::json;

use super::*;
use crate::command::{Cli, Command};

const SERVICE: &str = "apiVersion: v1\nkind: Service   # as it stands\nmetadata: {name: cart}\n";
const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: cart\n  annotations: {z: '1', a: \"on\"}\nspec:\n  volumes:\n  - {name: v, configMap: {name: v, defaultMode: 0644}}\n  containers:\n  - name: app\n    image: cart\n";

/// What a command does to one object.
type Treatment = Box<dyn Fn(&Value) -> Change>;

/// Runs over texts as if they were files; what goes to stdout, what is said, what is refused.
fn over(line: &str, texts: &[&str]) -> (String, Vec<String>, Vec<String>) {
    let line = format!("weft {line} x");
    let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
    let (manifests, done, change): (_, _, Treatment) = match cli.command.unwrap() {
        Command::Inject(args) => {
            let injection = Injection::new(&args);
            (args.manifests, "injected", Box::new(move |object| injection.inject(object)))
        }
        Command::Uninject(args) => (args.manifests, "uninjected", Box::new(undo)),
        _ => panic!("{line}"),
    };
    let mut report = Report { done, lines: Vec::new(), refusals: Vec::new() };
    let mut written = documents::Written::default();
    for text in texts {
        let mut file = File::read("shop.yaml", text).unwrap();
        for document in &mut file.documents {
            treat_document("shop.yaml", document, &change, &mut report).unwrap();
        }
        written.add(&file, manifests.output).unwrap();
    }
    (written.text, report.lines, report.refusals)
}

fn parsed(text: &str) -> Vec<Value> {
    use serde::Deserialize as _;
    serde_norway::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

#[test]
fn a_document_that_makes_no_pods_stays_byte_for_byte() {
    let text =
        format!("# head\n%YAML 1.2\n---\n{SERVICE}---\n---\n# nothing\n---\r\n{SERVICE}...\n");
    let (out, lines, refusals) = over("inject", &[&text]);
    assert_eq!(out, text);
    assert_eq!(lines, ["Service cart: left alone: it makes no pods\n"; 2]);
    assert!(refusals.is_empty());
    let json = "{\"kind\": \"Service\",   \"apiVersion\": \"v1\"}";
    assert_eq!(over("inject", &[json]).0, json);
}

#[test]
fn only_the_changed_document_is_written_anew_and_its_fields_keep_their_places() {
    let text = format!("# ours\n{POD}---\n{SERVICE}");
    let (out, lines, _) = over("inject", &[&text]);
    assert_eq!(lines[0], "Pod cart: injected\n");
    assert!(
        out.starts_with("# ours\napiVersion: v1\nkind: Pod\nmetadata:\n  name: cart\n"),
        "{out}"
    );
    assert!(out.ends_with(&format!("---\n{SERVICE}")), "{out}");
    let places: Vec<_> = [
        "z: ",
        "a: ",
        "weft.dev/injected",
        "volumes:",
        "containers:",
        "- name: app\n    image: cart",
        "initContainers:",
    ]
    .iter()
    .map(|part| out.find(part).unwrap_or_else(|| panic!("{part} is not in\n{out}")))
    .collect();
    assert!(places.is_sorted(), "{places:?}\n{out}");
}

#[test]
fn values_mean_to_kubectl_what_they_meant_before() {
    let (out, ..) = over("inject", &[POD]);
    assert!(out.contains("defaultMode: 420"), "{out}");
    // YAML 1.1 takes these for booleans and numbers unless they are quoted.
    let words = [
        "on", "off", "yes", "no", "y", "n", "Yes", "NO", "true", "null", "~", "1", "1e3", "0644",
        "0x1", "1_000", "12:30", "1.0",
    ];
    let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
    let text = format!("{POD}    args: [{}]\n", quoted.join(", "));
    let (out, ..) = over("inject", &[&text]);
    assert!(out.contains("    a: 'on'\n"), "{out}");
    for word in words {
        let plain = format!("    - {word}\n");
        assert!(!out.contains(&plain), "{word} is not quoted in\n{out}");
    }
}

#[test]
fn what_is_injected_is_uninjected_to_what_it_was() {
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {}- {}",
        POD.trim_end().replace('\n', "\n  ") + "\n",
        SERVICE.trim_end().replace('\n', "\n  ") + "\n"
    );
    let merged = "apiVersion: v1\nkind: Pod\nmetadata: {name: m}\nspec:\n  containers:\n  - &first {name: a, image: i}\n  - {<<: *first, name: b}\n";
    for text in [POD.to_owned(), list, format!("{SERVICE}---\n{POD}"), merged.to_owned()] {
        let (injected, ..) = over("inject --log-level debug", &[&text]);
        assert!(injected.contains("weft-proxy"), "{injected}");
        let (back, lines, _) = over("uninject", &[&injected]);
        assert!(lines.iter().any(|line| line.ends_with(": uninjected\n")), "{lines:?}");
        let mut file = File::read("x", &text).unwrap();
        let wanted: Vec<_> =
            file.documents.iter_mut().map(|document| document.json().unwrap()).collect();
        assert_eq!(parsed(&back), wanted);
        assert_eq!(over("inject", &[&injected]).0, injected, "again");
        assert_eq!(over("uninject", &[&text]).0, text, "not injected");
    }
}

#[test]
fn every_item_of_a_list_is_treated_and_said() {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "shop"}, "spec": {"containers": [{"name": "app"}]}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b", "namespace": "kube-system"}, "spec": {"containers": [{"name": "app"}]}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}},
    ]});
    let (out, lines, _) = over("inject", &[&list.to_string()]);
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(out["items"][0]["spec"]["initContainers"][1]["name"], "weft-proxy");
    assert_eq!(out["items"][1], list["items"][1]);
    assert_eq!(lines[0], "Pod shop/a: injected\n");
    assert!(lines[1].starts_with("Pod kube-system/b: left alone: kube-system is"), "{lines:?}");
    assert!(lines[2].starts_with("ConfigMap c: left alone"), "{lines:?}");
}

#[test]
fn several_files_and_other_forms_are_told_apart() {
    let (out, ..) = over("inject", &[SERVICE.trim_end(), POD, "", "# only a comment\n"]);
    assert_eq!(parsed(&out).len(), 2, "{out}");
    let (out, ..) = over("inject -o json", &[&format!("{SERVICE}---\n{POD}")]);
    let objects: Vec<Value> =
        serde_json::Deserializer::from_str(&out).into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(objects.len(), 2);
    let json = json!({"apiVersion": "v1", "kind": "Service"}).to_string();
    let (out, ..) = over("inject -o yaml", &[&format!("{json}\n{json}")]);
    assert_eq!(parsed(&out).len(), 2, "{out}");
}

#[test]
fn a_refusal_names_the_file_the_line_the_object_and_the_field() {
    let text = format!("{SERVICE}---\n{POD}    ports:\n    - containerPort: 4140\n");
    let (_, _, refusals) = over("inject", &[&text]);
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    let expected = "shop.yaml:17: Pod cart: spec.containers[0].ports[0].containerPort: 4140 is";
    assert!(refusals[0].starts_with(expected), "{refusals:?}");
    let error = File::read("shop.yaml", "a: 1\n---\nb: [\n").err().unwrap().to_string();
    assert!(error.starts_with("shop.yaml:"), "{error}");
}

#[test]
fn a_flag_is_written_as_an_annotation_and_a_wrong_one_is_refused_as_a_flag() {
    let (out, ..) = over("inject --skip-outbound-ports 3306,25", &[POD]);
    assert!(out.contains("weft.dev/skip-outbound-ports: 3306,25"), "{out}");
    assert!(out.contains("- --skip-outbound-ports\n    - 25,3306\n"), "{out}");
    let cli = Cli::try_parse_from(["weft", "inject", "--sidecar", "x", "--drain-time", "3", "-"]);
    let Some(Command::Inject(args)) = cli.unwrap().command else { panic!("inject was typed") };
    let error = check_flags(&args).unwrap_err().to_string();
    assert!(error.contains("--sidecar: \"x\"") && error.contains("--drain-time: \"3\""), "{error}");
}

#[test]
fn a_template_of_a_chart_is_told_from_a_mistake_in_yaml() {
    let error = |text: &str| match File::read("x.yaml", text) {
        Ok(_) => panic!("{text} is no YAML"),
        Err(error) => format!("{:?}", error.downcast::<Failure>().unwrap()),
    };
    let template = error("{{ if .Values.on }}\napiVersion: v1\n{{ end }}\n");
    assert!(template.contains("x.yaml:1") && template.contains("helm template"), "{template}");
    let mistake = error("a: b\n\tc: d\n");
    assert!(mistake.contains("x.yaml:2") && !mistake.contains("helm"), "{mistake}");
}
