//! The stage: pods whose traffic is redirected by the rules that users load, and one outside the mesh.
//!
//! | pod | runs |
//! |---|---|
//! | 0 | `web`: a sidecar, and an application that calls others |
//! | 1, 2 | `catalog`: a sidecar each, and applications that listen on loopback alone |
//! | 3 | the control plane, and whatever has no sidecar |

use std::{
    fs::Permissions,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_tests::{
    apps::{App, Http},
    client::get_once,
    mesh::{Mesh, Sidecar, SidecarSpec},
    namespace::{self, Namespace, Network, Pod, User},
    wait,
};

/// The rules, as users load them.
const RULES: &str = include_str!("../../../deploy/vm/transparent.nft");

const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4191);

/// Where the control plane and the outsiders are.
const OUTSIDE: usize = 3;

/// Everything that runs, in the order in which it must go.
pub(crate) struct Stage {
    pub(crate) web: Member,
    pub(crate) catalogs: [Catalog; 2],
    pub(crate) mesh: Mesh,
    /// The runtime of the pod that has no sidecar.
    pub(crate) outside: Pod,
    pub(crate) network: Network,
    v6: bool,
}

/// A sidecar, and the runtime that it lives on.
pub(crate) struct Member {
    pub(crate) sidecar: Sidecar,
    pod: Pod,
}

/// An instance of `catalog`.
pub(crate) struct Catalog {
    pub(crate) member: Member,
    /// Echoes, by HTTP/1.
    pub(crate) http: App,
    /// Echoes, by HTTP/2.
    _http2: App,
    /// Speaks first, then echoes bytes.
    pub(crate) greeter: App,
    /// The runtime of its applications.
    pub(crate) servers: Pod,
}

/// How a catalog's ports take plaintext.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Plaintext {
    Refused,
    Served,
}

/// What a program said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) exit: i32,
    pub(crate) text: String,
}

/// The families to play in: none where namespaces cannot be made.
pub(crate) fn families(test: &str) -> Vec<bool> {
    if namespace::available(test) { vec![false, true] } else { Vec::new() }
}

impl Stage {
    /// With every connection between the pods in this family.
    pub(crate) async fn start(v6: bool) -> Self {
        let network = Network::new(4);
        let outside = network.pod(OUTSIDE).runtime(User::Root);
        let control_plane = SocketAddr::new(network.pod(OUTSIDE).ip(v6), 0);
        let mesh = outside.run(async move {
            let listen = format!("--discovery-listen={control_plane}");
            Mesh::start_with(&objects(Plaintext::Refused), &[&listen]).await
        });
        let mesh = mesh.await;
        let catalogs = [catalog(&mesh, &network, 1).await, catalog(&mesh, &network, 2).await];
        let web = member(&mesh, &network, 0, SidecarSpec::of("shop/web")).await;
        Self { web, catalogs, mesh, outside, network, v6 }
    }

    /// Says how the catalogs take plaintext from now on.
    pub(crate) fn set_plaintext(&self, plaintext: Plaintext) {
        self.mesh.write("mesh.yaml", &objects(plaintext));
    }

    /// A port of the service at its cluster address.
    pub(crate) fn service(&self, port: u16) -> SocketAddr {
        self.nobodys_or_services(0x10, 10, port)
    }

    /// An address in the mesh's ranges that nobody has.
    pub(crate) fn nobody(&self) -> SocketAddr {
        self.nobodys_or_services(0x99, 99, 80)
    }

    fn nobodys_or_services(&self, v6: u16, v4: u8, port: u16) -> SocketAddr {
        let v6 = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, v6);
        let ip = if self.v6 { v6.into() } else { Ipv4Addr::new(10, 99, 0, v4).into() };
        SocketAddr::new(ip, port)
    }

    /// An address outside the mesh's ranges, which the pod without a sidecar has.
    pub(crate) fn foreign(&self) -> IpAddr {
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
        let ip = if self.v6 { v6.into() } else { Ipv4Addr::new(192, 0, 2, 9).into() };
        self.network.pod(OUTSIDE).add_address(ip);
        ip
    }

    /// A port of a pod.
    pub(crate) fn pod(&self, index: usize, port: u16) -> SocketAddr {
        SocketAddr::new(self.network.pod(index).ip(self.v6), port)
    }

    /// A port of the pod that has no sidecar.
    pub(crate) fn outsider(&self, port: u16) -> SocketAddr {
        self.pod(OUTSIDE, port)
    }

    /// A port of this family's loopback.
    pub(crate) fn loopback(&self, port: u16) -> SocketAddr {
        let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        SocketAddr::new(if self.v6 { v6 } else { Ipv4Addr::LOCALHOST.into() }, port)
    }

    /// Runs curl as the application of `web`.
    pub(crate) async fn curl(&self, arguments: &[&str]) -> Said {
        curl(self.network.pod(0), arguments).await
    }

    /// Sends bytes to an address from the pod without a sidecar, and returns all that comes back.
    pub(crate) async fn outsider_says(&self, address: SocketAddr, bytes: &'static str) -> String {
        self.outside.run(exchange(address, bytes)).await
    }
}

/// Runs curl as an application of this pod.
pub(crate) async fn curl(pod: &Namespace, arguments: &[&str]) -> Said {
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
    pub(crate) async fn counts(&self, name: &str, labels: &[&str], at_least: f64) {
        let what = format!("{name} {labels:?} to be {at_least}");
        wait::until_true(&what, || async { self.count(name, labels).await >= at_least }).await;
    }

    /// The sum of the samples of a metric that have these labels.
    pub(crate) async fn count(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.pod.run(async { get_once(ADMIN, "/metrics").await.body }).await;
        let text = String::from_utf8_lossy(&text).into_owned();
        let of_metric = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
        let matching = of_metric.filter(|line| labels.iter().all(|label| line.contains(label)));
        matching.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

async fn catalog(mesh: &Mesh, network: &Network, index: usize) -> Catalog {
    let servers = network.pod(index).runtime(User::Root);
    let name = if index == 1 { "catalog-1" } else { "catalog-2" };
    let http = servers.run(App::echo(Http::One, name)).await;
    let http2 = servers.run(App::echo(Http::Two, name)).await;
    let greeter = servers.run(greeter()).await;
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
async fn greeter() -> App {
    App::tcp(|mut stream| async move {
        let _ = stream.write_all(b"hello\n").await;
        let (mut reader, mut writer) = stream.split();
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    })
    .await
}

/// A sidecar in a pod, behind the rules.
pub(crate) async fn member(
    mesh: &Mesh,
    network: &Network,
    index: usize,
    spec: SidecarSpec,
) -> Member {
    let namespace = network.pod(index);
    namespace.nft(RULES);
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
