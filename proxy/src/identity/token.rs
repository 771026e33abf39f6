//! Where the proof of the first SVID comes from: a join token in a file that only we can read, or from an inherited
//! descriptor; in Kubernetes the pod's own [`ServiceAccount`] token.
//!
//! Never from the command line or the environment, which the application and other users may see. Errors name
//! the file, never its content.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use weft_proto::JoinToken;

use super::{Proof, ServiceAccount};

/// A join token has 150 bytes.
const MAX_BYTES: u64 = 4096;

/// Where the proof comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// A join token, in a file with mode 0600 or 0400. It is read at each join, so that an operator can replace the token.
    File(PathBuf),
    /// A join token, from an inherited descriptor, a pipe or a file, read to its end once.
    Descriptor(i32),
    /// A pod's projected token, read at each join.
    ServiceAccount(ServiceAccount),
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("cannot read {from}: {error}")]
    Read {
        /// The file or descriptor, and what it is for.
        from: String,
        /// Why.
        error: io::Error,
    },
    /// Others can read it too.
    #[error(
        "the join token's file {path:?} has mode {mode:04o}, so that others can read it; \
         do `chmod 600` on it, and create another token if it may have been read"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is not what it should be.
    #[error("what is in {from} is wrong: {why}")]
    Form {
        /// The file or descriptor, and what it is for.
        from: String,
        /// What would be right. The value is not in it.
        why: String,
    },
}

impl TokenSource {
    /// Reads the proof. Blocks: a pipe is read until its writer has closed it.
    ///
    /// # Errors
    /// It cannot be read, others can read a join token, or it is none.
    pub fn read(&self) -> Result<Proof, TokenError> {
        let from = self.to_string();
        let failed = |error| TokenError::Read { from: from.clone(), error };
        let file = match self {
            Self::File(path) => open_private(path)?,
            Self::Descriptor(number) => open_descriptor(*number).map_err(failed)?,
            Self::ServiceAccount(source) => return source.read(),
        };
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
        let token = text.parse::<JoinToken>();
        token.map(Proof::Token).map_err(|error| TokenError::Form { from, why: error.to_string() })
    }
}

impl std::fmt::Display for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "the join token's file {path:?}"),
            Self::Descriptor(number) => write!(f, "the join token's descriptor {number}"),
            Self::ServiceAccount(ServiceAccount { token, .. }) => {
                write!(f, "the ServiceAccount token's file {token:?}")
            }
        }
    }
}

fn open_private(path: &Path) -> Result<File, TokenError> {
    let failed =
        |error| TokenError::Read { from: format!("the join token's file {path:?}"), error };
    let file = File::open(path).map_err(failed)?;
    // Asked of the open file, not of the path, which could be changed in between.
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(TokenError::Exposed { path: path.to_owned(), mode });
    }
    Ok(file)
}

/// Opens a descriptor anew by its name; to take over its number would need `unsafe`.
fn open_descriptor(number: i32) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{number}"))
        .or_else(|_| File::open(format!("/dev/fd/{number}")))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        os::{
            fd::AsRawFd as _,
            unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
        },
    };

    use super::*;

    fn token() -> JoinToken {
        JoinToken { id: "0123456789abcdef".into(), secret: "5a".repeat(32), root_sha256: [7; 32] }
    }

    fn file(content: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn a_private_file_is_read() {
        for mode in [0o600, 0o400] {
            let (_folder, path) = file(&format!("{}\n", token()), mode);
            assert_eq!(TokenSource::File(path).read().unwrap(), Proof::Token(token()));
        }
    }

    #[test]
    fn a_file_that_others_can_touch_is_refused_with_what_to_do() {
        for mode in [0o640, 0o604, 0o660, 0o620, 0o644] {
            let (_folder, path) = file(&token().to_string(), mode);
            let error = TokenSource::File(path.clone()).read().unwrap_err().to_string();
            for part in ["chmod 600", path.to_str().unwrap(), &format!("{mode:04o}")] {
                assert!(error.contains(part), "{error}");
            }
            assert!(!error.contains(&token().secret), "{error}");
        }
    }

    #[test]
    fn a_missing_or_wrong_file_is_named() {
        let (_folder, path) = file("not a token", 0o600);
        let error = TokenSource::File(path.clone()).read().unwrap_err();
        assert!(matches!(error, TokenError::Form { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        let error = TokenSource::File(path.with_file_name("none")).read().unwrap_err();
        assert!(matches!(error, TokenError::Read { .. }), "{error}");
    }

    #[test]
    fn a_pipe_is_read_to_its_end() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(token().to_string().as_bytes()).unwrap();
        drop(writer);
        let read = TokenSource::Descriptor(reader.as_raw_fd()).read().unwrap();
        assert_eq!(read, Proof::Token(token()));
        assert!(TokenSource::Descriptor(i32::MAX).read().is_err());
    }
}
