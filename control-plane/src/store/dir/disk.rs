//! What is known of the files, and the steps that change it: look through the directory, write, delete.
//! Every step ends in `settle`, which makes the log equal to what the files say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Objects, StoreError, Version, Written,
    files::{self, Durability, FileName, Look},
    known::{KnownFile, shadowed},
    places::Places,
    stamp::{Fresh, at_version, same, stamp},
    state::{State, by_key, file_stem},
};
use crate::{
    model::{Object, ObjectKey, Status},
    store::{Outcome, log::Log},
};

/// The files, as last read.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    state: State,
    files: BTreeMap<FileName, KnownFile>,
    places: Places,
    /// Objects that files say something new of, which the log does not yet.
    unsettled: BTreeSet<ObjectKey>,
    /// Files whose last good state is not yet on the disk.
    unsaved: BTreeSet<FileName>,
    /// Why the directory itself could not be read, when last tried.
    unreadable: Option<String>,
    /// `problems` may have others to tell than when last asked.
    problems_changed: bool,
}

impl Disk {
    /// Takes hold of a directory, with what is remembered of it. Nothing has been looked at yet.
    pub(super) async fn open(root: &Path) -> Result<(Self, Objects, Version), StoreError> {
        files::prepare_folder(root)?;
        let mut state = State::open(root).await?;
        files::prepare_folder(&files::managed(root))?;
        let remembered = state.load()?;
        let mut disk = Self {
            root: root.to_owned(),
            state,
            files: BTreeMap::new(),
            places: Places::default(),
            unsettled: BTreeSet::new(),
            unsaved: BTreeSet::new(),
            unreadable: None,
            problems_changed: true,
        };
        for (file, objects) in &remembered {
            objects.iter().for_each(|object| disk.places.add(object.key(), file, false));
            disk.files.insert(file.clone(), KnownFile::remembered(objects));
        }
        let version = disk.state.version();
        Ok((disk, by_key(&remembered), version))
    }

    /// What is wrong with the directory, for people; `None` when that is what it was when last asked.
    pub(super) fn changed_problems(&mut self) -> Option<Vec<String>> {
        if !std::mem::take(&mut self.problems_changed) {
            return None;
        }
        let mut problems: Vec<String> = self.unreadable.iter().cloned().collect();
        problems.extend(self.files.values().flat_map(|file| file.problems.iter().cloned()));
        problems.extend(self.places.shadowed().map(|(key, file, by)| {
            let line = self.files.get(file).and_then(|file| Some(file.objects.get(key)?.line));
            let line = line.filter(|line| *line != 0).map(|line| format!(":{line}"));
            let place = self.shown(file) + &line.unwrap_or_default();
            shadowed(key, &place, &self.shown(by))
        }));
        Some(problems)
    }

    /// Looks through the directory for files that are new, changed or gone.
    pub(super) fn rescan(&mut self, log: &Log) -> Result<(), StoreError> {
        let listed = match files::list(&self.root) {
            Ok(listed) => listed,
            Err(error) => {
                // Without a directory nothing is known to be gone.
                self.unreadable = Some(error.to_string());
                self.problems_changed = true;
                return Ok(());
            }
        };
        self.problems_changed |= self.unreadable.take().is_some();
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
        self.problems_changed = true;
        self.unsaved.remove(file);
        for key in self.files.remove(file).unwrap_or_default().objects.into_keys() {
            self.places.remove(&key, file);
            self.unsettled.insert(key);
        }
        Ok(())
    }

    /// Reads a file. When it is broken, what it said before stays.
    fn read(&mut self, file: &FileName, look: Option<Look>) {
        let path = file.path(&self.root);
        let shown = self.shown(file);
        self.problems_changed = true;
        let known = self.files.entry(file.clone()).or_default();
        known.look = look;
        let touched = match fs::read_to_string(&path) {
            Ok(text) => known.take_in(&shown, &text),
            Err(error) => {
                known.problems = vec![format!("{shown}: cannot be read: {error}")];
                return;
            }
        };
        for key in touched {
            match known.objects.get(&key) {
                Some(placed) => self.places.add(key.clone(), file, placed.of_broken),
                None => self.places.remove(&key, file),
            }
            self.unsettled.insert(key);
            self.unsaved.insert(file.clone());
        }
    }

    /// Makes the log say what the files say, and remembers what is good.
    fn settle(&mut self, log: &Log) -> Result<(), StoreError> {
        while let Some(key) = self.unsettled.first().cloned() {
            self.settle_one(log, &key)?;
            self.unsettled.remove(&key);
        }
        while let Some(file) = self.unsaved.first().cloned() {
            self.save(log, &file)?;
            self.unsaved.remove(&file);
        }
        Ok(())
    }

    fn settle_one(&mut self, log: &Log, key: &ObjectKey) -> Result<(), StoreError> {
        let present = log.find(key);
        let file = self.places.in_force(key);
        let written = file.and_then(|file| self.files.get(file)?.objects.get(key));
        let (Some(file), Some(written)) = (file, written) else {
            if present.is_some() {
                log.remove(self.state.next_version()?, key);
                self.state.drop_status(key)?;
            }
            return Ok(());
        };
        if !present.as_ref().is_some_and(|present| same(present, &written.object)) {
            let fresh = fresh(file.managed.then_some(&*written.object));
            let stamped = stamp((*written.object).clone(), present.as_ref(), &fresh);
            log_apply(log, at_version(stamped, self.state.next_version()?));
        }
        Ok(())
    }

    /// Writes the last good state of a file, with what the log added to its objects.
    fn save(&mut self, log: &Log, file: &FileName) -> Result<(), StoreError> {
        let Some(known) = self.files.get_mut(file) else { return Ok(()) };
        for (key, placed) in &mut known.objects {
            if let Some(kept) = log.find(key).filter(|kept| same(kept, &placed.object)) {
                placed.object = kept;
            }
        }
        let good = known.objects.values().filter(|placed| !placed.of_broken);
        let objects = good.map(|placed| &*placed.object);
        self.state.keep_last_good(file, objects)
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
        let alone = |file: &KnownFile| file.objects.keys().all(|other| other == key);
        let file = match self.places.in_force(key) {
            Some(file) if *file != own => file,
            _ if self.files.get(&own).is_none_or(alone) => return Ok(()),
            _ => &own,
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
