//! The objects, the one number that versions them all, and the log of what changed.
//!
//! In come objects that have been checked, out go objects, snapshots as of a version and changes since one. Nothing
//! is checked here. The log is kept until it is compacted, so that a slow watch misses nothing: a watch holds a
//! version, not a queue.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde_json::Value;

use super::{
    failure::Failure,
    kinds::{BUILT_IN, Kind},
};

/// Where an object lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The kind's qualified name, as `deployments.apps`.
    pub resource: String,
    /// Empty for what has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The key of an object of a kind.
    #[must_use]
    pub fn new(kind: &Kind, namespace: &str, name: &str) -> Self {
        let namespace = if kind.namespaced { namespace } else { "" };
        Self { resource: kind.qualified(), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// One change of one object.
#[derive(Debug, Clone)]
pub struct Change {
    /// The version that it made.
    pub version: u64,
    /// Of what.
    pub key: Key,
    /// The object before, if there was one.
    pub before: Option<Arc<Value>>,
    /// The object after; none when it was deleted.
    pub after: Option<Arc<Value>>,
}

/// Everything that the server holds.
#[derive(Debug, Default)]
pub struct Store {
    objects: BTreeMap<Key, Arc<Value>>,
    log: VecDeque<Change>,
    version: u64,
    /// Changes up to this version are forgotten.
    compacted: u64,
    custom: Vec<Arc<Kind>>,
}

impl Store {
    /// The version of the last change.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The version up to which changes are forgotten.
    #[must_use]
    pub const fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Forgets all changes so far.
    pub fn compact(&mut self) {
        self.log.clear();
        self.compacted = self.version;
    }

    /// The kind that is served at a group, version and resource.
    #[must_use]
    pub fn kind(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        self.kinds()
            .find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
            .cloned()
    }

    /// All kinds that are served.
    pub fn kinds(&self) -> impl Iterator<Item = &Arc<Kind>> {
        BUILT_IN.iter().chain(&self.custom)
    }

    /// One object.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// One built-in object, as `find("pods", "shop", "web-0")`.
    #[must_use]
    pub fn find(&self, resource: &str, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        let (resource, namespace, name) =
            (resource.to_owned(), namespace.to_owned(), name.to_owned());
        self.objects.get(&Key { resource, namespace, name })
    }

    /// The objects of a resource, in one namespace or in all, in order.
    pub fn list<'a>(
        &'a self,
        resource: &'a str,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        let (namespace_from, name) = (namespace.to_owned(), String::new());
        let first = Key { resource: resource.to_owned(), namespace: namespace_from, name };
        self.objects
            .range(first..)
            .take_while(move |(key, _)| key.resource == resource)
            .take_while(move |(key, _)| namespace.is_empty() || key.namespace == namespace)
    }

    /// The objects of a resource as they were at a version.
    ///
    /// # Errors
    /// When that version is forgotten.
    pub fn list_at(
        &self,
        resource: &str,
        namespace: &str,
        version: u64,
    ) -> Result<BTreeMap<Key, Arc<Value>>, Failure> {
        if version < self.compacted {
            return Err(Failure::expired(
                "The provided continue parameter is too old to display a consistent list result. \
                 You can start a new list without the continue parameter.",
            ));
        }
        let now = self.list(resource, namespace);
        let mut objects: BTreeMap<Key, Arc<Value>> =
            now.map(|(key, object)| (key.clone(), Arc::clone(object))).collect();
        let undone = self.log.iter().rev().take_while(|change| change.version > version);
        for change in undone.filter(|change| is_in(&change.key, resource, namespace)) {
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), Arc::clone(before)),
                None => objects.remove(&change.key),
            };
        }
        Ok(objects)
    }

    /// The first change of a resource after a version, if there is one yet, and the version up to which was looked.
    #[must_use]
    pub fn next_change(
        &self,
        resource: &str,
        namespace: &str,
        after: u64,
    ) -> (Option<&Change>, u64) {
        let from = self.log.partition_point(|change| change.version <= after);
        let found = self.log.range(from..).find(|change| is_in(&change.key, resource, namespace));
        (found, found.map_or(self.version, |change| change.version))
    }

    /// Writes an object under the next version, which it is given.
    pub fn put(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = Value::String(self.version.to_string());
        let object = Arc::new(object);
        let before = self.objects.insert(key.clone(), Arc::clone(&object));
        self.note(key, before, Some(Arc::clone(&object)));
        object
    }

    /// Removes an object; it is answered as it last was.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let before = self.objects.remove(key)?;
        self.version += 1;
        self.note(key.clone(), Some(Arc::clone(&before)), None);
        Some(before)
    }

    fn note(&mut self, key: Key, before: Option<Arc<Value>>, after: Option<Arc<Value>>) {
        if key.resource == "customresourcedefinitions.apiextensions.k8s.io" {
            let definitions =
                self.objects.iter().filter(|(other, _)| other.resource == key.resource);
            self.custom = definitions
                .flat_map(|(_, definition)| Kind::of_definition(definition))
                .map(Arc::new)
                .collect();
        }
        self.log.push_back(Change { version: self.version, key, before, after });
    }
}

fn is_in(key: &Key, resource: &str, namespace: &str) -> bool {
    key.resource == resource && (namespace.is_empty() || key.namespace == namespace)
}
