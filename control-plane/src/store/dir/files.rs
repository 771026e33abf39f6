//! The disk itself: which files there are, how to see that one changed, and how to replace one so that no
//! moment exists in which it is neither the old nor the new.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::StoreError;

/// A file of objects: ones made by hand come before ones of the API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileName {
    pub(super) managed: bool,
    pub(super) name: String,
}

impl FileName {
    pub(super) fn path(&self, root: &Path) -> PathBuf {
        if self.managed { managed(root).join(&self.name) } else { root.join(&self.name) }
    }
}

/// The folder of what the API writes.
pub(super) fn managed(root: &Path) -> PathBuf {
    root.join("managed")
}

/// How a file looks from outside. Two looks that are equal mean that it was not written in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A file system's clock ticks in steps of up to some 10 ms; a write within the step in which the file was
/// read would not show. So a look this young is not trusted.
const YOUNG: Duration = Duration::from_millis(50);

/// How a file looks; `None` when that says nothing yet, because it was written only just now.
fn look(metadata: &fs::Metadata) -> Option<Look> {
    let age = metadata.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    if age.is_none_or(|age| age < YOUNG) {
        return None;
    }
    Some(Look {
        inode: metadata.ino(),
        bytes: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

/// Every file of objects in the directory, with how it looks. Hidden files, editors' copies and folders are
/// none.
pub(super) fn list(root: &Path) -> Result<BTreeMap<FileName, Option<Look>>, StoreError> {
    let mut files = BTreeMap::new();
    for (folder, managed) in [(root.to_owned(), false), (managed(root), true)] {
        let entries = fs::read_dir(&folder).map_err(failed("read", &folder))?;
        for entry in entries {
            let path = entry.map_err(failed("read", &folder))?.path();
            let Some(name) = object_file(&path) else { continue };
            // Gone since it was listed, or a dangling link: it is not there.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if metadata.is_file() {
                files.insert(FileName { managed, name: name.to_owned() }, look(&metadata));
            }
        }
    }
    Ok(files)
}

fn object_file(path: &Path) -> Option<&str> {
    let name = path.file_name().and_then(OsStr::to_str)?;
    is_object_file(name).then_some(name)
}

/// Whether a file of this name in a folder of objects is one: `*.yaml`, `*.yml`, `*.json`, and neither hidden
/// nor an editor's copy or lock (`.#a.yaml`, `#a.yaml#`, `a.yaml~`).
#[must_use]
pub fn is_object_file(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    let set_aside = name.starts_with(['.', '#']) || name.ends_with('~');
    !set_aside && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// How sure a replaced file must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// On the disk when this returns.
    Synced,
    /// Whole in any case; after a loss of power it may be the old one.
    Whole,
}

/// What the name of a file that is being written ends in. It begins with a dot, so that nobody reads it.
const UNFINISHED: &str = ".unfinished";

/// Replaces a file as a whole.
pub(super) fn replace(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), StoreError> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str))
    else {
        return Err(failed("write", path)(io::ErrorKind::InvalidInput.into()));
    };
    let unfinished = folder.join(format!(".{name}{UNFINISHED}"));
    let synced = durability == Durability::Synced;
    let written = File::create(&unfinished).and_then(|mut file| {
        file.write_all(bytes)?;
        if synced { file.sync_all() } else { Ok(()) }
    });
    written
        .and_then(|()| fs::rename(&unfinished, path))
        .and_then(|()| if synced { sync_folder(folder) } else { Ok(()) })
        .map_err(failed("write", path))
}

/// Removes a file for good; one that is not there is no error.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", path)(error)),
        Ok(()) => path.parent().map_or(Ok(()), sync_folder).map_err(failed("remove", path)),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Creates a folder, and removes what a killed process left unfinished in it.
pub(super) fn prepare_folder(folder: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(folder).map_err(failed("create", folder))?;
    for entry in fs::read_dir(folder).map_err(failed("read", folder))?.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with('.') && name.ends_with(UNFINISHED) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// An error of the disk, with what was being done.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}
