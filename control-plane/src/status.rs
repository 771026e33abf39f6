//! Conditions back to objects: whether each took effect and, if not, why. The index comes in; statuses go to
//! the store, by the Gateway API's rules: one condition a type, the generation that it was said of, and
//! the time at which it last turned.
//!
//! - [`mod@judge`]: what there is to say of each object (pure).
//! - [`routes`]: what there is to say of a route at each of its parents (pure).
//! - [`refused`]: which policies sidecars refuse.
//! - [`combine`]: that, put into the status that the object has (pure).
//! - [`keep`]: the loop that writes what differs. It never writes what is so already: a pass after its own
//!   writes finds nothing to do.

pub mod judge;
pub mod refused;
pub mod routes;

use std::{collections::HashSet, sync::Arc, time::Duration};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    sync::{
        broadcast::{
            self,
            error::{RecvError, TryRecvError},
        },
        watch,
    },
    time::sleep,
};

use crate::{
    index::routes::{CONTROLLER, is_own},
    model::{
        Condition, ConditionStatus, Object, ObjectKey, ParentStatus, Status,
        gateway::reference::ParentRef,
    },
    store::{Store, StoreError, Unreadable, Watch},
};

pub use judge::judge;

/// What there is to say of an object under one condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The condition's type.
    pub r#type: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// A fixed word, CamelCase.
    pub reason: &'static str,
    /// For people: names the field, the value and what would be right. May be empty where it holds.
    pub message: String,
}

/// All that there is to say of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// By itself.
    pub conditions: Vec<Judgement>,
    /// Of a route: at each of its parents that is ours to speak for.
    pub parents: Vec<(ParentRef, Vec<Judgement>)>,
}

impl From<Vec<Judgement>> for Judged {
    fn from(conditions: Vec<Judgement>) -> Self {
        Self { conditions, parents: Vec::new() }
    }
}

/// The object's status with these judgements of its present generation. Time stands still for conditions
/// that did not turn. What other controllers say of a route stays.
#[must_use]
pub fn combine(object: &Object, judged: Judged, now: &str) -> Status {
    let status = object.status();
    let generation = object.metadata().generation;
    let mut parents: Vec<ParentStatus> =
        status.parents.iter().filter(|parent| !is_own(parent)).cloned().collect();
    for (parent_ref, judgements) in judged.parents {
        let known =
            status.parents.iter().find(|known| is_own(known) && known.parent_ref == parent_ref);
        let known = known.map_or(&[][..], |known| &known.conditions);
        let conditions = conditions(known, judgements, generation, now);
        let controller_name = CONTROLLER.to_owned();
        parents.push(ParentStatus { parent_ref, controller_name, conditions });
    }
    Status {
        conditions: conditions(&status.conditions, judged.conditions, generation, now),
        parents,
    }
}

fn conditions(
    known: &[Condition],
    judgements: Vec<Judgement>,
    generation: u64,
    now: &str,
) -> Vec<Condition> {
    let condition = |judgement: Judgement| {
        let status = if judgement.holds { ConditionStatus::True } else { ConditionStatus::False };
        let before = known
            .iter()
            .find(|before| before.r#type == judgement.r#type && before.status == status);
        let since = before.map_or(now, |before| before.last_transition_time.as_str());
        Condition {
            r#type: judgement.r#type.to_owned(),
            status,
            reason: judgement.reason.to_owned(),
            message: cut(judgement.message),
            observed_generation: generation,
            last_transition_time: since.to_owned(),
        }
    };
    let mut conditions: Vec<Condition> = judgements.into_iter().map(condition).collect();
    conditions.sort_by(|one, other| one.r#type.cmp(&other.r#type));
    conditions
}

/// The longest message that Kubernetes takes (metav1.Condition), less what says that it was cut.
const MAX_MESSAGE_BYTES: usize = 32_000;

/// A message of a length that Kubernetes takes.
fn cut(mut message: String) -> String {
    if message.len() > MAX_MESSAGE_BYTES {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        message.push_str(" … (there is more)");
    }
    message
}

/// Writes the status of every object whose status is no longer right. One that the store does not take keeps no other
/// from its own.
///
/// # Errors
/// When the store cannot be read, or a status not be written; then the first of the reasons.
pub async fn write_all(
    store: &dyn Store,
    judge: &(dyn Fn(&Object) -> Judged + Send + Sync),
) -> Result<(), StoreError> {
    let now = OffsetDateTime::now_utc();
    let seconds = now.replace_nanosecond(0).unwrap_or(now);
    let now = seconds.format(&Rfc3339).unwrap_or_default();
    let unreadable = store.unreadable().borrow().clone();
    let keys: HashSet<ObjectKey> = unreadable.iter().map(|one| one.outline.key()).collect();
    let objects = store.list().await?.objects.into_iter();
    // Of one that cannot be read, the last good form may be listed.
    let readable = objects.filter(|object| !keys.contains(&object.key()));
    let readable = readable.filter(|object| store.keeps_status(object.kind()));
    let judged = readable.map(|object| (judge(&object), object));
    let invalid = unreadable.iter().map(|one| (judge::invalid(one), Arc::clone(&one.outline)));
    let mut failed = None;
    for (judged, object) in judged.chain(invalid) {
        let status = combine(&object, judged, &now);
        if status != *object.status() {
            let uid = object.metadata().uid.clone().unwrap_or_default();
            if let Err(error) = store.write_status(&object.key(), &uid, status).await {
                tracing::debug!(object = %object.key(), %error, "a status is not taken");
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// From a change to the pass that takes it in: many changes make one pass.
const GATHER: Duration = Duration::from_millis(250);

/// From a failed pass to the next try.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps all statuses right, for as long as it is polled. `begin` makes the judge of one pass; `changes` tells of every
/// change of the index, `refusals` of what sidecars refuse and no longer refuse.
pub async fn keep<T: Clone + Send, Judge: Fn(&Object) -> Judged + Send + Sync>(
    store: Arc<dyn Store>,
    begin: impl Fn() -> Judge + Send + Sync,
    mut changes: broadcast::Receiver<T>,
    mut refusals: watch::Receiver<u64>,
) {
    loop {
        // Watched from before the pass on: what changes during it is taken in by the next one.
        let watch = match store.list().await {
            Ok(list) => store.watch(Some(list.version)).await,
            Err(error) => Err(error),
        };
        // One pass is enough for all that changed before it.
        while !matches!(changes.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {}
        refusals.borrow_and_update();
        let mut unreadable = store.unreadable();
        unreadable.borrow_and_update();
        if let Err(error) = write_all(&*store, &begin()).await {
            tracing::warn!(%error, "cannot write the objects' statuses");
            sleep(RETRY).await;
            continue;
        }
        let Ok(watch) = watch else { continue };
        if !changed(watch, &mut changes, &mut refusals, &mut unreadable).await {
            return;
        }
        sleep(GATHER).await;
    }
}

/// Waits until something happened. False: nothing will happen any more.
async fn changed<T: Clone>(
    mut watch: Watch,
    changes: &mut broadcast::Receiver<T>,
    refusals: &mut watch::Receiver<u64>,
    unreadable: &mut watch::Receiver<Vec<Unreadable>>,
) -> bool {
    let unreadable = async {
        // A store that reads everything never tells of any.
        if unreadable.changed().await.is_err() {
            std::future::pending().await
        }
    };
    let object = async {
        loop {
            match watch.next().await {
                Ok(crate::store::Event::Synced(_)) => {}
                Ok(_) | Err(StoreError::TooOld { .. }) => return true,
                Err(_) => return false,
            }
        }
    };
    tokio::select! {
        goes_on = object => goes_on,
        change = changes.recv() => !matches!(change, Err(RecvError::Closed)),
        refusal = refusals.changed() => refusal.is_ok(),
        () = unreadable => true,
    }
}

#[cfg(test)]
mod tests;
