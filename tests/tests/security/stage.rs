//! The mesh of these tests: web calls catalog, whose application keeps all it gets.

use std::net::SocketAddr;

use weft_tests::{
    log::Log,
    mesh::{Mesh, Sidecar, SidecarSpec},
    peer::{Authority, Caller, Credential, id, svid},
    raw::Raw,
    recorder::Recorder,
    wait,
};

/// The HTTP service, as applications name it.
pub(crate) const HTTP: &str = "catalog:80";
/// The service of opaque bytes.
pub(crate) const OPAQUE: &str = "catalog:6379";
/// The service that declares nothing.
pub(crate) const UNDECLARED: &str = "catalog:7000";

/// Requests in flight that have a connection of their own between the sidecars; the next one shares one.
const CROWD: u64 = 6;

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
  - {name: http, servicePort: 80, protocol: http, mode: {mode}}
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

/// How a mesh differs from the usual.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    /// Behind catalog's HTTP port.
    pub(crate) http: Option<Recorder>,
    /// The HTTP port is permissive.
    pub(crate) permissive: bool,
    /// Further settings of catalog's sidecar.
    pub(crate) catalog: &'a [&'a str],
    /// Further settings of web's sidecar.
    pub(crate) web: &'a [&'a str],
}

/// The objects, with the HTTP port permissive or strict.
pub(crate) fn objects(permissive: bool) -> String {
    OBJECTS.replace("{mode}", if permissive { "permissive" } else { "strict" })
}

impl Stage {
    pub(crate) async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup<'_>) -> Self {
        let log = Log::listen();
        let mesh = Mesh::start(&objects(setup.permissive)).await;
        let http = match setup.http {
            Some(http) => http,
            None => Recorder::start().await,
        };
        let opaque = Recorder::start().await;
        let undeclared = Recorder::start().await;
        let mut spec = SidecarSpec::of("shop/catalog")
            .with("--app-probe=none")
            .serves("http", http.app.address)
            .serves("opaque", opaque.app.address)
            .serves("undeclared", undeclared.app.address);
        for setting in setup.catalog {
            spec = spec.with(setting);
        }
        let catalog = mesh.sidecar(spec).await;
        // What one test provokes must not keep the next line of its table from being tried.
        let mut spec = SidecarSpec::of("shop/web")
            .upstream(HTTP)
            .upstream(OPAQUE)
            .upstream(UNDECLARED)
            .with("--connect-backoff=0s");
        for setting in setup.web {
            spec = spec.with(setting);
        }
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

    /// So many requests in flight that the next one shares an HTTP/2 connection between the sidecars; they end
    /// with what is returned.
    pub(crate) async fn crowd(&self) -> Vec<Raw> {
        let before = self.http.held();
        let mut crowd = Vec::new();
        for _ in 0..CROWD {
            let mut client = Raw::connect(self.web.outbound()).await;
            client.send("GET http://catalog/hold HTTP/1.1\r\nHost: catalog\r\n\r\n").await;
            crowd.push(client);
        }
        wait::until_true("the crowd to be in flight", || async {
            self.http.held() >= before + CROWD
        })
        .await;
        crowd
    }

    /// No application has accepted a connection.
    pub(crate) fn nothing_arrived(&self) -> bool {
        [&self.http, &self.opaque, &self.undeclared].iter().all(|it| it.app.connections() == 0)
    }
}

/// A caller that belongs to the mesh: web, without a sidecar that would speak for it.
pub(crate) struct Member(Credential);

impl Member {
    pub(crate) fn of(stage: &Stage) -> Self {
        Self(Authority::of(&stage.mesh).issue(&svid(&id("web"))))
    }

    /// Calls catalog's sidecar.
    pub(crate) async fn call(
        &self,
        stage: &Stage,
        server_name: Option<&str>,
        alpn: &[&[u8]],
    ) -> std::io::Result<Raw> {
        let caller = Caller { credential: Some(&self.0), server_name, alpn };
        caller.call(stage.catalog.inbound()).await
    }

    /// Calls catalog's HTTP port.
    pub(crate) async fn http(&self, stage: &Stage, alpn: &[u8]) -> Raw {
        let name = format!("{}.weft.internal", stage.http.app.address.port());
        self.call(stage, Some(&name), &[alpn]).await.expect("a member is let in")
    }
}
