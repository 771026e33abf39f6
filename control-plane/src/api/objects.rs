//! Apply, get, delete and watch of objects. Text is parsed here, at the edge; what a user did wrong comes
//! back as that object's result, never as a failure of the whole call.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, stream};
use tonic::Status;
use weft_proto::api::{self, object_result::Outcome as Told, watch_event};

use super::foresight::{Foresight, is_foreseen};
use crate::{
    index::routes::is_own,
    model::{
        ConditionStatus, DEFAULT_NAMESPACE, Kind, Object, ObjectKey, Scope,
        gateway::route::unsupported, parse_object, shown::shown,
    },
    status::{judge::REFUSED, routes::PARTIALLY_INVALID},
    store::{Event, Outcome, Store, StoreError, Watch, Written},
};

/// The stream of a watch.
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<api::WatchEvent, Status>> + Send>>;

/// Creates or changes objects, one by one in the order given.
pub(super) async fn apply(
    store: &dyn Store,
    objects: &[String],
    dry_run: bool,
) -> Vec<api::ObjectResult> {
    let mut outcomes = Vec::with_capacity(objects.len());
    for text in objects {
        outcomes.push(apply_one(store, text, dry_run).await);
    }
    // Looked at once all are written: one may refer to another that comes after it.
    let written =
        outcomes.iter().filter_map(|outcome| Some(Arc::clone(&outcome.as_ref().ok()?.object)));
    let written: Vec<Arc<Object>> = written.collect();
    let foresight = match written.iter().any(|object| is_foreseen(object.kind())) {
        true => Foresight::of(store, &written).await.ok(),
        false => None,
    };
    let answer = |outcome: Result<Written, api::ObjectResult>| match outcome {
        Ok(Written { object, outcome }) => {
            let said = not_in_force(&object, foresight.as_ref());
            result(object.key().to_string(), told(outcome), said)
        }
        Err(refused) => refused,
    };
    outcomes.into_iter().map(answer).collect()
}

/// Writes one object; what it was refused with.
async fn apply_one(
    store: &dyn Store,
    text: &str,
    dry_run: bool,
) -> Result<Written, api::ObjectResult> {
    let object = parse_object(text).map_err(|error| {
        // The object has its own place in the result: the message need not name it again.
        let unnamed = crate::model::ParseError { object: String::new(), ..error.clone() };
        result(error.object, Told::Refused, unnamed.to_string())
    })?;
    let key = object.key().to_string();
    let written = store.write(object, dry_run).await;
    written.map_err(|error| result(key, Told::Refused, error.to_string()))
}

const fn told(outcome: Outcome) -> Told {
    match outcome {
        Outcome::Created => Told::Created,
        Outcome::Configured => Told::Configured,
        Outcome::Unchanged => Told::Unchanged,
    }
}

fn result(object: String, outcome: Told, message: String) -> api::ObjectResult {
    api::ObjectResult { object, outcome: outcome.into(), message }
}

/// What of an object's present generation is known not to be in force: what has no support, what its status will say,
/// and what it says already, where that cannot be foreseen. Nothing is said twice.
fn not_in_force(object: &Object, foresight: Option<&Foresight>) -> String {
    let foresight = foresight.filter(|_| is_foreseen(object.kind()));
    let generation = object.metadata().generation;
    let status = object.status();
    let of_parents = status.parents.iter().filter(|parent| is_own(parent));
    let conditions = of_parents.flat_map(|parent| &parent.conditions).chain(&status.conditions);
    let bad = conditions.filter(|condition| {
        let bad = if condition.r#type == PARTIALLY_INVALID {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        };
        // Of what is foreseen, the status may still say what was so before; only sidecars cannot be foreseen.
        let counts = foresight.is_none() || condition.reason == REFUSED;
        counts && condition.observed_generation == generation && condition.status == bad
    });
    let mut said: Vec<String> = unsupported(object).iter().map(ToString::to_string).collect();
    let foreseen = foresight.map(|foresight| foresight.not_in_force(object)).unwrap_or_default();
    for message in foreseen.into_iter().chain(bad.map(|condition| condition.message.clone())) {
        if said.iter().all(|earlier| !message.contains(earlier.as_str())) {
            said.push(message);
        }
    }
    said.join("; ")
}

/// Which objects a request means.
struct Selection {
    kind: Option<Kind>,
    namespace: String,
    name: String,
}

impl Selection {
    /// An empty kind means every kind.
    fn new(reference: api::ObjectRef) -> Result<Self, Status> {
        let kind = if reference.kind.is_empty() { None } else { Some(kind(&reference.kind)?) };
        Ok(Self { kind, namespace: reference.namespace, name: reference.name })
    }

    fn takes(&self, object: &Object) -> bool {
        let metadata = object.metadata();
        let namespaced = object.kind().info().scope == Scope::Namespaced;
        self.kind.is_none_or(|kind| kind == object.kind())
            && (self.name.is_empty() || self.name == metadata.name)
            && (self.namespace.is_empty() || !namespaced || self.namespace == metadata.namespace)
    }
}

fn kind(spelling: &str) -> Result<Kind, Status> {
    Kind::from_spelling(spelling).ok_or_else(|| {
        let known = Kind::known();
        Status::invalid_argument(format!("{spelling:?} is no known kind: use one of {known}"))
    })
}

/// Every object that the request means, and what of the store is broken.
pub(super) async fn get(
    store: &dyn Store,
    request: api::GetRequest,
) -> Result<api::GetResponse, Status> {
    let selection = Selection::new(request.r#ref.unwrap_or_default())?;
    let list = store.list().await.map_err(status)?;
    let chosen = list.objects.iter().filter(|object| selection.takes(object));
    Ok(api::GetResponse {
        objects: chosen.map(|object| shown(object).to_string()).collect(),
        problems: store.problems(),
    })
}

/// Deletes objects, one by one in the order given.
pub(super) async fn delete(
    store: &dyn Store,
    references: &[api::ObjectRef],
) -> Result<Vec<api::ObjectResult>, Status> {
    let mut results = Vec::with_capacity(references.len());
    for reference in references {
        if reference.name.is_empty() {
            return Err(Status::invalid_argument("name the object that is to be deleted"));
        }
        let namespace = match reference.namespace.as_str() {
            "" => DEFAULT_NAMESPACE,
            namespace => namespace,
        };
        let key = ObjectKey::new(kind(&reference.kind)?, namespace, &reference.name);
        results.push(match store.delete(&key).await {
            Ok(Some(_)) => result(key.to_string(), Told::Deleted, String::new()),
            Ok(None) => result(key.to_string(), Told::NotFound, format!("there is no {key}")),
            Err(error) => result(key.to_string(), Told::Refused, error.to_string()),
        });
    }
    Ok(results)
}

/// The present state of what the request means, a mark, then its changes. When the watcher is too slow the
/// stream ends with `OUT_OF_RANGE`: watch again.
pub(super) async fn watch(
    store: &dyn Store,
    request: api::GetRequest,
) -> Result<WatchStream, Status> {
    let selection = Selection::new(request.r#ref.unwrap_or_default())?;
    let watch = store.watch(None).await.map_err(status)?;
    let events = stream::unfold(Some((watch, selection)), |state| async move {
        let (mut watch, selection) = state?;
        match next(&mut watch, &selection).await {
            Ok(event) => Some((Ok(event), Some((watch, selection)))),
            Err(error) => Some((Err(status(error)), None)),
        }
    });
    Ok(Box::pin(events))
}

async fn next(watch: &mut Watch, selection: &Selection) -> Result<api::WatchEvent, StoreError> {
    loop {
        let (kind, object) = match watch.next().await? {
            Event::Applied(object) => (watch_event::Kind::Applied, object),
            Event::Deleted(object) => (watch_event::Kind::Deleted, object),
            Event::Synced(_) => {
                let kind = watch_event::Kind::Synced.into();
                return Ok(api::WatchEvent { kind, object: String::new() });
            }
        };
        if selection.takes(&object) {
            let object = shown(&object).to_string();
            return Ok(api::WatchEvent { kind: kind.into(), object });
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn status(error: StoreError) -> Status {
    let text = error.to_string();
    match error {
        StoreError::HandMade { .. }
        | StoreError::ReadOnly { .. }
        | StoreError::NotAllowed { .. } => Status::failed_precondition(text),
        StoreError::Cluster { .. } => Status::unavailable(text),
        StoreError::Conflict { .. } => Status::aborted(text),
        StoreError::TooOld { .. } => Status::out_of_range(text),
        StoreError::InUse { .. } | StoreError::Closing => Status::unavailable(text),
        StoreError::Io { .. } => Status::internal(text),
    }
}
