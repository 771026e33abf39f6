//! A service with two versions, called by programs that nobody here wrote, under policies that are given.

use std::net::SocketAddr;

use weft_proto::api::EndpointsRequest;
use weft_tests::{
    mesh::{Mesh, Sidecar, SidecarSpec},
    wait,
};

/// The file of the policies.
const POLICIES: &str = "policies.yaml";

/// The service of each version; `server` has both behind it.
pub(crate) const VERSIONS: [&str; 2] = ["server-v1", "server-v2"];

/// web calls `server`, `server-v1` and `server-v2`.
pub(crate) struct Shop {
    mesh: Mesh,
    pub(crate) web: Sidecar,
    _servers: Vec<Sidecar>,
}

impl Shop {
    /// With these applications of the two versions, and these policies from the start. Both speak `protocol`.
    pub(crate) async fn start(
        protocol: &str,
        applications: [SocketAddr; 2],
        policies: &str,
    ) -> Self {
        let files = [("mesh.yaml", &*objects(protocol)), (POLICIES, policies)];
        let mesh = Mesh::start_from(&files, &[]).await;
        let mut servers = Vec::new();
        for (version, application) in VERSIONS.into_iter().zip(applications) {
            let spec = SidecarSpec::of(&format!("shop/{version}")).serves("main", application);
            servers.push(mesh.sidecar(spec).await);
        }
        wait::until_true("both versions to be listed", || async {
            let request = EndpointsRequest { service: "shop/server".to_owned() };
            let response = mesh.api().await.endpoints(request).await.expect("the API answers");
            response.get_ref().endpoints.iter().filter(|endpoint| endpoint.ready).count() == 2
        })
        .await;
        let web = ["server:80", "server-v1:80", "server-v2:80"];
        let web = web.iter().fold(SidecarSpec::of("shop/web"), |spec, to| spec.upstream(to));
        let web = mesh.sidecar(web).await;
        Self { mesh, web, _servers: servers }
    }

    /// Puts these policies in the place of those before.
    pub(crate) fn change(&self, policies: &str) {
        self.mesh.write(POLICIES, policies);
    }

    /// Where web's application reaches a service.
    pub(crate) fn reaches(&self, service: &str) -> SocketAddr {
        self.web.upstream(&format!("{service}:80"))
    }
}

/// A policy for a service, with this spec (YAML, indented by two).
pub(crate) fn policy(kind: &str, service: &str, spec: &str) -> String {
    format!(
        "---
apiVersion: weft.dev/v1alpha1
kind: {kind}
metadata: {{name: of-{service}, namespace: shop}}
spec:
  targetRefs: [{{group: '', kind: Service, name: {service}}}]
{spec}
"
    )
}

/// A TrafficPolicy for a service, with these sections (YAML, indented by two).
pub(crate) fn traffic(service: &str, sections: &str) -> String {
    policy("TrafficPolicy", service, sections)
}

fn objects(protocol: &str) -> String {
    let mut objects = String::from(
        "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: web, namespace: shop}
spec: {serviceAccount: web}
",
    );
    for version in VERSIONS {
        objects += &format!(
            "---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {{name: {version}, namespace: shop, labels: {{app: server, version: {version}}}}}
spec: {{serviceAccount: {version}, ports: [{{name: main}}]}}
"
        );
    }
    let selectors = [
        ("server", "app: server"),
        (VERSIONS[0], "version: server-v1"),
        (VERSIONS[1], "version: server-v2"),
    ];
    for (service, label) in selectors {
        objects += &format!(
            "---
apiVersion: v1
kind: Service
metadata: {{name: {service}, namespace: shop}}
spec:
  selector: {{{label}}}
  ports: [{{port: 80, targetPort: main, appProtocol: {protocol}}}]
"
        );
    }
    objects
}
