//! State that survives kill -9.
//!
//! Comes in: a value. Goes out: the value as JSON, whole or not at all, in a file of mode 0600 (written beside,
//! synced, renamed, and the folder synced) or wherever another [`Vault`] keeps it. It must never return before the
//! bytes are safe. Blocking: call it off the runtime's threads.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use super::CaError;

/// Where values are kept under names.
pub trait Vault: Send + Sync {
    /// The bytes under a name; `None` when there are none.
    ///
    /// # Errors
    /// When the place cannot be read.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, CaError>;

    /// Replaces the bytes under a name. They are safe when it returns.
    ///
    /// # Errors
    /// When the place cannot be written.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), CaError>;

    /// Where that is, for people.
    fn place(&self, name: &str) -> String;
}

/// A folder with a file for each name.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Vault for Folder {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, CaError> {
        let path = self.0.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CaError::Io { path, source }),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), CaError> {
        write_bytes(&self.0.join(name), bytes)
    }

    fn place(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

/// Reads a value; `None` when there is none.
pub(crate) fn read<T: DeserializeOwned>(
    vault: &dyn Vault,
    name: &str,
) -> Result<Option<T>, CaError> {
    let Some(bytes) = vault.read(name)? else { return Ok(None) };
    // serde_json's error would repeat a piece of the content, which may be a key: only its place is told.
    serde_json::from_slice(&bytes).map(Some).map_err(|error| CaError::Content {
        path: vault.place(name).into(),
        why: format!(
            "is damaged at line {}, column {}; restore it from a backup, or move it away to start anew",
            error.line(),
            error.column()
        ),
    })
}

/// Replaces a value.
pub(crate) fn write<T: Serialize>(vault: &dyn Vault, name: &str, value: &T) -> Result<(), CaError> {
    let bytes = serde_json::to_vec_pretty(value).map_err(|error| CaError::Content {
        path: vault.place(name).into(),
        why: format!("cannot be written as JSON: {error}"),
    })?;
    vault.write(name, &bytes)
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
