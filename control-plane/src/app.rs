//! The only place where the control plane's parts are wired.
//!
//! Comes in: the settings. Goes out: a running control plane with its addresses. It is ready when
//! [`App::start`] returns: the objects are read, the ports are open.

mod background;
mod front;
mod ground;
mod listen;
mod reached;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, SystemTime},
};

use kube::Client;
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use weft_proto::{
    JoinToken, discovery::discovery_server::DiscoveryServer,
    identity::identity_server::IdentityServer,
};

use crate::{
    admin::Progress,
    api::{self, ApiListener, ApiService},
    ca::{
        Authority, AuthorityConfig, CaError, IssuedRecord, NewToken, Tokens,
        durable::{self, Vault},
        external::ExternalFiles,
        service::IdentityService,
        serving::Serving,
        tokens,
    },
    clock,
    config::{Config, InitialToken, StoreKind},
    inject::{self, ClusterNamespaces},
    kubernetes::{
        client::{ClientError, connect},
        roots,
        tokens::Reviews,
    },
    metrics::Metrics,
    net::TcpListener,
    push::{
        Pace, Push,
        proxies::Proxies,
        registry::{Registry, RegistryConfig},
        service::DiscoveryService,
    },
    runtime::Parts,
    secure,
    store::{DirStore, Store, StoreError},
};

use front::Front;
use ground::Ground;
use reached::{reached_at, service_name};

/// A silent sidecar is asked for a sign of life after this,
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
/// and given up after this.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A Hello states all that a proxy holds; nothing else is long.
const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;
/// A request for a certificate is short.
const MAX_ISSUE_BYTES: usize = 64 * 1024;
/// Streams that do not end by themselves are cut after this.
const GOODBYE: Duration = Duration::from_secs(2);

/// Why the control plane does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificate authority.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The objects.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The API.
    #[error(transparent)]
    Api(#[from] api::serve::ServeError),
    /// The cluster's API.
    #[error(transparent)]
    Cluster(#[from] ClientError),
    /// A port.
    #[error("cannot listen on {address} ({flag}): {source}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// The flag that says so.
        flag: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// A folder.
    #[error("cannot make the folder {}: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Where a control plane is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// Sidecars connect here.
    pub discovery: SocketAddr,
    /// The API's unix socket.
    pub api: PathBuf,
    /// The admin port, if there is one.
    pub admin: Option<SocketAddr>,
    /// The admission webhook, if there is one.
    pub webhook: Option<SocketAddr>,
}

/// The control plane.
pub struct App;

/// A control plane that runs. Dropping it ends it at once.
pub struct Running {
    /// Where it is reached.
    pub addresses: Addresses,
    stopping: watch::Sender<bool>,
    progress: watch::Sender<Progress>,
    tasks: Tasks,
    streams: TaskTracker,
}

/// What runs. Dropping it ends all of it.
#[derive(Default)]
struct Tasks {
    /// These end by themselves when the control plane stops.
    servers: JoinSet<()>,
    /// These go on for ever.
    loops: JoinSet<()>,
}

impl App {
    /// Starts on the objects of a folder, or of a cluster, as the settings say.
    ///
    /// # Errors
    /// Says what cannot be read, written or bound.
    pub async fn start(config: Config) -> Result<Running, StartError> {
        match config.store {
            StoreKind::Dir => {
                let folder = config.objects_folder();
                ground::make_folders(&config.state, &folder)?;
                let store = Arc::new(DirStore::open(&folder).await?);
                Self::start_on(config, store).await
            }
            StoreKind::Kubernetes => Self::start_in_cluster(config, connect().await?).await,
        }
    }

    /// Starts on the objects of any store.
    ///
    /// # Errors
    /// Says what cannot be read, written or bound.
    pub async fn start_on(config: Config, store: Arc<dyn Store>) -> Result<Running, StartError> {
        make_folder(&config.state)?;
        let mut tasks = Tasks::default();
        let front = Front::open(&config, &mut tasks.servers).await?;
        let ground = Ground::on_machine(&config, store, &mut tasks.loops).await?;
        Self::start_with(config, front, ground, tasks).await
    }

    /// Starts in the cluster of this client.
    ///
    /// # Errors
    /// Says what cannot be read, written or bound.
    pub async fn start_in_cluster(config: Config, client: Client) -> Result<Running, StartError> {
        let mut tasks = Tasks::default();
        let front = Front::open(&config, &mut tasks.servers).await?;
        let ground = Ground::in_cluster(&config, client, &mut tasks.loops).await?;
        Self::start_with(config, front, ground, tasks).await
    }

    async fn start_with(
        config: Config,
        front: Front,
        ground: Ground,
        mut tasks: Tasks,
    ) -> Result<Running, StartError> {
        let Front { metrics, progress, address: admin } = front;
        let Ground { store, catalog, vault, cluster } = ground;
        let (stopping, stop) = watch::channel(false);
        let (authority, tokens) = open_authority(&config, vault).await?;
        let issued = Arc::new(IssuedRecord::default());
        let registry = Arc::new(Registry::new(
            RegistryConfig { grace: config.registration_grace, settle: config.settle },
            catalog.clone(),
            Instant::now(),
        ));
        let proxies = Arc::new(Proxies::default());
        background::keep_statuses(
            store.clone(),
            catalog.clone(),
            proxies.clone(),
            &mut tasks.loops,
        );
        background::reap_registrations(
            registry.clone(),
            config.registration_grace,
            &mut tasks.loops,
        );
        background::rotate_roots(
            authority.clone(),
            proxies.clone(),
            config.root_propagation,
            &mut tasks.loops,
        );
        if let Some(client) = &cluster {
            let keep_roots = roots::keep(client.clone(), authority.clone(), catalog.clone());
            tasks.loops.spawn(keep_roots);
        }

        let wanted = config.discovery_listen;
        let listener = listen::listen(wanted, "--discovery-listen", TcpListener::bind).await?;
        let discovery = local_address(&listener, wanted, "--discovery-listen")?;
        let instance = format!("{}-{:08x}", std::process::id(), fastrand::u32(..));
        let streams = TaskTracker::new();
        let push = Arc::new(Push {
            view: catalog.clone(),
            registry: registry.clone(),
            proxies: proxies.clone(),
            authority: authority.clone(),
            issued: issued.clone(),
            metrics: metrics.clone(),
            pace: Pace::default(),
            max_subscriptions: config.max_subscriptions,
            instance: instance.clone(),
            stopping: stop.clone(),
            next_stream: AtomicU64::new(1),
            tasks: streams.clone(),
        });
        let identity = IdentityService {
            authority: authority.clone(),
            tokens: tokens.clone(),
            issued: issued.clone(),
            pod_tokens: cluster.clone().map(|client| Arc::new(Reviews::new(client)) as _),
            workloads: catalog.clone(),
            metrics: metrics.clone(),
        };
        let serving =
            Serving::new(authority.clone(), &reached_at(&config, cluster.is_some(), discovery))?;
        serve_sidecars(listener, serving, push, identity, stop.clone(), &mut tasks)?;

        let webhook = match cluster {
            Some(client) => {
                let (authority, metrics) = (authority.clone(), metrics.clone());
                serve_webhook(&config, client, authority, metrics, stop.clone(), &mut tasks).await?
            }
            None => None,
        };
        let parts = Parts {
            catalog,
            authority,
            tokens,
            issued,
            proxies,
            registry,
            instance,
            discovery_address: discovery.to_string(),
        };
        let api = config.api_socket();
        serve_api(&api, ApiService::new(store, Arc::new(parts)), stop, &mut tasks).await?;
        progress.send_replace(Progress::Ready);
        let addresses = Addresses { discovery, api, admin, webhook };
        Ok(Running { addresses, stopping, progress, tasks, streams })
    }
}

impl Running {
    /// Resolves when a part has ended that should not: the control plane cannot go on. Cancel-safe.
    pub async fn failed(&mut self) {
        tokio::select! {
            _ = self.tasks.servers.join_next() => {}
            _ = self.tasks.loops.join_next() => {}
        }
    }

    /// Says goodbye to every sidecar, closes the ports, and ends within a few seconds.
    pub async fn shutdown(mut self) {
        self.stopping.send_replace(true);
        self.progress.send_replace(Progress::Stopping);
        self.tasks.loops.shutdown().await;
        self.streams.close();
        let servers_end = async {
            self.streams.wait().await;
            while self.tasks.servers.join_next().await.is_some() {}
        };
        if tokio::time::timeout(GOODBYE, servers_end).await.is_err() {
            tracing::warn!("connections that did not end in time are cut");
        }
        self.tasks.servers.shutdown().await;
    }
}

async fn open_authority(
    config: &Config,
    vault: Arc<dyn Vault>,
) -> Result<(Arc<Authority>, Arc<Tokens>), CaError> {
    // The time is taken here: a simulation has none on the disk's threads.
    let (config, now) = (config.clone(), clock::now());
    let open = move || {
        let external = config.ca_chain.clone().zip(config.ca_key.clone());
        let settings = AuthorityConfig {
            trust_domain: config.trust_domain.clone(),
            svid_ttl: config.svid_ttl,
            root_lifetime: config.root_lifetime,
            propagation: config.root_propagation,
            external: external.map(|(chain, key)| ExternalFiles { chain, key }),
        };
        let authority = Authority::open_in(vault.clone(), settings, now)?;
        let tokens = Tokens::open_in(vault, config.trust_domain.clone())?;
        for wanted in &config.initial_tokens {
            write_initial_token(wanted, &authority, &tokens, now)?;
        }
        Ok((Arc::new(authority), Arc::new(tokens)))
    };
    match tokio::task::spawn_blocking(open).await {
        Ok(opened) => opened,
        Err(_) => Err(CaError::State("opening the certificate authority was interrupted".into())),
    }
}

/// Writes a token to its file, unless one lies there that is good still.
fn write_initial_token(
    wanted: &InitialToken,
    authority: &Authority,
    tokens: &Tokens,
    now: SystemTime,
) -> Result<(), CaError> {
    let present = std::fs::read_to_string(&wanted.file).ok().and_then(|text| text.parse().ok());
    let good = present.is_some_and(|token: JoinToken| {
        token.root_sha256 == authority.pin()
            && tokens.check(&token, now).is_ok_and(|status| {
                status.namespace == wanted.namespace
                    && status.service_account == wanted.service_account
                    && status.expires_at > now + tokens::DEFAULT_TTL / 2
            })
    });
    if good {
        return Ok(());
    }
    let new = NewToken {
        namespace: wanted.namespace.clone(),
        service_account: wanted.service_account.clone(),
        ttl: tokens::DEFAULT_TTL,
        uses: None,
    };
    let (token, _) = tokens.create(new, authority.pin(), now)?;
    durable::write_bytes(&wanted.file, format!("{token}\n").as_bytes())
}

fn serve_sidecars(
    listener: TcpListener,
    serving: Serving,
    push: Arc<Push>,
    identity: IdentityService,
    mut stop: watch::Receiver<bool>,
    tasks: &mut Tasks,
) -> Result<(), CaError> {
    let incoming = secure::accept(listener, serving.tls_config()?, &mut tasks.servers);
    tasks.loops.spawn(serving.keep_current());
    let discovery = DiscoveryServer::new(DiscoveryService { push })
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let identity = IdentityServer::new(identity).max_decoding_message_size(MAX_ISSUE_BYTES);
    let served = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_AFTER))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(discovery)
        .add_service(identity)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), async move {
            // The sender goes only with the control plane itself.
            let _ = stop.wait_for(|stopping| *stopping).await;
        });
    tasks.servers.spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "discovery is no longer served");
        }
    });
    Ok(())
}

async fn serve_api(
    socket: &Path,
    service: ApiService,
    mut stop: watch::Receiver<bool>,
    tasks: &mut Tasks,
) -> Result<(), StartError> {
    if let Some(folder) = socket.parent() {
        make_folder(folder)?;
    }
    let listener = ApiListener::unix(socket).await?;
    tasks.servers.spawn(async move {
        let stopped = async move {
            let _ = stop.wait_for(|stopping| *stopping).await;
        };
        if let Err(error) = api::serve(service, listener, stopped).await {
            tracing::error!(%error, "the API is no longer served");
        }
    });
    Ok(())
}

/// Serves the webhook, and keeps the API server's trust in it.
async fn serve_webhook(
    config: &Config,
    client: Client,
    authority: Arc<Authority>,
    metrics: Arc<Metrics>,
    stop: watch::Receiver<bool>,
    tasks: &mut Tasks,
) -> Result<Option<SocketAddr>, StartError> {
    let Some(wanted) = config.webhook_listen else { return Ok(None) };
    let listener = listen::listen(wanted, "--webhook-listen", TcpListener::bind).await?;
    let address = local_address(&listener, wanted, "--webhook-listen")?;
    let default = inject::Settings::default();
    let settings = inject::Settings {
        proxy_image: config.proxy_image.clone().unwrap_or(default.proxy_image),
        control_plane: format!("{}:4480", service_name(config)),
        system_namespace: config.namespace.clone(),
    };
    tasks.loops.spawn(inject::keep_ca_bundle(client.clone(), authority.clone()));
    let namespaces = Arc::new(ClusterNamespaces::new(client));
    tasks.servers.spawn(async move {
        let served = inject::serve(listener, authority, settings, namespaces, metrics, stop);
        if let Err(error) = served.await {
            tracing::error!(%error, "the webhook is no longer served");
        }
    });
    Ok(Some(address))
}

fn local_address(
    listener: &TcpListener,
    wanted: SocketAddr,
    flag: &'static str,
) -> Result<SocketAddr, StartError> {
    let failed = |source| StartError::Listen { address: wanted, flag, source };
    listener.local_addr().map_err(failed)
}

/// Makes a folder for its owner alone; one that exists stays as it is.
fn make_folder(path: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt as _;
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StartError::Folder { path: path.to_owned(), source })
}
