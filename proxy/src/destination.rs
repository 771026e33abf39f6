//! Where a request or a connection goes: from the name that the application used to a worker's live view of
//! the service.
//!
//! Comes in: `HOST:PORT` or `IP:PORT`. Goes out: a [`Service`], or the word that it lies outside the mesh.
//! Each worker keeps its own table, so that a look-up takes no lock; behind it stands one subscription of
//! the [`Directory`], shared by all workers.

pub mod authority;
mod chosen;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

pub use chosen::Chosen;

use crate::{
    balance::{EndpointSet, Member, endpoints::MakePool},
    clock::{self, Instant},
    config::{PoolSettings, Timeouts},
    discovery::{Destination, Directory, Endpoint, Resolution, Subscription},
    error::ProxyError,
    pool::{Dialer, EndpointPool, Siblings},
    reason::Reason,
    route::Backend,
    tasks::Tasks,
    telemetry::{BackendMetrics, Direction, Metrics, TrafficMetrics},
    undeclared::Learned,
};

/// A destination that nobody holds, and nobody used for this long, is forgotten, with its connections and its
/// subscription.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// That requests are answered is not noted again so soon.
const KNOWN_FOR: Duration = Duration::from_secs(1);

/// What a name stands for.
#[derive(Debug, Clone)]
pub enum Found {
    /// A service, or one workload of it; also one whose endpoints are registered hosts outside.
    Mesh(Rc<Service>),
    /// Nobody's.
    Outside,
}

/// One worker's live view of one destination.
pub struct Service {
    /// The name that it was found under; the label where it was not.
    pub name: Box<str>,
    /// What telemetry calls it.
    pub label: Arc<str>,
    /// Its counters.
    pub metrics: Arc<TrafficMetrics>,
    /// What its connections turned out to be.
    learned: Cell<Learned>,
    subscription: RefCell<Option<Subscription<Resolution>>>,
    endpoints: RefCell<Rc<EndpointSet>>,
    make_pool: Box<MakePool>,
    random: RefCell<fastrand::Rng>,
    last_used: Cell<Instant>,
    valid_until: Cell<Option<Instant>>,
    side: Side,
    /// For a destination outside: where it is said whether traffic may go there.
    border: Option<Directory>,
    /// The name has come to stand for something of the other side.
    has_left: Cell<bool>,
}

/// On which side of the mesh's border a destination was when it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Mesh,
    Outside,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("label", &self.label).finish_non_exhaustive()
    }
}

impl Service {
    /// The endpoints now: a request takes this once, and again after it has waited. Costs an atomic load when nothing
    /// changed.
    #[must_use]
    pub fn snapshot(&self) -> Rc<EndpointSet> {
        if let Some(subscription) = &mut *self.subscription.borrow_mut()
            && subscription.has_changed().unwrap_or(false)
        {
            let resolution = subscription.borrow_and_update().clone();
            let is_outside = matches!(resolution, Resolution::Outside);
            self.has_left.set(is_outside != (self.side == Side::Outside));
            if self.side == Side::Mesh
                && let Some(destination) = mesh_destination(resolution, &self.label)
            {
                let next = EndpointSet::new(destination, Some(&self.endpoints.borrow()));
                *self.endpoints.borrow_mut() = Rc::new(next);
            }
        }
        self.endpoints.borrow().clone()
    }

    /// Notes that a request which came here was answered by an application: HTTP is spoken. Opaque bytes that have rules of
    /// their own may lead to other servers, of which that says nothing.
    pub fn learn_http(&self) {
        let (learned, now) = (self.learned.get(), clock::now());
        let is_known = matches!(learned, Learned::Http(answered) if now - answered < KNOWN_FOR);
        if !is_known && !self.routes_opaque_bytes() {
            self.learned.set(learned.answered_request(now));
        }
    }

    /// What its connections turned out to be, as far as that still says something.
    #[must_use]
    pub fn what_is_learned(&self) -> &Cell<Learned> {
        if matches!(self.learned.get(), Learned::Http(_)) && self.routes_opaque_bytes() {
            self.learned.set(Learned::ClientFirst);
        }
        &self.learned
    }

    fn routes_opaque_bytes(&self) -> bool {
        let snapshot = self.snapshot();
        snapshot.destination.routes.as_ref().is_some_and(|routes| !routes.opaque.is_empty())
    }

    /// Whether the name has left the mesh since, or joined it, or lies outside where traffic may no longer go: then this
    /// view leads where it no longer stands for, and is to be found anew. Costs what [`Service::snapshot`] does.
    #[must_use]
    pub fn has_left(&self) -> bool {
        drop(self.snapshot());
        self.has_left.get() || self.border.as_ref().is_some_and(Directory::registered_only)
    }

    /// Whether nobody registers it: it lies outside the mesh, and is reached as it is.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        self.side == Side::Outside
    }

    /// Completes when the name stands for a service no longer, registered or not. Cancel-safe.
    pub async fn ceased(&self) {
        let subscription = self.subscription.borrow().clone();
        let Some(mut subscription) = subscription else { return std::future::pending().await };
        let gone = |found: &Resolution| matches!(found, Resolution::Outside | Resolution::NotFound);
        // Its sender lives as long as the answer is held.
        let _ = subscription.wait_for(gone).await;
    }

    /// Chooses an endpoint of a snapshot for an attempt. `key` is what ties the request to one (see
    /// [`crate::balance::Affinity`]).
    #[must_use]
    pub fn pick(
        &self,
        snapshot: &EndpointSet,
        tried: &[Rc<Member>],
        key: Option<u64>,
    ) -> Option<Rc<Member>> {
        snapshot.pick(tried, key, &mut self.random.borrow_mut(), &*self.make_pool)
    }

    /// Why none can be chosen of a snapshot without endpoints.
    #[must_use]
    pub fn without_endpoints(&self, snapshot: &EndpointSet) -> ProxyError {
        let label = &self.label;
        if let Some(external) = &snapshot.destination.external {
            let hosts = external.names(&self.name).join(", ");
            let detail = match &*hosts {
                "" => format!("{label} has wildcards only: say which host"),
                hosts => format!("DNS has no address for {hosts} (of {label})"),
            };
            return ProxyError::new(Reason::DestinationUnresolved, detail);
        }
        ProxyError::new(Reason::NoEndpoints, format!("{label} has no ready endpoint"))
    }

    /// Lets something be drawn by this worker's randomness.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.random.borrow_mut())
    }

    /// Notes a use, so that the destination is not forgotten.
    pub fn touch(&self, now: Instant) {
        self.last_used.set(now);
    }

    /// Gives up idle connections, by what discovery says now.
    pub fn sweep_connections(&self) {
        let now = clock::now();
        for member in self.snapshot().members() {
            member.pool.sweep(now);
        }
    }

    /// Whether its DNS answer, if it has one, is not too old.
    #[must_use]
    pub fn is_valid(&self, now: Instant) -> bool {
        self.valid_until.get().is_none_or(|valid_until| now < valid_until)
    }

    /// Gives up idle connections. Returns whether the service is in use.
    fn sweep(&self, now: Instant) -> bool {
        let busy = self.endpoints.borrow().members().any(|member| member.in_flight() > 0);
        self.sweep_connections();
        busy || now.saturating_duration_since(self.last_used.get()) < FORGET_AFTER
    }
}

/// Drops the services that nobody uses, and the idle connections of the others.
pub fn forget_unused<K>(table: &mut HashMap<K, Rc<Service>>) {
    let now = clock::now();
    // Connections remember their service, and come back to it without asking the table.
    table.retain(|_, service| service.sweep(now) || Rc::strong_count(service) > 1);
}

/// The destination of a resolution that belongs to the mesh. A name that stopped existing has no endpoints.
fn mesh_destination(resolution: Resolution, label: &Arc<str>) -> Option<Arc<Destination>> {
    match resolution {
        Resolution::Mesh(destination) => Some(destination),
        Resolution::NotFound | Resolution::Outside => {
            Some(Arc::new(Destination::empty(label.clone())))
        }
        Resolution::Pending => None,
    }
}

/// How a service is known to discovery.
struct View<'a> {
    name: &'a str,
    subscription: Option<Subscription<Resolution>>,
    side: Side,
}

/// A worker's destinations by the name that applications used.
#[derive(Debug)]
pub struct Destinations {
    directory: Directory,
    dialer: Rc<Dialer>,
    metrics: Metrics,
    pool: PoolSettings,
    discovery_timeout: Duration,
    tasks: Tasks,
    table: RefCell<HashMap<Box<str>, Rc<Service>>>,
    /// Views of destinations outside, apart from the mesh's: discovery is asked first, each time, so that a
    /// name that joins the mesh is not reached in plain any longer.
    outside: RefCell<HashMap<Box<str>, Rc<Service>>>,
}

impl Destinations {
    /// An empty table.
    #[must_use]
    pub fn new(
        directory: Directory,
        dialer: Rc<Dialer>,
        metrics: Metrics,
        pool: PoolSettings,
        timeouts: &Timeouts,
        tasks: Tasks,
    ) -> Self {
        let discovery_timeout = timeouts.discovery;
        Self {
            directory,
            dialer,
            metrics,
            pool,
            discovery_timeout,
            tasks,
            table: RefCell::default(),
            outside: RefCell::default(),
        }
    }

    /// What `name` (`HOST:PORT` or `IP:PORT`, lower case) stands for. The first use of a name waits for the
    /// control plane's answer up to a bound; it never falls back to plaintext.
    ///
    /// # Errors
    /// `destination-unknown` when the mesh says that nobody has the name, `discovery-unavailable` when it did
    /// not say in time.
    pub async fn find(&self, name: &str) -> Result<Found, ProxyError> {
        let now = clock::now();
        let held = self.table.borrow().get(name).cloned();
        if let Some(service) = held {
            if !service.has_left() {
                service.touch(now);
                return Ok(Found::Mesh(service));
            }
            self.table.borrow_mut().remove(name);
        }
        let mut subscription = self.directory.resolve(name);
        let answer = subscription.wait_for(|resolution| !matches!(resolution, Resolution::Pending));
        let resolution = match clock::timeout(self.discovery_timeout, answer).await {
            Ok(Ok(resolution)) => resolution.clone(),
            Ok(Err(_)) | Err(_) => return Err(self.unanswered(name)),
        };
        match resolution {
            Resolution::Mesh(destination) => {
                let view = View { name, subscription: Some(subscription), side: Side::Mesh };
                let service = self.service(destination, view, Direction::Outbound);
                let mut table = self.table.borrow_mut();
                // Another task may have been faster: then its view is kept.
                Ok(Found::Mesh(table.entry(name.into()).or_insert(service).clone()))
            }
            Resolution::Outside => Ok(Found::Outside),
            Resolution::NotFound | Resolution::Pending => {
                let detail = format!("no service or workload of the mesh is called {name}");
                Err(ProxyError::new(Reason::DestinationUnknown, detail))
            }
        }
    }

    /// The service that a route of `parent` names as its backend. The first use waits like [`Destinations::find`] does;
    /// a route that leads to its own service makes no second view.
    ///
    /// # Errors
    /// `backend-invalid` when there is no such service, `discovery-unavailable` when the control plane did not say in
    /// time.
    pub async fn backend(
        &self,
        parent: &Rc<Service>,
        name: &str,
    ) -> Result<Rc<Service>, ProxyError> {
        if *parent.label == *name {
            return Ok(parent.clone());
        }
        let held = self.table.borrow().get(name).cloned();
        if let Some(service) = held {
            service.touch(clock::now());
            return Ok(service);
        }
        // Boxed: it happens once a backend and worker.
        match Box::pin(self.find(name)).await {
            Ok(Found::Mesh(service)) => Ok(service),
            Err(error) if error.reason == Reason::DiscoveryUnavailable => Err(error),
            Ok(Found::Outside) | Err(_) => {
                let detail = format!("a route names {name}, and there is no such service");
                Err(ProxyError::new(Reason::BackendInvalid, detail))
            }
        }
    }

    /// The counters of what a rule of `parent` sends to a backend.
    #[must_use]
    pub fn backend_metrics(
        &self,
        parent: &Service,
        route: &Arc<str>,
        backend: &Backend,
    ) -> Arc<BackendMetrics> {
        let make = || self.metrics.backend(&parent.label, route, &backend.label);
        backend.metrics.get_or_init(make).clone()
    }

    /// A view of the local application.
    #[must_use]
    pub fn application(&self, destination: Destination) -> Rc<Service> {
        let label = destination.label.clone();
        let view = View { name: &label, subscription: None, side: Side::Mesh };
        self.service(Arc::new(destination), view, Direction::Inbound)
    }

    /// A view of hosts outside the mesh, kept under their name while it is used, valid, and outside. What the view before
    /// it remembers of requests goes on.
    #[must_use]
    pub fn keep_outside(
        &self,
        name: &str,
        mut destination: Destination,
        valid_until: Option<Instant>,
    ) -> Rc<Service> {
        if let Some(before) = self.outside.borrow().get(name) {
            destination.state = Arc::clone(&before.snapshot().destination.state);
        }
        let subscription = Some(self.directory.resolve(name));
        let view = View { name, subscription, side: Side::Outside };
        let service = self.service(Arc::new(destination), view, Direction::Outbound);
        // It may have joined the mesh while its name was being resolved.
        let is_outside = service
            .subscription
            .borrow()
            .as_ref()
            .is_some_and(|subscription| matches!(*subscription.borrow(), Resolution::Outside));
        service.has_left.set(!is_outside);
        service.valid_until.set(valid_until);
        self.outside.borrow_mut().insert(name.into(), service.clone());
        service
    }

    /// The destination outside that is kept under a name.
    #[must_use]
    pub fn kept(&self, name: &str) -> Option<Rc<Service>> {
        let now = clock::now();
        let outside = self.outside.borrow();
        let service = outside.get(name).filter(|service| service.is_valid(now))?;
        service.touch(now);
        Some(service.clone())
    }

    /// Forgets what nobody uses and gives up idle connections; called every few seconds.
    pub fn sweep(&self) {
        for table in [&self.table, &self.outside] {
            forget_unused(&mut table.borrow_mut());
        }
    }

    /// The local application refused a connection: it is probed at once.
    pub fn application_refused(&self) {
        self.directory.app_refused();
    }

    /// What is known of the mesh.
    #[must_use]
    pub const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Opens plain connections to addresses.
    #[must_use]
    pub const fn dialer(&self) -> &Rc<Dialer> {
        &self.dialer
    }

    fn service(
        &self,
        destination: Arc<Destination>,
        View { name, subscription, side }: View<'_>,
        direction: Direction,
    ) -> Rc<Service> {
        let (dialer, pool, tasks) = (self.dialer.clone(), self.pool.clone(), self.tasks.clone());
        let siblings = Rc::new(Siblings::default());
        let make_pool = Box::new(move |endpoint: &Arc<Endpoint>| {
            let (dialer, pool, tasks) = (dialer.clone(), pool.clone(), tasks.clone());
            EndpointPool::new(endpoint.clone(), dialer, pool, tasks, siblings.clone())
        });
        Rc::new(Service {
            name: name.into(),
            label: destination.label.clone(),
            metrics: self.metrics.traffic(direction, &destination.label),
            learned: Cell::default(),
            subscription: RefCell::new(subscription),
            endpoints: RefCell::new(Rc::new(EndpointSet::new(destination, None))),
            make_pool,
            random: RefCell::new(fastrand::Rng::new()),
            last_used: Cell::new(clock::now()),
            valid_until: Cell::new(None),
            side,
            border: (side == Side::Outside).then(|| self.directory.clone()),
            has_left: Cell::new(false),
        })
    }

    fn unanswered(&self, name: &str) -> ProxyError {
        let detail = format!(
            "{name} could be in the mesh, and the control plane did not say within {:?}",
            self.discovery_timeout
        );
        ProxyError::new(Reason::DiscoveryUnavailable, detail)
    }
}

#[cfg(test)]
mod tests;
