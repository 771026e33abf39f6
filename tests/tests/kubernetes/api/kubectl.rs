//! kubectl, which nobody here wrote, against the API: what it applies it can read and delete again.

use std::process::Output;

use tokio::process::Command;
use weft_tests::{kubernetes::Cluster, program};

/// Manifests as people write them.
const MANIFESTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: app, image: pause, ports: [{name: http, containerPort: 8080}], resources: {requests: {cpu: 100m}}}
";

struct Kubectl {
    kubeconfig: tempfile::NamedTempFile,
    manifests: tempfile::NamedTempFile,
    namespace: String,
}

impl Kubectl {
    fn new(cluster: &Cluster, token: &str, namespace: &str) -> Self {
        let file = |text: &str| {
            let file = tempfile::NamedTempFile::new().expect("a temporary file");
            std::fs::write(file.path(), text).expect("it can be written");
            file
        };
        let kubeconfig = serde_json::to_string(&cluster.kubeconfig(token)).expect("JSON");
        let namespace = namespace.to_owned();
        Self { kubeconfig: file(&kubeconfig), manifests: file(MANIFESTS), namespace }
    }

    async fn output(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.kubeconfig.path());
        command.args(["--namespace", &self.namespace]).args(arguments);
        command.output().await.expect("kubectl runs")
    }

    async fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {said}{errors}");
        said
    }
}

#[tokio::test]
async fn kubectl_applies_reads_and_deletes() {
    if !program::installed("kubectl_applies_reads_and_deletes", "kubectl") {
        return;
    }
    let cluster = Cluster::start_in_memory().await;
    let api = cluster.in_memory().expect("it is in memory");
    let namespace = cluster.namespace("kubectl").await;
    let kubectl = Kubectl::new(&cluster, api.admin_token(), &namespace);
    let file = kubectl.manifests.path().to_string_lossy().into_owned();

    for (mode, word) in [("--server-side=false", "created"), ("--server-side=false", "unchanged")] {
        // The server has no OpenAPI document; it checks fields by itself.
        let said = kubectl.run(&["apply", "--validate=false", mode, "-f", &file]).await;
        let wanted = format!("service/web {word}\ndeployment.apps/web {word}\n");
        assert_eq!(said, wanted);
    }
    let path = "jsonpath={.spec.template.spec.containers[0].resources.requests.cpu}";
    assert_eq!(kubectl.run(&["get", "deploy", "web", "-o", path]).await, "100m");
    assert!(kubectl.run(&["get", "svc"]).await.contains("web"));
    kubectl.run(&["label", "svc", "web", "tier=front"]).await;
    let found = kubectl.run(&["get", "svc", "-l", "tier=front", "-o", "name"]).await;
    assert_eq!(found, "service/web\n");
    kubectl.run(&["delete", "-f", &file]).await;
    let gone = kubectl.output(&["get", "svc", "web"]).await;
    let said = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert_eq!(said, "Error from server (NotFound): services \"web\" not found\n");
}
