//! The simulated hosts: a control plane, sidecars with their applications, and the steps that bring them forward.
//!
//! A host's software is the product's, started as its own process would; what the scenario wants to know of it
//! is noted in a [`Site`]. All hosts are tasks of this thread, so nothing runs while the scenario looks.

use std::{
    future::pending,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt};
use turmoil::Sim;
use weft_control_plane::app as control_plane;
use weft_proxy::app as proxy;
use weft_tests::mesh::parse;

use super::{
    dials::Dials,
    objects::Objects,
    site::{Load, Site},
};

/// The control plane's host.
pub(crate) const CONTROL_PLANE: &str = "control-plane";
const DISCOVERY_PORT: u16 = 4480;
const ADMIN_PORT: u16 = 4191;
const OUTBOUND: SocketAddr = local(4140);
const INBOUND_PORT: u16 = 4143;
const APPLICATION: SocketAddr = local(8080);

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// The last pause after which TCP asks again within a timeout of five seconds.
const LAST_RETRANSMISSION: Duration = Duration::from_secs(2);

/// A scenario's world.
pub(crate) struct World {
    sim: Sim<'static>,
    hosts: Vec<&'static str>,
    folder: TempDir,
    objects: Objects,
    dials: Dials,
    _subscriber: DefaultGuard,
}

impl World {
    /// A world with these objects and nothing that runs. Time passes in steps; a packet takes one to five.
    pub(crate) fn new(seed: u64, step: Duration, objects: &[serde_json::Value]) -> Self {
        eprintln!("WEFT_SIM_SEED={seed}");
        // All of the product's chance comes from here.
        fastrand::seed(seed);
        let sim = turmoil::Builder::new()
            .rng_seed(seed)
            // 2026-01-01T00:00:00Z: certificates are made and judged in simulated time.
            .epoch(std::time::UNIX_EPOCH + Duration::from_secs(1_767_225_600))
            .tick_duration(step)
            .min_message_latency(step)
            .max_message_latency(step * 5)
            .tcp_capacity(1024)
            // For the API's unix socket.
            .enable_tokio_io()
            .build();
        let dials = Dials::default();
        let told = std::env::var("WEFT_TEST_LOG").ok().map(|filter| {
            let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
            lines.with_filter(EnvFilter::new(filter))
        });
        let subscriber = tracing_subscriber::registry().with(dials.layer()).with(told);
        Self {
            sim,
            hosts: Vec::new(),
            folder: tempfile::tempdir().expect("a temporary folder"),
            objects: Objects::new(objects),
            dials,
            _subscriber: tracing::subscriber::set_default(subscriber),
        }
    }

    /// Starts the control plane, which writes a join token for each of these service accounts (`NAMESPACE/NAME`).
    pub(crate) fn start_control_plane(&mut self, accounts: &[&str], settings: &[&str]) {
        let mut arguments = vec![
            format!("--state={}", self.folder.path().display()),
            format!("--discovery-listen=0.0.0.0:{DISCOVERY_PORT}"),
        ];
        for account in accounts {
            arguments.push(format!("--initial-token={account}={}", self.token(account)));
        }
        arguments.extend(settings.iter().map(|&setting| setting.to_owned()));
        let objects = self.objects.clone();
        self.hosts.push(CONTROL_PLANE);
        self.sim.host(CONTROL_PLANE, move || {
            let (config, store) = (parse(&arguments), Arc::new(objects.clone()));
            async move {
                let _running = control_plane::App::start_on(config, store).await?;
                pending().await
            }
        });
    }

    /// Starts a host with a sidecar of a workload and an application that sends back what it gets, and says `host`
    /// in its answers.
    pub(crate) fn start_server(&mut self, host: &'static str, workload: &str) -> Rc<Site> {
        let port = APPLICATION.port();
        let arguments =
            self.sidecar(host, workload, &[&format!("--app-port={port}@{APPLICATION}")]);
        self.host(host, arguments, move |site| async move { site.serve(host, APPLICATION).await })
    }

    /// Starts a host with a sidecar of a workload and an application that calls others again and again.
    pub(crate) fn start_client(
        &mut self,
        host: &'static str,
        workload: &str,
        load: Load,
        settings: &[&str],
    ) -> Rc<Site> {
        let arguments = self.sidecar(host, workload, settings);
        self.host(host, arguments, move |site| async move {
            site.ready(local(ADMIN_PORT)).await;
            site.call_all(OUTBOUND, load).await
        })
    }

    fn host<F: Future<Output = turmoil::Result> + 'static>(
        &mut self,
        host: &'static str,
        arguments: Vec<String>,
        application: impl Fn(Rc<Site>) -> F + 'static,
    ) -> Rc<Site> {
        let site = Rc::new(Site::default());
        let noted = site.clone();
        self.hosts.push(host);
        self.sim.host(host, move || {
            let (config, site) = (parse(&arguments), noted.clone());
            let application = application(site.clone());
            async move {
                let running = proxy::start(config, None)?;
                tokio::try_join!(site.report(&running), application)?;
                Ok(())
            }
        });
        site
    }

    fn sidecar(&self, host: &'static str, workload: &str, settings: &[&str]) -> Vec<String> {
        let own = SocketAddr::new(self.sim.lookup(host), INBOUND_PORT);
        let mut arguments = vec![
            format!("--workload={workload}"),
            format!("--instance={host}"),
            format!("--control-plane={CONTROL_PLANE}:{DISCOVERY_PORT}"),
            format!("--token-file={}", self.token(workload)),
            format!("--outbound-listen={OUTBOUND}"),
            format!("--inbound-listen=0.0.0.0:{INBOUND_PORT}"),
            format!("--inbound-advertise={own}"),
            format!("--admin-listen={}", local(ADMIN_PORT)),
        ];
        arguments.extend(settings.iter().map(|&setting| setting.to_owned()));
        arguments
    }

    fn token(&self, account: &str) -> String {
        self.folder.path().join(account.replace('/', "-")).display().to_string()
    }

    /// Creates or replaces an object.
    pub(crate) fn apply(&self, object: &serde_json::Value) {
        self.objects.apply(object);
    }

    /// Deletes an object, given as it was applied.
    pub(crate) fn remove(&self, object: &serde_json::Value) {
        self.objects.remove(object);
    }

    /// How much simulated time has passed.
    pub(crate) fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Lets so much simulated time pass.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now() + time;
        while self.now() < end {
            self.step();
        }
    }

    /// Lets time pass until something is so.
    pub(crate) fn run_until(
        &mut self,
        what: &str,
        within: Duration,
        mut holds: impl FnMut() -> bool,
    ) {
        let start = self.now();
        while !holds() {
            let waited = self.now() - start;
            assert!(waited < within, "waited {waited:?} in vain: {what}");
            self.step();
        }
    }

    fn step(&mut self) {
        self.dials.set_now(self.now());
        self.sim.step().expect("the software of no host fails");
    }

    /// Drops every packet between two hosts.
    pub(crate) fn partition(&self, one: &str, other: &str) {
        self.sim.partition(one, other);
    }

    /// Ends a partition.
    pub(crate) fn repair(&self, one: &str, other: &str) {
        self.sim.repair(one, other);
    }

    /// Keeps every packet between two hosts back.
    pub(crate) fn hold(&self, one: &str, other: &str) {
        self.sim.hold(one, other);
    }

    /// Lets go what was kept back, in its order.
    pub(crate) fn release(&self, one: &str, other: &str) {
        self.sim.release(one, other);
    }

    /// From now on a packet between two hosts takes up to this.
    pub(crate) fn delay(&self, one: &str, other: &str, most: Duration) {
        self.sim.set_link_max_message_latency(one, other, most);
    }

    /// Ends all that runs on a host.
    pub(crate) fn crash(&mut self, host: &str) {
        self.sim.crash(host);
    }

    /// Starts a host's software again.
    pub(crate) fn restart(&mut self, host: &str) {
        self.sim.bounce(host);
    }

    /// A sidecar's metrics whose names begin so, as lines.
    pub(crate) fn metrics(&mut self, site: &Site, prefix: &str) -> Vec<String> {
        site.ask_for_metrics();
        let mut text = None;
        self.run_until("the metrics", Duration::from_secs(1), || {
            text = site.take_metrics();
            text.is_some()
        });
        let text = text.unwrap_or_default();
        text.lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect()
    }

    /// When a host tried to connect to another one, since `since`.
    pub(crate) fn attempts(&self, from: &str, to: &str, since: Duration) -> Vec<Duration> {
        let (from, to) = (self.sim.lookup(from), self.sim.lookup(to));
        let dials = self.dials.all().into_iter().filter(|dial| dial.at >= since);
        let dials = dials.filter(|dial| dial.from.ip() == from && dial.to.ip() == to);
        let mut attempts: Vec<Duration> = Vec::new();
        let mut last = None;
        for dial in dials {
            // A SYN that got no answer is sent again after a second, and after two more.
            let again = last.is_some_and(|last| dial.at - last <= LAST_RETRANSMISSION);
            if !again {
                attempts.push(dial.at);
            }
            last = Some(dial.at);
        }
        attempts
    }
}

/// Sockets say goodbye when they are dropped, for which there must be a network: every host ends before it. One
/// that is started anew has done nothing yet.
impl Drop for World {
    fn drop(&mut self) {
        for host in std::mem::take(&mut self.hosts) {
            self.sim.bounce(host);
        }
    }
}

/// The scenario's seed: `WEFT_SIM_SEED`, else a new one.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("WEFT_SIM_SEED").ok().map(|seed| seed.parse().expect("a number"));
    given.unwrap_or_else(|| fastrand::Rng::new().u64(..))
}

/// So many seeds, for a sweep: `WEFT_SIM_SEED` alone where it is set.
pub(crate) fn seeds(count: usize) -> Vec<u64> {
    let given = std::env::var_os("WEFT_SIM_SEED").is_some();
    (0..if given { 1 } else { count }).map(|_| seed()).collect()
}
