//! The boot story, for the binary and for `weft control-plane`: logs, runtime, start, wait, drain.
//!
//! Comes in: the settings. Goes out: an exit code: 0 after a signal, 1 when it cannot start or go on.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    app::{App, Running},
    config::Config,
};

/// Runs a control plane until SIGINT or SIGTERM.
#[must_use]
pub fn run(config: Config) -> ExitCode {
    start_logs();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime cannot be made");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(serve(config))
}

/// Logs go to stderr; `WEFT_LOG` chooses what (`info` unless said), `WEFT_LOG_FORMAT=json` how.
fn start_logs() {
    let filter = EnvFilter::try_from_env("WEFT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr);
    let json = std::env::var("WEFT_LOG_FORMAT").is_ok_and(|format| format == "json");
    // Whoever embeds this may have logs already: then those hold.
    let _ = if json { logs.json().try_init() } else { logs.try_init() };
}

/// Runs a control plane until SIGINT or SIGTERM, on the runtime that polls this; logs are the caller's.
pub async fn serve(config: Config) -> ExitCode {
    // Before anything is started, so that no signal is lost.
    let (mut interrupt, mut terminate) =
        match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
            (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "signals cannot be received");
                return ExitCode::FAILURE;
            }
        };
    // In a cluster the start waits for the API, which may take long.
    let started = tokio::select! {
        started = App::start(config) => started,
        _ = interrupt.recv() => return ExitCode::SUCCESS,
        _ = terminate.recv() => return ExitCode::SUCCESS,
    };
    let mut running = match started {
        Ok(running) => running,
        Err(error) => {
            tracing::error!(%error, "the control plane does not start");
            return ExitCode::FAILURE;
        }
    };
    announce(&running);
    let code = tokio::select! {
        _ = interrupt.recv() => ExitCode::SUCCESS,
        _ = terminate.recv() => ExitCode::SUCCESS,
        () = running.failed() => {
            tracing::error!("a part of the control plane has ended");
            ExitCode::FAILURE
        }
    };
    tracing::info!("stopping");
    running.shutdown().await;
    code
}

fn announce(running: &Running) {
    let addresses = &running.addresses;
    tracing::info!(
        discovery = %addresses.discovery,
        api = %addresses.api.display(),
        admin = addresses.admin.map(|address| address.to_string()),
        webhook = addresses.webhook.map(|address| address.to_string()),
        "the control plane is ready"
    );
}
