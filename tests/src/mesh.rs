//! A whole mesh in one process: a real control plane and real sidecars, on port 0.
//!
//! Everything lies in a temporary folder that goes with the [`Mesh`].

use std::{
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use clap::{Args, FromArgMatches};
use tempfile::TempDir;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Mutex, OwnedMutexGuard},
};
use tonic::transport::{Channel, Endpoint, Uri};
use weft_control_plane::app as control_plane;
use weft_proto::api::{
    ApplyRequest, CreateTokenRequest, ObjectResult, api_client::ApiClient, object_result::Outcome,
};
use weft_proxy::app as proxy;

use crate::{client::get_once, wait};

/// A running mesh.
pub struct Mesh {
    folder: TempDir,
    settings: Vec<String>,
    discovery: SocketAddr,
    /// How the cluster is reached, in a cluster.
    cluster: Option<kube::Config>,
    control_plane: Option<ControlPlane>,
    /// Held for as long as the control plane may run.
    alone: Option<OwnedMutexGuard<()>>,
}

/// The control plane, on a runtime of its own: dropped, it is gone as after kill -9, with every connection.
struct ControlPlane {
    running: control_plane::Running,
    runtime: Option<Runtime>,
}

/// How a sidecar is started.
#[derive(Debug, Clone)]
pub struct SidecarSpec {
    workload: String,
    account: String,
    arguments: Vec<String>,
}

/// A running sidecar; it stops at once when dropped.
#[derive(Debug)]
pub struct Sidecar {
    running: proxy::Running,
}

impl Mesh {
    /// A mesh with these objects (YAML documents).
    pub async fn start(objects: &str) -> Self {
        Self::start_with(objects, &[]).await
    }

    /// A mesh with these objects, whose control plane has these further settings (`--name=value`).
    pub async fn start_with(objects: &str, settings: &[&str]) -> Self {
        Self::start_from(&[("mesh.yaml", objects)], settings).await
    }

    /// A mesh with the objects of these files (name and YAML documents), each of which can be written anew, whose control
    /// plane has these further settings.
    pub async fn start_from(files: &[(&str, &str)], settings: &[&str]) -> Self {
        let mut mesh = Self::without_control_plane(settings);
        for (name, objects) in files {
            mesh.write(name, objects);
        }
        mesh.start_control_plane().await;
        mesh
    }

    /// A mesh on a cluster, whose control plane's own namespace is this one. On a real cluster it waits until it is
    /// the only one.
    pub async fn in_cluster(config: &kube::Config, namespace: &str, settings: &[&str]) -> Self {
        let mut mesh = Self::without_control_plane(settings);
        mesh.alone = alone_in_cluster().await;
        mesh.settings.push(format!("--namespace={namespace}"));
        mesh.cluster = Some(config.clone());
        mesh.start_control_plane().await;
        mesh
    }

    fn without_control_plane(settings: &[&str]) -> Self {
        log();
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("objects")).expect("a fresh folder");
        Self {
            folder,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            discovery: SocketAddr::from(([127, 0, 0, 1], 0)),
            cluster: None,
            control_plane: None,
            alone: None,
        }
    }

    /// Starts the control plane (again), where it was before.
    pub async fn start_control_plane(&mut self) {
        let mut arguments = vec![
            format!("--state={}", self.state().display()),
            format!("--objects={}", self.objects().display()),
            format!("--discovery-listen={}", self.discovery),
            "--settle=2s".to_owned(),
            "--registration-grace=1s".to_owned(),
        ];
        arguments.extend(self.settings.iter().cloned());
        let control_plane = ControlPlane::start(&arguments, self.cluster.as_ref()).await;
        self.discovery = control_plane.running.addresses.discovery;
        self.control_plane = Some(control_plane);
    }

    /// Ends the control plane as kill -9 would: no goodbye, every connection cut.
    pub fn kill_control_plane(&mut self) {
        self.control_plane = None;
    }

    /// Where sidecars connect.
    #[must_use]
    pub const fn discovery(&self) -> SocketAddr {
        self.discovery
    }

    /// Where the admission webhook is served.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn webhook(&self) -> SocketAddr {
        let control_plane = self.control_plane.as_ref().expect("it runs");
        control_plane.running.addresses.webhook.expect("it was asked for")
    }

    /// The folder of the control plane's state.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The folder of the objects' files.
    #[must_use]
    pub fn objects(&self) -> PathBuf {
        self.folder.path().join("objects")
    }

    /// Writes a file of objects, as a person's editor would.
    pub fn write(&self, name: &str, objects: &str) {
        std::fs::write(self.objects().join(name), objects).expect("the folder is writable");
    }

    /// The API's client.
    pub async fn api(&self) -> ApiClient<Channel> {
        let socket = self.control_plane.as_ref().expect("it runs").running.addresses.api.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move {
                let stream = tokio::net::UnixStream::connect(socket).await?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
            }
        });
        let endpoint = Endpoint::from_static("http://weft");
        let channel = endpoint.connect_with_connector(connector).await;
        ApiClient::new(channel.expect("the control plane serves its socket"))
    }

    /// Applies one object through the API.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn apply(&self, object: &serde_json::Value) -> ObjectResult {
        let request = ApplyRequest { objects: vec![object.to_string()], dry_run: false };
        let response = self.api().await.apply(request).await.expect("the API answers").into_inner();
        let result = response.results.into_iter().next().expect("one object, one result");
        assert_ne!(result.outcome(), Outcome::Refused, "{}", result.message);
        result
    }

    /// A join token for a service account, in a file.
    pub async fn token(&self, namespace: &str, account: &str) -> PathBuf {
        let request = CreateTokenRequest {
            namespace: namespace.to_owned(),
            service_account: account.to_owned(),
            ttl_seconds: 600,
            uses: 0,
        };
        let response = self.api().await.create_token(request).await.expect("the API answers");
        let path = self.folder.path().join(format!("token-{}", response.get_ref().id));
        write_secret(&path, &response.get_ref().token);
        path
    }

    /// Starts a sidecar, and waits until it is ready.
    pub async fn sidecar(&self, spec: SidecarSpec) -> Sidecar {
        let sidecar = self.start_sidecar(spec).await;
        sidecar.ready().await;
        sidecar
    }

    /// Starts a sidecar.
    pub async fn start_sidecar(&self, spec: SidecarSpec) -> Sidecar {
        Sidecar::start(self.sidecar_config(spec).await)
    }

    /// A sidecar's settings, with a token for its service account.
    pub async fn sidecar_config(&self, spec: SidecarSpec) -> weft_proxy::config::Config {
        parse(&self.sidecar_arguments(spec).await)
    }

    /// A sidecar's command line, with a token for its service account.
    pub async fn sidecar_arguments(&self, spec: SidecarSpec) -> Vec<String> {
        let (namespace, _) = spec.workload.split_once('/').expect("NAMESPACE/NAME");
        let token = self.token(namespace, &spec.account).await;
        let mut arguments = vec![
            format!("--workload={}", spec.workload),
            format!("--control-plane={}", self.discovery),
            format!("--token-file={}", token.display()),
            "--outbound-listen=127.0.0.1:0".to_owned(),
            "--inbound-listen=127.0.0.1:0".to_owned(),
            "--admin-listen=127.0.0.1:0".to_owned(),
        ];
        // The last one of a setting counts.
        arguments.extend(spec.arguments);
        arguments
    }
}

/// Waits until no other test of this process has a control plane on the cluster: on a real one they would meet, as all
/// write the same ConfigMaps. Each in-memory cluster is a test's own.
async fn alone_in_cluster() -> Option<OwnedMutexGuard<()>> {
    static ALONE: LazyLock<Arc<Mutex<()>>> = LazyLock::new(Arc::default);
    let is_shared = std::env::var_os("KUBECONFIG").is_some_and(|path| !path.is_empty());
    if is_shared { Some(ALONE.clone().lock_owned().await) } else { None }
}

impl ControlPlane {
    async fn start(arguments: &[String], cluster: Option<&kube::Config>) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("threads can be made");
        let running = wait::until("the control plane's port to be free", || async {
            let (config, cluster) = (parse(arguments), cluster.cloned());
            // A client belongs to the runtime on which it was made.
            let starting = runtime.spawn(async move {
                match cluster {
                    None => control_plane::App::start(config).await,
                    Some(cluster) => {
                        let client = kube::Client::try_from(cluster).expect("it is usable");
                        control_plane::App::start_in_cluster(config, client).await
                    }
                }
            });
            starting.await.expect("it does not panic").ok()
        })
        .await;
        Self { running, runtime: Some(runtime) }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl SidecarSpec {
    /// For a workload (`NAMESPACE/NAME`) whose service account is its name.
    #[must_use]
    pub fn of(workload: &str) -> Self {
        let account = workload.split_once('/').map_or(workload, |(_, name)| name);
        Self { workload: workload.to_owned(), account: account.to_owned(), arguments: Vec::new() }
    }

    /// With another service account.
    #[must_use]
    pub fn account(mut self, account: &str) -> Self {
        account.clone_into(&mut self.account);
        self
    }

    /// With an application behind it that serves this port, by this name (empty for the only one).
    #[must_use]
    pub fn serves(self, name: &str, application: SocketAddr) -> Self {
        let port = application.port();
        let name = if name.is_empty() { String::new() } else { format!("{name}=") };
        self.with(&format!("--app-port={name}{port}@{application}"))
    }

    /// With a bound port for a destination.
    #[must_use]
    pub fn upstream(self, destination: &str) -> Self {
        self.with(&format!("--upstream=127.0.0.1:0={destination}"))
    }

    /// With a further setting, `--name=value`.
    #[must_use]
    pub fn with(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }
}

impl Sidecar {
    /// Starts a sidecar with these settings, on this runtime.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(config: weft_proxy::config::Config) -> Self {
        Self { running: proxy::start(config, None).unwrap_or_else(|error| panic!("{error}")) }
    }

    /// Where the application's HTTP proxy is.
    #[must_use]
    pub const fn outbound(&self) -> SocketAddr {
        self.running.addresses.outbound
    }

    /// Where other sidecars connect.
    #[must_use]
    pub const fn inbound(&self) -> SocketAddr {
        self.running.addresses.inbound
    }

    /// The admin port.
    #[must_use]
    pub const fn admin(&self) -> SocketAddr {
        self.running.addresses.admin
    }

    /// The bound port of a destination.
    #[must_use]
    pub fn upstream(&self, destination: &str) -> SocketAddr {
        self.running.addresses.upstreams[destination]
    }

    /// What runs.
    #[must_use]
    pub const fn running(&self) -> &proxy::Running {
        &self.running
    }

    /// Stops it gracefully; whether everything ended by itself.
    pub async fn stop(self) -> bool {
        self.running.stop().await
    }

    /// Waits until its admin port says that it is ready.
    pub async fn ready(&self) {
        wait::until_true("the sidecar to be ready", || async {
            get_once(self.admin(), "/ready").await.status == http::StatusCode::OK
        })
        .await;
    }

    /// Its metrics, as text.
    pub async fn metrics(&self) -> String {
        let answer = get_once(self.admin(), "/metrics").await;
        String::from_utf8_lossy(&answer.body).into_owned()
    }

    /// Waits until the samples of a metric that have these labels add up to this much, at least.
    pub async fn counts(&self, name: &str, labels: &[&str], at_least: f64) {
        let what = format!("{name} {labels:?} to be {at_least}");
        wait::until_true(&what, || async { self.count(name, labels).await >= at_least }).await;
    }

    /// The sum of the samples of a metric that have these labels.
    pub async fn count(&self, name: &str, labels: &[&str]) -> f64 {
        sum_of(&self.metrics().await, name, labels)
    }
}

/// The sum of the samples of a metric that have these labels, in a text of metrics.
#[must_use]
pub fn sum_of(text: &str, name: &str, labels: &[&str]) -> f64 {
    let of_metric = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
    let matching = of_metric.filter(|line| labels.iter().all(|label| line.contains(label)));
    matching.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Settings from flags, as the command line reads them.
///
/// # Panics
/// When they are wrong.
#[must_use]
pub fn parse<T: Args + FromArgMatches>(arguments: &[String]) -> T {
    let command = T::augment_args(clap::Command::new("test").no_binary_name(true));
    let command = command.args_override_self(true);
    let matches = command.try_get_matches_from(arguments).unwrap_or_else(|error| panic!("{error}"));
    T::from_arg_matches(&matches).unwrap_or_else(|error| panic!("{error}"))
}

fn write_secret(path: &Path, secret: &str) {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .expect("a fresh file");
    file.write_all(secret.as_bytes()).expect("the disk has room");
}

/// Logs go to the test's output, under the filter in `WEFT_TEST_LOG`.
fn log() {
    if let Ok(filter) = std::env::var("WEFT_TEST_LOG") {
        let subscriber =
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        // Another test of this process may have done it.
        let _ = subscriber.try_init();
    }
}
