//! The folders of running meshes, one a `weft up` or `weft demo`, below a folder of this user's own.
//!
//! Comes in: a start, or a question for what runs. Goes out: a run's folder, kept alive by a lock that the
//! kernel drops with the process; the API socket that a command should talk to. A folder whose process is
//! gone is nobody's, and the next start removes it. Nothing here follows what another user put into /tmp.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::{
        fs::{DirBuilderExt as _, MetadataExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The API socket's name in a run's folder, and of a control plane started by hand in the base folder.
pub(crate) const API_SOCKET: &str = "api.sock";
const LOCK: &str = "run.json";
const PREFIX: &str = "run-";

/// The longest path below the base folder, and what the system takes of a socket's path (`sun_path` less its
/// end).
const LONGEST_SOCKET: &str = "/run-4194304/api.sock";
const SOCKET_PATH_BYTES: usize = 107;

/// The folder of everything that this user runs: `$XDG_RUNTIME_DIR/weft`, or `/tmp/weft-UID` where that cannot be.
/// Whoever looks for a run comes to the same answer as who began it.
pub(crate) fn base() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    base_in(runtime, rustix::process::getuid().as_raw())
}

fn base_in(runtime: Option<PathBuf>, user: u32) -> PathBuf {
    let fallback = PathBuf::from(format!("/tmp/weft-{user}"));
    let Some(dir) = runtime else { return fallback };
    let base = dir.join("weft");
    match unusable(&dir, &base) {
        None => base,
        Some(why) => {
            debug(&format!(
                "XDG_RUNTIME_DIR {} {why}: {} is used",
                dir.display(),
                fallback.display()
            ));
            fallback
        }
    }
}

fn unusable(dir: &Path, base: &Path) -> Option<&'static str> {
    if !dir.is_absolute() || !dir.is_dir() {
        return Some("is no folder");
    }
    if base.as_os_str().len() + LONGEST_SOCKET.len() > SOCKET_PATH_BYTES {
        return Some("is too long for a socket's path");
    }
    let writable = || access(dir, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    (!base.is_dir() && !writable()).then_some("cannot be written")
}

/// What only somebody who looks for it wants to know: a command has no log of its own.
fn debug(text: &str) {
    if std::env::var("WEFT_LOG").is_ok_and(|log| log.contains("debug") || log.contains("trace")) {
        eprintln!("debug: {text}");
    }
}

/// The same, made when it is not there, and checked that nobody else can write it.
pub(crate) fn own_base() -> anyhow::Result<PathBuf> {
    let base = base();
    own_folder(&base)?;
    Ok(base)
}

/// What a run says of itself in its folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The process to end.
    pub(crate) pid: i32,
    /// What it is, as the user typed it: "weft up shop.yaml".
    pub(crate) what: String,
    /// The user's file or folder that its objects are a copy of.
    pub(crate) from: Option<PathBuf>,
}

/// The folder in a run's folder that holds the objects, as files.
pub(crate) const OBJECTS: &str = "objects";

/// The folder of this process's own run.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    /// Locked for as long as the process lives; not inherited by children.
    _lock: File,
}

impl RunFolder {
    /// Makes the folder, and removes those of runs that are gone.
    pub(crate) fn create(what: &str, from: Option<PathBuf>) -> anyhow::Result<Self> {
        let base = own_base()?;
        remove_abandoned(&base);
        let pid = std::process::id();
        let path = base.join(format!("{PREFIX}{pid}"));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        let lock = write_lock(&path, what, from)
            .with_context(|| format!("cannot write {}", path.join(LOCK).display()))?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn api_socket(&self) -> PathBuf {
        self.path.join(API_SOCKET)
    }
}

fn write_lock(folder: &Path, what: &str, from: Option<PathBuf>) -> io::Result<File> {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let run = Run { pid, what: what.to_owned(), from };
    let mut file = File::create_new(folder.join(LOCK))?;
    file.lock()?;
    file.write_all(serde_json::to_string(&run)?.as_bytes())?;
    Ok(file)
}

/// Makes the base folder, or checks that the one that is there is ours and nobody else's to write.
fn own_folder(path: &Path) -> anyhow::Result<()> {
    let created = DirBuilder::new().mode(0o700).create(path);
    match created {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot create {}", path.display()));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    let ours = found.is_dir() && found.uid() == rustix::process::getuid().as_raw();
    if ours && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    let next = "remove it, or set XDG_RUNTIME_DIR to a folder of your own; then try again";
    Err(Failure::new(format!("{} is not a folder of yours alone", path.display()), next).into())
}

/// A run whose process lives.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) folder: PathBuf,
    pub(crate) run: Run,
}

/// Every run of this user whose process lives.
pub(crate) fn live() -> Vec<Live> {
    folders(&base()).into_iter().filter_map(|folder| look_at(&folder)).collect()
}

fn look_at(folder: &Path) -> Option<Live> {
    let file = File::open(folder.join(LOCK)).ok()?;
    let held = matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock));
    let run = serde_json::from_reader(&file).ok()?;
    held.then(|| Live { folder: folder.to_owned(), run })
}

fn folders(base: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(base) else { return Vec::new() };
    let mut folders: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
        .map(|entry| entry.path())
        .collect();
    folders.sort();
    folders
}

/// Removes folders that neither a live run nor a starting one (which has no lock file yet) holds.
fn remove_abandoned(base: &Path) {
    for folder in folders(base) {
        let named = folder.file_name().and_then(|name| name.to_str()?.strip_prefix(PREFIX));
        let process = named.map(|pid| Path::new("/proc").join(pid));
        if look_at(&folder).is_none() && process.is_some_and(|process| !process.exists()) {
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

/// A message of the control plane, in which the copies that `weft up` makes are named by what they are copies
/// of: that is what the user has to change.
pub(crate) fn in_users_words(message: &str) -> String {
    live().iter().fold(message.to_owned(), |message, live| match &live.run.from {
        Some(from) => name_original(&message, &live.folder.join(OBJECTS), from),
        None => message,
    })
}

fn name_original(message: &str, copies: &Path, from: &Path) -> String {
    let prefix = format!("{}/", copies.display());
    let Some((before, rest)) = message.split_once(&prefix) else { return message.to_owned() };
    if from.is_dir() {
        return format!("{before}{}/{rest}", from.display());
    }
    let end = rest.find([',', ':', ' ', ';']).unwrap_or(rest.len());
    format!("{before}{}{}", from.display(), &rest[end..])
}

/// The API socket to talk to: the given one, or that of the only mesh that runs here.
pub(crate) fn api_socket(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(given) = given {
        let text = given.to_string_lossy();
        return Ok(PathBuf::from(text.strip_prefix("unix:").unwrap_or(&text)));
    }
    let base = base();
    let by_hand = base.join(API_SOCKET);
    let mut found: Vec<(PathBuf, String)> = live()
        .into_iter()
        .map(|live| (live.folder.join(API_SOCKET), live.run.what))
        .filter(|(socket, _)| UnixStream::connect(socket).is_ok())
        .collect();
    if UnixStream::connect(&by_hand).is_ok() {
        found.push((by_hand, "weft control-plane".into()));
    }
    match found.as_slice() {
        [(socket, _)] => Ok(socket.clone()),
        [] => Err(no_control_plane()),
        several => Err(Failure::new(
            "several meshes run here",
            format!("choose one with --api or WEFT_API:\n{}", list(several)),
        )
        .into()),
    }
}

/// Nothing runs here.
pub(crate) fn no_control_plane() -> anyhow::Error {
    Failure::new(
        "no control plane runs here",
        "start one with `weft demo` or `weft up FILE`, or name its socket with --api PATH",
    )
    .into()
}

fn list(sockets: &[(PathBuf, String)]) -> String {
    let lines = sockets.iter().map(|(socket, what)| format!("{}  ({what})", socket.display()));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_folder_that_cannot_be_used_is_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let long = folder.path().join("x".repeat(100));
        fs::create_dir(&long).expect("made");
        let fallback = PathBuf::from("/tmp/weft-7");
        for (runtime, expected) in [
            (None, fallback.clone()),
            (Some(folder.path().into()), folder.path().join("weft")),
            (Some(long), fallback.clone()),
            (Some(folder.path().join("gone")), fallback.clone()),
            (Some("relative".into()), fallback.clone()),
        ] {
            assert_eq!(base_in(runtime.clone(), 7), expected, "{runtime:?}");
        }
    }

    #[test]
    fn a_copy_is_named_by_its_original() {
        let copies = Path::new("/run/weft/run-1/objects");
        let folder = std::env::temp_dir();
        for (message, from, expected) in [
            (
                "cart stands in /run/weft/run-1/objects/a.yaml, by hand",
                "/me/a.yaml",
                "cart stands in /me/a.yaml, by hand",
            ),
            ("/run/weft/run-1/objects/a.yaml:3: wrong", "/me/a.yaml", "/me/a.yaml:3: wrong"),
            ("/elsewhere/a.yaml:3: wrong", "/me/a.yaml", "/elsewhere/a.yaml:3: wrong"),
        ] {
            assert_eq!(name_original(message, copies, Path::new(from)), expected);
        }
        let in_folder = name_original("/run/weft/run-1/objects/a.yaml:3: wrong", copies, &folder);
        assert_eq!(in_folder, format!("{}/a.yaml:3: wrong", folder.display()));
    }
}
