//! The mesh of these tests: web calls catalog, whose replicas are applications that a test scripts.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest, server::SendResponse};
use http::{HeaderMap, Request};
use tokio::{net::TcpStream, task::JoinSet};
use weft_proto::api::EndpointsRequest;
use weft_tests::{
    apps::App,
    mesh::{Mesh, Sidecar, SidecarSpec},
    raw::Raw,
    wait,
};

/// More requests in flight than travel on HTTP/1 connections of their own between sidecars.
const CROWD: u64 = 6;

/// Two services; `{protocol}` is declared for the catalog's port.
fn objects(protocol: &str) -> String {
    format!(
        "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {{name: web, namespace: shop}}
spec: {{serviceAccount: web}}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {{name: catalog, namespace: shop}}
spec: {{service: catalog, serviceAccount: catalog, ports: [{{servicePort: 80{protocol}}}]}}
"
    )
}

/// A running mesh: web, and a replica of catalog for each application.
pub(crate) struct Shop {
    _mesh: Mesh,
    pub(crate) web: Sidecar,
    _catalogs: Vec<Sidecar>,
}

impl Shop {
    /// One replica of catalog for each application.
    pub(crate) async fn of(applications: &[SocketAddr]) -> Self {
        Self::with(applications, "", &[]).await
    }

    /// The catalog's port declares a protocol (`, protocol: tcp`); web's sidecar has these settings.
    pub(crate) async fn with(
        applications: &[SocketAddr],
        protocol: &str,
        settings: &[&str],
    ) -> Self {
        let mesh = Mesh::start(&objects(protocol)).await;
        let mut catalogs = Vec::new();
        for (instance, application) in applications.iter().enumerate() {
            let spec = SidecarSpec::of("shop/catalog")
                .serves("", *application)
                .with("--app-probe=none")
                .with(&format!("--instance={instance}"));
            catalogs.push(mesh.sidecar(spec).await);
        }
        wait::until_true("every replica to be listed", || async {
            let request = EndpointsRequest { service: "shop/catalog".to_owned() };
            let response = mesh.api().await.endpoints(request).await.expect("the API answers");
            response.get_ref().endpoints.len() == applications.len()
        })
        .await;
        let mut spec = SidecarSpec::of("shop/web").upstream("catalog:80");
        for setting in settings {
            spec = spec.with(setting);
        }
        let web = mesh.sidecar(spec).await;
        Self { _mesh: mesh, web, _catalogs: catalogs }
    }

    /// A client of the proxy port that speaks bytes.
    pub(crate) async fn raw(&self) -> Raw {
        Raw::connect(self.web.outbound()).await
    }

    /// A client of the proxy port that speaks HTTP/2.
    pub(crate) async fn http2(&self) -> Http2 {
        Http2::connect(self.web.outbound()).await
    }

    /// Enough requests in flight that the next one shares an HTTP/2 connection between the sidecars; they end
    /// with what is returned. For applications of [`raw_app`].
    pub(crate) async fn crowd(&self, app: &App) -> Vec<Raw> {
        let before = app.connections();
        let mut crowd = Vec::new();
        for _ in 0..CROWD {
            let mut client = self.raw().await;
            client.send("GET http://catalog/hold HTTP/1.1\r\nHost: catalog\r\n\r\n").await;
            crowd.push(client);
        }
        wait::until_true("the crowd to be in flight", || async {
            app.connections() >= before + CROWD
        })
        .await;
        crowd
    }
}

/// An application of bytes: `serve` gets each connection with its first request's head, but those that only
/// make a crowd.
pub(crate) async fn raw_app<F>(
    serve: impl Fn(String, Raw) -> F + Clone + Send + Sync + 'static,
) -> App
where
    F: Future<Output = ()> + Send + 'static,
{
    App::tcp(move |stream| {
        let serve = serve.clone();
        async move {
            let mut peer = Raw::over(stream);
            let head = peer.receive_head().await;
            if head.contains(" /hold ") {
                peer.ended().await;
            } else {
                serve(head, peer).await;
            }
        }
    })
    .await
}

/// An application of HTTP/2 streams: `serve` gets each.
pub(crate) async fn http2_app<F>(
    serve: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + Sync + 'static,
) -> App
where
    F: Future<Output = ()> + Send + 'static,
{
    App::tcp(move |stream| {
        let serve = serve.clone();
        async move {
            let mut builder = h2::server::Builder::new();
            builder.max_header_list_size(1024 * 1024);
            let Ok(mut connection) = builder.handshake(stream).await else { return };
            let mut streams = JoinSet::new();
            while let Some(Ok((request, respond))) = connection.accept().await {
                streams.spawn(serve(request, respond));
            }
        }
    })
    .await
}

/// A client that speaks HTTP/2 frames, on one connection.
pub(crate) struct Http2 {
    sender: SendRequest<Bytes>,
    _connection: JoinSet<()>,
}

impl Http2 {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("somebody listens");
        let mut builder = h2::client::Builder::new();
        // Streams that are not read must not take the others' room.
        builder.initial_connection_window_size(64 * 1024 * 1024).max_header_list_size(1024 * 1024);
        let (sender, connection) = builder.handshake(stream).await.expect("a fresh connection");
        let mut task = JoinSet::new();
        task.spawn(async move {
            let _ = connection.await;
        });
        Self { sender, _connection: task }
    }

    /// Sends a request's head; the body follows by what is returned.
    pub(crate) async fn send(
        &self,
        request: Request<()>,
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let mut sender = wait::soon("a stream", self.sender.clone().ready()).await.expect("open");
        sender.send_request(request, false).expect("the connection holds")
    }

    /// Sends a request without a body.
    pub(crate) async fn send_all(&self, request: Request<()>) -> h2::client::ResponseFuture {
        let mut sender = wait::soon("a stream", self.sender.clone().ready()).await.expect("open");
        sender.send_request(request, true).expect("the connection holds").0
    }
}

/// A request's head.
pub(crate) fn head(method: &str, uri: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a valid request")
}

/// A body to its end: its length and trailers, or how it broke.
pub(crate) async fn body(
    mut stream: RecvStream,
) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = wait::soon("data", stream.data()).await {
        let data = data?;
        let _ = stream.flow_control().release_capacity(data.len());
        all.extend_from_slice(&data);
    }
    Ok((all, wait::soon("the end", stream.trailers()).await?))
}
