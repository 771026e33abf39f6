//! A whole mesh on this machine: control plane, sidecars and apps, from start to end.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{sync::watch, task::JoinHandle};

use super::{
    control_plane::ControlPlane,
    desired::{self, Desired},
    janitor::Janitor,
    keep::StopHandle,
    logs::{Logs, Show},
    readiness::{self, Progress},
    run::{self, Run},
    source::{self, Source},
    supervise::Supervisor,
};
use crate::runs::{OBJECTS, RunFolder};

/// What a mesh is started with.
#[derive(Debug)]
pub(crate) struct Options {
    /// As the user typed it: "weft up shop.yaml".
    pub(crate) what: String,
    pub(crate) source: Source,
    pub(crate) show: Show,
    /// How long an app may take to end.
    pub(crate) grace: Duration,
}

/// A running mesh. Must be stopped; dropped, it is killed.
pub(crate) struct Mesh {
    pub(crate) run: Arc<Run>,
    pub(crate) desired: Desired,
    /// In the order in which they end.
    parts: Vec<Part>,
}

/// A part with a task of its own.
struct Part {
    stop: StopHandle,
    task: JoinHandle<()>,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Mesh {
    /// Starts everything; returns as soon as the control plane answers.
    pub(crate) async fn start(options: Options) -> anyhow::Result<Self> {
        let loaded = options.source.load()?;
        let run = Arc::new(new_run(&options)?);
        let objects = run.folder.path().join(OBJECTS);
        loaded.write_to(&objects)?;
        loaded.warn(&run.logs);

        let (control_plane, mut view) = ControlPlane::new(Arc::clone(&run));
        let (stop_control_plane, stopped) = StopHandle::new();
        let control_plane = part(stop_control_plane, control_plane.keep(stopped));
        let mut mesh = Self {
            run: Arc::clone(&run),
            desired: watch::channel(None).1,
            parts: vec![control_plane],
        };
        if let Err(error) = view.until_it_answers().await {
            mesh.stop().await;
            return Err(error);
        }

        let (states, desired) = watch::channel(None);
        mesh.desired = desired.clone();
        let (stop, stopped) = StopHandle::new();
        mesh.ends_first(part(stop, desired::follow(Arc::clone(&run), states, stopped)));
        let (stop, stopped) = StopHandle::new();
        let logs = run.logs.clone();
        mesh.ends_first(part(stop, source::follow(options.source, loaded, objects, logs, stopped)));
        let (stop, stopped) = StopHandle::new();
        let supervisor = Supervisor::new(run, view.discovery);
        mesh.ends_first(part(stop, supervisor.supervise(desired, stopped)));
        Ok(mesh)
    }

    fn ends_first(&mut self, part: Part) {
        self.parts.insert(0, part);
    }

    /// Waits until every replica is ready, or the time is over.
    pub(crate) async fn until_ready(
        &self,
        within: Duration,
        show: impl FnMut(&Progress),
    ) -> Progress {
        readiness::until_ready(&self.run, &self.desired, within, show).await
    }

    /// Ends everything, in order; returns when nothing is left.
    pub(crate) async fn stop(&mut self) {
        for mut part in std::mem::take(&mut self.parts) {
            part.stop.ask();
            // An error means that it panicked, which ended its processes.
            let _ = (&mut part.task).await;
        }
        self.run.logs.flush().await;
        let janitor = Arc::clone(&self.run.janitor);
        let cleaned = tokio::task::spawn_blocking(move || super::process::lock(&janitor).finish());
        let _ = cleaned.await;
    }
}

fn part(stop: StopHandle, life: impl Future<Output = ()> + Send + 'static) -> Part {
    Part { stop, task: tokio::spawn(life) }
}

fn new_run(options: &Options) -> anyhow::Result<Run> {
    let folder = RunFolder::create(&options.what, options.source.original())?;
    let mark = format!("{}-{:08x}", std::process::id(), fastrand::u32(..));
    let janitor = Janitor::start(folder.path(), &mark);
    let janitor = janitor.inspect_err(|_| drop(std::fs::remove_dir_all(folder.path())));
    Ok(Run {
        janitor: Arc::new(Mutex::new(janitor.context("cannot begin")?)),
        mark,
        logs: Logs::start(options.show),
        board: super::board::Board::default(),
        grace: options.grace,
        objects_folder: options.source.folder(),
        weft: run::own_binary(),
        folder,
    })
}
