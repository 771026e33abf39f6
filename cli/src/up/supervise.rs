//! Makes what runs equal to what is wanted: starts, ends and replaces replicas as workloads change.

use std::{collections::BTreeMap, sync::Arc};

use tokio::task::JoinHandle;

use super::{
    control_plane::Discovery,
    desired::Desired,
    keep::{Stop, StopHandle},
    plan::{self, ReplicaName, ReplicaPlan},
    replica,
    run::Run,
};

/// A replica that runs. Dropped, it is asked to stop, and killed when its task goes.
struct Running {
    plan: ReplicaPlan,
    stop: StopHandle,
    task: JoinHandle<()>,
}

/// The replicas of one run.
pub(crate) struct Supervisor {
    run: Arc<Run>,
    discovery: Discovery,
    running: BTreeMap<ReplicaName, Running>,
}

impl Supervisor {
    pub(crate) fn new(run: Arc<Run>, discovery: Discovery) -> Self {
        Self { run, discovery, running: BTreeMap::new() }
    }

    /// Follows what is wanted until asked to stop; returns when nothing runs any more.
    pub(crate) async fn supervise(mut self, mut desired: Desired, mut stop: Stop) {
        loop {
            let wanted = desired.borrow_and_update().clone();
            if let Some(objects) = wanted {
                self.reconcile(plan::plans(&objects, &self.run.objects_folder)).await;
            }
            tokio::select! {
                () = stop.asked() => break,
                changed = desired.changed() => if changed.is_err() { break },
            }
        }
        self.reconcile(BTreeMap::new()).await;
    }

    async fn reconcile(&mut self, wanted: BTreeMap<ReplicaName, ReplicaPlan>) {
        let outdated: Vec<ReplicaName> = self
            .running
            .iter()
            .filter(|(name, running)| wanted.get(name) != Some(&running.plan))
            .map(|(name, _)| name.clone())
            .collect();
        self.stop_all(&outdated).await;
        for (name, plan) in wanted {
            if !self.running.contains_key(&name) {
                self.start(plan);
            }
        }
    }

    /// Ends replicas, all at the same time.
    async fn stop_all(&mut self, names: &[ReplicaName]) {
        let ending: Vec<Running> =
            names.iter().filter_map(|name| self.running.remove(name)).collect();
        ending.iter().for_each(|running| running.stop.ask());
        for running in ending {
            // An error means that its task panicked, which ended its processes.
            let _ = running.task.await;
        }
    }

    fn start(&mut self, plan: ReplicaPlan) {
        let (stop, stopped) = StopHandle::new();
        let life =
            replica::run(plan.clone(), Arc::clone(&self.run), self.discovery.clone(), stopped);
        let task = tokio::spawn(life);
        self.running.insert(plan.name.clone(), Running { plan, stop, task });
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.running.values().for_each(|running| running.task.abort());
    }
}
