//! The run's control plane: a process of its own, kept running, always at the same discovery port.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::sync::watch;
use weft_proto::api::VersionRequest;
use weft_proxy::clock;

use super::{
    board::Phase,
    keep::{Kept, Stop, keep},
    logs::Source,
    process::Program,
    run::Run,
    watched,
};
use crate::{client, runs::OBJECTS};

const GRACE: Duration = Duration::from_millis(250);
const ASK_EVERY: Duration = Duration::from_millis(20);
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Where sidecars find the control plane.
#[derive(Debug, Clone)]
pub(crate) struct Discovery(watch::Receiver<Option<String>>);

impl Discovery {
    /// Its address, as soon as it is known. Cancel-safe.
    pub(crate) async fn address(&mut self) -> String {
        watched::once(&mut self.0, Option::is_some).await.unwrap_or_default()
    }

    /// Returns when it is elsewhere than it was when last asked. Cancel-safe.
    pub(crate) async fn moved(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

const STATE: &str = "state";

/// The process and what is known of it.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    source: Source,
    run: Arc<Run>,
    address: watch::Sender<Option<String>>,
    failed: watch::Sender<Option<String>>,
}

/// What others may know of it.
#[derive(Debug, Clone)]
pub(crate) struct ControlPlaneView {
    pub(crate) discovery: Discovery,
    failed: watch::Receiver<Option<String>>,
}

impl ControlPlane {
    pub(crate) fn new(run: Arc<Run>) -> (Self, ControlPlaneView) {
        let (address, known) = watch::channel(None);
        let (failed, failure) = watch::channel(None);
        let source = Source::new("control-plane", true);
        let view = ControlPlaneView { discovery: Discovery(known), failed: failure };
        (Self { source, run, address, failed }, view)
    }

    /// Keeps it running until asked to stop.
    pub(crate) async fn keep(mut self, stop: Stop) {
        let run = Arc::clone(&self.run);
        keep(&mut self, &run, stop).await;
    }
}

impl ControlPlaneView {
    /// Returns when it answers; fails when its first start does.
    pub(crate) async fn until_it_answers(&mut self) -> anyhow::Result<()> {
        let answers = async {
            tokio::select! {
                _ = self.discovery.address() => Ok(()),
                failed = watched::once(&mut self.failed, Option::is_some) => {
                    Err(anyhow::anyhow!(failed.unwrap_or_default()))
                }
            }
        };
        clock::timeout(ANSWER_WITHIN, answers).await.with_context(|| {
            format!("the control plane does not answer after {} s", ANSWER_WITHIN.as_secs())
        })?
    }
}

impl Kept for ControlPlane {
    fn source(&self) -> &Source {
        &self.source
    }

    async fn program(&mut self) -> anyhow::Result<Program> {
        let folder = self.run.folder.path();
        let listen = self.address.borrow().clone().unwrap_or_else(|| "127.0.0.1:0".into());
        let path = |name: &str| folder.join(name).display().to_string();
        let mut program = Program::weft([
            "control-plane".to_owned(),
            format!("--discovery-listen={listen}"),
            format!("--api-socket={}", self.run.folder.api_socket().display()),
            format!("--objects={}", path(OBJECTS)),
            format!("--state={}", path(STATE)),
        ]);
        if std::env::var_os("WEFT_LOG").is_none() {
            program.env.push(("WEFT_LOG".into(), "warn".into()));
        }
        Ok(program)
    }

    async fn watch(&mut self) -> String {
        let mut client = client::lazy(self.run.folder.api_socket());
        let address = loop {
            match client.version(VersionRequest {}).await {
                Ok(answer) => break answer.into_inner().discovery_address,
                Err(_) => clock::sleep(ASK_EVERY).await,
            }
        };
        self.address.send_if_modified(|known| {
            let moved = known.as_ref() != Some(&address);
            *known = Some(address);
            moved
        });
        std::future::pending().await
    }

    fn grace(&self) -> Duration {
        GRACE
    }

    fn entered(&mut self, phase: Phase) {
        if let Phase::Ended(why) = phase {
            let lines = self.source.last_lines().join("\n  ");
            self.failed.send_replace(Some(format!("the control plane {why}\n  {lines}")));
        }
    }
}
