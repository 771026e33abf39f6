//! What the store adds to an object: uid, creation time, generation, version. Pure.

use std::sync::Arc;

use super::Version;
use crate::model::Object;

/// What a change to be made is given.
#[derive(Debug, Clone)]
pub(super) struct Fresh {
    /// For an object that is new.
    pub(super) uid: String,
    /// RFC 3339.
    pub(super) now: String,
}

/// Whether the operator wants the same of both objects.
pub(super) fn same(one: &Object, other: &Object) -> bool {
    let (a, b) = (one.metadata(), other.metadata());
    one.same_spec(other) && a.labels == b.labels && a.annotations == b.annotations
}

/// The object as it is to be kept: `written` by somebody, where `present` was before. The version is the
/// caller's to set. Status is never the writer's.
pub(super) fn stamp(mut written: Object, present: Option<&Arc<Object>>, fresh: &Fresh) -> Object {
    let spec_changed = present.is_none_or(|present| !present.same_spec(&written));
    let generation = present.map_or(0, |present| present.metadata().generation);
    *written.status_mut() = present.map(|present| present.status().clone()).unwrap_or_default();
    let metadata = written.metadata_mut();
    metadata.resource_version = None;
    metadata.generation = generation + u64::from(spec_changed);
    match present {
        Some(present) => {
            metadata.uid.clone_from(&present.metadata().uid);
            metadata.creation_timestamp.clone_from(&present.metadata().creation_timestamp);
        }
        None => {
            metadata.uid = Some(fresh.uid.clone());
            metadata.creation_timestamp = Some(fresh.now.clone());
        }
    }
    written
}

/// Gives the object its version.
pub(super) fn at_version(mut object: Object, version: Version) -> Arc<Object> {
    object.metadata_mut().resource_version = Some(version.to_string());
    Arc::new(object)
}

/// The version that an object was given, if any.
pub(super) fn version_of(object: &Object) -> Option<Version> {
    object.metadata().resource_version.as_deref()?.parse().ok()
}
