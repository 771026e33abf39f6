//! The only place where the proxy's parts are wired.
//!
//! Comes in: a checked [`Config`]. Goes out: a [`Running`] proxy, whose data workers and whose control tasks
//! (identity, discovery, admin) live on separate runtimes, so that a slow control plane never delays a
//! request. [`start`] is called on the control runtime; in a process of its own, `main.rs` makes one.

mod listeners;
mod work;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    admin::{self, Admin},
    clock,
    config::Config,
    discovery::{self, Directory, Lookup, Settings, TrustBundle, probe},
    dns::Resolver,
    drain::{self, DrainTrigger},
    identity::{
        ConnectError, ControlPlane, GrpcIssuer, Identity, Keeper, ServiceAccount, TokenSource,
    },
    kubelet::Prober,
    net::Binding,
    pool::Itself,
    shared::Process,
    telemetry::{Telemetry, Tracer, logging::LogHandle, traces::TracesError},
    tls::MutualTls,
    worker::Workers,
};
use listeners::Listeners;

/// How long the end waits for the last spans to leave.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Why a proxy could not be started; names what was being done.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listening address cannot be bound.
    #[error("cannot listen on {address} for {purpose}: {error}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What for.
        purpose: &'static str,
        /// The system's answer.
        error: io::Error,
    },
    /// The control plane's address is not usable.
    #[error(transparent)]
    ControlPlane(#[from] ConnectError),
    /// The address that others dial is not known.
    #[error(
        "cannot find this machine's address towards the control plane: {0}; say how others dial \
         this proxy's inbound port: WEFT_INBOUND_ADVERTISE=IP:PORT"
    )]
    Advertise(io::Error),
    /// The collector's address is not usable.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// The file that reports the ports cannot be written.
    #[error("cannot write the ports to {path} (WEFT_PORTS_FILE): {error}")]
    Ports {
        /// As configured.
        path: String,
        /// The system's answer.
        error: io::Error,
    },
    /// A worker's thread cannot be made.
    #[error("cannot start the data workers: {0}")]
    Workers(io::Error),
}

/// Where a proxy listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// The local application's traffic to others.
    pub outbound: SocketAddr,
    /// Others' traffic to the local application.
    pub inbound: SocketAddr,
    /// The admin port.
    pub admin: SocketAddr,
    /// Bound upstream ports, by destination.
    pub upstreams: std::collections::BTreeMap<String, SocketAddr>,
}

/// A running proxy. Dropping it stops it at once; [`Running::stop`] does so gracefully.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub addresses: Addresses,
    /// What it knows of the mesh.
    pub directory: Directory,
    /// Who it is.
    pub identity: Identity,
    /// What it reports to.
    pub telemetry: Telemetry,
    drain: Arc<DrainTrigger>,
    workers: Workers,
    cut_off: Arc<AtomicUsize>,
    drain_timeout: Duration,
    _control: JoinSet<()>,
}

/// Starts a proxy. Returns when every port is bound; readiness comes later, when the control plane has
/// answered. `log` lets the admin port change the level, where this process has set up logging by itself.
///
/// # Errors
/// A port cannot be bound, or the control plane's address is malformed.
pub fn start(config: Config, log: Option<LogHandle>) -> Result<Running, StartError> {
    let config = Arc::new(config);
    let mut telemetry = Telemetry::new(&config.telemetry);
    let resolver = Resolver::from_system();
    let (tracer, exporting) = Tracer::new(&config, &telemetry.metrics, &resolver)?;
    telemetry.tracer = tracer;
    let (drain, drained) = drain::channel();
    let drain = Arc::new(drain);

    let (data, admin_listener) = Listeners::bind(&config)?;
    let addresses = data.addresses(admin_listener.address());

    let identity = Identity::default();
    telemetry.metrics.follow_identity(identity.clone());
    let control_plane = ControlPlane::new(&config.control_plane, identity.clone())?;
    let own_ports = data.own_ports(admin_listener.address());
    let settings = settings(&config, &addresses)?;
    let (directory, discovery) = Directory::connect(
        Settings { lookup: Lookup { own_ports: own_ports.clone(), ..settings.lookup }, ..settings },
        dial(&control_plane),
        &telemetry.metrics,
    );

    let cut_off = Arc::<AtomicUsize>::default();
    let process = Process {
        mutual_tls: MutualTls::new(identity.clone(), config.timeouts.tls, telemetry.metrics.tls())
            .under(config.tls),
        resolver: resolver.clone(),
        connections: Arc::default(),
        cut_off: cut_off.clone(),
        own_ports,
        itself: Itself::new(&config.pod.ips.0, addresses.inbound.port()),
        config: config.clone(),
        directory: directory.clone(),
        telemetry: telemetry.clone(),
        drain: drained,
    };
    let workers = Workers::start(config.workers, move |worker| {
        work::run(process.clone(), data.of_worker(worker.index))
    })
    .map_err(StartError::Workers)?;

    let mut control = JoinSet::new();
    if let Some(exporting) = exporting {
        control.spawn(exporting.run());
    }
    let issuer = GrpcIssuer::new(control_plane, config.workload.clone());
    control.spawn(Keeper::new(identity.clone(), issuer, token_source(&config)).run());
    control.spawn(discover(identity.clone(), discovery));
    control.spawn(follow_roots(identity.clone(), directory.clone()));
    control.spawn(probe::run(
        directory.clone(),
        config.app_probe.clone(),
        config.app_ports.clone(),
    ));
    let admin = Admin {
        prober: Prober::new(&config, resolver),
        config: config.clone(),
        directory: directory.clone(),
        identity: identity.clone(),
        metrics: telemetry.metrics.clone(),
        access: telemetry.access.clone(),
        log,
        drain: drain.clone(),
    };
    control.spawn(serve_admin(admin_listener, admin));

    report_ports(&config, &addresses)?;
    tracing::info!(workload = %config.workload, instance = %config.instance, outbound = %addresses.outbound, inbound = %addresses.inbound, admin = %addresses.admin, "listening");
    let drain_timeout = config.timeouts.drain;
    Ok(Running {
        addresses,
        directory,
        identity,
        telemetry,
        drain,
        workers,
        cut_off,
        drain_timeout,
        _control: control,
    })
}

/// Opens the stream to the control plane as soon as there is a certificate to show.
async fn discover(identity: Identity, discovery: discovery::Client) {
    let mut credentials = identity.watch();
    if credentials.wait_for(Option::is_some).await.is_ok() {
        discovery.run().await;
    }
}

/// Puts each set of roots that discovery pushes into force.
async fn follow_roots(identity: Identity, directory: Directory) {
    let mut trust = directory.trust();
    while trust.changed().await.is_ok() {
        let bundle: Option<Arc<TrustBundle>> = trust.borrow_and_update().clone();
        let Some(bundle) = bundle else { continue };
        if let Err(error) = identity.set_bundle(bundle.roots.clone()) {
            tracing::error!(%error, "the pushed roots cannot be used; those before stay in force");
        }
    }
}

async fn serve_admin(listener: Binding, admin: Admin) {
    let served = match listener.listen().await {
        Ok(listener) => admin::serve(listener, admin).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::error!(%error, "the admin port has failed");
    }
}

/// A new channel for every stream.
fn dial(control_plane: &ControlPlane) -> discovery::Dial {
    let control_plane = control_plane.clone();
    Arc::new(move || control_plane.channel())
}

fn token_source(config: &Config) -> Option<TokenSource> {
    if let (Some(token), Some(roots)) =
        (&config.pod.service_account_token_file, &config.pod.roots_file)
    {
        let (token, roots) = (token.clone(), roots.clone());
        return Some(TokenSource::ServiceAccount(ServiceAccount { token, roots }));
    }
    let file = config.token_file.clone().map(TokenSource::File);
    file.or_else(|| config.token_fd.map(TokenSource::Descriptor))
}

impl Running {
    /// Ready when the proxy was told to stop by its admin port, or a worker has ended by itself, which is a
    /// defect. Cancel-safe.
    pub async fn ended(&mut self) {
        let asked = self.drain.drain();
        tokio::select! {
            () = asked.started() => {}
            () = self.workers.ended() => {}
        }
    }

    /// Gives the order to drain: readiness falls, the registration is withdrawn, connections are told to end.
    pub fn drain(&self) {
        self.directory.deregister();
        self.drain.start();
    }

    /// Stops gracefully: drains, waits for open requests and connections up to the drain timeout, ends the
    /// rest. Says whether all ended by themselves.
    pub async fn stop(self) -> bool {
        self.drain();
        let began = clock::now();
        let ended = self.workers.finish(self.drain_timeout + work::LINGER).await;
        let finished = ended && self.cut_off.load(Ordering::Relaxed) == 0;
        // A collector that does not take the last spans delays the end no further.
        let _ = clock::timeout(LAST_SPANS, self.telemetry.tracer.flush()).await;
        tracing::info!(finished, took = ?clock::now().saturating_duration_since(began), "drained");
        finished
    }
}

/// Who this proxy is towards the control plane.
fn settings(config: &Config, addresses: &Addresses) -> Result<discovery::Settings, StartError> {
    let inbound = if config.app_ports.is_empty() {
        addresses.inbound
    } else {
        let advertised = discovery::advertised_address(config, addresses.inbound);
        advertised.map_err(StartError::Advertise)?
    };
    Ok(discovery::Settings::new(config, inbound, Some(addresses.admin)))
}

/// Tells a parent process where this proxy listens: one JSON object, there when it is whole.
fn report_ports(config: &Config, addresses: &Addresses) -> Result<(), StartError> {
    let Some(path) = &config.ports_file else { return Ok(()) };
    let failed = |error| StartError::Ports { path: path.display().to_string(), error };
    let text = serde_json::to_vec(addresses).map_err(|error| failed(error.into()))?;
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, text).map_err(failed)?;
    std::fs::rename(&unfinished, path).map_err(failed)
}
