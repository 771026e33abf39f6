//! Which pods are injected, which are left alone and which are refused; what each setting does; what is undone.

mod properties;
mod snapshots;

use std::sync::LazyLock;

use serde_json::json;

use super::*;

pub(super) static SETTINGS: LazyLock<Settings> = LazyLock::new(Settings::default);
static NOTHING: BTreeMap<String, String> = BTreeMap::new();

pub(super) fn namespace(name: &str, labels: &[(&str, &str)]) -> Namespace {
    let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Namespace { name: name.to_owned(), labels, annotations: BTreeMap::new() }
}

pub(super) fn context(namespace: &Namespace) -> Context<'_> {
    let settings = &SETTINGS;
    Context { settings, namespace, asked: false, workload: "cart", overrides: &NOTHING }
}

/// A pod of one container in a namespace that asks.
fn in_shop(pod: &Value) -> Outcome {
    super::pod(pod, &context(&namespace("shop", &[("weft.dev/inject", "enabled")])))
}

pub(super) fn injected(outcome: Outcome) -> (Value, Vec<String>) {
    match outcome {
        Outcome::Injected { object, warnings } => (object, warnings),
        other => panic!("injection is due, not {other:?}"),
    }
}

fn refused(outcome: Outcome) -> Vec<String> {
    match outcome {
        Outcome::Refused(errors) => errors.iter().map(ToString::to_string).collect(),
        other => panic!("a refusal is due, not {other:?}"),
    }
}

/// A plain pod with more said in its metadata and its spec.
fn pod_with(metadata: Value, spec: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": "cart-0"},
        "spec": {"containers": [{"name": "app", "image": "cart"}]},
    });
    for (part, more) in [("metadata", metadata), ("spec", spec)] {
        let Value::Object(more) = more else { continue };
        pod[part].as_object_mut().unwrap().extend(more);
    }
    pod
}

#[test]
fn a_pods_word_goes_before_its_namespaces() {
    for (pod, namespace_label, expected) in [
        (json!({}), None, Some(Reason::NotAsked)),
        (json!({}), Some("disabled"), Some(Reason::NotAsked)),
        (json!({}), Some("enabled"), None),
        (json!({"labels": {"weft.dev/inject": "enabled"}}), None, None),
        (json!({"annotations": {"weft.dev/inject": "enabled"}}), None, None),
        (json!({"labels": {"weft.dev/inject": "enabled"}}), Some("disabled"), None),
        (
            json!({"labels": {"weft.dev/inject": "disabled"}}),
            Some("enabled"),
            Some(Reason::Disabled),
        ),
        (
            json!({"annotations": {"weft.dev/inject": "disabled"}}),
            Some("enabled"),
            Some(Reason::Disabled),
        ),
    ] {
        let labels: Vec<_> =
            namespace_label.into_iter().map(|value| ("weft.dev/inject", value)).collect();
        let outcome =
            super::pod(&pod_with(pod.clone(), json!({})), &context(&namespace("shop", &labels)));
        match (outcome, expected) {
            (Outcome::Injected { .. }, None) => {}
            (Outcome::Left(reason), Some(expected)) if reason == expected => {}
            (outcome, _) => panic!("{pod} in {namespace_label:?}: {outcome:?}"),
        }
    }
}

#[test]
fn who_asks_for_one_pod_needs_no_label_and_a_no_still_counts() {
    let plain = namespace("shop", &[("weft.dev/inject", "disabled")]);
    let asked = Context { asked: true, ..context(&plain) };
    injected(super::pod(&pod_with(json!({}), json!({})), &asked));
    let no = pod_with(json!({"labels": {"weft.dev/inject": "disabled"}}), json!({}));
    assert_eq!(super::pod(&no, &asked), Outcome::Left(Reason::Disabled));
}

#[test]
fn what_no_sidecar_can_stand_beside_is_left_alone_with_the_reason() {
    let system = |name: &str| Reason::System(name.to_owned());
    for (namespace_name, metadata, spec, reason) in [
        ("shop", json!({}), json!({"hostNetwork": true}), Reason::HostNetwork),
        ("shop", json!({}), json!({"os": {"name": "windows"}}), Reason::Windows),
        (
            "shop",
            json!({"annotations": {"kubernetes.io/config.mirror": "1"}}),
            json!({}),
            Reason::Static,
        ),
        ("shop", json!({"labels": {"app.kubernetes.io/part-of": "weft"}}), json!({}), Reason::Own),
        ("kube-system", json!({}), json!({}), system("kube-system")),
        ("kube-node-lease", json!({}), json!({}), system("kube-node-lease")),
        ("weft-system", json!({}), json!({}), system("weft-system")),
    ] {
        let asks = namespace(namespace_name, &[("weft.dev/inject", "enabled")]);
        let outcome = super::pod(&pod_with(metadata, spec), &context(&asks));
        assert_eq!(outcome, Outcome::Left(reason.clone()));
        assert!(!reason.to_string().is_empty());
    }
    for spec in [json!({"hostNetwork": false}), json!({"os": {"name": "linux"}})] {
        injected(in_shop(&pod_with(json!({}), spec)));
    }
}

#[test]
fn mistakes_are_refused_by_field_with_what_is_right() {
    let container = |more: Value| {
        let mut container = json!({"name": "app"});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"containers": [container]})
    };
    for (metadata, spec, expected) in [
        (
            json!({"labels": {"weft.dev/inject": "yes"}}),
            json!({}),
            "metadata.labels[weft.dev/inject]: \"yes\"",
        ),
        (
            json!({"labels": {"weft.dev/inject": "enabled"}, "annotations": {"weft.dev/inject": "disabled"}}),
            json!({}),
            "keep one of them",
        ),
        (
            json!({"annotations": {"weft.dev/skip-inbound-ports": 22}}),
            json!({}),
            "metadata.annotations[weft.dev/skip-inbound-ports]: 22 is no string: put it in quotes, \"22\"",
        ),
        (
            json!({"annotations": {"weft.dev/typo": "x"}}),
            json!({}),
            "metadata.annotations[weft.dev/typo]: is no setting",
        ),
        (json!({}), json!({"containers": []}), "spec.containers: holds no container"),
        (json!({}), json!({"containers": {}}), "spec.containers: holds no container"),
        (json!({}), json!({"volumes": "none"}), "spec.volumes: is no list"),
        (json!({}), json!({"containers": [{"image": "x"}]}), "spec.containers[0].name: is missing"),
        (
            json!({}),
            json!({"containers": [{"name": "weft-proxy"}]}),
            "spec.containers[0].name: \"weft-proxy\"",
        ),
        (
            json!({}),
            json!({"initContainers": [{"name": "weft-init"}]}),
            "spec.initContainers[0].name: \"weft-init\"",
        ),
        (json!({}), json!({"volumes": [{"name": "weft-identity"}]}), "spec.volumes[0].name"),
        (
            json!({}),
            container(json!({"securityContext": {"runAsUser": 4140}})),
            "spec.containers[0].securityContext.runAsUser: 4140",
        ),
        (
            json!({}),
            json!({"securityContext": {"runAsUser": 4140}}),
            "spec.securityContext.runAsUser: 4140",
        ),
        (
            json!({}),
            container(json!({"ports": [{"containerPort": 80}, {"containerPort": 4140}]})),
            "spec.containers[0].ports[1].containerPort: 4140",
        ),
        (
            json!({}),
            container(json!({"ports": [{"containerPort": 4143}]})),
            "4143 is a port of the sidecar",
        ),
        (
            json!({}),
            container(json!({"ports": [{"containerPort": 4191}]})),
            "4191 is a port of the sidecar",
        ),
        (
            json!({}),
            container(json!({"readinessProbe": {"httpGet": {"port": "web"}}})),
            "spec.containers[0].readinessProbe.httpGet.port: \"web\" names no port of container \"app\"",
        ),
        (
            json!({}),
            container(json!({"lifecycle": {"preStop": {"httpGet": {"port": 0}}}})),
            "spec.containers[0].lifecycle.preStop.httpGet.port: 0 is no port",
        ),
    ] {
        let errors = refused(in_shop(&pod_with(metadata, spec)));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains(expected), "{expected}\n{errors:?}");
    }
}

#[test]
fn every_mistake_is_named_at_once() {
    let pod = pod_with(
        json!({"annotations": {"weft.dev/sidecar": "x", "weft.dev/other": ""}}),
        json!({"containers": [
            {"name": "a", "ports": [{"containerPort": 4140}]},
            {"name": "b", "securityContext": {"runAsUser": 4140}},
            {"name": "c", "livenessProbe": {"tcpSocket": {"port": "nowhere"}}},
        ]}),
    );
    assert_eq!(refused(in_shop(&pod)).len(), 5);
}

#[test]
fn a_user_of_the_pods_that_no_container_has_is_no_mistake() {
    let pod = pod_with(
        json!({}),
        json!({
            "securityContext": {"runAsUser": 4140},
            "containers": [{"name": "app", "securityContext": {"runAsUser": 1000}}],
        }),
    );
    injected(in_shop(&pod));
}

/// The value of a variable of the sidecar's.
fn variable<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    let proxy = proxy(pod);
    let all = proxy["env"].as_array()?.iter();
    all.filter(|variable| variable["name"] == name).find_map(|variable| variable["value"].as_str())
}

fn proxy(pod: &Value) -> &Value {
    let containers = shape::CONTAINER_LISTS.iter().flat_map(|list| shape::containers(pod, list));
    containers.into_iter().find(|container| container["name"] == "weft-proxy").unwrap()
}

#[test]
fn settings_reach_the_containers_that_they_are_for() {
    let annotations = json!({
        "weft.dev/skip-inbound-ports": "22, 9000-9010",
        "weft.dev/skip-outbound-ports": "3306",
        "weft.dev/skip-inbound-cidrs": "10.0.0.0/8,fd00::/8",
        "weft.dev/skip-outbound-cidrs": "",
        "weft.dev/opaque-ports": "5432",
        "weft.dev/permissive-ports": "all",
        "weft.dev/log-level": "debug",
        "weft.dev/access-log": "true",
        "weft.dev/drain-time": "1500ms",
        "weft.dev/proxy-image": "example/proxy:2",
    });
    let (pod, warnings) =
        injected(in_shop(&pod_with(json!({"annotations": annotations}), json!({}))));
    assert_eq!(warnings, Vec::<String>::new());
    let init = &pod["spec"]["initContainers"][0];
    let arguments: Vec<_> =
        init["args"].as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect();
    assert_eq!(
        arguments.join(" "),
        "init --proxy-user 4140 --outbound-port 4140 --inbound-port 4143 --admin-port 4191 \
         --skip-inbound-ports 22,9000-9010 --skip-outbound-ports 3306 \
         --skip-inbound-cidrs 10.0.0.0/8,fd00::/8"
    );
    assert_eq!(init["image"], "example/proxy:2");
    assert_eq!(proxy(&pod)["image"], "example/proxy:2");
    assert_eq!(variable(&pod, "WEFT_LOG"), Some("debug"));
    assert_eq!(variable(&pod, "WEFT_ACCESS_LOG"), Some("true"));
    assert_eq!(variable(&pod, "WEFT_DRAIN_TIMEOUT"), Some("1500ms"));
}

#[test]
fn amounts_that_are_given_move_the_defaults_beside_them() {
    for (given, requests, limits) in [
        (json!({}), json!({"cpu": "10m", "memory": "32Mi"}), json!({"memory": "256Mi"})),
        (
            json!({"weft.dev/proxy-memory-request": "1Gi"}),
            json!({"cpu": "10m", "memory": "1Gi"}),
            json!({"memory": "1Gi"}),
        ),
        (
            json!({"weft.dev/proxy-memory-limit": "20Mi", "weft.dev/proxy-cpu-limit": "5m"}),
            json!({"cpu": "5m", "memory": "20Mi"}),
            json!({"cpu": "5m", "memory": "20Mi"}),
        ),
        (
            json!({"weft.dev/proxy-cpu-request": "2", "weft.dev/proxy-cpu-limit": "2.5"}),
            json!({"cpu": "2", "memory": "32Mi"}),
            json!({"cpu": "2.5", "memory": "256Mi"}),
        ),
    ] {
        let (pod, _) = injected(in_shop(&pod_with(json!({"annotations": given}), json!({}))));
        assert_eq!(proxy(&pod)["resources"], json!({"requests": requests, "limits": limits}));
    }
}

#[test]
fn a_drain_ends_before_the_kubelet_kills() {
    for (grace, asked, drain, is_cut) in [
        (None, None, "25s", false),
        (Some(600), None, "30s", false),
        (Some(600), Some("5m"), "300s", false),
        (Some(30), Some("45s"), "25s", true),
        (Some(4), None, "2s", false),
        (Some(0), None, "0s", false),
    ] {
        let annotations = asked.map_or(json!({}), |asked| json!({"weft.dev/drain-time": asked}));
        let spec = grace.map_or(json!({}), |grace| json!({"terminationGracePeriodSeconds": grace}));
        let (pod, warnings) =
            injected(in_shop(&pod_with(json!({"annotations": annotations}), spec)));
        assert_eq!(variable(&pod, "WEFT_DRAIN_TIMEOUT"), Some(drain), "{grace:?} {asked:?}");
        assert_eq!(warnings.len(), usize::from(is_cut), "{warnings:?}");
    }
}

#[test]
fn what_may_not_be_meant_is_warned_of() {
    for (annotations, spec, expected) in [
        (json!({"weft.dev/sidecar": "classic"}), json!({"restartPolicy": "Never"}), "will not end"),
        (json!({}), json!({"dnsPolicy": "Default"}), "dnsPolicy is Default"),
    ] {
        let (_, warnings) = injected(in_shop(&pod_with(json!({"annotations": annotations}), spec)));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(expected), "{warnings:?}");
    }
    let spec = json!({"restartPolicy": "Never", "dnsPolicy": "ClusterFirst"});
    assert_eq!(injected(in_shop(&pod_with(json!({}), spec))).1, Vec::<String>::new());
}

#[test]
fn a_header_that_looks_like_a_variable_reaches_the_sidecar_as_it_was_written() {
    let probe =
        json!({"httpGet": {"port": 80, "httpHeaders": [{"name": "X", "value": "$(HOME)$$"}]}});
    let spec = json!({"containers": [{"name": "app", "livenessProbe": probe}]});
    let (pod, _) = injected(in_shop(&pod_with(json!({}), spec)));
    let value = variable(&pod, "WEFT_PROBES").unwrap();
    assert!(value.contains("$$(HOME)$$$$"), "{value}");
    let read: Value = serde_json::from_str(&value.replace("$$", "$")).unwrap();
    assert_eq!(read["app/liveness"]["httpGet"]["httpHeaders"][0]["value"], "$(HOME)$$");
}

#[test]
fn a_pod_that_comes_by_again_with_others_additions_stays_as_it_is() {
    let (mut pod, _) = injected(in_shop(&pod_with(json!({}), json!({}))));
    let mount = json!({"name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"});
    pod["spec"]["initContainers"][1]["volumeMounts"].as_array_mut().unwrap().push(mount);
    pod["spec"]["initContainers"][1]["imagePullPolicy"] = json!("IfNotPresent");
    pod["spec"]["volumes"].as_array_mut().unwrap().insert(0, json!({"name": "kube-api-access"}));
    assert_eq!(in_shop(&pod), Outcome::Left(Reason::AlreadyInjected));
}

#[test]
fn a_container_that_another_webhook_adds_has_its_probes_taken_over_too() {
    let (mut pod, _) = injected(in_shop(&pod_with(json!({}), json!({}))));
    let late = json!({"name": "late", "readinessProbe": {"tcpSocket": {"port": 99}}});
    pod["spec"]["containers"].as_array_mut().unwrap().push(late);
    let (pod, _) = injected(in_shop(&pod));
    assert_eq!(pod["spec"]["containers"][1]["readinessProbe"]["httpGet"]["port"], 4191);
    assert!(variable(&pod, "WEFT_PROBES").unwrap().contains("late/readiness"));
    assert_eq!(in_shop(&pod), Outcome::Left(Reason::AlreadyInjected));
}

#[test]
fn another_versions_sidecar_is_replaced_and_the_pod_can_still_be_undone() {
    let probe = json!({"httpGet": {"port": "web", "path": "/health"}});
    let container = json!({"name": "app", "ports": [{"name": "web", "containerPort": 80}], "livenessProbe": probe});
    let before = pod_with(
        json!({"annotations": {"weft.dev/sidecar": "classic"}}),
        json!({"containers": [container], "volumes": []}),
    );
    let older =
        Settings { proxy_image: "registry.weft.dev/proxy:0.0.1".to_owned(), ..Settings::default() };
    let asks = namespace("shop", &[("weft.dev/inject", "enabled")]);
    let (mut old, _) =
        injected(super::pod(&before, &Context { settings: &older, ..context(&asks) }));
    old["metadata"]["annotations"]["weft.dev/injected"] = json!("0.0.1");
    let (new, _) = injected(in_shop(&old));
    assert_eq!(new, injected(in_shop(&before)).0);
    assert_eq!(undo(&new).unwrap(), Some(before));
}

#[test]
fn settings_given_beside_the_pod_outlive_another_injection_and_not_the_undoing() {
    let before = pod_with(
        json!({"annotations": {"weft.dev/log-level": "warn", "weft.dev/workload": "mine"}}),
        json!({}),
    );
    let overrides = BTreeMap::from([
        ("weft.dev/log-level".to_owned(), "trace".to_owned()),
        ("weft.dev/sidecar".to_owned(), "classic".to_owned()),
    ]);
    let asks = namespace("shop", &[("weft.dev/inject", "enabled")]);
    let with_overrides = Context { overrides: &overrides, ..context(&asks) };
    let (pod, _) = injected(super::pod(&before, &with_overrides));
    assert_eq!(variable(&pod, "WEFT_LOG"), Some("trace"));
    assert_eq!(variable(&pod, "WEFT_WORKLOAD"), Some("$(WEFT_NAMESPACE)/mine"));
    assert_eq!(in_shop(&pod), Outcome::Left(Reason::AlreadyInjected));
    assert_eq!(undo(&pod).unwrap(), Some(before));
}

#[test]
fn what_the_namespace_says_of_ports_is_written_on_the_pod_and_goes_with_the_sidecar() {
    let before = pod_with(json!({"annotations": {"weft.dev/opaque-ports": "3306"}}), json!({}));
    let mut asks = namespace("shop", &[("weft.dev/inject", "enabled")]);
    for (name, value) in
        [("opaque-ports", "25"), ("permissive-ports", "all"), ("log-level", "warn")]
    {
        asks.annotations.insert(format!("weft.dev/{name}"), value.to_owned());
    }
    let (pod, _) = injected(super::pod(&before, &context(&asks)));
    let annotations = &pod["metadata"]["annotations"];
    assert_eq!(annotations["weft.dev/opaque-ports"], "3306", "the pod's word goes first");
    assert_eq!(annotations["weft.dev/permissive-ports"], "all");
    assert_eq!(annotations.get("weft.dev/log-level"), None, "nobody else needs to know");
    assert_eq!(super::pod(&pod, &context(&asks)), Outcome::Left(Reason::AlreadyInjected));
    assert_eq!(undo(&pod).unwrap(), Some(before));
}

#[test]
fn a_record_that_was_changed_is_refused_and_a_probe_that_was_changed_stays() {
    let probe = json!({"tcpSocket": {"port": 80}});
    let spec = json!({"containers": [{"name": "app", "livenessProbe": probe}]});
    let (mut pod, _) = injected(in_shop(&pod_with(json!({}), spec)));
    pod["spec"]["containers"][0]["livenessProbe"]["httpGet"] = json!({"path": "/mine", "port": 80});
    let undone = undo(&pod).unwrap().unwrap();
    assert_eq!(undone["spec"]["containers"][0]["livenessProbe"]["httpGet"]["path"], "/mine");
    pod["metadata"]["annotations"]["weft.dev/replaced"] = json!("{}}");
    assert!(undo(&pod).unwrap_err().field.contains("weft.dev/replaced"));
    assert!(refused(in_shop(&pod))[0].contains("go back to the manifest"));
}

#[test]
fn what_is_not_injected_is_not_undone() {
    assert_eq!(undo(&pod_with(json!({}), json!({}))), Ok(None));
    assert_eq!(undo_object(&json!({"apiVersion": "v1", "kind": "Service"})), Ok(None));
}

#[test]
fn the_page_lists_every_setting_and_nothing_else() {
    let page = include_str!("../../../docs/injection.md");
    let listed: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `weft.dev/"))
        .map(|row| {
            let mut cells = row.split(" | ").map(|cell| cell.trim_end_matches([' ', '|']));
            let mut next = || cells.next().unwrap_or_default().to_owned();
            (next().trim_end_matches('`').to_owned(), next(), next())
        })
        .collect();
    let known: Vec<_> = crate::model::pod_settings::TABLE
        .iter()
        .map(|setting| {
            (setting.name.to_owned(), setting.form.to_owned(), setting.meaning.to_owned())
        })
        .collect();
    assert_eq!(listed, known);
}
