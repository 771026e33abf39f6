//! One child process: in a group of its own, known to the janitor, dead when this process is dead.
//!
//! Comes in: a program with its arguments and environment. Goes out: its lines, its end, and a way to end it
//! with all that it started. Must be used on the process's first thread: the kernel ends a child with the
//! thread that started it.

use std::{
    ffi::OsString,
    io::Write as _,
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::{
    net::unix::pipe,
    signal::unix::{Signal as Signals, SignalKind, signal},
};
use weft_proxy::clock;

use super::{
    exec::SELF,
    janitor::{Janitor, MARK},
};

/// The janitor, shared by all that start processes.
pub(crate) type SharedJanitor = Arc<Mutex<Janitor>>;

/// A program to start.
#[derive(Debug, Default)]
pub(crate) struct Program {
    /// The program and its arguments.
    pub(crate) command: Vec<OsString>,
    /// Variables that are set, beside those that are inherited.
    pub(crate) env: Vec<(String, String)>,
    /// Whether inherited `WEFT_` variables are kept: Weft's own processes take settings from them.
    pub(crate) is_weft: bool,
    pub(crate) working_dir: Option<PathBuf>,
    /// What it reads on stdin; nothing by default.
    pub(crate) stdin: Option<String>,
}

impl Program {
    /// This binary with other arguments.
    pub(crate) fn weft(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let command =
            std::iter::once(SELF.into()).chain(arguments.into_iter().map(Into::into)).collect();
        Self { command, is_weft: true, ..Self::default() }
    }
}

/// A running child.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    group: Pid,
    /// Tells that some child ended.
    child_signal: Signals,
    janitor: SharedJanitor,
    ended: Option<ExitStatus>,
}

/// The child's lines.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: pipe::Receiver,
}

impl Process {
    /// Starts a program.
    pub(crate) fn start(
        program: &Program,
        mark: &str,
        janitor: &SharedJanitor,
    ) -> anyhow::Result<(Self, Output)> {
        let child_signal =
            signal(SignalKind::child()).context("cannot listen for ended children")?;
        let mut command = shim(program, mark);
        let name = program.command.first().cloned().unwrap_or_default();
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", name.display()))?;
        let group = Pid::from_child(&child);
        lock(janitor).group_began(group.as_raw_nonzero().get());
        if let (Some(text), Some(mut stdin)) = (&program.stdin, child.stdin.take()) {
            // Short of the pipe's capacity: does not block. A child that is gone already says so itself.
            let _ = stdin.write_all(text.as_bytes());
        }
        let output = Output {
            stdout: receiver(child.stdout.take())?,
            stderr: receiver(child.stderr.take())?,
        };
        let janitor = Arc::clone(janitor);
        Ok((Self { child, group, child_signal, janitor, ended: None }, output))
    }

    /// The child's end. Cancel-safe.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.reap() {
                return status;
            }
            // Listened to since before the child began: none is missed.
            self.child_signal.recv().await;
        }
    }

    /// The child's end, if it has come. What it left in its group ends with it: killed while the dead child
    /// still holds the group's number, so that no stranger has it yet.
    fn reap(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() && self.is_dead() {
            let _ = kill_process_group(self.group, Signal::KILL);
            // An error means that nothing is there to wait for: as good as ended.
            self.ended = Some(self.child.wait().unwrap_or_default());
            self.tell_janitor(|janitor, group| janitor.group_ended(group));
        }
        self.ended
    }

    fn is_dead(&self) -> bool {
        let flags = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.group), flags), Ok(None))
    }

    fn tell_janitor(&self, tell: impl FnOnce(&mut Janitor, i32)) {
        tell(&mut lock(&self.janitor), self.group.as_raw_nonzero().get());
    }

    /// Ends the child and its group: asked first, killed after `grace`.
    pub(crate) async fn stop(&mut self, grace: Duration) {
        if self.reap().is_some() {
            return;
        }
        let _ = kill_process_group(self.group, Signal::TERM);
        if clock::timeout(grace, self.wait()).await.is_err() {
            let _ = kill_process_group(self.group, Signal::KILL);
            self.wait().await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = kill_process_group(self.group, Signal::KILL);
            // Dead in a moment: SIGKILL cannot be put off.
            let _ = self.child.wait();
            self.tell_janitor(|janitor, group| janitor.group_ended(group));
        }
    }
}

pub(crate) fn lock(janitor: &SharedJanitor) -> MutexGuard<'_, Janitor> {
    // A panic elsewhere leaves nothing half-done in there.
    janitor.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program behind `weft exec`.
fn shim(program: &Program, mark: &str) -> Command {
    let mut command = Command::new(SELF);
    let parent = rustix::process::getpid().as_raw_nonzero().to_string();
    command.arg0("weft").args(["exec", "--parent", &parent, "--"]).args(&program.command);
    if !program.is_weft {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WEFT_") {
                command.env_remove(name);
            }
        }
    }
    command.envs(program.env.iter().map(|(name, value)| (name, value))).env(MARK, mark);
    if let Some(folder) = &program.working_dir {
        command.current_dir(folder);
    }
    command.stdin(if program.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    command
}

fn receiver(pipe: Option<impl Into<OwnedFd>>) -> anyhow::Result<pipe::Receiver> {
    let pipe = pipe.context("a child has no output")?;
    Ok(pipe::Receiver::from_owned_fd(pipe.into())?)
}

/// A child's end as people read it.
pub(crate) fn how_it_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".into(),
    }
}
