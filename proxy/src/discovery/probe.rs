//! Is the local application up? Asked here, beside it, and reported to the control plane, so that a workload
//! outside Kubernetes gets traffic only while it can serve it.
//!
//! Comes in: the ports of the application and how to probe them, and hints that it refused a connection. Goes
//! out: [`AppHealth`], written into the directory. It must never report ready before a probe succeeded.
//!
//! States: *starting* (not ready; probed every 250 ms) -> one success -> *ready* (every 5 s, at once on a hint)
//! -> two failures in a row, the second asked 250 ms after the first -> *down* (every second).

use std::{net::SocketAddr, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::{info, warn};

use super::Directory;
use crate::{
    clock,
    config::{AppPort, AppProbe},
    net::{self, TcpStream},
};

/// One probe, from the connection to the answer.
const TIMEOUT: Duration = Duration::from_secs(1);
const STARTING_INTERVAL: Duration = Duration::from_millis(250);
const DOWN_INTERVAL: Duration = Duration::from_secs(1);
const READY_INTERVAL: Duration = Duration::from_secs(5);
/// Failures in a row that end readiness.
const FAILURES: u32 = 2;
/// A status line is far shorter.
const MAX_STATUS_LINE: usize = 1024;

/// The application's health as its sidecar sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct AppHealth {
    /// The application answers.
    pub ready: bool,
    /// What the last failed probe found; empty when ready.
    pub detail: String,
}

/// Probes the application until dropped, and writes its health into the directory.
pub async fn run(directory: Directory, probe: AppProbe, ports: Vec<AppPort>) {
    let health = &directory.shared.app_health;
    let mut state = State::default();
    loop {
        let result = check(&probe, &ports).await;
        let change = state.judge(result);
        if let Some(new) = change {
            if new.ready {
                info!("the application is ready");
            } else {
                warn!(detail = new.detail, "the application is not ready");
            }
            health.send_replace(new);
        }
        if probe == AppProbe::None {
            return;
        }
        // Both branches are cancel-safe.
        tokio::select! {
            () = clock::sleep(state.interval()) => {}
            () = directory.shared.app_hint.notified(), if state.phase == Phase::Ready => {}
        }
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Starting,
    Ready,
    /// Ready, with this many failures since the last success.
    Doubtful(u32),
    Down,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// What was reported last; `None` before the first report.
    reported: Option<AppHealth>,
}

impl State {
    /// Takes one probe's result; the new health when it differs from the reported one.
    fn judge(&mut self, result: Result<(), String>) -> Option<AppHealth> {
        self.phase = match (&result, self.phase) {
            (Ok(()), _) => Phase::Ready,
            (Err(_), Phase::Starting) => Phase::Starting,
            (Err(_), Phase::Down) => Phase::Down,
            (Err(_), Phase::Ready) => Phase::Doubtful(1),
            (Err(_), Phase::Doubtful(failures)) if failures + 1 < FAILURES => {
                Phase::Doubtful(failures + 1)
            }
            (Err(_), Phase::Doubtful(_)) => Phase::Down,
        };
        let health = match (self.phase, result) {
            (Phase::Ready, _) => AppHealth { ready: true, detail: String::new() },
            (Phase::Doubtful(_), _) | (_, Ok(())) => return None,
            (Phase::Starting | Phase::Down, Err(detail)) => AppHealth { ready: false, detail },
        };
        (self.reported.as_ref() != Some(&health)).then(|| {
            self.reported = Some(health.clone());
            health
        })
    }

    const fn interval(&self) -> Duration {
        match self.phase {
            Phase::Starting | Phase::Doubtful(_) => STARTING_INTERVAL,
            Phase::Ready => READY_INTERVAL,
            Phase::Down => DOWN_INTERVAL,
        }
    }
}

/// One probe; the error says what was found and where.
async fn check(probe: &AppProbe, ports: &[AppPort]) -> Result<(), String> {
    match probe {
        AppProbe::None => Ok(()),
        AppProbe::Tcp => {
            for port in ports {
                connect(port.address).await?;
            }
            Ok(())
        }
        AppProbe::Http(path) => match ports.first() {
            Some(port) => get(port.address, path).await,
            None => Ok(()),
        },
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    match clock::timeout(TIMEOUT, net::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("connecting to {address}: {error}")),
        Err(_) => Err(format!("connecting to {address}: no answer within {TIMEOUT:?}")),
    }
}

/// `GET path`: 200 to 399 is healthy.
async fn get(address: SocketAddr, path: &str) -> Result<(), String> {
    let stream = connect(address).await?;
    let status = match clock::timeout(TIMEOUT, exchange(stream, address, path)).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => return Err(format!("GET http://{address}{path}: {error}")),
        Err(_) => {
            return Err(format!("GET http://{address}{path}: no answer within {TIMEOUT:?}"));
        }
    };
    match status {
        200..=399 => Ok(()),
        _ => Err(format!("GET http://{address}{path}: status {status}, 200 to 399 is healthy")),
    }
}

/// The status of an HTTP/1.1 request on a connection of its own. Only the status line is read.
async fn exchange(mut stream: TcpStream, address: SocketAddr, path: &str) -> std::io::Result<u16> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: weft-probe\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.contains(&b'\n') && answer.len() < MAX_STATUS_LINE {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    status_of(&answer).ok_or_else(|| std::io::Error::other("the answer is not HTTP/1"))
}

/// The status in "HTTP/1.x NNN …".
fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let digits = std::str::from_utf8(rest.get(..3)?).ok()?;
    digits.parse().ok().filter(|status| (100..=599).contains(status))
}

#[cfg(test)]
mod tests;
