//! The state folder: what must outlive the process beside the files themselves. Versions that were given
//! out, each file's last good objects, each object's status.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Objects, StoreError, Version,
    files::{self, Durability, FileName, failed},
    stamp::{at_version, version_of},
};
use crate::model::{Object, ObjectKey, Status, parse_object};

/// The state folder.
#[derive(Debug)]
pub(super) struct State {
    folder: PathBuf,
    /// The last version given out.
    version: Version,
    /// Up to here versions may be given out without asking the disk.
    reserved: Version,
    _lock: File,
}

/// How many versions are reserved at a time: a restart skips at most so many.
const RESERVE: u64 = 1024;

/// How long a starting control plane waits for a stopping one.
const HANDOVER: Duration = Duration::from_secs(2);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatusRecord {
    uid: String,
    resource_version: String,
    status: Status,
}

impl State {
    /// Takes hold of the folder. Versions begin above all that were given out before.
    pub(super) async fn open(root: &Path) -> Result<Self, StoreError> {
        let folder = root.join("state");
        files::prepare_folder(&folder)?;
        let lock = lock(root, &folder.join("lock")).await?;
        for inner in ["status", "last-good", "last-good/managed"] {
            files::prepare_folder(&folder.join(inner))?;
        }
        let reserved = fs::read_to_string(folder.join("version")).ok();
        let reserved = reserved.and_then(|text| text.trim().parse().ok()).unwrap_or_default();
        Ok(Self { folder, version: reserved, reserved, _lock: lock })
    }

    /// The last version given out, over all lives of the store.
    pub(super) const fn version(&self) -> Version {
        self.version
    }

    /// A version that none was given before.
    pub(super) fn next_version(&mut self) -> Result<Version, StoreError> {
        let next = Version(self.version.0 + 1);
        if next > self.reserved {
            let reserved = Version(next.0 + RESERVE);
            let path = self.folder.join("version");
            files::replace(&path, reserved.to_string().as_bytes(), Durability::Synced)?;
            self.reserved = reserved;
        }
        self.version = next;
        Ok(next)
    }

    fn last_good(&self, file: &FileName) -> PathBuf {
        let folder = self.folder.join("last-good");
        let name = format!("{}.json", file.name);
        if file.managed { folder.join("managed").join(name) } else { folder.join(name) }
    }

    /// Remembers what a file says while it is right.
    pub(super) fn keep_last_good<'a>(
        &self,
        file: &FileName,
        objects: impl Iterator<Item = &'a Object>,
    ) -> Result<(), StoreError> {
        let objects: Vec<serde_json::Value> = objects.map(Object::to_json).collect();
        let text = serde_json::Value::from(objects).to_string();
        files::replace(&self.last_good(file), text.as_bytes(), Durability::Synced)
    }

    /// Forgets a file.
    pub(super) fn drop_last_good(&self, file: &FileName) -> Result<(), StoreError> {
        files::remove(&self.last_good(file))
    }

    /// Every file's last good objects, with their statuses.
    pub(super) fn load(&mut self) -> Result<BTreeMap<FileName, Vec<Arc<Object>>>, StoreError> {
        let mut all = BTreeMap::new();
        for managed in [false, true] {
            let probe = FileName { managed, name: String::new() };
            let path = self.last_good(&probe);
            let Some(folder) = path.parent() else { continue };
            for entry in fs::read_dir(folder).map_err(failed("read", folder))?.flatten() {
                let name = entry.file_name();
                let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".json")) else {
                    continue;
                };
                let file = FileName { managed, name: name.to_owned() };
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                all.insert(file, self.read_objects(&entry.path(), &text));
            }
        }
        Ok(all)
    }

    fn read_objects(&mut self, path: &Path, text: &str) -> Vec<Arc<Object>> {
        let parsed: Vec<serde_json::Value> = serde_json::from_str(text).unwrap_or_default();
        let mut objects = Vec::with_capacity(parsed.len());
        for value in parsed {
            match parse_object(&value.to_string()) {
                Ok(object) => objects.push(self.with_status(object)),
                // Written by another version of Weft: the file itself says what is so.
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "forgot a last good state");
                }
            }
        }
        objects
    }

    fn with_status(&mut self, mut object: Object) -> Arc<Object> {
        let mut version = version_of(&object).unwrap_or_default();
        let text = fs::read_to_string(self.status(&object.key())).unwrap_or_default();
        if let Ok(record) = serde_json::from_str::<StatusRecord>(&text)
            && object.metadata().uid.as_ref() == Some(&record.uid)
        {
            *object.status_mut() = record.status;
            version = version.max(record.resource_version.parse().unwrap_or_default());
        }
        // Should the counter itself be lost, versions still do not go back.
        self.version = self.version.max(version);
        at_version(object, version)
    }

    fn status(&self, key: &ObjectKey) -> PathBuf {
        self.folder.join("status").join(format!("{}.json", file_stem(key)))
    }

    /// Remembers an object's status. It can be found out again, so that a loss of power may undo this.
    pub(super) fn keep_status(&self, object: &Object) -> Result<(), StoreError> {
        let metadata = object.metadata();
        let record = StatusRecord {
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            status: object.status().clone(),
        };
        let text = serde_json::to_string(&record).unwrap_or_default();
        files::replace(&self.status(&object.key()), text.as_bytes(), Durability::Whole)
    }

    /// Forgets an object's status.
    pub(super) fn drop_status(&self, key: &ObjectKey) -> Result<(), StoreError> {
        files::remove(&self.status(key))
    }
}

/// A name for the file of an object. No two objects share one: kinds and namespaces have no dots.
pub(super) fn file_stem(key: &ObjectKey) -> String {
    let plural = key.kind.info().plural;
    if key.namespace.is_empty() {
        format!("{plural}.{}", key.name)
    } else {
        format!("{plural}.{}.{}", key.namespace, key.name)
    }
}

/// Makes sure that this process alone has the store, until the file is closed. One that is just stopping
/// is waited for.
async fn lock(root: &Path, path: &Path) -> Result<File, StoreError> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(failed("open", path))?;
    let deadline = tokio::time::Instant::now() + HANDOVER;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(failed("lock", path)(source)),
            Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse { path: root.to_owned() });
            }
        }
    }
}

/// The objects of all files by key; of several with one key the first.
pub(super) fn by_key(files: &BTreeMap<FileName, Vec<Arc<Object>>>) -> Objects {
    let mut objects = Objects::new();
    for object in files.values().flatten() {
        objects.entry(object.key()).or_insert_with(|| Arc::clone(object));
    }
    objects
}
