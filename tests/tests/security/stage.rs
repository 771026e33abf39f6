//! The mesh of these tests: web calls catalog, whose application keeps all it gets.

use std::net::SocketAddr;

use weft_tests::{
    log::Log,
    mesh::{Mesh, Sidecar, SidecarSpec},
    recorder::Recorder,
};

/// The HTTP service, as applications name it.
pub(crate) const HTTP: &str = "catalog:80";
/// The service of opaque bytes.
pub(crate) const OPAQUE: &str = "catalog:6379";
/// The service that declares nothing.
pub(crate) const UNDECLARED: &str = "catalog:7000";

const OBJECTS: &str = "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: web, namespace: shop}
spec: {serviceAccount: web}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: catalog, namespace: shop}
spec:
  service: catalog
  serviceAccount: catalog
  ports:
  - {name: http, servicePort: 80, protocol: http}
  - {name: opaque, servicePort: 6379, protocol: tcp}
  - {name: undeclared, servicePort: 7000}
";

/// A running mesh.
pub(crate) struct Stage {
    pub(crate) mesh: Mesh,
    pub(crate) log: Log,
    pub(crate) web: Sidecar,
    pub(crate) catalog: Sidecar,
    /// Behind each port of catalog.
    pub(crate) http: Recorder,
    pub(crate) opaque: Recorder,
    pub(crate) undeclared: Recorder,
}

impl Stage {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Catalog's sidecar has these settings beside its ports.
    pub(crate) async fn with(settings: &[&str]) -> Self {
        let log = Log::listen();
        let mesh = Mesh::start(OBJECTS).await;
        let http = Recorder::start().await;
        let opaque = Recorder::start().await;
        let undeclared = Recorder::start().await;
        let mut spec = SidecarSpec::of("shop/catalog")
            .with("--app-probe=none")
            .serves("http", http.app.address)
            .serves("opaque", opaque.app.address)
            .serves("undeclared", undeclared.app.address);
        for setting in settings {
            spec = spec.with(setting);
        }
        let catalog = mesh.sidecar(spec).await;
        // What one test provokes must not keep the next line of its table from being tried.
        let spec = SidecarSpec::of("shop/web")
            .upstream(HTTP)
            .upstream(OPAQUE)
            .upstream(UNDECLARED)
            .with("--connect-backoff=0s");
        let web = mesh.sidecar(spec).await;
        Self { mesh, log, web, catalog, http, opaque, undeclared }
    }

    /// Another replica of catalog, in front of this application alone.
    pub(crate) async fn replica(&self, http: SocketAddr) -> Sidecar {
        let spec = SidecarSpec::of("shop/catalog")
            .with("--app-probe=none")
            .with("--instance=another")
            .serves("http", http);
        self.mesh.sidecar(spec).await
    }

    /// No application has accepted a connection.
    pub(crate) fn nothing_arrived(&self) -> bool {
        [&self.http, &self.opaque, &self.undeclared].iter().all(|it| it.app.connections() == 0)
    }
}
