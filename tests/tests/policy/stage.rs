//! The mesh of these tests: a service with two versions behind it, and callers in two namespaces.
//!
//! | service (namespace `mesh`) | its instances |
//! |---|---|
//! | `echo` | both versions |
//! | `echo-v1`, `echo-v2` | one each |
//!
//! Each has the ports 80 and 8080 for HTTP, 7070 for gRPC, and 9000 where a server says which version it is. `web` calls from the same namespace, `guest` from
//! another one.

use std::{convert::Infallible, net::SocketAddr, pin::Pin};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use tokio::{io::AsyncWriteExt, sync::mpsc};
use weft_control_plane::model::parse_documents;
use weft_proto::api::EndpointsRequest;
use weft_tests::{
    apps::{App, Http, full},
    client::{Answer, Client, request},
    mesh::{Mesh, Sidecar, SidecarSpec},
    wait,
};

/// The file of the policies.
const POLICIES: &str = "policies.yaml";

const VERSIONS: [&str; 2] = ["echo-v1", "echo-v2"];

/// A running mesh; its applications go with it.
pub(crate) struct Stage {
    pub(crate) mesh: Mesh,
    /// A caller in the services' own namespace.
    pub(crate) web: Sidecar,
    /// A caller in another one.
    pub(crate) guest: Sidecar,
    servers: Vec<(Sidecar, App)>,
    _greeters: Vec<App>,
}

impl Stage {
    /// With these policies (YAML documents) from the start, before applications that echo.
    pub(crate) async fn with(policies: &str) -> Self {
        let apps = [App::echo_both(VERSIONS[0]).await, App::echo_both(VERSIONS[1]).await];
        Self::serving(apps, policies).await
    }

    /// With these policies from the start, before these applications: of `echo-v1` and of `echo-v2`.
    pub(crate) async fn serving(apps: [App; 2], policies: &str) -> Self {
        assert_right(policies);
        let files = [("mesh.yaml", &*objects()), (POLICIES, policies)];
        let mesh = Mesh::start_from(&files, &[]).await;
        let (mut servers, mut greeters) = (Vec::new(), Vec::new());
        for (version, app) in VERSIONS.into_iter().zip(apps) {
            let greeter = greeter(version).await;
            let spec = SidecarSpec::of(&format!("mesh/{version}"))
                .serves("http", app.address)
                .serves("raw", greeter.address)
                .with("--app-probe=none");
            servers.push((mesh.sidecar(spec).await, app));
            greeters.push(greeter);
        }
        wait::until_true("both versions to be listed at each port", || async {
            let request = EndpointsRequest { service: "mesh/echo".to_owned() };
            let response = mesh.api().await.endpoints(request).await.expect("the API answers");
            response.get_ref().endpoints.iter().filter(|endpoint| endpoint.ready).count() == 8
        })
        .await;
        let callers = ["echo:80", "echo-v1:80", "echo-v2:80", "echo:9000"];
        let web = callers.iter().fold(SidecarSpec::of("mesh/web"), |spec, to| spec.upstream(to));
        let web = mesh.sidecar(web).await;
        let guest = mesh.sidecar(SidecarSpec::of("guests/guest")).await;
        Self { mesh, web, guest, servers, _greeters: greeters }
    }

    /// Puts these policies in the place of those before.
    pub(crate) fn change(&self, policies: &str) {
        assert_right(policies);
        self.mesh.write(POLICIES, policies);
    }

    /// The sidecars of the two versions, and their applications.
    pub(crate) fn servers(&self) -> &[(Sidecar, App)] {
        &self.servers
    }

    /// A client of the first caller.
    pub(crate) async fn client(&self, version: Http) -> Client {
        Client::connect(self.web.outbound(), version).await
    }

    /// Sends each of the requests on a connection of each version of HTTP, and compares the answer.
    pub(crate) async fn check(&self, cases: &[(Asked, Expected)]) {
        for version in [Http::One, Http::Two] {
            let mut client = self.client(version).await;
            for (asked, expected) in cases {
                let answer = client.send(asked.request()).await.expect("an answer");
                expected.check(&answer, &format!("{version:?} {asked:?}"));
            }
        }
    }
}

/// A file that is refused would leave a test with no policy at all.
fn assert_right(policies: &str) {
    for parsed in parse_documents(POLICIES, policies) {
        let right = parsed.map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(right, Ok(()));
    }
}

/// Says its name to whoever connects, and ends.
async fn greeter(name: &'static str) -> App {
    App::tcp(move |mut stream| async move {
        // A client that is gone already hears nothing.
        let _ = stream.write_all(name.as_bytes()).await;
        let _ = stream.shutdown().await;
        // What the client sends is read, so that nothing is reset before it has read all.
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await
}

fn objects() -> String {
    let mut objects = String::from(
        "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: web, namespace: mesh}
spec: {serviceAccount: web}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: guest, namespace: guests}
spec: {serviceAccount: guest}
",
    );
    for version in VERSIONS {
        objects += &format!(
            "---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {{name: {version}, namespace: mesh, labels: {{app: echo, version: {version}}}}}
spec: {{serviceAccount: {version}, ports: [{{name: http}}, {{name: raw, servicePort: 9000, protocol: tcp}}]}}
"
        );
    }
    for (service, label) in [
        ("echo", "app: echo"),
        (VERSIONS[0], "version: echo-v1"),
        (VERSIONS[1], "version: echo-v2"),
    ] {
        objects += &format!(
            "---
apiVersion: v1
kind: Service
metadata: {{name: {service}, namespace: mesh}}
spec:
  selector: {{{label}}}
  ports:
  - {{name: http, port: 80, targetPort: http}}
  - {{name: http-alt, port: 8080, targetPort: http}}
  - {{name: grpc, port: 7070, targetPort: http}}
  - {{name: raw, port: 9000, targetPort: raw, appProtocol: tcp}}
"
        );
    }
    objects
}

/// A request of a case.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    method: &'static str,
    uri: String,
    fields: Vec<(&'static str, &'static str)>,
}

/// A GET.
pub(crate) fn get(uri: &str) -> Asked {
    Asked { method: "GET", uri: uri.to_owned(), fields: Vec::new() }
}

/// A unary gRPC call, as far as routes can tell.
pub(crate) fn call(uri: &str) -> Asked {
    let fields = vec![("content-type", "application/grpc"), ("te", "trailers")];
    Asked { method: "POST", uri: uri.to_owned(), fields }
}

impl Asked {
    /// With another method.
    pub(crate) const fn by(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    /// With a field.
    pub(crate) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.fields.push((name, value));
        self
    }

    /// Whether it is a gRPC call.
    pub(crate) fn is_call(&self) -> bool {
        self.fields.contains(&("content-type", "application/grpc"))
    }

    /// As it is sent.
    pub(crate) fn request(&self) -> Request<Full<Bytes>> {
        let mut request = request(self.method, &self.uri, "");
        for (name, value) in &self.fields {
            let (name, value) = (HeaderName::from_static(name), HeaderValue::from_static(value));
            request.headers_mut().append(name, value);
        }
        request
    }
}

/// A body that is sent piece by piece; it ends when the sender is dropped.
pub(crate) fn upload() -> (mpsc::UnboundedSender<Bytes>, Upload) {
    let (sender, pieces) = mpsc::unbounded_channel();
    let pieces = stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((Ok(Frame::data(piece)), pieces))
    });
    (sender, StreamBody::new(Box::pin(pieces)))
}

/// A body that is sent piece by piece.
pub(crate) type Upload =
    StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>>;

/// An object of Weft's own in `mesh`, with this spec (YAML, on one line or indented by two).
pub(crate) fn policy(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---
apiVersion: weft.dev/v1alpha1
kind: {kind}
metadata: {{name: {name}, namespace: mesh}}
spec:
{spec}"
    )
}

/// A TrafficPolicy for a service of `mesh`, with these sections (YAML, indented by two).
pub(crate) fn traffic(service: &str, sections: &str) -> String {
    let targets = format!("  targetRefs: [{{group: '', kind: Service, name: {service}}}]");
    policy("TrafficPolicy", service, &format!("{targets}\n{sections}\n"))
}

/// An application that answers each request like this.
pub(crate) async fn answering(status: u16, fields: &'static [(&'static str, &'static str)]) -> App {
    let answer = move |_| async move {
        let mut response = Response::builder().status(status).header("app", "scripted");
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        response.body(full("")).expect("valid")
    };
    App::http_at(SocketAddr::from(([127, 0, 0, 1], 0)), answer).await
}

/// An application that takes requests and never answers.
pub(crate) async fn silent() -> App {
    let answer = |_| std::future::pending::<Response<weft_tests::apps::Answer>>();
    App::http_at(SocketAddr::from(([127, 0, 0, 1], 0)), answer).await
}

/// What a case's answer must be.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    status: u16,
    fields: Vec<(&'static str, &'static str)>,
    absent: Vec<&'static str>,
}

/// An answer of this application.
pub(crate) fn from(app: &'static str) -> Expected {
    Expected { status: 200, fields: vec![("app", app)], absent: Vec::new() }
}

/// An answer of the sidecar's own.
pub(crate) fn status(status: u16) -> Expected {
    Expected { status, fields: Vec::new(), absent: vec!["app"] }
}

impl Expected {
    /// With this status.
    pub(crate) const fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// With a field of this value; several of the name are joined by a comma. `got-NAME` is a request's field as the
    /// application saw it, `x-target` its path and query, `x-host` its host.
    pub(crate) fn field(mut self, name: &'static str, value: &'static str) -> Self {
        self.fields.push((name, value));
        self
    }

    /// Without a field of this name.
    pub(crate) fn without(mut self, name: &'static str) -> Self {
        self.absent.push(name);
        self
    }

    /// Compares an answer with what is expected.
    pub(crate) fn check(&self, answer: &Answer, what: &str) {
        assert_eq!(answer.status.as_u16(), self.status, "{what}: {answer:?}");
        for (name, value) in &self.fields {
            assert_eq!(joined(answer, name), *value, "{what}: {name} of {answer:?}");
        }
        for name in &self.absent {
            assert!(!answer.headers.contains_key(*name), "{what}: {name} of {answer:?}");
        }
    }
}

fn joined(answer: &Answer, name: &str) -> String {
    let values = answer.headers.get_all(name).iter();
    values.map(|value| value.to_str().unwrap_or_default()).collect::<Vec<_>>().join(",")
}

/// An HTTPRoute in `mesh` with these rules (YAML, indented by two) for a service there.
pub(crate) fn route(name: &str, parent: &str, rules: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: mesh}}
spec:
  parentRefs: [{{group: \"\", kind: Service, name: {parent}}}]
  rules:
{rules}"
    )
}
