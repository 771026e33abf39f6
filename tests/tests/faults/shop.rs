//! The mesh that the faults happen to: web calls catalog by HTTP, and cache by bytes.

use std::net::SocketAddr;

use weft_proto::api::EndpointsRequest;
use weft_tests::{
    apps::{App, Http},
    client::get_once,
    load::{Load, Requests},
    mesh::{Mesh, Sidecar, SidecarSpec},
    wait,
};

const OBJECTS: &str = "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: web, namespace: shop}
spec: {serviceAccount: web}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: catalog, namespace: shop}
spec: {service: catalog, serviceAccount: catalog, ports: [{servicePort: 80}]}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: cache, namespace: shop}
spec: {service: cache, serviceAccount: cache, ports: [{servicePort: 6379, protocol: tcp}]}
";

/// web calls catalog, which has an application and a replica of its sidecar for each instance.
pub(crate) struct Shop {
    pub(crate) mesh: Mesh,
    pub(crate) web: Sidecar,
}

impl Shop {
    pub(crate) async fn start(settings: &[&str], web: SidecarSpec) -> Self {
        let mesh = Mesh::start_with(OBJECTS, settings).await;
        let web = mesh.sidecar(web).await;
        Self { mesh, web }
    }

    /// Starts a replica of catalog, and waits until its application has answered web.
    pub(crate) async fn replica(&self, instance: &str, name: &str, app: &App) -> Sidecar {
        let sidecar = self.mesh.sidecar(catalog(instance, app.address)).await;
        wait::until_true("the new replica to be used", || async {
            get_once(self.web.outbound(), "http://catalog/").await.field("app") == name
        })
        .await;
        sidecar
    }

    /// GETs and POSTs, HTTP/1 and HTTP/2, through web to catalog.
    pub(crate) fn load(&self, rate: u32) -> Load {
        let (proxy, port) = (self.web.outbound(), self.web.upstream("catalog:80"));
        let kinds = [
            Requests::get(proxy, Http::One, "http://catalog/items"),
            Requests::get(port, Http::Two, "http://catalog/items"),
            Requests::post(proxy, Http::One, "http://catalog/items"),
            Requests::post(port, Http::Two, "http://catalog/items"),
        ];
        Load::start(rate, &kinds)
    }

    /// Only GETs, which may be sent once more wherever they were lost.
    pub(crate) fn load_of_gets(&self, rate: u32) -> Load {
        let (proxy, port) = (self.web.outbound(), self.web.upstream("catalog:80"));
        let kinds = [
            Requests::get(proxy, Http::One, "http://catalog/items"),
            Requests::get(port, Http::Two, "http://catalog/items"),
        ];
        Load::start(rate, &kinds)
    }

    pub(crate) async fn endpoints(&self) -> usize {
        let request = EndpointsRequest { service: "shop/catalog".to_owned() };
        let response = self.mesh.api().await.endpoints(request).await.expect("the API answers");
        response.get_ref().endpoints.len()
    }
}

pub(crate) fn web() -> SidecarSpec {
    SidecarSpec::of("shop/web").upstream("catalog:80")
}

pub(crate) fn catalog(instance: &str, app: SocketAddr) -> SidecarSpec {
    SidecarSpec::of("shop/catalog").serves("", app).with(&format!("--instance={instance}"))
}

/// Sends back what it gets.
pub(crate) async fn echo_bytes() -> App {
    App::tcp(|mut stream| async move {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await
}
