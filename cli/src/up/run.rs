//! What all processes of one run share.

use std::{path::PathBuf, time::Duration};

use super::{board::Board, logs::Logs, process::SharedJanitor};
use crate::runs::RunFolder;

/// One `weft up` or `weft demo`.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) folder: RunFolder,
    /// What its processes carry in their environment.
    pub(crate) mark: String,
    pub(crate) janitor: SharedJanitor,
    pub(crate) logs: Logs,
    pub(crate) board: Board,
    /// How long an app may take to end.
    pub(crate) grace: Duration,
    /// Where relative paths in objects begin.
    pub(crate) objects_folder: PathBuf,
    /// This binary, for apps that want to run it.
    pub(crate) weft: String,
}

/// This binary's path; by way of this process when its file was replaced.
pub(crate) fn own_binary() -> String {
    let found = std::env::current_exe().ok().filter(|path| path.exists());
    let path = found.unwrap_or_else(|| PathBuf::from(format!("/proc/{}/exe", std::process::id())));
    path.display().to_string()
}
