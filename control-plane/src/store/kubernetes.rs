//! The store in a cluster: the operator's objects live in the Kubernetes API.
//!
//! Each kind is followed by a task of its own into one [`Log`], which gives lists and watches to the rest of the
//! control plane; so it goes on with what it knows while the API is away. Versions of the log are this process's own;
//! `metadata.resourceVersion` is the cluster's. An object that Weft cannot read (a kind of ours from before a
//! definition was made stricter) leaves its last good form in force, is named among the problems, and in its status.
//! Without a last good form, as after a start, what guards access is closed (`model::stand_in`). Of a route whose rules
//! cannot all be read the others hold (`model::gateway::salvage`).
//!
//! - `versions`: in which version each kind is served.
//!
//! Core kinds (Service, Namespace, ServiceAccount) are only read: their status is not ours.

mod versions;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use versions::{follow_kind, resource};

use super::{List, Outcome, Store, StoreError, Unreadable, Version, Watch, Written, log::Log};
use crate::{
    index::routes::{CONTROLLER, is_own},
    kubernetes::{FIELD_MANAGER, follow::Sink},
    model::{
        KINDS, Kind, KindInfo, Object, ObjectKey, Route, Scope, Status,
        gateway::salvage::salvage,
        kinds::CORE,
        parse_object, parse_outline,
        stand_in::{stand_in, unread},
    },
};

/// The objects of a cluster.
pub struct KubernetesStore {
    client: Client,
    state: Arc<State>,
    /// How many kinds have been read once.
    read: watch::Receiver<usize>,
}

/// What the kinds' tasks share.
struct State {
    log: Arc<Log>,
    /// The log's next version, and what could not be read, by object.
    inner: Mutex<Inner>,
    read: AtomicUsize,
    tell_read: watch::Sender<usize>,
    unreadable: watch::Sender<Vec<Unreadable>>,
}

#[derive(Default)]
struct Inner {
    version: Version,
    problems: BTreeMap<ObjectKey, Problem>,
    /// The version in which a kind was last served.
    served: BTreeMap<Kind, &'static str>,
}

/// What is wrong with an object, and what of it can be read.
struct Problem {
    message: String,
    outline: Option<Arc<Object>>,
}

impl KubernetesStore {
    /// Follows every kind in tasks, which end with the set.
    #[must_use]
    pub fn follow(client: Client, tasks: &mut JoinSet<()>) -> Self {
        let (tell_read, read) = watch::channel(0);
        let log = Arc::new(Log::new(BTreeMap::new(), Version::default()));
        let inner = Mutex::default();
        let (unreadable, _) = watch::channel(Vec::new());
        let read_kinds = AtomicUsize::new(0);
        let state = Arc::new(State { log, inner, read: read_kinds, tell_read, unreadable });
        for info in KINDS {
            let sink = OfKind { info, state: state.clone(), is_read: false };
            tasks.spawn(follow_kind(client.clone(), info, sink));
        }
        Self { client, state, read }
    }

    /// Resolves when every kind has been read. Cancel-safe.
    pub async fn synced(&self) {
        // The sender lives in the state, which we hold.
        let _ = self.read.clone().wait_for(|read| *read == KINDS.len()).await;
    }

    /// An object as it is known.
    #[must_use]
    pub fn find(&self, key: &ObjectKey) -> Option<Arc<Object>> {
        self.state.log.find(key)
    }

    fn api(&self, key: &ObjectKey) -> Api<DynamicObject> {
        let resource = resource(key.kind.info(), self.state.version(key.kind));
        match key.kind.info().scope {
            Scope::Namespaced => {
                Api::namespaced_with(self.client.clone(), &key.namespace, &resource)
            }
            Scope::Mesh => Api::all_with(self.client.clone(), &resource),
        }
    }
}

/// One kind's objects, into the log.
struct OfKind {
    info: &'static KindInfo,
    state: Arc<State>,
    is_read: bool,
}

impl Sink<DynamicObject> for OfKind {
    fn replace(&mut self, all: Vec<DynamicObject>) {
        let mut inner = self.state.lock();
        let seen: HashSet<ObjectKey> = all.iter().map(|object| self.key(object)).collect();
        for object in all {
            self.take_in(&mut inner, object);
        }
        inner.problems.retain(|key, _| key.kind != self.info.kind || seen.contains(key));
        let known = self.state.log.list().objects.into_iter().map(|object| object.key());
        for gone in known.filter(|key| key.kind == self.info.kind && !seen.contains(key)) {
            self.forget(&mut inner, &gone);
        }
        self.state.tell_unreadable(&inner);
        if !std::mem::replace(&mut self.is_read, true) {
            let read = self.state.read.fetch_add(1, Ordering::Relaxed) + 1;
            self.state.tell_read.send_replace(read);
        }
    }

    fn apply(&mut self, one: DynamicObject) {
        let mut inner = self.state.lock();
        self.take_in(&mut inner, one);
        self.state.tell_unreadable(&inner);
    }

    fn remove(&mut self, one: DynamicObject) {
        let mut inner = self.state.lock();
        self.forget(&mut inner, &self.key(&one));
        self.state.tell_unreadable(&inner);
    }
}

impl OfKind {
    /// The kind is served in this version.
    fn serve(&self, version: &'static str) {
        self.state.lock().served.insert(self.info.kind, version);
    }

    fn key(&self, object: &DynamicObject) -> ObjectKey {
        let namespace = object.namespace().unwrap_or_default();
        ObjectKey::new(self.info.kind, &namespace, &object.name_any())
    }

    fn take_in(&self, inner: &mut Inner, object: DynamicObject) {
        let key = self.key(&object);
        match parse(self.info, object.clone()) {
            Ok(object) => {
                inner.problems.remove(&key);
                self.put_in_force(inner, &key, object);
            }
            Err(message) => self.take_unreadable(inner, key, object, message),
        }
    }

    /// Takes an object in that cannot be read: in parts, where it is a route; where it guards access and nothing better
    /// is known of it, as what stands for it.
    fn take_unreadable(
        &self,
        inner: &mut Inner,
        key: ObjectKey,
        object: DynamicObject,
        message: String,
    ) {
        // Its own status is no news.
        if inner.problems.get(&key).is_none_or(|known| known.message != message) {
            tracing::warn!(problem = message, "an object of the cluster cannot be read as it is");
        }
        let json = json_of(self.info, object.clone());
        if let Some(route) = json.as_ref().and_then(salvage) {
            self.put_in_force(inner, &key, route);
            // Its status is as of any other route.
            inner.problems.insert(key, Problem { message, outline: None });
            return;
        }
        let known = self.state.log.find(&key);
        let is_good = known.is_some_and(|known| unread(&known).is_none());
        let guard = json.filter(|_| !is_good).and_then(|json| stand_in(&json, &message));
        let outline = match guard {
            Some(guard) => {
                self.put_in_force(inner, &key, guard.clone());
                Some(guard)
            }
            None => outline(self.info, object),
        };
        inner.problems.insert(key, Problem { message, outline: outline.map(Arc::new) });
    }

    fn put_in_force(&self, inner: &mut Inner, key: &ObjectKey, object: Object) {
        if self.state.log.find(key).is_none_or(|known| *known != object) {
            self.state.log.apply(inner.next(), Arc::new(object));
        }
    }

    fn forget(&self, inner: &mut Inner, key: &ObjectKey) {
        inner.problems.remove(key);
        let version = inner.next();
        self.state.log.remove(version, key);
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_unreadable(&self, inner: &Inner) {
        let known = inner.problems.values().filter_map(|problem| {
            let outline = Arc::clone(problem.outline.as_ref()?);
            Some(Unreadable { outline, problem: problem.message.clone() })
        });
        let known: Vec<Unreadable> = known.collect();
        self.unreadable.send_if_modified(|told| {
            let is_news = *told != known;
            *told = known;
            is_news
        });
    }

    /// An object as its status is written: as it is now, even if it cannot be read.
    fn in_cluster(&self, key: &ObjectKey) -> Option<Arc<Object>> {
        let outline = self.lock().problems.get(key).and_then(|problem| problem.outline.clone());
        outline.or_else(|| self.log.find(key))
    }

    /// The version in which to write objects of a kind.
    fn version(&self, kind: Kind) -> &'static str {
        self.lock().served.get(&kind).copied().unwrap_or(kind.info().api_version)
    }
}

impl Inner {
    fn next(&mut self) -> Version {
        self.version.0 += 1;
        self.version
    }
}

/// What can be read of an object whose spec cannot; nothing where its status could not be written.
fn outline(info: &KindInfo, mut object: DynamicObject) -> Option<Object> {
    if info.api_version == CORE {
        return None;
    }
    let fields = object.data.as_object_mut()?;
    let spec = fields.remove("spec").unwrap_or_default();
    // A route's status is said at its parents.
    if let Some(parents) = spec.get("parentRefs") {
        fields.insert("spec".to_owned(), json!({ "parentRefs": parents }));
    }
    let text = json_text(info, object).ok()?;
    parse_outline(&text).ok()
}

/// The object that the API's JSON describes.
fn parse(info: &KindInfo, mut object: DynamicObject) -> Result<Object, String> {
    if info.api_version == CORE {
        // A core kind's conditions are not ours, and of another form.
        if let Some(fields) = object.data.as_object_mut() {
            fields.remove("status");
        }
    }
    let text = json_text(info, object).map_err(|error| error.to_string())?;
    parse_object(&text).map_err(|error| error.to_string())
}

/// The same, as a value.
fn json_of(info: &KindInfo, object: DynamicObject) -> Option<Value> {
    serde_json::from_str(&json_text(info, object).ok()?).ok()
}

/// An object in the version that is read.
fn json_text(info: &KindInfo, mut object: DynamicObject) -> serde_json::Result<String> {
    object.types = Some(kube::core::TypeMeta {
        api_version: info.api_version.to_owned(),
        kind: info.name.to_owned(),
    });
    serde_json::to_string(&object)
}

#[tonic::async_trait]
impl Store for KubernetesStore {
    async fn list(&self) -> Result<List, StoreError> {
        Ok(self.state.log.list())
    }

    async fn watch(&self, since: Option<Version>) -> Result<Watch, StoreError> {
        self.state.log.watch(since)
    }

    async fn write(&self, object: Object, dry_run: bool) -> Result<Written, StoreError> {
        let key = object.key();
        if key.kind.info().api_version == CORE {
            return Err(StoreError::ReadOnly { object: key, with: "kubectl apply" });
        }
        let before = self.api(&key).get_opt(&key.name).await;
        let before = before.map_err(|error| cluster("read", &key, &error))?;
        let given = object.metadata().resource_version.clone();
        let mut json = object.to_json();
        if let Some(fields) = json.as_object_mut() {
            fields.remove("status");
            fields.insert("apiVersion".to_owned(), json!(self.state.version(key.kind)));
        }
        let settings = PatchParams { dry_run, ..PatchParams::apply(FIELD_MANAGER).force() };
        let after = self.api(&key).patch(&key.name, &settings, &Patch::Apply(json)).await;
        let after = after.map_err(|error| match (&error, given) {
            (kube::Error::Api(status), Some(given)) if status.code == 409 => {
                let object = key.clone();
                StoreError::Conflict { object, given, present: status.message.clone() }
            }
            _ => not_written("apply", &key, "kubectl apply", &error),
        })?;
        let outcome = match &before {
            None => Outcome::Created,
            Some(before) if before.data["spec"] == after.data["spec"] => Outcome::Unchanged,
            Some(_) => Outcome::Configured,
        };
        let object = parse(key.kind.info(), after).map_err(|message| StoreError::Cluster {
            action: "read",
            object: key,
            message,
        })?;
        Ok(Written { object: Arc::new(object), outcome })
    }

    async fn delete(&self, key: &ObjectKey) -> Result<Option<Arc<Object>>, StoreError> {
        if key.kind.info().api_version == CORE {
            return Err(StoreError::ReadOnly { object: key.clone(), with: "kubectl delete" });
        }
        let known = self.state.log.find(key);
        match self.api(key).delete(&key.name, &DeleteParams::default()).await {
            Ok(_) => Ok(known),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(not_written("delete", key, "kubectl delete", &error)),
        }
    }

    fn keeps_status(&self, kind: Kind) -> bool {
        // A grant has no status in Kubernetes.
        kind.info().api_version != CORE && kind != Kind::ReferenceGrant
    }

    async fn write_status(
        &self,
        key: &ObjectKey,
        uid: &str,
        status: Status,
    ) -> Result<(), StoreError> {
        // The uid makes the API refuse to write to a later object of the same name.
        let mut metadata = json!({ "name": key.name, "uid": uid });
        let mut status = json!(status);
        if let Some(known) = self.state.in_cluster(key).filter(|known| Route::of(known).is_some()) {
            // The list is one value to the API: with what others say of the route, as it is there now or not at all.
            status["parents"] = with_others(&known, &status["parents"]);
            metadata["resourceVersion"] = json!(known.metadata().resource_version);
        }
        let object = json!({
            "apiVersion": self.state.version(key.kind),
            "kind": key.kind.info().name,
            "metadata": metadata,
            "status": status,
        });
        let settings = PatchParams::apply(FIELD_MANAGER).force();
        match self.api(key).patch_status(&key.name, &settings, &Patch::Apply(object)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(()),
            Err(error) => Err(cluster("write the status of", key, &error)),
        }
    }

    fn problems(&self) -> Vec<String> {
        let inner = self.state.lock();
        inner.problems.values().map(|problem| problem.message.clone()).collect()
    }

    fn unreadable(&self) -> watch::Receiver<Vec<Unreadable>> {
        self.state.unreadable.subscribe()
    }
}

/// The entries of a route's status: what others say in its present state, and what is ours of those given.
fn with_others(known: &Object, given: &Value) -> Value {
    let others = known.status().parents.iter().filter(|parent| !is_own(parent));
    let own = given.as_array().into_iter().flatten();
    let own = own.filter(|parent| parent["controllerName"] == CONTROLLER).cloned();
    others.map(|parent| json!(parent)).chain(own).collect()
}

/// What the API said to a write. An installation's control plane reads the operator's objects, and no more.
fn not_written(
    action: &'static str,
    key: &ObjectKey,
    with: &'static str,
    error: &kube::Error,
) -> StoreError {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            let message = status.message.clone();
            StoreError::NotAllowed { action, object: key.clone(), message, with }
        }
        error => cluster(action, key, error),
    }
}

/// What the API said to it.
fn cluster(action: &'static str, key: &ObjectKey, error: &kube::Error) -> StoreError {
    let message = match error {
        kube::Error::Api(status) => status.message.clone(),
        error => error.to_string(),
    };
    StoreError::Cluster { action, object: key.clone(), message }
}

#[cfg(test)]
mod tests;
