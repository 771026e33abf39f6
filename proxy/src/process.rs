//! The proxy as a process: the boot story in time order, and what its exit codes mean.
//!
//! `weft-proxy` and `weft proxy` both end here.

use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

use crate::{app, config::Config, telemetry::logging};

/// All open connections ended by themselves.
const STOPPED: u8 = 0;
/// A setting, a port or the token is not usable.
const CANNOT_START: u8 = 1;
/// The time to drain was over before all connections had ended.
const CUT_OFF: u8 = 3;

/// Files that are open besides connections and their other halves: listeners, the control plane, logs, kept connections.
const OTHER_FILES: usize = 64;

/// Runs a proxy until it is told to stop (SIGTERM, SIGINT, or `/drain` on the admin port).
#[must_use]
pub fn run(config: Config) -> ExitCode {
    // Logs first, so that everything after can say what it does.
    let logs = match logging::init(&config.telemetry) {
        Ok(logs) => logs,
        Err(error) => return fail(&error),
    };
    let config = within_file_limit(config);
    // The control runtime: everything but the data path, which has its workers.
    let runtime = match Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("weft-control")
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    runtime.block_on(async {
        let mut running = match app::start(config, Some(logs.clone())) {
            Ok(running) => running,
            Err(error) => return fail(&error),
        };
        tokio::select! {
            () = terminated() => {}
            () = running.ended() => {}
        }
        let stopped = running.stop().await;
        logs.flush();
        ExitCode::from(if stopped { STOPPED } else { CUT_OFF })
    })
}

/// Raises the limit of open files to what this process may have, and keeps the number of connections below it: a
/// connection that was accepted must be able to go on to somewhere.
fn within_file_limit(mut config: Config) -> Config {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let Some(files) = files.and_then(|files| usize::try_from(files).ok()) else { return config };
    let fit = files.saturating_sub(OTHER_FILES) / 2;
    if config.limits.max_connections > fit {
        tracing::info!(
            max_connections = fit,
            open_files = files,
            "fewer connections than WEFT_MAX_CONNECTIONS allows: the limit of open files (ulimit -n) is too low for them"
        );
        config.limits.max_connections = fit;
    }
    config
}

/// Completes at SIGTERM or SIGINT.
async fn terminated() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("cannot listen for signals; stop by the admin port");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    // Logs may not be there yet, and a person may be waiting for the answer.
    eprintln!("weft-proxy: {error}");
    ExitCode::from(CANNOT_START)
}
