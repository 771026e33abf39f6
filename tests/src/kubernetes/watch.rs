//! Watching: the changes of a resource since a version, as a stream of lines.
//!
//! In comes a request, out goes a body that ends by itself. A watch holds a version into the store's log and reads
//! on at the speed of its client: a slow one loses nothing and holds nobody up. When the log was compacted past it,
//! it ends with an ERROR event that carries `410 Expired`, as in Kubernetes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use serde_json::{Value, json};
use tokio::{
    sync::watch::Receiver,
    time::{Instant, timeout_at},
};

use super::{
    failure::Failure,
    kinds::Kind,
    read::{shown, version_of},
    request::{Asked, Options},
    store::{Change, Store},
};

/// How often an idle watch is told how far it is. Kubernetes takes a minute; tests have no minute.
const BOOKMARK_INTERVAL: Duration = Duration::from_millis(500);

/// How long a watch lasts that does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);

/// A watch in progress.
#[derive(Debug)]
pub struct Watch {
    store: Arc<Mutex<Store>>,
    /// Says that the store's version has grown.
    changed: Receiver<u64>,
    kind: Arc<Kind>,
    namespace: String,
    options: Options,
    /// Changes up to this version are sent.
    version: u64,
    /// What the client knows by bookmark or event.
    told: u64,
    /// Events that were made and not sent yet.
    waiting: VecDeque<Value>,
    deadline: Instant,
    ended: bool,
}

impl Watch {
    /// Begins a watch; the first events are what there is when it was asked so.
    ///
    /// # Errors
    /// When the options make no sense, or the version is yet to come.
    pub fn begin(
        shared: &Arc<Mutex<Store>>,
        changed: Receiver<u64>,
        kind: Arc<Kind>,
        asked: &Asked,
    ) -> Result<Self, Failure> {
        let options = asked.options.clone();
        options.fields.check(&kind.qualified())?;
        check_initial_events(&options)?;
        let namespace =
            if kind.namespaced { asked.target.namespace.clone() } else { String::new() };
        let asked_version = version_of(&options.resource_version)?;
        let store = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if asked_version > store.version() {
            return Err(Failure::version_too_large(asked_version, store.version()));
        }
        let lasts = options.timeout_seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs);
        let mut watch = Self {
            store: Arc::clone(shared),
            changed,
            kind,
            namespace,
            options,
            version: asked_version,
            told: asked_version,
            waiting: VecDeque::new(),
            deadline: Instant::now() + lasts,
            ended: false,
        };
        let from_now = match watch.options.send_initial_events {
            Some(initial) => initial || asked_version == 0,
            None => asked_version == 0,
        };
        if from_now {
            watch.version = store.version();
            watch.told = watch.version;
        }
        if from_now && watch.options.send_initial_events != Some(false) {
            watch.send_what_there_is(&store);
        }
        Ok(watch)
    }

    /// The events as lines.
    pub fn lines(self) -> impl Stream<Item = Bytes> + Send {
        stream::unfold(self, |mut watch| async move {
            let event = watch.next().await?;
            Some((Bytes::from(format!("{event}\n")), watch))
        })
    }

    /// The next event; none when the watch is over.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            self.changed.mark_unchanged();
            if let Some(event) = self.next_logged() {
                return Some(event);
            }
            let wake = self.deadline.min(Instant::now() + BOOKMARK_INTERVAL);
            match timeout_at(wake, self.changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => {
                    self.ended = Instant::now() >= self.deadline;
                    self.bookmark();
                }
            }
        }
    }

    /// The next event of the log, if there is one yet.
    fn next_logged(&mut self) -> Option<Value> {
        let shared = Arc::clone(&self.store);
        let store = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let resource = self.kind.qualified();
        loop {
            if self.version < store.compacted() {
                self.ended = true;
                let why =
                    format!("too old resource version: {} ({})", self.version, store.compacted());
                return Some(json!({"type": "ERROR", "object": Failure::expired(why).to_status()}));
            }
            let (change, version) = store.next_change(&resource, &self.namespace, self.version);
            self.version = version;
            let event = self.event(change?);
            if event.is_some() {
                self.told = version;
                return event;
            }
        }
    }

    /// What a change is to a client that sees only what its selectors select.
    fn event(&self, change: &Change) -> Option<Value> {
        let seen = |object: &Option<Arc<Value>>| {
            object
                .as_ref()
                .filter(|object| {
                    self.options.labels.selects(object) && self.options.fields.selects(object)
                })
                .cloned()
        };
        let (word, object) = match (seen(&change.before), seen(&change.after)) {
            (None, None) => return None,
            (None, Some(after)) => ("ADDED", after),
            (Some(_), Some(after)) => ("MODIFIED", after),
            (Some(before), None) => ("DELETED", before),
        };
        let mut object = shown(&self.kind, &object);
        object["metadata"]["resourceVersion"] = Value::String(change.version.to_string());
        Some(json!({"type": word, "object": object}))
    }

    fn send_what_there_is(&mut self, store: &Store) {
        let resource = self.kind.qualified();
        for (_, object) in store.list(&resource, &self.namespace) {
            if self.options.labels.selects(object) && self.options.fields.selects(object) {
                let object = shown(&self.kind, object);
                self.waiting.push_back(json!({"type": "ADDED", "object": object}));
            }
        }
        if self.options.send_initial_events == Some(true) && self.options.bookmarks {
            let mut event = self.bookmark_event();
            event["object"]["metadata"]["annotations"] =
                json!({"k8s.io/initial-events-end": "true"});
            self.waiting.push_back(event);
        }
    }

    /// Tells the client how far it is, when it does not know.
    fn bookmark(&mut self) {
        if self.options.bookmarks && self.told < self.version {
            self.told = self.version;
            let event = self.bookmark_event();
            self.waiting.push_back(event);
        }
    }

    fn bookmark_event(&self) -> Value {
        json!({"type": "BOOKMARK", "object": {
            "kind": self.kind.kind, "apiVersion": self.kind.api_version(),
            "metadata": {"resourceVersion": self.version.to_string()},
        }})
    }
}

fn check_initial_events(options: &Options) -> Result<(), Failure> {
    let refuse = |why: &str| {
        let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {why}");
        let mut failure = Failure::new(http::StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
        failure.details = json!({"group": "meta.k8s.io", "kind": "ListOptions"});
        Err(failure)
    };
    match (options.send_initial_events, options.resource_version_match.as_str()) {
        (Some(_), "NotOlderThan") | (None, "") => Ok(()),
        (Some(_), _) => refuse(
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (None, _) => refuse(
            "resourceVersionMatch: Forbidden: only a watch with sendInitialEvents may set it",
        ),
    }
}
