//! What the server fills in where a client said nothing.
//!
//! In come objects of the right shape, out go the same with Kubernetes' defaults, as far as readers meet them: what a
//! webhook sees, and what a reflector reads. Filling in twice changes nothing.

use serde_json::{Map, Value, json};

use super::{
    failure::Failure,
    kinds::Kind,
    metadata::{generated_name, now},
    store::Store,
};

/// The status of a new object: no client's idea of it is kept where it is apart.
pub fn status_of_new(kind: &Kind, object: &mut Value) {
    if kind.has_status
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
    match kind.qualified().as_str() {
        "pods" => object["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"}),
        "namespaces" => {
            object["status"] = json!({"phase": "Active"});
            object["spec"]["finalizers"] = json!(["kubernetes"]);
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
        }
        "services" => object["status"] = json!({"loadBalancer": {}}),
        "customresourcedefinitions.apiextensions.k8s.io" => object["status"] = established(object),
        _ => {}
    }
}

/// Names are accepted and served at once.
fn established(definition: &Value) -> Value {
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": message,
            "lastTransitionTime": now(),
        })
    };
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let stored: Vec<Value> = versions
        .filter(|version| version["storage"] == true)
        .map(|version| version["name"].clone())
        .collect();
    json!({
        "acceptedNames": definition["spec"]["names"],
        "storedVersions": stored,
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
    })
}

/// Fills in what is not said.
pub fn fill(kind: &Kind, object: &mut Value) {
    match kind.qualified().as_str() {
        "pods" => fill_pod(&mut object["spec"]),
        "services" => fill_service(&mut object["spec"]),
        "secrets" => fill_secret(object),
        "endpointslices.discovery.k8s.io" => fill_endpoint_slice(object),
        "deployments.apps" | "statefulsets.apps" | "daemonsets.apps" | "replicasets.apps"
        | "jobs.batch" => fill_pod(&mut object["spec"]["template"]["spec"]),
        "cronjobs.batch" => {
            fill_pod(&mut object["spec"]["jobTemplate"]["spec"]["template"]["spec"])
        }
        "mutatingwebhookconfigurations.admissionregistration.k8s.io" => {
            each(object, "webhooks", fill_webhook);
        }
        "customresourcedefinitions.apiextensions.k8s.io" => {
            let spec = &mut object["spec"];
            or(spec, "conversion", json!({"strategy": "None"}));
            let kind = spec["names"]["kind"].as_str().unwrap_or_default().to_owned();
            or(&mut spec["names"], "singular", json!(kind.to_lowercase()));
            or(&mut spec["names"], "listKind", json!(format!("{kind}List")));
        }
        _ => {}
    }
}

/// Sets a field that is not there.
fn or(object: &mut Value, field: &str, value: Value) {
    if object[field].is_null() {
        object[field] = value;
    }
}

fn each(object: &mut Value, list: &str, change: impl FnMut(&mut Value)) {
    if let Some(items) = object.get_mut(list).and_then(Value::as_array_mut) {
        items.iter_mut().for_each(change);
    }
}

fn fill_pod(spec: &mut Value) {
    or(spec, "restartPolicy", json!("Always"));
    or(spec, "dnsPolicy", json!("ClusterFirst"));
    or(spec, "schedulerName", json!("default-scheduler"));
    or(spec, "terminationGracePeriodSeconds", json!(30));
    or(spec, "securityContext", json!({}));
    if let Some(name) = spec.get("serviceAccountName").cloned() {
        spec["serviceAccount"] = name;
    }
    each(spec, "volumes", fill_volume);
    each(spec, "initContainers", fill_container);
    each(spec, "containers", fill_container);
}

fn fill_volume(volume: &mut Value) {
    for source in ["projected", "configMap", "secret", "downwardAPI"] {
        if let Some(source) = volume.get_mut(source) {
            or(source, "defaultMode", json!(420));
        }
    }
    if let Some(projected) = volume.get_mut("projected") {
        each(projected, "sources", |source| {
            if let Some(token) = source.get_mut("serviceAccountToken") {
                or(token, "expirationSeconds", json!(3600));
            }
        });
    }
}

fn fill_container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    let moves = last.ends_with(":latest") || !last.contains([':', '@']);
    or(container, "imagePullPolicy", json!(if moves { "Always" } else { "IfNotPresent" }));
    or(container, "terminationMessagePath", json!("/dev/termination-log"));
    or(container, "terminationMessagePolicy", json!("File"));
    or(container, "resources", json!({}));
    each(container, "ports", |port| or(port, "protocol", json!("TCP")));
    each(container, "env", |variable| {
        if let Some(field) = variable.pointer_mut("/valueFrom/fieldRef") {
            or(field, "apiVersion", json!("v1"));
        }
    });
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let Some(probe) = container.get_mut(probe) else { continue };
        for (field, value) in [
            ("timeoutSeconds", 1),
            ("periodSeconds", 10),
            ("successThreshold", 1),
            ("failureThreshold", 3),
        ] {
            or(probe, field, json!(value));
        }
        if let Some(get) = probe.get_mut("httpGet") {
            or(get, "path", json!("/"));
            or(get, "scheme", json!("HTTP"));
        }
        if let Some(grpc) = probe.get_mut("grpc") {
            or(grpc, "service", json!(""));
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(get) = container.pointer_mut(&format!("/lifecycle/{hook}/httpGet")) {
            or(get, "path", json!("/"));
            or(get, "scheme", json!("HTTP"));
        }
    }
}

fn fill_service(spec: &mut Value) {
    or(spec, "type", json!("ClusterIP"));
    or(spec, "sessionAffinity", json!("None"));
    each(spec, "ports", |port| {
        or(port, "protocol", json!("TCP"));
        if port["targetPort"].is_null() {
            port["targetPort"] = port["port"].clone();
        }
    });
    if spec["type"] != "ExternalName" {
        or(spec, "internalTrafficPolicy", json!("Cluster"));
    }
}

fn fill_endpoint_slice(slice: &mut Value) {
    each(slice, "ports", |port| {
        or(port, "name", json!(""));
        or(port, "protocol", json!("TCP"));
    });
}

/// `stringData` is only for writing.
fn fill_secret(secret: &mut Value) {
    or(secret, "type", json!("Opaque"));
    let Some(Value::Object(texts)) =
        secret.as_object_mut().and_then(|fields| fields.remove("stringData"))
    else {
        return;
    };
    or(secret, "data", Value::Object(Map::new()));
    for (name, text) in texts {
        let bytes = text.as_str().unwrap_or_default().as_bytes().to_vec();
        secret["data"][name] = json!(k8s_openapi::ByteString(bytes));
    }
}

fn fill_webhook(webhook: &mut Value) {
    or(webhook, "failurePolicy", json!("Fail"));
    or(webhook, "matchPolicy", json!("Equivalent"));
    or(webhook, "timeoutSeconds", json!(10));
    or(webhook, "reinvocationPolicy", json!("Never"));
    or(webhook, "namespaceSelector", json!({}));
    or(webhook, "objectSelector", json!({}));
    each(webhook, "rules", |rule| or(rule, "scope", json!("*")));
    if let Some(service) = webhook.pointer_mut("/clientConfig/service") {
        or(service, "port", json!(443));
    }
}

/// What the ServiceAccount admission does to a new pod: the account must be there, and its token is mounted.
///
/// # Errors
/// When the account does not exist.
pub fn admit_pod(store: &Store, kind: &Kind, pod: &mut Value) -> Result<(), Failure> {
    if !kind.is("pods") {
        return Ok(());
    }
    or(&mut pod["spec"], "serviceAccountName", json!("default"));
    if pod["spec"]["serviceAccountName"] == "" {
        pod["spec"]["serviceAccountName"] = json!("default");
    }
    pod["spec"]["serviceAccount"] = pod["spec"]["serviceAccountName"].clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
    let account = text(&pod["spec"]["serviceAccountName"]);
    let Some(found) = store.find("serviceaccounts", &namespace, &account) else {
        let why = format!(
            "error looking up service account {namespace}/{account}: serviceaccount \"{account}\" not found"
        );
        return Err(Failure::forbidden(kind, &name, &why));
    };
    let said = [&pod["spec"], found].map(|object| object["automountServiceAccountToken"].as_bool());
    if said[0].or(said[1]).unwrap_or(true) {
        mount_token(pod);
    }
    Ok(())
}

fn mount_token(pod: &mut Value) {
    const PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let name = generated_name("kube-api-access-");
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        each(&mut pod["spec"], list, |container| {
            or(container, "volumeMounts", json!([]));
            if let Some(mounts) = container["volumeMounts"].as_array_mut()
                && !mounts.iter().any(|mount| mount["mountPath"] == PATH)
            {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": PATH}));
                mounted = true;
            }
        });
    }
    if !mounted {
        return;
    }
    or(&mut pod["spec"], "volumes", json!([]));
    if let Some(volumes) = pod["spec"]["volumes"].as_array_mut() {
        let field = json!({"apiVersion": "v1", "fieldPath": "metadata.namespace"});
        let namespace = json!({"path": "namespace", "fieldRef": field});
        let root =
            json!({"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]});
        volumes.push(json!({"name": name, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": root},
            {"downwardAPI": {"items": [namespace]}},
        ]}}));
    }
}
