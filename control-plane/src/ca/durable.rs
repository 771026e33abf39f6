//! Files that survive kill -9: written beside, synced, renamed, and the folder synced.
//!
//! Comes in: a value. Goes out: the value as JSON in a file of mode 0600, whole or not at all. It must never
//! return before the bytes are on the disk. Blocking: call it off the runtime's threads.

use std::{fs, io::Write, os::unix::fs::PermissionsExt, path::Path};

use serde::{Serialize, de::DeserializeOwned};

use super::CaError;

/// Reads a value; `None` when there is no such file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, CaError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CaError::Io { path: path.to_owned(), source }),
    };
    // serde_json's error would repeat a piece of the content, which may be a key: only its place is told.
    serde_json::from_slice(&bytes).map(Some).map_err(|error| CaError::Content {
        path: path.to_owned(),
        why: format!(
            "is damaged at line {}, column {}; restore it from a backup, or move it away to start anew",
            error.line(),
            error.column()
        ),
    })
}

/// Replaces the file by the value.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), CaError> {
    let bytes = serde_json::to_vec_pretty(value).map_err(|error| CaError::Content {
        path: path.to_owned(),
        why: format!("cannot be written as JSON: {error}"),
    })?;
    write_bytes(path, &bytes)
}

/// Replaces the file by the bytes.
pub(crate) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), CaError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let replace = || {
        fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        fs::File::open(folder)?.sync_all()
    };
    replace().map_err(|source| CaError::Io { path: path.to_owned(), source })
}
