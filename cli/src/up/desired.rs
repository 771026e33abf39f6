//! The workloads that the control plane knows, whoever wrote them: the user's file, or `weft apply`.
//!
//! A watch comes in, whole states go out. While the control plane is away the last state stays.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;
use tonic::Status;
use weft_control_plane::model::{Object, parse_object};
use weft_proto::api::{GetRequest, ObjectRef, watch_event};
use weft_proxy::clock;

use super::{keep::Stop, run::Run};
use crate::client;

const TRY_AGAIN: Duration = Duration::from_millis(200);

/// Every workload; `None` before they are known.
pub(crate) type Desired = watch::Receiver<Option<Vec<Object>>>;

/// Follows the control plane until asked to stop.
pub(crate) async fn follow(
    run: Arc<Run>,
    states: watch::Sender<Option<Vec<Object>>>,
    mut stop: Stop,
) {
    loop {
        tokio::select! {
            () = stop.asked() => return,
            // A watch that ends, ends with the control plane: ask the next one.
            _ = watch_once(&run, &states) => {}
        }
        tokio::select! {
            () = stop.asked() => return,
            () = clock::sleep(TRY_AGAIN) => {}
        }
    }
}

async fn watch_once(run: &Run, states: &watch::Sender<Option<Vec<Object>>>) -> Result<(), Status> {
    let every = ObjectRef { kind: "Workload".into(), ..ObjectRef::default() };
    let mut client = client::lazy(run.folder.api_socket());
    let mut events = client.watch(GetRequest { r#ref: Some(every) }).await?.into_inner();
    let mut workloads = BTreeMap::new();
    let mut synced = false;
    while let Some(event) = events.message().await? {
        let object = parse_object(&event.object);
        match (event.kind(), object) {
            (watch_event::Kind::Applied, Ok(object)) => {
                workloads.insert(object.key(), object);
            }
            (watch_event::Kind::Deleted, Ok(object)) => {
                workloads.remove(&object.key());
            }
            (watch_event::Kind::Synced, _) => synced = true,
            (_, Err(error)) => tracing::warn!(%error, "the control plane sent no workload"),
            (watch_event::Kind::Unspecified, _) => {}
        }
        if synced {
            publish(states, workloads.values().cloned().collect());
        }
    }
    Ok(())
}

/// Tells of a state that differs in what is wanted; a new status alone is no news.
fn publish(states: &watch::Sender<Option<Vec<Object>>>, now: Vec<Object>) {
    states.send_if_modified(|known| {
        let same = known.as_ref().is_some_and(|known| {
            let mut pairs = known.iter().zip(&now);
            known.len() == now.len()
                && pairs.all(|(old, new)| old.key() == new.key() && old.same_spec(new))
        });
        *known = Some(now);
        !same
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_status_is_no_news_but_a_new_spec_is() {
        let object = |replicas: u32, status: &str| {
            let text = format!(
                "{{apiVersion: weft.dev/v1alpha1, kind: Workload, metadata: {{name: a}}, \
                 spec: {{replicas: {replicas}}}, status: {{{status}}}}}"
            );
            parse_object(&text).expect("right")
        };
        let accepted = "conditions: [{type: Accepted, status: \"True\", reason: Accepted}]";
        let (states, mut seen) = watch::channel(None);
        for (objects, is_news) in [
            (vec![], true),
            (vec![object(1, "")], true),
            (vec![object(1, accepted)], false),
            (vec![object(2, accepted)], true),
            (vec![], true),
        ] {
            publish(&states, objects.clone());
            assert_eq!(seen.has_changed().expect("open"), is_news, "{objects:?}");
            seen.mark_unchanged();
        }
    }
}
