//! Keeps one process running: starts it, copies its lines, starts it again with backoff when it ends, and ends
//! it when asked.

use std::{future::Future, pin::pin, time::Duration};

use futures_util::future::{FusedFuture as _, FutureExt as _};
use tokio::sync::watch;
use weft_proxy::clock;

use super::{
    backoff::Backoff,
    board::Phase,
    logs::Source,
    process::{self, Process, Program},
    run::Run,
};
use crate::output;

/// Pipes that a dead process's children still hold are read for this long.
const LAST_LINES: Duration = Duration::from_millis(100);

/// A process to keep.
pub(crate) trait Kept {
    /// Whose lines they are.
    fn source(&self) -> &Source;

    /// What to start now. May wait for what it needs; dropped when the process is no longer wanted.
    async fn program(&mut self) -> anyhow::Result<Program>;

    /// Runs beside the process. Returns, with the reason, only when it must be started again.
    async fn watch(&mut self) -> String;

    /// How long it may take to end.
    fn grace(&self) -> Duration;

    /// Takes notice of how it goes.
    fn entered(&mut self, phase: Phase);
}

/// A request to end that can be waited for.
#[derive(Debug, Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

/// The other end: asks by [`StopHandle::ask`], or by being dropped.
#[derive(Debug)]
pub(crate) struct StopHandle(watch::Sender<bool>);

impl StopHandle {
    pub(crate) fn new() -> (Self, Stop) {
        let (ask, asked) = watch::channel(false);
        (Self(ask), Stop(asked))
    }

    pub(crate) fn ask(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Returns when asked. Cancel-safe.
    pub(crate) async fn asked(&mut self) {
        // A handle that is gone asks as well.
        let _ = self.0.wait_for(|asked| *asked).await;
    }
}

/// Keeps a process running until asked to stop; returns when it has ended.
pub(crate) async fn keep(kept: &mut impl Kept, run: &Run, mut stop: Stop) {
    let mut backoff = Backoff::default();
    while let End::Failed { why, ran } = once(kept, run, &mut stop).await {
        let wait = backoff.after(ran);
        run.logs
            .note(kept.source(), &format!("{why}; starting it again in {}", output::span(wait)));
        kept.entered(Phase::Ended(why));
        tokio::select! {
            () = stop.asked() => break,
            () = clock::sleep(wait) => {}
        }
    }
    kept.entered(Phase::Stopped);
}

enum End {
    Stopped,
    Failed { why: String, ran: Duration },
}

/// One life of the process.
async fn once(kept: &mut impl Kept, run: &Run, stop: &mut Stop) -> End {
    let program = tokio::select! {
        () = stop.asked() => return End::Stopped,
        program = kept.program() => program,
    };
    let started = program.and_then(|program| Process::start(&program, &run.mark, &run.janitor));
    let (mut process, output) = match started {
        Ok(started) => started,
        Err(error) => return End::Failed { why: format!("{error:#}"), ran: Duration::ZERO },
    };
    let begun = clock::now();
    kept.entered(Phase::Running);
    let source = kept.source().clone();
    let mut lines = pin!(run.logs.follow(&source, output).fuse());
    let end = beside(lines.as_mut(), live(kept, &mut process, stop, begun)).await;
    if !lines.is_terminated() {
        let _ = clock::timeout(LAST_LINES, lines).await;
    }
    end
}

/// From the start of the process to its end.
async fn live(
    kept: &mut impl Kept,
    process: &mut Process,
    stop: &mut Stop,
    begun: clock::Instant,
) -> End {
    let grace = kept.grace();
    tokio::select! {
        status = process.wait() => {
            End::Failed { why: process::how_it_ended(status), ran: begun.elapsed() }
        }
        why = kept.watch() => {
            process.stop(grace).await;
            End::Failed { why, ran: begun.elapsed() }
        }
        () = stop.asked() => {
            process.stop(grace).await;
            End::Stopped
        }
    }
}

/// Drives `aside` for as long as `work` takes.
async fn beside<T>(
    mut aside: std::pin::Pin<&mut impl Future<Output = ()>>,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = &mut aside => {}
    }
    // What stood aside is done and must not be polled again.
    work.await
}
