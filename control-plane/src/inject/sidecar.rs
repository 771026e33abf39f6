//! What is added to a pod: the container that sets up the interception, the sidecar, the volume with its identity.
//! Settings come in, JSON goes out. The sidecar itself meets Pod Security's `restricted`; the init container alone
//! needs root, with NET_ADMIN and nothing else.
//!
//! The token in the volume is readable without further ado: the pod's containers now have different users, so that
//! the kubelet makes it world-readable, or (with `fsGroup`) readable by the group that every container is in.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    ADMIN_PORT, INBOUND_PORT, INIT_CONTAINER, OUTBOUND_PORT, PROXY_CONTAINER, PROXY_USER, Settings,
    VOLUME,
};
use crate::model::{
    Cidr, PodSettings,
    pod_settings::{PortRanges, Quantity},
};

/// Where the sidecar finds its identity.
const IDENTITY: &str = "/var/run/weft";
/// The audience that the control plane asks of a token.
const AUDIENCE: &str = "weft.dev";
/// The ConfigMap with the roots, which the control plane keeps in every namespace with meshed pods.
const ROOTS: &str = "weft-roots";
/// The kubelet fetches a new token long before the old one ends; an hour is its own default.
const TOKEN_SECONDS: u64 = 3600;

/// What a sidecar at rest takes, with room to spare.
const CPU_REQUEST: &str = "10m";
const MEMORY_REQUEST: &str = "32Mi";
/// Buffers are bounded; a sidecar that takes more than this is broken, and takes only itself down. CPU has no limit: a
/// throttled sidecar is a slow app.
const MEMORY_LIMIT: &str = "256Mi";

/// A sidecar waits this long for a control plane before the kubelet restarts it.
const STARTUP_SECONDS: u64 = 600;
/// Kubernetes' default of `terminationGracePeriodSeconds`.
const GRACE: u64 = 30;
/// What of the grace period is left to the sidecar's own end.
const MARGIN: u64 = 5;

/// Everything that is decided about one pod's sidecar.
pub(super) struct Plan {
    image: String,
    init_arguments: Vec<String>,
    environment: Vec<Value>,
    resources: Value,
    drain: Duration,
    drain_cut_from: Option<Duration>,
}

impl Plan {
    /// Decides it.
    pub(super) fn new(
        injector: &Settings,
        settings: &PodSettings,
        workload: &str,
        pod: &Value,
        probes: &Map<String, Value>,
    ) -> Self {
        let image = settings.proxy_image.as_ref().unwrap_or(&injector.proxy_image).clone();
        let grace = pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_u64);
        let (drain, drain_cut_from) = drain_time(settings.drain_time, grace.unwrap_or(GRACE));
        Self {
            image,
            init_arguments: init_arguments(settings),
            environment: environment(injector, settings, workload, probes, drain),
            resources: resources(settings),
            drain,
            drain_cut_from,
        }
    }

    /// How long open requests get at the end.
    pub(super) const fn drain(&self) -> Duration {
        self.drain
    }

    /// The drain time that was asked for, where the grace period does not allow it.
    pub(super) const fn drain_cut_from(&self) -> Option<Duration> {
        self.drain_cut_from
    }

    /// The container that sets up the interception, and ends.
    pub(super) fn init_container(&self) -> Value {
        json!({
            "name": INIT_CONTAINER,
            "image": self.image,
            "args": self.init_arguments,
            // The sidecar's own: it ends before the sidecar begins, so that a pod takes no more for it, and a quota
            // that wants limits of every container finds them.
            "resources": self.resources,
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
                "privileged": false,
                "readOnlyRootFilesystem": true,
                "runAsGroup": 0,
                // The pod may say otherwise of its containers.
                "runAsNonRoot": false,
                "runAsUser": 0,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "terminationMessagePolicy": "FallbackToLogsOnError",
        })
    }

    /// The sidecar as an init container that stays: what comes after it waits for its startup probe.
    pub(super) fn native(&self) -> Value {
        let mut container = self.classic();
        container["restartPolicy"] = "Always".into();
        container["startupProbe"] = json!({
            "httpGet": {"path": "/ready", "port": ADMIN_PORT},
            "periodSeconds": 1,
            "failureThreshold": STARTUP_SECONDS,
        });
        container
    }

    /// The sidecar as a container beside the app's.
    pub(super) fn classic(&self) -> Value {
        json!({
            "name": PROXY_CONTAINER,
            "image": self.image,
            "env": self.environment,
            "ports": [
                {"name": "weft-inbound", "containerPort": INBOUND_PORT, "protocol": "TCP"},
                {"name": "weft-admin", "containerPort": ADMIN_PORT, "protocol": "TCP"},
            ],
            "resources": self.resources,
            "readinessProbe": {
                "httpGet": {"path": "/ready", "port": ADMIN_PORT},
                "periodSeconds": 5,
                "failureThreshold": 3,
            },
            "livenessProbe": {
                "httpGet": {"path": "/live", "port": ADMIN_PORT},
                "periodSeconds": 10,
                "timeoutSeconds": 5,
                "failureThreshold": 3,
            },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
                "privileged": false,
                "readOnlyRootFilesystem": true,
                "runAsGroup": PROXY_USER,
                "runAsNonRoot": true,
                "runAsUser": PROXY_USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [{"name": VOLUME, "mountPath": IDENTITY, "readOnly": true}],
        })
    }
}

/// The volume with the token that proves the service account, and the roots that prove the control plane.
pub(super) fn volume() -> Value {
    json!({
        "name": VOLUME,
        "projected": {"sources": [
            {"serviceAccountToken": {
                "audience": AUDIENCE,
                "expirationSeconds": TOKEN_SECONDS,
                "path": "token",
            }},
            {"configMap": {"name": ROOTS, "items": [{"key": "roots.pem", "path": "roots.pem"}]}},
        ]},
    })
}

fn init_arguments(settings: &PodSettings) -> Vec<String> {
    let mut arguments = vec!["init".to_owned()];
    let mut add = |flag: &str, value: String| {
        if !value.is_empty() {
            arguments.extend([format!("--{flag}"), value]);
        }
    };
    let ports = |ranges: &PortRanges| ranges.to_string();
    let cidrs =
        |ranges: &[Cidr]| ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    add("proxy-user", PROXY_USER.to_string());
    add("outbound-port", OUTBOUND_PORT.to_string());
    add("inbound-port", INBOUND_PORT.to_string());
    add("admin-port", ADMIN_PORT.to_string());
    add("skip-inbound-ports", ports(&settings.skip_inbound_ports));
    add("skip-outbound-ports", ports(&settings.skip_outbound_ports));
    add("skip-inbound-cidrs", cidrs(&settings.skip_inbound_cidrs));
    add("skip-outbound-cidrs", cidrs(&settings.skip_outbound_cidrs));
    arguments
}

/// The namespace stands first: only what stands before can be named in a value.
fn environment(
    injector: &Settings,
    settings: &PodSettings,
    workload: &str,
    probes: &Map<String, Value>,
    drain: Duration,
) -> Vec<Value> {
    let value = |name: &str, value: &str| json!({"name": name, "value": value});
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let mut environment = vec![
        field("WEFT_NAMESPACE", "metadata.namespace"),
        value("WEFT_WORKLOAD", &format!("$(WEFT_NAMESPACE)/{workload}")),
        field("WEFT_INSTANCE", "metadata.name"),
        field("WEFT_POD_IPS", "status.podIPs"),
        value("WEFT_INTERCEPTION", "transparent"),
        value("WEFT_CONTROL_PLANE", &injector.control_plane),
        value("WEFT_ADMIN_LISTEN", &format!("[::]:{ADMIN_PORT}")),
        value("WEFT_SERVICE_ACCOUNT_TOKEN_FILE", &format!("{IDENTITY}/token")),
        value("WEFT_ROOTS_FILE", &format!("{IDENTITY}/roots.pem")),
        value("WEFT_APP_PROBE", "none"),
        value("WEFT_LOG", settings.log_level.as_deref().unwrap_or("info")),
        value("WEFT_ACCESS_LOG", if settings.access_log == Some(true) { "true" } else { "false" }),
        value("WEFT_DRAIN_TIMEOUT", &duration_text(drain)),
    ];
    if !probes.is_empty() {
        let json = Value::Object(probes.clone()).to_string();
        // The kubelet reads `$(NAME)` in a value, and `$$` as one `$`.
        environment.push(value("WEFT_PROBES", &json.replace('$', "$$")));
    }
    environment
}

/// Requests never stand above their limits: what is given moves the default beside it.
fn resources(settings: &PodSettings) -> Value {
    let or =
        |given: &Option<Quantity>, default: &str| given.clone().or_else(|| default.parse().ok());
    let mut memory_limit = or(&settings.memory_limit, MEMORY_LIMIT);
    let mut memory_request = or(&settings.memory_request, MEMORY_REQUEST);
    if memory_request > memory_limit {
        match settings.memory_limit {
            Some(_) => memory_request.clone_from(&memory_limit),
            None => memory_limit.clone_from(&memory_request),
        }
    }
    let mut cpu_request = or(&settings.cpu_request, CPU_REQUEST);
    if settings.cpu_limit.is_some() && cpu_request > settings.cpu_limit {
        cpu_request.clone_from(&settings.cpu_limit);
    }
    let amounts = |cpu: &Option<Quantity>, memory: &Option<Quantity>| {
        let named = [("cpu", cpu), ("memory", memory)].into_iter();
        let given = named.filter_map(|(name, amount)| {
            amount.as_ref().map(|amount| (name.to_owned(), Value::from(amount.as_str())))
        });
        Value::Object(given.collect())
    };
    json!({
        "requests": amounts(&cpu_request, &memory_request),
        "limits": amounts(&settings.cpu_limit, &memory_limit),
    })
}

/// The form that the sidecar reads.
fn duration_text(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}

/// Drained before the kubelet kills: the grace period less a margin, or half of a short one. Returns the time that was
/// asked for, too, when it had to be cut.
fn drain_time(asked: Option<Duration>, grace: u64) -> (Duration, Option<Duration>) {
    let grace = Duration::from_secs(grace);
    let most = grace.saturating_sub(Duration::from_secs(MARGIN)).max(grace / 2);
    match asked {
        None => (most.min(Duration::from_secs(GRACE)), None),
        Some(asked) if asked > most => (most, Some(asked)),
        Some(asked) => (asked, None),
    }
}
