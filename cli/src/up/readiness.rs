//! Which replicas are not ready, and why: what is wanted, how its processes go and what the control plane sees
//! come in; the reasons go out. The judgement is pure; only [`until_ready`] waits.

use std::{collections::BTreeMap, path::Path, time::Duration};

use weft_proto::api::{ProxiesRequest, Proxy};
use weft_proxy::clock;

use super::{
    board::{Phase, ReplicaState},
    desired::Desired,
    plan::{self, ReplicaName, ReplicaPlan},
    run::Run,
};
use crate::client;

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How far a start has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// How many replicas there are to be; `None` before that is known.
    pub(crate) wanted: Option<usize>,
    /// Those that are not ready, with the reason.
    pub(crate) missing: BTreeMap<ReplicaName, String>,
}

impl Progress {
    /// Whether all are ready.
    pub(crate) fn is_done(&self) -> bool {
        self.wanted.is_some() && self.missing.is_empty()
    }
}

/// Returns when every replica is ready: true, or when the time is over: false. Shows each step.
pub(crate) async fn until_ready(
    run: &Run,
    desired: &Desired,
    within: Duration,
    mut show: impl FnMut(&Progress),
) -> Progress {
    let deadline = clock::now() + within;
    loop {
        let progress = look(run, desired).await;
        show(&progress);
        if progress.is_done() || clock::now() > deadline {
            return progress;
        }
        clock::sleep(LOOK_EVERY).await;
    }
}

/// Returns when these replicas are ready, or the time is over. Cancel-safe.
pub(crate) async fn all_ready(run: &Run, plans: &[ReplicaPlan], within: Duration) {
    let deadline = clock::now() + within;
    while !missing(run, plans).await.is_empty() && clock::now() < deadline {
        clock::sleep(LOOK_EVERY).await;
    }
}

async fn look(run: &Run, desired: &Desired) -> Progress {
    let Some(objects) = desired.borrow().clone() else { return Progress::default() };
    let plans: Vec<ReplicaPlan> = plan::plans(&objects, Path::new("")).into_values().collect();
    Progress { wanted: Some(plans.len()), missing: missing(run, &plans).await }
}

/// Those that are not ready, with the reason.
async fn missing(run: &Run, plans: &[ReplicaPlan]) -> BTreeMap<ReplicaName, String> {
    let mut client = client::lazy(run.folder.api_socket());
    let proxies = match client.proxies(ProxiesRequest {}).await {
        Ok(answer) => answer.into_inner().proxies,
        Err(_) => Vec::new(),
    };
    let board = run.board.all();
    let missing = plans.iter().filter_map(|plan| {
        let serves = !plan.ports.is_empty();
        let proxy = proxy_of(&proxies, &plan.name);
        Some((plan.name.clone(), why_not_ready(serves, board.get(&plan.name), proxy)?))
    });
    missing.collect()
}

fn proxy_of<'a>(proxies: &'a [Proxy], name: &ReplicaName) -> Option<&'a Proxy> {
    let (workload, instance) = (name.full_workload(), name.index.to_string());
    let mut own = proxies.iter().filter(|p| p.workload == workload && p.instance == instance);
    let first = own.next()?;
    // After a restart of a sidecar its former stream may still be listed.
    Some(own.find(|proxy| proxy.connected).filter(|_| !first.connected).unwrap_or(first))
}

/// `None` when it is ready. One that serves no port is so as soon as it runs.
fn why_not_ready(
    serves: bool,
    state: Option<&ReplicaState>,
    proxy: Option<&Proxy>,
) -> Option<String> {
    let Some(state) = state else { return Some("is not started yet".into()) };
    match (&state.sidecar, &state.app) {
        (_, Phase::Ended(why)) => return Some(with_lines(&format!("the app {why}"), state)),
        (Phase::Ended(why), _) => return Some(with_lines(&format!("the sidecar {why}"), state)),
        (Phase::Running, Phase::Running) => {}
        (Phase::Running, _) => return Some("waits for its sidecar".into()),
        _ => return Some("its sidecar starts".into()),
    }
    match proxy {
        None => Some("its sidecar has not reached the control plane".into()),
        Some(proxy) if !proxy.connected => Some("its sidecar lost the control plane".into()),
        Some(proxy) if proxy.ready || !serves => None,
        Some(proxy) if proxy.health_detail.is_empty() => Some("its app is not ready".into()),
        Some(proxy) => Some(format!("its app is not ready: {}", proxy.health_detail)),
    }
}

fn with_lines(why: &str, state: &ReplicaState) -> String {
    let lines: String = state.last_lines.iter().map(|line| format!("\n      {line}")).collect();
    format!("{why}{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(sidecar: Phase, app: Phase) -> ReplicaState {
        ReplicaState { sidecar, app, last_lines: vec!["boom".into()], ..ReplicaState::default() }
    }

    #[test]
    fn the_reason_is_the_first_thing_that_is_missing() {
        let proxy = |connected, ready| Proxy { connected, ready, ..Proxy::default() };
        let running = state(Phase::Running, Phase::Running);
        let ended = || Phase::Ended("exited with code 1".into());
        for (state, proxy, reason) in [
            (None, None, Some("is not started yet")),
            (Some(state(Phase::Starting, Phase::Starting)), None, Some("its sidecar starts")),
            (Some(state(Phase::Running, Phase::Starting)), None, Some("waits for its sidecar")),
            (
                Some(state(Phase::Running, ended())),
                None,
                Some("the app exited with code 1\n      boom"),
            ),
            (
                Some(state(ended(), Phase::Running)),
                None,
                Some("the sidecar exited with code 1\n      boom"),
            ),
            (Some(running.clone()), None, Some("its sidecar has not reached the control plane")),
            (
                Some(running.clone()),
                Some(proxy(false, true)),
                Some("its sidecar lost the control plane"),
            ),
            (Some(running.clone()), Some(proxy(true, false)), Some("its app is not ready")),
            (Some(running), Some(proxy(true, true)), None),
        ] {
            let why = why_not_ready(true, state.as_ref(), proxy.as_ref());
            assert_eq!(why.as_deref(), reason);
        }
    }

    #[test]
    fn a_former_stream_of_a_replica_does_not_hide_the_present_one() {
        let name = ReplicaName { namespace: "shop".into(), workload: "cart".into(), index: 0 };
        let proxy = |instance: &str, connected| Proxy {
            workload: "shop/cart".into(),
            instance: instance.into(),
            connected,
            ..Proxy::default()
        };
        for streams in [
            vec![proxy("0", false), proxy("1", false), proxy("0", true)],
            vec![proxy("0", true), proxy("0", false)],
        ] {
            assert!(proxy_of(&streams, &name).is_some_and(|proxy| proxy.connected));
        }
        assert!(proxy_of(&[proxy("1", true)], &name).is_none());
    }
}
