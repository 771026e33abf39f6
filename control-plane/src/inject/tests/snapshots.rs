//! Every kind that makes pods, as it comes out: read these to see what Weft does to a manifest.

use super::{super::*, context, injected, namespace};

fn snapshot(name: &str, manifest: &str) {
    let object: Value = serde_norway::from_str(manifest).unwrap();
    let shop = namespace("shop", &[]);
    let (injected, _) =
        injected(inject_object(&object, &Context { asked: true, ..context(&shop) }));
    let yaml = serde_norway::to_string(&injected).unwrap();
    insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "../snapshots"}, {
        insta::assert_snapshot!(name, yaml.replace(VERSION, "VERSION"));
    });
    assert_eq!(undo_object(&injected).unwrap(), Some(object));
}

#[test]
fn a_deployment_with_every_kind_of_probe() {
    snapshot(
        "deployment",
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: cart}}
  template:
    metadata:
      labels: {app: cart}
    spec:
      serviceAccountName: cart
      initContainers:
        - {name: migrate, image: "cart:1", command: [migrate]}
        - name: cache
          image: cache:1
          restartPolicy: Always
          startupProbe: {tcpSocket: {port: 11211}, periodSeconds: 1}
      containers:
        - name: web
          image: cart:1
          ports: [{name: http, containerPort: 8080}]
          startupProbe: {httpGet: {path: /started, port: http, httpHeaders: [{name: Host, value: cart}]}, failureThreshold: 30}
          readinessProbe: {httpGet: {path: /ready, port: 8080, scheme: HTTPS}, timeoutSeconds: 3}
          livenessProbe: {exec: {command: [alive]}}
          lifecycle:
            postStart: {httpGet: {path: /warm, port: http}}
            preStop: {exec: {command: [sleep, "5"]}}
        - name: grpc
          image: cart-grpc:1
          livenessProbe: {grpc: {port: 9000, service: cart}}
          readinessProbe: {tcpSocket: {port: 9000}}
"#,
    );
}

#[test]
fn a_stateful_set_with_a_classic_sidecar() {
    snapshot(
        "stateful_set_classic",
        r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata:
      labels: {app: db}
      annotations:
        weft.dev/sidecar: classic
        weft.dev/opaque-ports: "5432"
        weft.dev/drain-time: 40s
    spec:
      terminationGracePeriodSeconds: 60
      securityContext: {runAsNonRoot: true, fsGroup: 999}
      initContainers:
        - {name: format, image: "db:1"}
      containers:
        - name: db
          image: db:1
          ports: [{containerPort: 5432}]
          volumeMounts: [{name: data, mountPath: /data}]
      volumes: [{name: data, emptyDir: {}}]
"#,
    );
}

#[test]
fn a_daemon_set() {
    snapshot(
        "daemon_set",
        r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata:
      labels: {app: agent}
      annotations:
        weft.dev/skip-outbound-ports: 6443,10250-10255
        weft.dev/skip-outbound-cidrs: 169.254.0.0/16
        weft.dev/proxy-cpu-request: 50m
        weft.dev/proxy-memory-limit: 64Mi
    spec:
      containers: [{name: agent, image: "agent:1"}]
"#,
    );
}

#[test]
fn a_job() {
    snapshot(
        "job",
        r#"
apiVersion: batch/v1
kind: Job
metadata: {generateName: report-}
spec:
  template:
    spec:
      restartPolicy: Never
      automountServiceAccountToken: false
      containers: [{name: report, image: "report:1"}]
"#,
    );
}

#[test]
fn a_cron_job() {
    snapshot(
        "cron_job",
        r#"
apiVersion: batch/v1
kind: CronJob
metadata: {name: report}
spec:
  schedule: "0 3 * * *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: OnFailure
          containers: [{name: report, image: "report:1"}]
"#,
    );
}

#[test]
fn a_bare_pod() {
    snapshot(
        "pod",
        r#"
apiVersion: v1
kind: Pod
metadata: {name: debug, annotations: {weft.dev/log-level: "weft_proxy=trace,info", weft.dev/access-log: "true"}}
spec:
  shareProcessNamespace: true
  containers: [{name: debug, image: "debug:1"}]
"#,
    );
}

#[test]
fn every_kind_that_makes_pods_is_known_and_others_of_the_name_are_not() {
    let spec = serde_json::json!({"containers": [{"name": "app"}]});
    let template = serde_json::json!({"metadata": {"labels": {"app": "x"}}, "spec": spec});
    let shop = namespace("shop", &[]);
    let asked = Context { asked: true, ..context(&shop) };
    for (version, kind) in [
        ("v1", "ReplicationController"),
        ("apps/v1", "Deployment"),
        ("apps/v1", "StatefulSet"),
        ("apps/v1", "DaemonSet"),
        ("apps/v1", "ReplicaSet"),
        ("batch/v1", "Job"),
    ] {
        let metadata = serde_json::json!({"name": "x"});
        let object = serde_json::json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": {"template": template}});
        let (object, _) = injected(inject_object(&object, &asked));
        let annotations = &object["spec"]["template"]["metadata"]["annotations"];
        assert_eq!(annotations["weft.dev/workload"], "x", "{kind}");
        let other = serde_json::json!({"apiVersion": "example.com/v1", "kind": kind, "metadata": metadata, "spec": {"template": template}});
        assert_eq!(inject_object(&other, &asked), Outcome::Left(Reason::UnknownKind), "{kind}");
    }
    let service =
        serde_json::json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}});
    assert_eq!(inject_object(&service, &asked), Outcome::Left(Reason::NoPods));
    let object = serde_json::json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template});
    injected(inject_object(&object, &asked));
}

#[test]
fn an_error_names_the_field_of_the_object_that_was_given() {
    let spec =
        serde_json::json!({"containers": [{"name": "app", "ports": [{"containerPort": 4140}]}]});
    let object = serde_json::json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": {"template": {"spec": spec}}});
    let shop = namespace("shop", &[]);
    let outcome = inject_object(&object, &Context { asked: true, ..context(&shop) });
    let Outcome::Refused(errors) = outcome else { panic!("{outcome:?}") };
    let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(
        fields,
        ["spec.template.spec.containers[0].ports[0].containerPort", "metadata.name"]
    );
}
