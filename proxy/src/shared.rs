//! What all connections of one worker share: settings, destinations, identity, the applications behind the
//! inbound ports, tasks.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::AtomicUsize},
};

use weft_proto::Port;

use crate::{
    clock,
    config::Config,
    destination::{self, Destinations, Service},
    discovery::{
        Destination, Directory, Endpoint, InboundPort, InboundPorts, Subscription, Transport,
    },
    dns::Resolver,
    drain::Drain,
    exchange::Mirrors,
    http::{h1, h2},
    outside,
    pool::{Dialer, Itself},
    tasks::Tasks,
    telemetry::{
        AccessLog, AdmissionMetrics, Direction, ListenerMetrics, Telemetry, Tracer, TrafficMetrics,
    },
    tls::MutualTls,
};

/// What the whole process shares: made once, handed to every worker.
#[derive(Debug, Clone)]
pub struct Process {
    /// The settings.
    pub config: Arc<Config>,
    /// What is known of the mesh.
    pub directory: Directory,
    /// Handshakes under the identity in force.
    pub mutual_tls: MutualTls,
    /// What the data path reports to.
    pub telemetry: Telemetry,
    /// The order to stop.
    pub drain: Drain,
    /// DNS, for destinations outside the mesh.
    pub resolver: Resolver,
    /// Connections accepted and open.
    pub connections: Arc<AtomicUsize>,
    /// Connections that did not end in the time to drain.
    pub cut_off: Arc<AtomicUsize>,
    /// The ports that this proxy listens on.
    pub own_ports: Arc<[SocketAddr]>,
    /// This very instance, as others' endpoints name it.
    pub itself: Itself,
}

/// What all connections of one worker share.
#[derive(Debug)]
pub struct Shared {
    /// The settings.
    pub config: Arc<Config>,
    /// Destinations by name.
    pub destinations: Destinations,
    /// Handshakes under the identity in force.
    pub mutual_tls: MutualTls,
    /// The order to stop.
    pub drain: Drain,
    /// This worker's tasks.
    pub tasks: Tasks,
    /// One line a request, when switched on.
    pub access: AccessLog,
    /// Spans, when switched on.
    pub tracer: Tracer,
    /// Counters of accepted connections.
    pub listeners: Arc<ListenerMetrics>,
    /// Counters of what policies refused here.
    pub admission: Arc<AdmissionMetrics>,
    /// DNS, for destinations outside the mesh.
    pub resolver: Resolver,
    /// The ports that this proxy listens on.
    pub own_ports: Arc<[SocketAddr]>,
    /// Connections accepted and open, in the whole process.
    pub connections: Arc<AtomicUsize>,
    /// Copies of requests under way.
    pub mirrors: Mirrors,
    /// Settings of server codecs.
    pub http1: h1::ServerSettings,
    /// Settings of server codecs.
    pub http2: h2::ServerSettings,
    inbound: Subscription<Option<Arc<InboundPorts>>>,
    applications: RefCell<HashMap<SocketAddr, Rc<Service>>>,
    /// Counters of what passed through to destinations outside the mesh.
    pub outside: Arc<TrafficMetrics>,
    unrouted: [Arc<TrafficMetrics>; 2],
    draining: Cell<bool>,
}

impl Shared {
    /// One worker's share of the process.
    #[must_use]
    pub fn new(process: Process, tasks: Tasks) -> Rc<Self> {
        let Process {
            config,
            directory,
            mutual_tls,
            telemetry: Telemetry { metrics, access, tracer },
            drain,
            resolver,
            connections,
            cut_off: _,
            own_ports,
            itself,
        } = process;
        let dialer = Dialer::new(
            mutual_tls.clone(),
            &config.timeouts,
            &config.pool,
            h1::ClientSettings::new(&config),
            h2::ClientSettings::new(&config),
            &metrics,
        );
        let destinations = Destinations::new(
            directory.clone(),
            Rc::new(dialer.knowing(itself)),
            metrics.clone(),
            config.pool.clone(),
            &config.timeouts,
            // A drain waits for clients, not for connections kept for them.
            Tasks::default(),
        );
        let unrouted =
            [Direction::Inbound, Direction::Outbound].map(|way| metrics.traffic(way, ""));
        Rc::new(Self {
            destinations,
            mutual_tls,
            drain,
            tasks,
            mirrors: Mirrors::new(metrics.mirrors()),
            listeners: metrics.listeners(),
            admission: metrics.admission(),
            access,
            tracer,
            resolver,
            own_ports,
            connections,
            http1: h1::ServerSettings::new(&config),
            http2: h2::ServerSettings::new(&config),
            inbound: directory.inbound(),
            applications: RefCell::default(),
            outside: metrics.traffic(Direction::Outbound, outside::LABEL),
            unrouted,
            draining: Cell::new(false),
            config,
        })
    }

    /// Whether the proxy is stopping; one load.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        if !self.draining.get() && self.drain.is_draining() {
            self.draining.set(true);
        }
        self.draining.get()
    }

    /// The counters of what could not be attributed to a service.
    #[must_use]
    pub fn unrouted(&self, direction: Direction) -> Arc<TrafficMetrics> {
        let [inbound, outbound] = &self.unrouted;
        match direction {
            Direction::Inbound => inbound.clone(),
            Direction::Outbound => outbound.clone(),
        }
    }

    /// The inbound port as the policy stands now; `None` when this workload does not serve it. What is said of
    /// ports that are not listed is never said of this proxy's own.
    #[must_use]
    pub fn inbound_port(&self, port: Port) -> Option<InboundPort> {
        let ports = self.inbound.borrow();
        let ports = ports.as_ref()?;
        let others = ports.others.as_ref().filter(|_| !self.is_own_port(port));
        ports.ports.get(&port).or(others).cloned()
    }

    /// The inbound port as the policy stands now, if it is listed.
    #[must_use]
    pub fn listed_port(&self, port: Port) -> Option<InboundPort> {
        self.inbound.borrow().as_ref().and_then(|ports| ports.ports.get(&port).cloned())
    }

    /// Whether this proxy itself listens on a port of this number.
    #[must_use]
    pub fn is_own_port(&self, port: Port) -> bool {
        self.own_ports.iter().any(|own| own.port() == port.number())
    }

    /// The only permissive port, when there is exactly one: where plaintext goes that names none.
    #[must_use]
    pub fn only_permissive_port(&self) -> Option<Port> {
        let ports = self.inbound.borrow();
        let ports = ports.as_ref()?;
        if ports.others.as_ref().is_some_and(|others| !others.strict) {
            return None;
        }
        let mut permissive = ports.ports.iter().filter(|(_, port)| !port.strict);
        match (permissive.next(), permissive.next()) {
            (Some((port, _)), None) => Some(*port),
            _ => None,
        }
    }

    /// What this workload serves, and word when it changes.
    #[must_use]
    pub fn inbound(&self) -> Subscription<Option<Arc<InboundPorts>>> {
        self.inbound.clone()
    }

    /// The local application behind a port: where it listens by configuration, else where the connection was
    /// going. Only where that is not known it is looked for on loopback.
    #[must_use]
    pub fn application(
        &self,
        port: Port,
        policy: &InboundPort,
        going_to: Option<SocketAddr>,
    ) -> Rc<Service> {
        let configured = self.config.app_ports.iter().find(|app| app.port == port);
        let address = configured.map(|app| app.address).or(going_to);
        let address = address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port.number())));
        if let Some(service) = self.applications.borrow().get(&address)
            && service.label == policy.label
            && service.snapshot().destination.protocol == policy.protocol
        {
            service.touch(clock::now());
            return service.clone();
        }
        let mut destination = Destination::empty(policy.label.clone());
        destination.protocol = policy.protocol;
        destination.endpoints.push(Arc::new(Endpoint::plain(address, port)));
        let service = self.destinations.application(destination);
        self.applications.borrow_mut().insert(address, service.clone());
        service
    }

    /// Gives up what is idle; called every few seconds.
    pub fn sweep(&self) {
        self.destinations.sweep();
        // Who calls one port after the other must not make the table grow.
        destination::forget_unused(&mut self.applications.borrow_mut());
    }
}

impl Endpoint {
    /// An endpoint without a sidecar, at an address.
    #[must_use]
    pub fn plain(address: SocketAddr, app_port: Port) -> Self {
        Self {
            id: address.to_string().into(),
            address,
            app_port,
            transport: Transport::Plain,
            zone: "".into(),
            labels: std::collections::BTreeMap::new(),
            workload: None,
            alternate: None,
            health: Arc::default(),
        }
    }
}
