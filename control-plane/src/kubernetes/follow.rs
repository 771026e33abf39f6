//! A kind's objects and their changes, for as long as it is polled and there is such a kind.
//!
//! Comes in: the API's list and watch. Goes out: the whole state after each list, then single changes. kube's
//! watcher resumes by resource version and bookmark; when the API has forgotten that version (410) it lists anew, and
//! the state replaces the one before, so that nothing is missed. Failures are retried with growing, jittered pauses.

use std::{fmt::Debug, pin::pin, time::Duration};

use futures_util::StreamExt as _;
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

/// Where the objects go.
pub(crate) trait Sink<K>: Send {
    /// These exist, and no others.
    fn replace(&mut self, all: Vec<K>);
    /// One is new or changed.
    fn apply(&mut self, one: K);
    /// One is gone; this was its last form.
    fn remove(&mut self, one: K);
}

/// From the loss of a kind that every API has to the next try.
const AGAIN: Duration = Duration::from_secs(3);

/// Follows a kind that every API has, for ever. `what` names it in the log.
pub(crate) async fn follow<K>(api: Api<K>, what: &'static str, mut sink: impl Sink<K>)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    loop {
        follow_while_served(api.clone(), what, &mut sink).await;
        sleep(AGAIN).await;
    }
}

/// Follows a kind until the API says that it has none such. What is known of its objects stays with the sink: an API
/// that has just started may say so of kinds that it is about to have.
pub(crate) async fn follow_while_served<K>(api: Api<K>, what: &'static str, sink: &mut impl Sink<K>)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let events = watcher::watcher(api, watcher::Config::default()).default_backoff();
    let mut events = pin!(events);
    let mut listed: Vec<K> = Vec::new();
    let mut failing = false;
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event.modify(forget_managers),
            Err(error) if is_absent(&error) => {
                tracing::warn!(what, "the cluster does not know this kind; what is known stays");
                return;
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(what, %error, "the Kubernetes API does not answer as it should; what is known stays");
                }
                failing = true;
                continue;
            }
        };
        if std::mem::take(&mut failing) {
            tracing::info!(what, "the Kubernetes API answers again");
        }
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => listed.push(object),
            Event::InitDone => sink.replace(std::mem::take(&mut listed)),
            Event::Apply(object) => sink.apply(object),
            Event::Delete(object) => sink.remove(object),
        }
    }
}

/// Who wrote which field is half of an object, and of no use here: a whole cluster of them is held while it is listed.
fn forget_managers<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

/// Whether the API has no such kind.
fn is_absent(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}
