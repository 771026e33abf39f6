//! `weft janitor`: cleans up after a run, however it ended.
//!
//! Comes in, on stdin: the process groups of the run, as they begin and end; then the end of the pipe, which
//! the kernel brings even when the run was killed. Goes out: none of the run's processes is left, and its
//! folder is gone. It stands in a process group of its own, so that a terminal's Ctrl-C does not hit it.
//!
//! A process belongs to the run by its group, or by the mark in its environment: so one that made itself a
//! session of its own is found as well.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use weft_proxy::clock;

use super::exec::SELF;
use crate::command::JanitorArgs;

/// The variable that marks a run's processes.
pub(crate) const MARK: &str = "WEFT_RUN";

/// Time from the polite signal to the other one: after a run that was killed, and after one that has ended its
/// own processes, so that only strays are left which were asked already;
const POLITE: Duration = Duration::from_millis(700);
const POLITE_TO_STRAYS: Duration = Duration::from_millis(150);
/// and from that to giving up.
const FORCED: Duration = Duration::from_millis(800);
const LOOK_EVERY: Duration = Duration::from_millis(15);

/// The run's end of the pipe.
#[derive(Debug)]
pub(crate) struct Janitor {
    process: Child,
    pipe: Option<ChildStdin>,
}

impl Janitor {
    /// Starts the janitor of a run.
    pub(crate) fn start(folder: &Path, mark: &str) -> anyhow::Result<Self> {
        let mut process = Command::new(SELF)
            .arg0("weft")
            .args(["janitor", "--mark", mark, "--folder"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start the janitor")?;
        let pipe = process.stdin.take();
        Ok(Self { process, pipe })
    }

    /// Tells it of a group that began.
    pub(crate) fn group_began(&mut self, group: i32) {
        self.tell(&format!("began {group}\n"));
    }

    /// Tells it of a group whose leader was waited for, so that its number may be another's soon.
    pub(crate) fn group_ended(&mut self, group: i32) {
        self.tell(&format!("ended {group}\n"));
    }

    fn tell(&mut self, line: &str) {
        let told = self.pipe.as_mut().map(|pipe| pipe.write_all(line.as_bytes()));
        if let Some(Err(error)) = told {
            tracing::warn!(%error, "the janitor is gone; a killed `weft up` may leave processes");
            self.pipe = None;
        }
    }

    /// Ends the run: returns when the janitor has cleaned up.
    pub(crate) fn finish(&mut self) {
        self.tell("finished\n");
        self.pipe = None;
        let _ = self.process.wait();
    }
}

/// The janitor's own story.
pub(crate) fn run(args: &JanitorArgs) -> anyhow::Result<()> {
    let told = read(io::stdin().lock());
    let polite = if told.finished { POLITE_TO_STRAYS } else { POLITE };
    end_all(&told.groups, &args.mark, polite);
    remove(&args.folder);
    Ok(())
}

/// What the run had told when the pipe ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// Those that had begun and not ended.
    groups: BTreeSet<i32>,
    /// The run came to its end by itself.
    finished: bool,
}

fn read(pipe: impl io::BufRead) -> Told {
    let mut told = Told::default();
    for line in pipe.lines().map_while(Result::ok) {
        let group = |text: &str| text.parse::<i32>().ok();
        match line.split_once(' ') {
            Some(("began", text)) => told.groups.extend(group(text)),
            Some(("ended", text)) => {
                group(text).map(|group| told.groups.remove(&group));
            }
            _ => told.finished |= line == "finished",
        }
    }
    told
}

/// Ends every process of the run: first asked, then made to.
fn end_all(groups: &BTreeSet<i32>, mark: &str, polite: Duration) {
    let begun = clock::now();
    let mut asked = BTreeSet::new();
    loop {
        let alive = members(groups, mark);
        if alive.is_empty() || begun.elapsed() > polite + FORCED {
            return;
        }
        for pid in alive {
            if begun.elapsed() > polite {
                let _ = kill_process(pid, Signal::KILL);
            } else if asked.insert(pid.as_raw_nonzero()) {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// The run's processes that live, apart from this one.
pub(crate) fn members(groups: &BTreeSet<i32>, mark: &str) -> Vec<Pid> {
    let own = rustix::process::getpid();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let belongs = in_group(&entry.path(), groups)? || is_marked(&entry.path(), mark);
            (pid != own && belongs).then_some(pid)
        })
        .collect()
}

/// Whether a process is in one of the groups; `None` when it is dead or gone.
fn in_group(process: &Path, groups: &BTreeSet<i32>) -> Option<bool> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    // "PID (NAME) STATE PPID GROUP …"; the name may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let group: i32 = fields.nth(1)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then(|| groups.contains(&group))
}

fn is_marked(process: &Path, mark: &str) -> bool {
    let wanted = format!("{MARK}={mark}");
    let environment = fs::read(process.join("environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
}

/// Removes the folder; a process that was ending may have written into it meanwhile.
fn remove(folder: &Path) {
    for _ in 0..20 {
        match fs::remove_dir_all(folder) {
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_ended_are_not_touched_and_noise_is_ignored() {
        let pipe =
            "began 10\nbegan 11\nended 10\nbegan x\nnonsense\nbegan 12\nbegan 10\nended 12\n";
        let groups = BTreeSet::from([10, 11]);
        assert_eq!(read(pipe.as_bytes()), Told { groups, finished: false });
        assert!(read(&b"began 1\nended 1\nfinished\n"[..]).finished);
    }

    #[test]
    fn a_process_is_found_by_its_group_and_by_its_mark() {
        let mark = format!("test-{}", std::process::id());
        let mut by_mark = Command::new("sleep").arg("60").env(MARK, &mark).spawn().expect("sleep");
        let mut by_group = Command::new("sleep").arg("60").process_group(0).spawn().expect("sleep");
        let pid = |child: &Child| i32::try_from(child.id()).expect("a pid");
        let groups = BTreeSet::from([pid(&by_group)]);
        // A child has its environment only once it has become the program.
        let deadline = clock::now() + Duration::from_secs(5);
        while members(&groups, &mark).len() < 2 && clock::now() < deadline {
            thread::yield_now();
        }
        let mut found: Vec<i32> =
            members(&groups, &mark).iter().map(|pid| pid.as_raw_nonzero().get()).collect();
        found.sort_unstable();
        let mut expected = vec![pid(&by_mark), pid(&by_group)];
        expected.sort_unstable();
        end_all(&groups, &mark, POLITE);
        assert_eq!(found, expected);
        for child in [&mut by_mark, &mut by_group] {
            assert!(!child.wait().expect("waited").success());
        }
        assert!(members(&groups, &mark).is_empty());
    }
}
