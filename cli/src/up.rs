//! `weft up FILE`: a person's own services in a mesh on this machine, until Ctrl-C or `weft down`.
//!
//! - [`source`]: the file, again whenever it changes; [`check`]: what it says that cannot work; [`desired`]: the workloads that the control plane knows;
//! - [`plan`]: workloads to replicas; [`supervise`]: replicas started, ended, replaced;
//! - [`replica`]: a sidecar and an app beside each other; [`environment`], [`expand`], [`ports`]: what the app
//!   is told; [`admin`]: what a sidecar says;
//! - [`keep`]: one process kept running, with [`backoff`]; [`process`], [`exec`]: the process itself;
//! - [`janitor`]: what cleans up, however the run ends; [`down`]: the end from another terminal;
//! - [`mesh`]: all of it together; [`board`], [`readiness`]: how it goes; [`logs`]: its lines.

pub(crate) mod admin;
pub(crate) mod backoff;
pub(crate) mod board;
pub(crate) mod check;
pub(crate) mod control_plane;
pub(crate) mod desired;
pub(crate) mod down;
pub(crate) mod environment;
pub(crate) mod exec;
pub(crate) mod expand;
pub(crate) mod janitor;
pub(crate) mod keep;
pub(crate) mod logs;
pub(crate) mod mesh;
pub(crate) mod plan;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod readiness;
pub(crate) mod replica;
pub(crate) mod run;
pub(crate) mod signals;
pub(crate) mod source;
pub(crate) mod supervise;
pub(crate) mod watched;

use std::time::Duration;

use weft_proxy::clock;

use crate::{
    command::UpArgs,
    output,
    up::{
        logs::Show,
        mesh::{Mesh, Options},
        readiness::Progress,
        signals::EndSignals,
        source::Source,
    },
};

/// A start that takes longer is reported, and goes on.
const REPORT_AFTER: Duration = Duration::from_secs(15);

/// Runs the file's services until asked to end.
pub(crate) async fn run(args: UpArgs) -> anyhow::Result<()> {
    let begun = clock::now();
    let mut signals = EndSignals::take()?;
    let options = Options {
        what: format!("weft up {}", args.file.display()),
        source: Source::given(args.file)?,
        show: Show::Everything,
        grace: args.grace,
    };
    let started = tokio::select! {
        started = Mesh::start(options) => started,
        () = signals.next() => return Ok(()),
    };
    let mut mesh = started?;
    let lived = async {
        let progress = mesh.until_ready(REPORT_AFTER, |_| {}).await;
        mesh.run.logs.say(&summary(&progress, begun.elapsed()));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = lived => {}
        () = signals.next() => {}
    }
    mesh.run.logs.say("stopping; once more Ctrl-C to stop at once");
    tokio::select! {
        () = mesh.stop() => {}
        // The janitor does the rest.
        () = signals.next() => {}
    }
    Ok(())
}

fn summary(progress: &Progress, took: Duration) -> String {
    let wanted = progress.wanted.unwrap_or_default();
    if wanted == 0 {
        return "no replica runs: no Workload has a spec.command and replicas above 0".into();
    }
    if progress.missing.is_empty() {
        return format!(
            "all {wanted} replicas are ready after {:.1} s. In another terminal: weft proxies, \
             weft endpoints, weft apply -f FILE (routes and policies), weft down",
            took.as_secs_f64()
        );
    }
    let ready = wanted - progress.missing.len();
    let mut text = format!("{ready} of {wanted} replicas are ready after {}:", output::span(took));
    for (name, why) in &progress.missing {
        text.push_str(&format!("\n  {name} {why}"));
    }
    text
}
