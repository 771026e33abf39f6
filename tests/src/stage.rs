//! The stage of interception: pods whose traffic is redirected, and one outside the mesh.
//!
//! | pod | runs |
//! |---|---|
//! | 0 | `web`: a sidecar, and an application that calls others |
//! | 1, 2 | `catalog`: a sidecar each, and applications that listen on loopback alone |
//! | 3 | the control plane, and whatever has no sidecar |
//!
//! It stands on a [`Ground`]: machines, or pods on a node that also stands for kube-proxy.

use std::{
    fs::Permissions,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    apps::{App, echo},
    client::get_once,
    ground::{Ground, Place},
    mesh::{Mesh, Sidecar, SidecarSpec, sum_of},
    namespace::{Namespace, Pod, User},
    network::Network,
    wait,
};

const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4191);

/// Where the control plane and the outsiders are.
const OUTSIDE: usize = 3;

/// The catalog's ports, the same in each of its pods.
pub const HTTP: u16 = 8080;
const HTTP2: u16 = 8081;
/// Where the catalog speaks first.
pub const GREETER: u16 = 6379;

/// Everything that runs, in the order in which it must go.
pub struct Stage {
    /// The caller's sidecar.
    pub web: Member,
    /// The instances of what it calls.
    pub catalogs: [Catalog; 2],
    /// The mesh.
    pub mesh: Mesh,
    /// The runtime of the pod that has no sidecar.
    pub outside: Pod,
    /// The pods.
    pub network: Network,
    v6: bool,
}

/// A sidecar, and the runtime that it lives on.
pub struct Member {
    /// The sidecar.
    pub sidecar: Sidecar,
    pod: Pod,
}

/// An instance of `catalog`.
pub struct Catalog {
    /// Its sidecar.
    pub member: Member,
    /// Echoes, by HTTP/1.
    pub http: App,
    /// Echoes, by HTTP/2.
    _http2: App,
    /// Speaks first, then echoes bytes.
    pub greeter: App,
    /// The runtime of its applications.
    pub servers: Pod,
}

/// How a catalog's ports take plaintext.
#[derive(Debug, Clone, Copy)]
pub enum Plaintext {
    /// A strict port.
    Refused,
    /// A permissive one.
    Served,
}

/// What a program said.
#[derive(Debug)]
pub struct Said {
    /// Its exit code.
    pub exit: i32,
    /// What it wrote to its standard output.
    pub text: String,
}

impl Stage {
    /// With every connection between the pods in the ground's family.
    pub async fn start(ground: Ground) -> Self {
        Self::start_with(ground, &[], &[]).await
    }

    /// With further flags of `weft-proxy init` for the caller's pod, and for the catalogs'.
    ///
    /// # Panics
    /// When something does not start.
    pub async fn start_with(ground: Ground, web: &[&str], catalogs: &[&str]) -> Self {
        let (v6, network) = (ground.v6, ground.network(4));
        for index in 0..OUTSIDE {
            let flags = if index == 0 { web } else { catalogs };
            ground.intercept(network.pod(index), flags).await;
        }
        let outside = network.pod(OUTSIDE).runtime(User::Root);
        let control_plane = SocketAddr::new(network.pod(OUTSIDE).ip(v6), 0);
        let mesh = outside.run(async move {
            let listen = format!("--discovery-listen={control_plane}");
            Mesh::start_with(&objects(Plaintext::Refused), &[&listen]).await
        });
        let mesh = mesh.await;
        let catalogs = [catalog(&mesh, &network, 1).await, catalog(&mesh, &network, 2).await];
        let web = member(&mesh, &network, 0, SidecarSpec::of("shop/web")).await;
        let stage = Self { web, catalogs, mesh, outside, network, v6 };
        if ground.place == Place::Cluster {
            stage.balance();
        }
        stage
    }

    /// What kube-proxy does for those that have no sidecar.
    fn balance(&self) {
        for v6 in [false, true] {
            for (port, target) in [(80, HTTP), (81, HTTP2), (6379, GREETER)] {
                self.network.balance(service(v6, port), &[1, 2], target);
            }
            self.network.balance(unmeshed_service(v6), &[OUTSIDE], HTTP);
        }
    }

    /// Says how the catalogs take plaintext from now on.
    pub fn set_plaintext(&self, plaintext: Plaintext) {
        self.mesh.write("mesh.yaml", &objects(plaintext));
    }

    /// A port of the service at its cluster address.
    #[must_use]
    pub fn service(&self, port: u16) -> SocketAddr {
        service(self.v6, port)
    }

    /// A port of the service at its cluster address of the other family.
    #[must_use]
    pub fn service_of_other_family(&self, port: u16) -> SocketAddr {
        service(!self.v6, port)
    }

    /// The cluster address of a service without sidecars: port 80, which leads to [`HTTP`] of the pod that has none.
    #[must_use]
    pub fn unmeshed_service(&self) -> SocketAddr {
        unmeshed_service(self.v6)
    }

    /// An address in the mesh's ranges that nobody has.
    #[must_use]
    pub fn nobody(&self) -> SocketAddr {
        cluster_address(self.v6, 99, 99, 80)
    }

    /// An address outside the mesh's ranges, which the pod without a sidecar has.
    #[must_use]
    pub fn foreign(&self) -> IpAddr {
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
        let ip = if self.v6 { v6.into() } else { Ipv4Addr::new(192, 0, 2, 9).into() };
        self.network.add_address(OUTSIDE, ip);
        ip
    }

    /// A port of a pod.
    #[must_use]
    pub fn pod(&self, index: usize, port: u16) -> SocketAddr {
        SocketAddr::new(self.network.pod(index).ip(self.v6), port)
    }

    /// A port of the pod that has no sidecar.
    #[must_use]
    pub fn outsider(&self, port: u16) -> SocketAddr {
        self.pod(OUTSIDE, port)
    }

    /// A port of this family's loopback.
    #[must_use]
    pub fn loopback(&self, port: u16) -> SocketAddr {
        let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        SocketAddr::new(if self.v6 { v6 } else { Ipv4Addr::LOCALHOST.into() }, port)
    }

    /// Runs curl as the application of `web`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn curl(&self, arguments: &[&str]) -> Said {
        curl(self.network.pod(0), arguments).await
    }

    /// Sends bytes to an address from the pod without a sidecar, and returns all that comes back.
    pub async fn outsider_says(&self, address: SocketAddr, bytes: &'static str) -> String {
        self.outside.run(exchange(address, bytes)).await
    }
}

/// Runs curl as an application of this pod.
///
/// # Panics
/// When it cannot be started.
pub async fn curl(pod: &Namespace, arguments: &[&str]) -> Said {
    let mut command = pod.program("curl");
    command.args(["--silent", "--globoff", "--max-time", "15"]).args(arguments);
    for variable in ["http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"] {
        command.env_remove(variable);
    }
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.expect("no panic").expect("curl is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Said { exit: output.status.code().unwrap_or(-1), text }
}

fn service(v6: bool, port: u16) -> SocketAddr {
    cluster_address(v6, 99, 10, port)
}

/// Outside the mesh's ranges.
fn unmeshed_service(v6: bool) -> SocketAddr {
    cluster_address(v6, 98, 10, 80)
}

/// 10.NETWORK.0.HOST, or fdNETWORK::HOST with the same digits.
fn cluster_address(v6: bool, network: u8, host: u8, port: u16) -> SocketAddr {
    let text = if v6 { format!("fd{network}::{host}") } else { format!("10.{network}.0.{host}") };
    SocketAddr::new(text.parse().expect("an address"), port)
}

/// Sends bytes and returns all that comes back until the connection ends, however it does.
async fn exchange(address: SocketAddr, bytes: &'static str) -> String {
    let mut received = Vec::new();
    if let Ok(mut stream) = tokio::net::TcpStream::connect(address).await {
        let _ = stream.write_all(bytes.as_bytes()).await;
        let _ = wait::soon("the end of the connection", stream.read_to_end(&mut received)).await;
    }
    String::from_utf8_lossy(&received).into_owned()
}

impl Member {
    /// Waits until the samples of a metric that have these labels add up to this much, at least.
    pub async fn counts(&self, name: &str, labels: &[&str], at_least: f64) {
        let what = format!("{name} {labels:?} to be {at_least}");
        wait::until_true(&what, || async { self.count(name, labels).await >= at_least }).await;
    }

    /// The sum of the samples of a metric that have these labels.
    pub async fn count(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.pod.run(async { get_once(ADMIN, "/metrics").await.body }).await;
        sum_of(&String::from_utf8_lossy(&text), name, labels)
    }
}

async fn catalog(mesh: &Mesh, network: &Network, index: usize) -> Catalog {
    let servers = network.pod(index).runtime(User::Root);
    let name = if index == 1 { "catalog-1" } else { "catalog-2" };
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let http = servers.run(App::http_at(local(HTTP), move |request| echo(name, request))).await;
    let http2 = servers.run(App::http_at(local(HTTP2), move |request| echo(name, request))).await;
    let greeter = servers.run(App::tcp_at(local(GREETER), greet)).await;
    let spec = SidecarSpec::of("shop/catalog")
        .with(&format!("--instance={index}"))
        .with("--app-probe=none")
        .serves("http", http.address)
        .serves("http2", http2.address)
        .serves("greeter", greeter.address);
    let member = member(mesh, network, index, spec).await;
    Catalog { member, http, _http2: http2, greeter, servers }
}

/// Says hello first, then echoes.
async fn greet(stream: weft_proxy::net::TcpStream) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let _ = writer.write_all(b"hello\n").await;
    let _ = tokio::io::copy(&mut reader, &mut writer).await;
}

/// A sidecar in a pod, behind the rules.
///
/// # Panics
/// When it does not become ready.
pub async fn member(mesh: &Mesh, network: &Network, index: usize, spec: SidecarSpec) -> Member {
    let namespace = network.pod(index);
    let spec = spec
        .with("--interception=transparent")
        .with("--workers=2")
        .with("--discovery-timeout=1s")
        .with("--outbound-listen=[::]:4140")
        .with("--inbound-listen=[::]:4143")
        .with(&format!("--admin-listen={ADMIN}"));
    let config = mesh.sidecar_config(spec).await;
    hand_over(config.token_file.as_deref().expect("a sidecar joins by its token"));
    let pod = namespace.runtime(User::Proxy);
    let sidecar = pod.run(async move { Sidecar::start(config) }).await;
    wait::until_true("the sidecar to be ready", || {
        pod.run(async { get_once(ADMIN, "/ready").await.status == http::StatusCode::OK })
    })
    .await;
    Member { sidecar, pod }
}

/// Gives a file to the user that the sidecar runs as.
fn hand_over(file: &Path) {
    let folder = file.parent().expect("a file lies in a folder");
    let passable = Permissions::from_mode(0o711);
    std::fs::set_permissions(folder, passable).expect("the folder is ours");
    chown(file, Some(User::Proxy.uid()), None).expect("root may do so");
}

fn objects(plaintext: Plaintext) -> String {
    let mode = match plaintext {
        Plaintext::Refused => "strict",
        Plaintext::Served => "permissive",
    };
    format!(
        "
apiVersion: weft.dev/v1alpha1
kind: MeshConfig
metadata: {{name: mesh}}
spec:
  addressRanges: [10.77.0.0/24, 'fd77::/64', 10.99.0.0/16, 'fd99::/64']
---
apiVersion: v1
kind: Service
metadata: {{name: catalog, namespace: shop}}
spec:
  clusterIPs: [10.99.0.10, 'fd99::10']
  ports:
  - {{name: http, port: 80, targetPort: http}}
  - {{name: http2, port: 81, targetPort: http2}}
  - {{name: greeter, port: 6379, targetPort: greeter}}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {{name: catalog, namespace: shop}}
spec:
  service: catalog
  serviceAccount: catalog
  ports:
  - {{name: http, servicePort: 80, mode: {mode}}}
  - {{name: http2, servicePort: 81, mode: {mode}}}
  - {{name: greeter, servicePort: 6379, mode: {mode}}}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {{name: web, namespace: shop}}
spec: {{serviceAccount: web}}
"
    )
}
