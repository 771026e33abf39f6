//! Runs `weft` in a world of its own: a runtime folder that nobody else uses, and a mark in the environment of
//! everything that it starts.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use weft_proxy::clock;

/// A fresh runtime folder. Whatever still runs when it goes is killed.
pub(crate) struct World {
    folder: TempDir,
    mark: String,
}

const MARK: &str = "TEST_WORLD";

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mark = folder.path().display().to_string();
        Self { folder, mark }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into the world's folder.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("written");
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
        command
            .args(arguments)
            .env(MARK, &self.mark)
            .env("XDG_RUNTIME_DIR", self.folder.path())
            .env_remove("WEFT_API")
            .env_remove("WEFT_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn weft(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("weft runs")
    }

    /// Runs a command that must succeed; its stdout.
    pub(crate) fn weft_ok(&self, arguments: &[&str]) -> String {
        let output = self.weft(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "weft {arguments:?}: {error}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs a command that must succeed; its stdout as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.weft_ok(arguments)).expect("JSON")
    }

    /// Starts a command that goes on; its output goes to a file.
    pub(crate) fn start(&self, arguments: &[&str]) -> Started {
        let log = self.path("output.log");
        let file = fs::File::create(&log).expect("a log");
        let child = self
            .command(arguments)
            .stdout(file.try_clone().expect("a descriptor"))
            .stderr(file)
            .spawn()
            .expect("weft starts");
        Started { child, log }
    }

    /// The processes of this world, with their command lines.
    pub(crate) fn processes(&self) -> Vec<(Pid, String)> {
        let wanted = format!("{MARK}={}", self.mark);
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        entries
            .filter_map(|entry| {
                let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
                let environment = fs::read(entry.path().join("environ")).ok()?;
                let ours = environment.split(|b| *b == 0).any(|v| v == wanted.as_bytes());
                let line = fs::read(entry.path().join("cmdline")).ok()?;
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                ours.then_some((pid, line))
            })
            .collect()
    }

    /// The processes whose command line contains a text.
    pub(crate) fn running(&self, text: &str) -> Vec<Pid> {
        let found = self.processes().into_iter().filter(|(_, line)| line.contains(text));
        found.map(|(pid, _)| pid).collect()
    }

    /// The run folders that are there.
    pub(crate) fn run_folders(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path("weft")) else { return Vec::new() };
        entries.flatten().map(|entry| entry.path()).collect()
    }

    /// Waits until nothing of a run is left: neither process nor folder.
    pub(crate) fn assert_clean_within(&self, limit: Duration) {
        let clean = || self.processes().is_empty() && self.run_folders().is_empty();
        assert!(
            holds_within(limit, clean),
            "after {limit:?} there are still {:?} and {:?}",
            self.processes(),
            self.run_folders()
        );
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for (pid, _) in self.processes() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// A command that goes on. Killed when dropped.
pub(crate) struct Started {
    child: Child,
    log: PathBuf,
}

impl Started {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("signalled");
    }

    /// Waits for its end; whether it was a success.
    pub(crate) fn ends_within(&mut self, limit: Duration) -> bool {
        let mut status = None;
        let ended = holds_within(limit, || {
            status = self.child.try_wait().expect("waited");
            status.is_some()
        });
        assert!(ended, "still running after {limit:?}:\n{}", self.log());
        status.is_some_and(|status| status.success())
    }

    /// What it has written.
    pub(crate) fn log(&self) -> String {
        let mut text = String::new();
        let mut file = fs::File::open(&self.log).expect("a log");
        file.read_to_string(&mut text).expect("text");
        text
    }

    /// Waits until it has written a text.
    pub(crate) fn says(&self, text: &str) {
        let said = holds_within(Duration::from_secs(60), || self.log().contains(text));
        assert!(said, "it does not say {text:?}:\n{}", self.log());
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a condition comes to hold.
pub(crate) fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = clock::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if clock::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for a condition; long, for slow machines.
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(Duration::from_secs(60), condition), "it never came true that {what}");
}

/// The example's path.
pub(crate) fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    path.display().to_string()
}
