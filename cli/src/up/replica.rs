//! One replica: a sidecar and an app beside each other.
//!
//! The sidecar comes first and tells its ports; the app is started with them. Each is started again when it
//! ends. A sidecar that comes back takes the ports that it had, so that its app notices nothing; when it
//! cannot have them, the app is started again with the new ones. The app ends before its sidecar.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::sync::watch;
use weft_control_plane::model::Probe;
use weft_proto::api::CreateTokenRequest;
use weft_proxy::clock;

use super::{
    admin,
    board::Phase,
    control_plane::Discovery,
    environment::environment,
    keep::{Kept, Stop, StopHandle, keep},
    logs::Source,
    plan::{PlannedUpstream, ReplicaPlan},
    ports::{self, REPORT_FILE, SidecarPorts},
    process::Program,
    run::Run,
    watched,
};
use crate::client;

/// Enough to withdraw its registration; once its app is gone a sidecar has nothing else to do.
const SIDECAR_GRACE: Duration = Duration::from_millis(250);
/// Warnings; but that an app is not ready while it starts is no news.
const LOG: &str = "warn,weft_proxy::discovery::probe=error";
const REPORT_WITHIN: Duration = Duration::from_secs(15);
/// An app is started before its sidecar is ready when that takes longer than this.
const READY_WITHIN: Duration = Duration::from_secs(5);
/// Long enough for a slow start; a token is used once.
const TOKEN_SECONDS: i64 = 600;

/// Runs a replica until asked to stop; returns when both processes have ended.
pub(crate) async fn run(plan: ReplicaPlan, run: Arc<Run>, discovery: Discovery, stop: Stop) {
    let plan = Arc::new(plan);
    run.board.change(&plan.name, |state| state.service.clone_from(&plan.service));
    let (ports_are, ports) = watch::channel(None);
    let (assigned_are, assigned) = watch::channel(Vec::new());
    let mut sidecar = Sidecar {
        source: Source::new(&format!("{}/sidecar", plan.name), true),
        plan: Arc::clone(&plan),
        run: Arc::clone(&run),
        discovery,
        ports: ports_are,
        assigned,
        reuse: true,
    };
    let mut app = App {
        source: Source::new(&plan.name.to_string(), false),
        plan: Arc::clone(&plan),
        run: Arc::clone(&run),
        ports,
        assigned: assigned_are,
        started_with: None,
    };
    let (stop_sidecar, sidecar_stopped) = StopHandle::new();
    let app_first = async {
        keep(&mut app, &run, stop).await;
        stop_sidecar.ask();
    };
    tokio::join!(app_first, keep(&mut sidecar, &run, sidecar_stopped));
    run.board.remove(&plan.name);
}

/// The sidecar's side.
struct Sidecar {
    source: Source,
    plan: Arc<ReplicaPlan>,
    run: Arc<Run>,
    discovery: Discovery,
    /// What it bound last.
    ports: watch::Sender<Option<SidecarPorts>>,
    /// Where the app listens, in the order of the plan's ports; empty before the first is chosen.
    assigned: watch::Receiver<Vec<u16>>,
    /// Whether to ask for the ports that it had.
    reuse: bool,
}

impl Kept for Sidecar {
    fn source(&self) -> &Source {
        &self.source
    }

    async fn program(&mut self) -> anyhow::Result<Program> {
        let count = self.plan.ports.len();
        let app_ports = watched::once(&mut self.assigned, |ports| ports.len() == count).await;
        let discovery = self.discovery.address().await;
        let token = self.token().await?;
        let before = if self.reuse { self.ports.borrow().clone() } else { None };
        // Should these be taken meanwhile, the next start asks for any.
        self.reuse = before.is_none();
        let _ = std::fs::remove_file(self.report_file());
        let mut program = Program::weft(self.arguments(&discovery, &app_ports, before.as_ref()));
        program.stdin = Some(token);
        program.env = vec![(REPORT_FILE.into(), self.report_file().display().to_string())];
        if std::env::var_os("WEFT_LOG").is_none() {
            program.env.push(("WEFT_LOG".into(), LOG.into()));
        }
        Ok(program)
    }

    async fn watch(&mut self) -> String {
        let file = self.report_file();
        let Ok(bound) = clock::timeout(REPORT_WITHIN, ports::report(&file)).await else {
            return format!("did not bind its ports within {} s", REPORT_WITHIN.as_secs());
        };
        let _ = std::fs::remove_file(file);
        self.reuse = true;
        self.run.board.change(&self.plan.name, |state| state.ports = Some(bound.clone()));
        self.ports.send_if_modified(|ports| {
            let moved = ports.as_ref() != Some(&bound);
            *ports = Some(bound);
            moved
        });
        tokio::select! {
            Ok(()) = self.assigned.changed() => "its app has another port now".into(),
            () = self.discovery.moved() => "the control plane has another port now".into(),
        }
    }

    fn grace(&self) -> Duration {
        SIDECAR_GRACE
    }

    fn entered(&mut self, phase: Phase) {
        let last = self.source.last_lines();
        self.run.board.change(&self.plan.name, |state| {
            if matches!(phase, Phase::Ended(_)) {
                state.last_lines = last;
            }
            state.sidecar = phase;
        });
    }
}

impl Sidecar {
    fn report_file(&self) -> std::path::PathBuf {
        let name = format!("ports-{}-{}.json", self.plan.name.namespace, self.plan.name);
        self.run.folder.path().join(name)
    }

    /// A fresh join token. It reaches the sidecar by its stdin: no file, no argument, no variable holds it.
    async fn token(&self) -> anyhow::Result<String> {
        let request = CreateTokenRequest {
            namespace: self.plan.name.namespace.clone(),
            service_account: self.plan.service_account.clone(),
            ttl_seconds: TOKEN_SECONDS,
            uses: 0,
        };
        let made = client::lazy(self.run.folder.api_socket()).create_token(request).await;
        Ok(made.map_err(client::refused)?.into_inner().token)
    }

    fn arguments(
        &self,
        discovery: &str,
        app_ports: &[u16],
        before: Option<&SidecarPorts>,
    ) -> Vec<String> {
        let any = || SocketAddr::from(([127, 0, 0, 1], 0));
        let listen = |bound: Option<SocketAddr>| bound.unwrap_or_else(any).to_string();
        let mut arguments: Vec<String> = vec!["proxy".into()];
        let mut flag = |name: &str, value: String| arguments.push(format!("--{name}={value}"));
        flag("workload", self.plan.name.full_workload());
        flag("instance", self.plan.name.index.to_string());
        flag("zone", self.plan.zone.clone());
        flag("control-plane", discovery.to_owned());
        flag("token-fd", "0".into());
        flag("outbound-listen", listen(before.map(|ports| ports.outbound)));
        flag("inbound-listen", listen(before.map(|ports| ports.inbound)));
        flag("admin-listen", listen(before.map(|ports| ports.admin)));
        flag("drain-timeout", format!("{}ms", SIDECAR_GRACE.as_millis()));
        flag("app-probe", probe(self.plan.probe.as_ref()));
        for (planned, port) in self.plan.ports.iter().zip(app_ports) {
            let name =
                if planned.name.is_empty() { String::new() } else { format!("{}=", planned.name) };
            flag("app-port", format!("{name}{port}"));
        }
        for upstream in &self.plan.upstreams {
            let listen = upstream_listen(upstream, before);
            flag("upstream", format!("{listen}={}", upstream.destination));
        }
        arguments
    }
}

fn upstream_listen(upstream: &PlannedUpstream, before: Option<&SidecarPorts>) -> SocketAddr {
    let bound = before.and_then(|ports| ports.upstreams.get(&upstream.destination).copied());
    bound.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], upstream.local_port.unwrap_or(0))))
}

fn probe(probe: Option<&Probe>) -> String {
    match probe {
        None => "none".into(),
        Some(Probe::Tcp) => "tcp".into(),
        Some(Probe::Http { path }) => format!("http:{path}"),
    }
}

/// The app's side.
struct App {
    source: Source,
    plan: Arc<ReplicaPlan>,
    run: Arc<Run>,
    ports: watch::Receiver<Option<SidecarPorts>>,
    assigned: watch::Sender<Vec<u16>>,
    started_with: Option<SidecarPorts>,
}

impl Kept for App {
    fn source(&self) -> &Source {
        &self.source
    }

    async fn program(&mut self) -> anyhow::Result<Program> {
        let app_ports = self.choose_ports()?;
        let sidecar = watched::once(&mut self.ports, Option::is_some).await;
        let sidecar = sidecar.context("a sidecar has no ports")?;
        let _ = clock::timeout(READY_WITHIN, admin::until_ready(sidecar.admin)).await;
        let folder = &self.plan.working_dir;
        anyhow::ensure!(
            folder.is_dir(),
            "spec.workingDir of Workload {}: {} is no folder: make it, or name one that exists",
            self.plan.name.full_workload(),
            folder.display()
        );
        let environment = environment(&self.plan, &app_ports, &sidecar, &self.run.weft);
        self.started_with = Some(sidecar);
        Ok(Program {
            command: environment.command.into_iter().map(Into::into).collect(),
            env: environment.variables,
            working_dir: Some(self.plan.working_dir.clone()),
            ..Program::default()
        })
    }

    async fn watch(&mut self) -> String {
        let before = self.started_with.clone();
        watched::once(&mut self.ports, |now| now.is_some() && *now != before).await;
        "its sidecar has other ports now".into()
    }

    fn grace(&self) -> Duration {
        self.run.grace
    }

    fn entered(&mut self, phase: Phase) {
        let last = self.source.last_lines();
        self.run.board.change(&self.plan.name, |state| {
            if matches!(phase, Phase::Ended(_)) {
                state.last_lines = last;
            }
            state.app = phase;
        });
    }
}

impl App {
    /// Where the app is to listen: the ports that the plan names, and for the others those chosen before
    /// unless somebody else has taken them.
    fn choose_ports(&self) -> anyhow::Result<Vec<u16>> {
        let before = self.assigned.borrow().clone();
        let mut chosen = Vec::new();
        for (index, planned) in self.plan.ports.iter().enumerate() {
            chosen.push(match (planned.number, before.get(index)) {
                (Some(number), _) if ports::is_free(number) => number,
                (Some(number), _) => anyhow::bail!(
                    "port {number} is taken by another process: end that one, or leave `port` out of \
                     Workload {} and let the app listen on $PORT (several replicas need that)",
                    self.plan.name.full_workload()
                ),
                (None, Some(port)) if ports::is_free(*port) => *port,
                (None, _) => ports::free()?,
            });
        }
        self.assigned.send_if_modified(|assigned| {
            let changed = *assigned != chosen;
            assigned.clone_from(&chosen);
            changed
        });
        Ok(chosen)
    }
}
