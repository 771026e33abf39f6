//! Makes what runs equal to what is wanted: starts, ends and replaces replicas as workloads change.
//!
//! What is new starts at once, what is no longer wanted ends at once. Changed replicas are replaced one after the
//! other within their workload, the next one when the one before is ready, so that the others go on serving.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::task::JoinHandle;

use super::{
    control_plane::Discovery,
    desired::Desired,
    keep::{Stop, StopHandle},
    plan::{self, ReplicaName, ReplicaPlan},
    readiness, replica,
    run::Run,
};

/// A replacement that is not ready after this does not hold up the next one.
const READY_WITHIN: Duration = Duration::from_secs(10);

type Plans = BTreeMap<ReplicaName, ReplicaPlan>;

/// A replica that runs. Dropped, it is asked to stop.
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
            let replaced = match wanted {
                Some(objects) => self.step(plan::plans(&objects, &self.run.objects_folder)).await,
                None => Vec::new(),
            };
            let replacements = readiness::all_ready(&self.run, &replaced, READY_WITHIN);
            tokio::select! {
                () = stop.asked() => break,
                changed = desired.changed() => if changed.is_err() { break },
                // Then on to the next ones.
                () = replacements, if !replaced.is_empty() => {}
            }
        }
        self.step(Plans::new()).await;
    }

    /// One step towards what is wanted. Says which replicas were replaced; none when nothing is left to do.
    async fn step(&mut self, wanted: Plans) -> Vec<ReplicaPlan> {
        let unwanted: Vec<ReplicaName> =
            self.running.keys().filter(|name| !wanted.contains_key(name)).cloned().collect();
        let replaced =
            outdated(&wanted, |name| self.running.get(name).map(|running| &running.plan));
        let names = replaced.iter().map(|plan| plan.name.clone());
        self.stop_all(unwanted.into_iter().chain(names)).await;
        for (name, plan) in wanted {
            if !self.running.contains_key(&name) {
                self.start(plan);
            }
        }
        replaced
    }

    /// Ends replicas, all at the same time.
    async fn stop_all(&mut self, names: impl Iterator<Item = ReplicaName>) {
        let ending: Vec<Running> = names.filter_map(|name| self.running.remove(&name)).collect();
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

/// The next replica of each workload that runs by another plan than is wanted.
fn outdated<'a>(
    wanted: &Plans,
    running: impl Fn(&ReplicaName) -> Option<&'a ReplicaPlan>,
) -> Vec<ReplicaPlan> {
    let differs = |plan: &&ReplicaPlan| running(&plan.name).is_some_and(|present| present != *plan);
    let mut next: Vec<ReplicaPlan> = wanted.values().filter(differs).cloned().collect();
    // Replicas of one workload stand one after the other.
    next.dedup_by_key(|plan| plan.name.full_workload());
    next
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use weft_control_plane::model::{Object, parse_documents};

    use super::*;

    fn plans(argument: &str, replicas: u32) -> Plans {
        let yaml = format!(
            "{{apiVersion: weft.dev/v1alpha1, kind: Workload, metadata: {{name: a}}, \
             spec: {{command: [a, {argument}], replicas: {replicas}}}}}\n---\n\
             {{apiVersion: weft.dev/v1alpha1, kind: Workload, metadata: {{name: b}}, \
             spec: {{command: [b, {argument}]}}}}"
        );
        let objects: Vec<Object> =
            parse_documents("", &yaml).into_iter().map(|p| p.expect("right").object).collect();
        plan::plans(&objects, Path::new("/"))
    }

    #[test]
    fn one_replica_of_each_changed_workload_is_replaced_at_a_time() {
        let mut running = plans("old", 3);
        let wanted = plans("new", 4);
        let mut steps = Vec::new();
        loop {
            let next = outdated(&wanted, |name| running.get(name));
            if next.is_empty() {
                break;
            }
            steps.push(next.iter().map(|plan| plan.name.to_string()).collect::<Vec<_>>().join(" "));
            running.extend(next.into_iter().map(|plan| (plan.name.clone(), plan)));
        }
        assert_eq!(steps, ["a-0 b-0", "a-1", "a-2"]);
    }
}
