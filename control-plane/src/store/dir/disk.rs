//! What is known of the files, and the steps that change it: look through the directory, write, delete.
//! Every step ends in `settle`, which makes the log equal to what the files say.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Objects, StoreError, Version, Written,
    files::{self, Durability, FileName, Look},
    merge::{Merged, Placed, merge},
    stamp::{Fresh, at_version, same, stamp},
    state::{State, by_key, file_stem},
};
use crate::{
    model::{Object, ObjectKey, Status, parse_documents},
    store::{Outcome, log::Log},
};

/// The files, as last read.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    state: State,
    files: BTreeMap<FileName, KnownFile>,
    /// Why the directory itself could not be read, when last tried.
    unreadable: Option<String>,
}

/// A file, as last read.
#[derive(Debug, Default)]
struct KnownFile {
    look: Option<Look>,
    /// What it said when it was last right.
    objects: Vec<Placed>,
    /// What is wrong with it now.
    problems: Vec<String>,
    /// `objects` differs from the last good state on disk.
    unsaved: bool,
}

impl KnownFile {
    fn take_in(&mut self, mut objects: Vec<Placed>) {
        let mut unchanged = objects.len() == self.objects.len();
        for (new, old) in objects.iter_mut().zip(&self.objects) {
            if new.object.key() == old.object.key() && same(&new.object, &old.object) {
                new.object = Arc::clone(&old.object);
            } else {
                unchanged = false;
            }
        }
        self.objects = objects;
        self.unsaved |= !unchanged;
    }
}

impl Disk {
    /// Takes hold of a directory, with what is remembered of it. Nothing has been looked at yet.
    pub(super) async fn open(root: &Path) -> Result<(Self, Objects, Version), StoreError> {
        files::prepare_folder(root)?;
        let mut state = State::open(root).await?;
        files::prepare_folder(&files::managed(root))?;
        let remembered = state.load()?;
        let objects = by_key(&remembered);
        let known = |objects: Vec<Arc<Object>>| KnownFile {
            objects: objects.into_iter().map(|object| Placed { object, line: 0 }).collect(),
            ..KnownFile::default()
        };
        let files = remembered.into_iter().map(|(file, objects)| (file, known(objects))).collect();
        let version = state.version();
        Ok((Self { root: root.to_owned(), state, files, unreadable: None }, objects, version))
    }

    /// What is wrong with the directory, for people.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.unreadable.iter().cloned().collect();
        problems.extend(self.files.values().flat_map(|file| file.problems.iter().cloned()));
        for shadowed in self.merged().shadowed {
            let (file, by) = (self.shown(shadowed.file), self.shown(shadowed.by));
            let line = match shadowed.line {
                0 => String::new(),
                line => format!(":{line}"),
            };
            problems.push(format!(
                "{file}{line}: {} stands in {by} already, which is in force: remove one of them",
                shadowed.key
            ));
        }
        problems
    }

    /// Looks through the directory for files that are new, changed or gone.
    pub(super) fn rescan(&mut self, log: &Log) -> Result<(), StoreError> {
        let listed = match files::list(&self.root) {
            Ok(listed) => listed,
            Err(error) => {
                // Without a directory nothing is known to be gone.
                self.unreadable = Some(error.to_string());
                return Ok(());
            }
        };
        self.unreadable = None;
        let gone: Vec<FileName> =
            self.files.keys().filter(|file| !listed.contains_key(*file)).cloned().collect();
        for file in gone {
            self.forget(&file)?;
        }
        for (file, look) in listed {
            let known = self.files.get(&file);
            if look.is_none() || known.is_none_or(|known| known.look != look) {
                self.read(&file, look);
            }
        }
        self.settle(log)
    }

    fn forget(&mut self, file: &FileName) -> Result<(), StoreError> {
        self.state.drop_last_good(file)?;
        self.files.remove(file);
        Ok(())
    }

    /// Reads a file. When it is broken, what it said before stays.
    fn read(&mut self, file: &FileName, look: Option<Look>) {
        let path = file.path(&self.root);
        let shown = self.shown(file);
        let known = self.files.entry(file.clone()).or_default();
        known.look = look;
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                known.problems = vec![format!("{shown}: cannot be read: {error}")];
                return;
            }
        };
        let mut objects = Vec::new();
        known.problems.clear();
        for document in parse_documents(&shown, &text) {
            match document {
                Ok(parsed) => {
                    objects.push(Placed { object: Arc::new(parsed.object), line: parsed.line });
                }
                Err(error) => known.problems.push(error.to_string()),
            }
        }
        if known.problems.is_empty() {
            known.take_in(objects);
        }
    }

    fn merged(&self) -> Merged<'_> {
        merge(self.files.iter().map(|(file, known)| (file, known.objects.as_slice())))
    }

    /// Makes the log say what the files say, and remembers what is good.
    fn settle(&mut self, log: &Log) -> Result<(), StoreError> {
        let present: Objects =
            log.list().objects.into_iter().map(|object| (object.key(), object)).collect();
        let merged = self.merged();
        let gone: Vec<ObjectKey> =
            present.keys().filter(|key| !merged.in_force.contains_key(*key)).cloned().collect();
        let changed: Vec<(ObjectKey, FileName, Arc<Object>)> = merged
            .in_force
            .iter()
            .filter(|(key, (_, placed))| {
                present.get(key).is_none_or(|present| !same(present, &placed.object))
            })
            .map(|(key, (file, placed))| (key.clone(), (*file).clone(), Arc::clone(&placed.object)))
            .collect();
        for key in gone {
            let version = self.state.next_version()?;
            log.remove(version, &key);
            self.state.drop_status(&key)?;
        }
        for (key, file, written) in changed {
            let fresh = fresh(file.managed.then_some(&*written));
            let stamped = stamp((*written).clone(), present.get(&key), &fresh);
            log_apply(log, at_version(stamped, self.state.next_version()?));
        }
        self.save(log)
    }

    /// Writes the last good state of files that were read anew, with what the log added to their objects.
    fn save(&mut self, log: &Log) -> Result<(), StoreError> {
        for (file, known) in self.files.iter_mut().filter(|(_, known)| known.unsaved) {
            for placed in &mut known.objects {
                if let Some(kept) = log.find(&placed.object.key())
                    && same(&kept, &placed.object)
                {
                    placed.object = kept;
                }
            }
            let objects = known.objects.iter().map(|placed| &*placed.object);
            self.state.keep_last_good(file, objects)?;
            known.unsaved = false;
        }
        Ok(())
    }

    /// Creates or replaces an object of the API's.
    pub(super) fn write(
        &mut self,
        log: &Log,
        object: Object,
        dry_run: bool,
    ) -> Result<Written, StoreError> {
        let key = object.key();
        let present = log.find(&key);
        check_version(&key, &object, present.as_deref())?;
        if let Some(present) = present.as_ref().filter(|present| same(present, &object)) {
            let object = Arc::clone(present);
            return Ok(Written { object, outcome: Outcome::Unchanged });
        }
        self.check_owner(&key)?;
        let outcome = if present.is_some() { Outcome::Configured } else { Outcome::Created };
        let stamped = stamp(object, present.as_ref(), &fresh(None));
        if dry_run {
            return Ok(Written { object: Arc::new(stamped), outcome });
        }
        let file = own_file(&key);
        let path = file.path(&self.root);
        files::replace(&path, yaml(&stamped).as_bytes(), Durability::Synced)?;
        self.read(&file, None);
        self.settle(log)?;
        let object = log.find(&key).unwrap_or_else(|| Arc::new(stamped));
        Ok(Written { object, outcome })
    }

    /// Deletes an object of the API's.
    pub(super) fn delete(
        &mut self,
        log: &Log,
        key: &ObjectKey,
    ) -> Result<Option<Arc<Object>>, StoreError> {
        self.check_owner(key)?;
        let Some(object) = log.find(key) else { return Ok(None) };
        let file = own_file(key);
        files::remove(&file.path(&self.root))?;
        self.forget(&file)?;
        self.settle(log)?;
        Ok(Some(object))
    }

    /// Whether the API may change an object: it stands in the API's own file, and alone there.
    fn check_owner(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let own = own_file(key);
        let in_force = self.merged().in_force.get(key).map(|(file, _)| (*file).clone());
        let alone = |file: &KnownFile| file.objects.iter().all(|other| other.object.key() == *key);
        let file = match in_force {
            Some(file) if file != own => file,
            _ if self.files.get(&own).is_none_or(alone) => return Ok(()),
            _ => own,
        };
        Err(StoreError::HandMade { object: key.clone(), file: file.path(&self.root) })
    }

    /// Replaces an object's status.
    pub(super) fn write_status(
        &mut self,
        log: &Log,
        key: &ObjectKey,
        uid: &str,
        status: Status,
    ) -> Result<(), StoreError> {
        let Some(present) = log.find(key) else { return Ok(()) };
        if present.metadata().uid.as_deref() != Some(uid) || *present.status() == status {
            return Ok(());
        }
        let mut object = (*present).clone();
        *object.status_mut() = status;
        let object = at_version(object, self.state.next_version()?);
        self.state.keep_status(&object)?;
        log_apply(log, object);
        Ok(())
    }

    fn shown(&self, file: &FileName) -> String {
        file.path(&self.root).display().to_string()
    }
}

/// The file in which the API keeps an object.
fn own_file(key: &ObjectKey) -> FileName {
    FileName { managed: true, name: format!("{}.yaml", file_stem(key)) }
}

fn log_apply(log: &Log, object: Arc<Object>) {
    let version = super::stamp::version_of(&object).unwrap_or_default();
    log.apply(version, object);
}

/// A managed file's own uid and creation time hold where nothing else is remembered of its object.
fn fresh(managed: Option<&Object>) -> Fresh {
    let metadata = managed.map(Object::metadata);
    let uid = metadata.and_then(|metadata| metadata.uid.clone());
    let created = metadata.and_then(|metadata| metadata.creation_timestamp.clone());
    Fresh { uid: uid.unwrap_or_else(new_uid), now: created.unwrap_or_else(now) }
}

/// A random UUID (RFC 9562, version 4).
fn new_uid() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0b11 << 62) | (4 << 76) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn now() -> String {
    let now = OffsetDateTime::now_utc();
    let seconds = now.replace_nanosecond(0).unwrap_or(now);
    seconds.format(&Rfc3339).unwrap_or_default()
}

fn check_version(
    key: &ObjectKey,
    object: &Object,
    present: Option<&Object>,
) -> Result<(), StoreError> {
    let Some(given) = object.metadata().resource_version.clone() else { return Ok(()) };
    let version = present.and_then(|present| present.metadata().resource_version.clone());
    if version.as_ref() == Some(&given) {
        return Ok(());
    }
    let present = version.map_or_else(
        || "there is no such object".to_owned(),
        |version| format!("the object is at {version:?}"),
    );
    Err(StoreError::Conflict { object: key.clone(), given, present })
}

/// An object as a managed file holds it: all but what the state folder remembers.
fn yaml(object: &Object) -> String {
    let mut json = object.to_json();
    if let Some(fields) = json.as_object_mut() {
        fields.remove("status");
    }
    serde_norway::to_string(&json).unwrap_or_else(|_| json.to_string())
}
