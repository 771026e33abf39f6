//! What the control plane says: one stream, subscriptions on demand, and the live answers that data workers
//! hold.
//!
//! Comes in: destinations from data workers, updates from the control plane's stream. Goes out: live answers.
//! A worker asks the [`Directory`] once for a destination and keeps the [`Subscription`]; a later look at it
//! costs one atomic load. The answer is dropped, at the control plane too, when no worker holds it for a while.
//! Everything but [`Directory::resolve`] runs on the control runtime, and that takes one short lock: a slow
//! control plane never delays a request whose destination is known.

mod backoff;
mod breaking;
mod client;
mod compile;
mod ejections;
pub mod external;
mod finder;
mod holdings;
pub mod probe;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod register;
mod scope;
mod service;
pub mod snapshot;
mod status;
mod table;

pub use breaking::{EndpointBreaker, Rejected, ServiceBreaking, Trial};
pub use client::{Client, Dial, with_keepalive};
pub use ejections::Ejection;
pub use external::External;
pub use finder::Lookup;
pub use register::advertised_address;
pub use snapshot::{
    Destination, Endpoint, EndpointHealth, InboundPort, InboundPorts, MeshScope, OutsideScope,
    Resolution, ServiceState, Transport, TrustBundle,
};
pub use status::{Registration, Status};

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, mpsc, watch};
use weft_proto::{
    WorkloadName,
    discovery::{Interception, Register},
};

use crate::telemetry::Metrics;
pub use probe::AppHealth;
use table::Table;

/// A live answer: the newest value, and word when it changes.
pub type Subscription<T> = watch::Receiver<T>;

/// Who this proxy is towards the control plane.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The workload that this proxy serves.
    pub workload: WorkloadName,
    /// Which instance of it.
    pub instance: String,
    /// Unique for each start of the process.
    pub incarnation: String,
    /// The proxy's build.
    pub version: String,
    /// The zone; empty when unknown.
    pub zone: String,
    /// Where the admin port listens.
    pub admin_address: Option<SocketAddr>,
    /// How traffic reaches the proxy.
    pub interception: Interception,
    /// What is registered, outside Kubernetes; `None` for a workload that serves nothing.
    pub registration: Option<Register>,
    /// How hosts outside the mesh are found.
    pub lookup: Lookup,
}

/// What this proxy knows of the mesh. Shared by all workers; cheap to clone.
#[derive(Debug, Clone)]
pub struct Directory {
    shared: Arc<Shared>,
}

/// What the stream's task writes and everybody else reads.
#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    mesh: watch::Sender<Option<Arc<MeshScope>>>,
    inbound: watch::Sender<Option<Arc<InboundPorts>>>,
    trust: watch::Sender<Option<Arc<TrustBundle>>>,
    status: watch::Sender<Status>,
    app_health: watch::Sender<AppHealth>,
    /// The application may be down: probe it now.
    app_hint: Notify,
    draining: watch::Sender<bool>,
}

impl Shared {
    /// No code panics while it holds the lock; a table is as good after one as before.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Directory {
    /// A directory and the client that fills it, to be spawned on the control runtime. Call this there.
    #[must_use]
    pub fn connect(settings: Settings, dial: Dial, metrics: &Metrics) -> (Self, Client) {
        let (questions, asked) = mpsc::unbounded_channel();
        let directory = Self::new(questions);
        let shared = Arc::clone(&directory.shared);
        let client = Client::new(settings, dial, shared, asked, metrics.discovery());
        (directory, client)
    }

    /// A directory that no control plane fills, with a fixed scope and fixed ports: destinations stand for
    /// what [`Directory::pin`] says.
    #[must_use]
    pub fn fixed(mesh: MeshScope, inbound: InboundPorts) -> Self {
        let directory = Self::new(mpsc::unbounded_channel().0);
        directory.pin_mesh(mesh);
        directory.shared.inbound.send_replace(Some(Arc::new(inbound)));
        directory.shared.status.send_modify(|status| {
            status.mesh = true;
            status.inbound = true;
        });
        directory
    }

    /// Says what a destination in the mesh's scope stands for, for those who hold it and for later ones. For
    /// a directory without a control plane, which would say otherwise.
    pub fn pin(&self, destination: &str, resolution: Resolution) {
        let mut table = self.shared.table();
        drop(table.resolve(destination));
        table.publish(destination, resolution);
    }

    /// Says what could be in the mesh from now on, like [`Directory::pin`].
    pub fn pin_mesh(&self, mesh: MeshScope) {
        let mesh = Arc::new(mesh);
        self.shared.mesh.send_replace(Some(Arc::clone(&mesh)));
        self.shared.table().set_scope(mesh);
    }

    /// Says what this workload serves from now on, like [`Directory::pin`].
    pub fn pin_inbound(&self, inbound: InboundPorts) {
        self.shared.inbound.send_replace(Some(Arc::new(inbound)));
    }

    fn new(questions: mpsc::UnboundedSender<table::Question>) -> Self {
        let shared = Shared {
            table: Mutex::new(Table::new(questions)),
            mesh: watch::Sender::default(),
            inbound: watch::Sender::default(),
            trust: watch::Sender::default(),
            status: watch::Sender::default(),
            app_health: watch::Sender::default(),
            app_hint: Notify::new(),
            draining: watch::Sender::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The eager set. `None` until the control plane's first answer.
    #[must_use]
    pub fn mesh(&self) -> Option<Arc<MeshScope>> {
        self.shared.mesh.borrow().clone()
    }

    /// Whether traffic to where nobody is registered is refused. Costs a short lock: it is asked on the way out of the
    /// mesh only.
    #[must_use]
    pub fn registered_only(&self) -> bool {
        self.shared.mesh.borrow().as_ref().is_some_and(|mesh| mesh.outside.registered_only)
    }

    /// Completes when traffic to where nobody is registered is refused. Cancel-safe.
    pub async fn until_registered_only(&self) {
        let mut mesh = self.shared.mesh.subscribe();
        let refused = |mesh: &Option<Arc<MeshScope>>| {
            mesh.as_ref().is_some_and(|mesh| mesh.outside.registered_only)
        };
        // The sender lives as long as `self`.
        let _ = mesh.wait_for(refused).await;
    }

    /// What this workload serves and how; `None` until the first answer.
    #[must_use]
    pub fn inbound(&self) -> Subscription<Option<Arc<InboundPorts>>> {
        self.shared.inbound.subscribe()
    }

    /// The roots of the trust domain; `None` until the control plane's first answer.
    #[must_use]
    pub fn trust(&self) -> Subscription<Option<Arc<TrustBundle>>> {
        self.shared.trust.subscribe()
    }

    /// What a destination, as the application named it, stands for: `HOST:PORT` in lower case without a
    /// trailing dot, or `IP:PORT` (`[IPv6]:PORT`). Coalesced with equal questions of other workers; answers
    /// are kept while used, negative ones too, within a bound. A service port that a route names
    /// (`NAMESPACE/NAME:PORT`) stands for itself, whatever the mesh's scope.
    ///
    /// The answer is [`Resolution::Pending`] until the control plane has spoken, [`Resolution::Outside`] at
    /// once when the name cannot be in the mesh. Its sender lives as long as the answer is held.
    #[must_use]
    pub fn resolve(&self, destination: &str) -> Subscription<Resolution> {
        self.shared.table().resolve(destination)
    }

    /// Every destination that is held, with its newest answer.
    #[must_use]
    pub fn answers(&self) -> Vec<(Arc<str>, Resolution)> {
        self.shared.table().answers()
    }

    /// How discovery stands: for readiness and `/config`.
    #[must_use]
    pub fn status(&self) -> Subscription<Status> {
        self.shared.status.subscribe()
    }

    /// Whether the application answers its probes.
    #[must_use]
    pub fn app_health(&self) -> Subscription<AppHealth> {
        self.shared.app_health.subscribe()
    }

    /// The application refused a connection: probe it now rather than at the next interval.
    pub fn app_refused(&self) {
        self.shared.app_hint.notify_one();
    }

    /// Takes this workload out of the mesh: others stop sending to it. The stream stays.
    pub fn deregister(&self) {
        self.shared.draining.send_replace(true);
    }
}

#[cfg(test)]
mod tests;
