//! `weft down`: ends a running `weft up` or `weft demo` from another terminal.

use std::{path::Path, thread, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use weft_proxy::clock;

use crate::{command::DownArgs, failure::Failure, output, runs};

const WITHIN: Duration = Duration::from_secs(30);

/// Asks the run to end, and waits until its folder is gone, which is the last thing to go.
pub(crate) fn run(args: &DownArgs) -> anyhow::Result<()> {
    let live = choose(args.api.api.as_deref())?;
    let pid = Pid::from_raw(live.run.pid);
    let asked = pid.map(|pid| kill_process(pid, Signal::TERM));
    if !matches!(asked, Some(Ok(()))) {
        let what = format!("cannot ask process {} to end", live.run.pid);
        return Err(Failure::new(what, "run `weft down` as the user who started it").into());
    }
    let deadline = clock::now() + WITHIN;
    while live.folder.exists() {
        if clock::now() > deadline {
            let what = format!("{} still runs after {} s", live.run.what, WITHIN.as_secs());
            let next = format!("kill -9 {}: its janitor cleans up behind it", live.run.pid);
            return Err(Failure::new(what, next).into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    output::print(&format!("stopped: {}\n", live.run.what))
}

/// The run whose socket was named, or the only one.
fn choose(socket: Option<&Path>) -> anyhow::Result<runs::Live> {
    let mut live = runs::live();
    if let Some(socket) = socket {
        let folder = socket.parent().unwrap_or(Path::new(""));
        live.retain(|run| run.folder == folder);
    }
    match live.as_slice() {
        [one] => Ok(one.clone()),
        [] => {
            Err(Failure::new("nothing runs", "`weft up FILE` and `weft demo` start something")
                .into())
        }
        several => {
            let lines = several.iter().map(|live| {
                format!(
                    "weft down --api {}/{}  ({})",
                    live.folder.display(),
                    runs::API_SOCKET,
                    live.run.what
                )
            });
            let next = format!("choose one:\n{}", lines.collect::<Vec<_>>().join("\n"));
            Err(Failure::new("several meshes run here", next).into())
        }
    }
}
