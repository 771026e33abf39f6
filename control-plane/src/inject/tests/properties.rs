//! For any pod: what is injected can be undone to the last field, a second injection finds nothing to do, and the
//! patch for the API server makes the same pod.

use proptest::{collection::vec, option, prelude::*};
use serde_json::{Map, json};

use super::{super::*, context, namespace};

/// A handler of a probe.
fn handler() -> impl Strategy<Value = Value> {
    prop_oneof![
        ("[a-z/$()]{0,6}", prop_oneof![Just(json!("web")), Just(json!(8080)), Just(json!("99"))])
            .prop_map(|(path, port)| json!({"httpGet": {"path": path, "port": port}})),
        Just(json!({"httpGet": {"port": 1, "scheme": "HTTPS", "host": "::1", "httpHeaders": []}})),
        (1..65536_u32).prop_map(|port| json!({"tcpSocket": {"port": port}})),
        option::of("[a-z.]{1,8}").prop_map(|service| match service {
            Some(service) => json!({"grpc": {"port": 5, "service": service}}),
            None => json!({"grpc": {"port": 5}}),
        }),
        Just(json!({"exec": {"command": ["true"]}})),
    ]
}

fn probe() -> impl Strategy<Value = Value> {
    (handler(), option::of(1..100_u32)).prop_map(|(mut probe, timeout)| {
        if let Some(timeout) = timeout {
            probe["timeoutSeconds"] = json!(timeout);
        }
        probe
    })
}

prop_compose! {
    fn container(name: String)(
        probes in vec(option::of(probe()), 3),
        hooks in vec(option::of(handler()), 2),
        user in option::of(0..5000_u32),
        restarts in any::<bool>(),
    ) -> Value {
        let mut container = json!({"name": name, "ports": [{"name": "web", "containerPort": 80}]});
        let kinds = ["startupProbe", "readinessProbe", "livenessProbe"];
        for (kind, probe) in kinds.iter().zip(probes) {
            if let Some(probe) = probe {
                container[*kind] = probe;
            }
        }
        for (kind, hook) in ["postStart", "preStop"].iter().zip(hooks) {
            if let Some(hook) = hook {
                container["lifecycle"][*kind] = hook;
            }
        }
        if let Some(user) = user.filter(|user| *user != 4140) {
            container["securityContext"]["runAsUser"] = json!(user);
        }
        if restarts {
            container["restartPolicy"] = json!("Always");
        }
        container
    }
}

fn containers(prefix: &'static str, least: usize) -> impl Strategy<Value = Vec<Value>> {
    (least..4).prop_flat_map(move |count| {
        (0..count).map(|index| container(format!("{prefix}{index}"))).collect::<Vec<_>>()
    })
}

/// A field that may be absent, null, empty or there.
fn present(
    value: impl Strategy<Value = Value>,
    empty: Value,
) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![Just(None), Just(Some(Value::Null)), Just(Some(empty)), value.prop_map(Some)]
}

fn annotations() -> impl Strategy<Value = Value> {
    let entry = prop_oneof![
        Just(("weft.dev/sidecar", "classic")),
        Just(("weft.dev/workload", "mine")),
        Just(("weft.dev/skip-outbound-ports", "1-5,9")),
        Just(("weft.dev/proxy-memory-request", "1Gi")),
        Just(("kubectl.kubernetes.io/default-container", "a0")),
        Just(("example.com/other", "weft.dev")),
    ];
    vec(entry, 0..4).prop_map(|entries| {
        entries
            .into_iter()
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect::<Map<_, _>>()
            .into()
    })
}

prop_compose! {
    fn any_pod()(
        app in containers("a", 1),
        init in present(containers("i", 0).prop_map(Value::from), json!([])),
        volumes in present(Just(json!([{"name": "data", "emptyDir": {}}])), json!([])),
        annotations in present(annotations(), json!({})),
        metadata in present(Just(json!({"labels": {"app": "cart"}, "creationTimestamp": null})), json!({})),
        grace in option::of(0..100_u32),
    ) -> Value {
        let mut pod = json!({"spec": {"containers": app, "unknownField": {"stays": [1, null]}}});
        let fields = [("initContainers", init), ("volumes", volumes), ("terminationGracePeriodSeconds", grace.map(Value::from))];
        for (field, value) in fields {
            if let Some(value) = value {
                pod["spec"][field] = value;
            }
        }
        if let Some(metadata) = metadata {
            pod["metadata"] = metadata;
        }
        if let Some(annotations) = annotations {
            pod["metadata"]["annotations"] = annotations;
        }
        pod
    }
}

/// What a user gives beside the pod.
fn overrides() -> impl Strategy<Value = BTreeMap<String, String>> {
    let entry = prop_oneof![
        Just(("weft.dev/sidecar", "native")),
        Just(("weft.dev/log-level", "debug")),
        Just(("weft.dev/skip-outbound-ports", "")),
    ];
    vec(entry, 0..3).prop_map(|entries| {
        entries.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    })
}

proptest! {
    #[test]
    fn what_is_injected_can_be_undone_and_is_injected_once(pod in any_pod(), overrides in overrides()) {
        let asks = namespace("shop", &[("weft.dev/inject", "enabled")]);
        let plain = context(&asks);
        let given = Context { overrides: &overrides, ..plain };
        let outcome = super::super::pod(&pod, &given);
        let Outcome::Injected { object: injected, .. } = outcome else {
            return Err(TestCaseError::fail(format!("{outcome:?}")));
        };
        prop_assert_eq!(super::super::pod(&injected, &plain), Outcome::Left(Reason::AlreadyInjected));
        prop_assert_eq!(super::super::pod(&injected, &given), Outcome::Left(Reason::AlreadyInjected));
        prop_assert_eq!(undo(&injected).unwrap(), Some(pod.clone()));
        let mut patched = pod.clone();
        json_patch::patch(&mut patched, &json_patch::diff(&pod, &injected)).unwrap();
        prop_assert_eq!(patched, injected);
    }

    #[test]
    fn no_json_makes_it_panic(text in "[\\[\\]{}\",:a-z0-9]{0,40}", pod in any_pod()) {
        let asks = namespace("shop", &[("weft.dev/inject", "enabled")]);
        let any: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        let mut places = vec![any.clone()];
        for pointer in ["/metadata", "/spec", "/spec/containers", "/spec/containers/0", "/spec/containers/0/ports"] {
            let mut spoilt = pod.clone();
            if let Some(place) = spoilt.pointer_mut(pointer) {
                *place = any.clone();
            }
            places.push(spoilt);
        }
        for spoilt in places {
            // Whatever becomes of it, it becomes something.
            let _ = super::super::pod(&spoilt, &context(&asks));
            let _ = undo(&spoilt);
        }
    }
}
