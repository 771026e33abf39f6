//! The operator's objects, in memory: files are watched in real time, which a simulation does not have.

use std::{collections::BTreeMap, sync::Arc};

use weft_control_plane::{
    model::{Object, ObjectKey, Status, parse_object},
    store::{List, Outcome, Store, StoreError, Version, Watch, Written, log::Log},
};

/// A store that outlives its control plane, and forgets with the scenario.
#[derive(Clone)]
pub(crate) struct Objects(Arc<Log>);

impl Objects {
    /// With these objects, as JSON.
    pub(crate) fn new(objects: &[serde_json::Value]) -> Self {
        let store = Self(Arc::new(Log::new(BTreeMap::new(), Version(1))));
        for object in objects {
            store.apply(object);
        }
        store
    }

    /// Creates or replaces an object.
    pub(crate) fn apply(&self, object: &serde_json::Value) {
        let object = parse_object(&object.to_string()).expect("an object");
        self.0.apply(self.next(), Arc::new(object));
    }

    /// Deletes an object, given as it was applied.
    pub(crate) fn remove(&self, object: &serde_json::Value) {
        let object = parse_object(&object.to_string()).expect("an object");
        self.0.remove(self.next(), &object.key());
    }

    fn next(&self) -> Version {
        Version(self.0.list().version.0 + 1)
    }
}

#[tonic::async_trait]
impl Store for Objects {
    async fn list(&self) -> Result<List, StoreError> {
        Ok(self.0.list())
    }

    async fn watch(&self, since: Option<Version>) -> Result<Watch, StoreError> {
        self.0.watch(since)
    }

    async fn write(&self, object: Object, _dry_run: bool) -> Result<Written, StoreError> {
        let object = Arc::new(object);
        self.0.apply(self.next(), object.clone());
        Ok(Written { object, outcome: Outcome::Configured })
    }

    async fn delete(&self, key: &ObjectKey) -> Result<Option<Arc<Object>>, StoreError> {
        Ok(self.0.remove(self.next(), key))
    }

    async fn write_status(&self, _: &ObjectKey, _: &str, _: Status) -> Result<(), StoreError> {
        Ok(())
    }

    fn problems(&self) -> Vec<String> {
        Vec::new()
    }
}
