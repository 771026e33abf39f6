//! `weft exec`: becomes another program that dies with the process that started it.
//!
//! The kernel is asked to kill this process when its parent's thread ends, which also covers the moments
//! before the parent has told the janitor of it. The request survives the exec.

use std::{os::unix::process::CommandExt as _, process::Command};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::{command::ExecArgs, failure::Failure};

/// This binary, whatever became of its file.
pub(crate) const SELF: &str = "/proc/self/exe";

/// Becomes the program; returns only when it cannot.
pub(crate) fn run(args: &ExecArgs) -> anyhow::Error {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // The parent may have died before the request was made.
    if getppid().is_none_or(|parent| parent.as_raw_nonzero().get() != args.parent) {
        return Failure::new("the process that asked for this is gone", "nothing: it ends here")
            .into();
    }
    let [program, arguments @ ..] = args.command.as_slice() else {
        return Failure::new("no program is named", "use weft exec --parent PID -- PROGRAM").into();
    };
    let mut command = Command::new(program);
    if program == SELF {
        command.arg0("weft");
    }
    let error = command.args(arguments).exec();
    let what = format!("cannot start {}: {error}", program.display());
    Failure::new(what, "check spec.command of the Workload: the program must be on PATH, or a path")
        .into()
}
