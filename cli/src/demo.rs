//! `weft demo`: a small shop in a mesh, with load, watched.
//!
//! The same machinery as `weft up`, on objects and apps that are built in. Comes in: how long, and how to show it.
//! Goes out: progress on stderr while it starts; then a live table, or one JSON object at the end.
//!
//! - [`apps`]: the shop's services; [`objects`]: what runs of them;
//! - [`prometheus`], [`traffic`]: what the sidecars counted; [`table`], [`report`]: how it is shown.

pub(crate) mod apps;
mod objects;
mod progress;
mod prometheus;
mod report;
mod table;
mod traffic;

use std::{collections::BTreeMap, future::Future, net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use weft_proxy::clock;

use crate::{
    command::{DemoArgs, DemoFormat},
    failure::Failure,
    runs::OBJECTS,
    up::{
        admin,
        logs::Show,
        mesh::{Mesh, Options},
        plan::ReplicaName,
        signals::EndSignals,
    },
};
use progress::Shown;
use report::Summary;
use table::Screen;
use traffic::{Recorder, Scrape};

const READY_WITHIN: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_millis(700);
const SCRAPE_EVERY: Duration = Duration::from_secs(1);

/// Runs the shop until its time is over, or until asked to end.
pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<()> {
    if args.output == DemoFormat::Json && args.duration.is_none() {
        let what = "-o json prints one object when the demo ends, and this one does not end";
        return Err(Failure::new(what, "say how long: weft demo --duration 15s -o json").into());
    }
    let begun = clock::now();
    let mut signals = EndSignals::take()?;
    let screen = Screen::choose(&args);
    let options = Options {
        what: "weft demo".into(),
        source: objects::source(args.rate)?,
        show: match (&screen, args.logs) {
            (_, true) => Show::Everything,
            (Screen::Live(_), false) => Show::Nothing,
            (_, false) => Show::Notes,
        },
        grace: GRACE,
    };
    let Some(mut mesh) = unless(&mut signals, Mesh::start(options)).await.transpose()? else {
        return Ok(());
    };
    let watched = unless(&mut signals, watch(&args, &mesh, screen, begun)).await;
    // A second Ctrl-C leaves the rest to the janitor.
    let _ = unless(&mut signals, mesh.stop()).await;
    match watched {
        Some(Ok(Some(summary))) => summary.print(args.output),
        Some(Ok(None)) | None => Ok(()),
        Some(Err(error)) => Err(error),
    }
}

/// What comes of the work, unless a signal comes first.
async fn unless<T>(signals: &mut EndSignals, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = signals.next() => None,
    }
}

/// Waits until the shop is ready, then shows what happens in it. Returns when the time is over.
async fn watch(
    args: &DemoArgs,
    mesh: &Mesh,
    mut screen: Screen,
    begun: clock::Instant,
) -> anyhow::Result<Option<Summary>> {
    let mut shown = Shown::begin();
    let progress = mesh.until_ready(READY_WITHIN, |progress| shown.show(progress)).await;
    shown.end();
    if !progress.is_done() {
        return Err(not_ready(&progress));
    }
    let ready = begun.elapsed();
    let proxies = progress.wanted.unwrap_or_default();
    let objects = mesh.run.folder.path().join(OBJECTS);
    let head =
        format!("The shop is up: {proxies} sidecars, ready after {:.1} s", ready.as_secs_f64());
    let mut recorder = Recorder::new(clock::now(), scrape_all(mesh).await);
    let file = objects.join(objects::FILE);
    screen.begin(&head, &hints(&file.display().to_string(), outbound_of_load(mesh)))?;
    let end = args.duration.map(|duration| clock::now() + duration);
    while end.is_none_or(|end| clock::now() < end) {
        let next = clock::now() + SCRAPE_EVERY;
        clock::sleep_until(end.map_or(next, |end| next.min(end))).await;
        recorder.record(clock::now(), scrape_all(mesh).await);
        screen.show(&recorder.recent())?;
    }
    screen.end();
    Ok(Some(Summary::new(recorder.overall(), proxies, ready)))
}

fn not_ready(progress: &crate::up::readiness::Progress) -> anyhow::Error {
    let lines = progress.missing.iter().map(|(name, why)| format!("\n  {name} {why}"));
    let what = match progress.wanted {
        Some(wanted) => format!(
            "{} of {wanted} replicas did not become ready within {} s:{}",
            progress.missing.len(),
            READY_WITHIN.as_secs(),
            lines.collect::<String>()
        ),
        None => "the control plane told of no workload".into(),
    };
    Failure::new(what, "`weft demo --logs` shows what each says; WEFT_LOG=debug shows more").into()
}

/// What to try in another terminal. `proxy` is a sidecar's door for applications.
fn hints(file: &str, proxy: Option<SocketAddr>) -> Vec<String> {
    let mut hints: Vec<String> = [
        "weft proxies                   every sidecar, and the configuration it holds",
        "weft endpoints shop/catalog    where a service is reached, and who may answer there",
        "weft identity shop/cart        the certificate of a sidecar",
        "weft get services -n shop      what the mesh knows; describe says more",
        "weft apply -f examples/policies/split.yaml    more: docs/policy.md",
        "weft describe service catalog -n shop         which policies hold there",
    ]
    .map(str::to_owned)
    .into();
    hints.extend(proxy.map(|proxy| {
        format!("http_proxy={proxy} curl -i http://catalog.shop/articles  as load does")
    }));
    hints.push("weft down                      the end; or Ctrl-C here".to_owned());
    hints.push(format!("edit {file}: what you change takes effect at once"));
    hints
}

/// Where the load's sidecar takes requests: whoever sends there is the load to everybody.
fn outbound_of_load(mesh: &Mesh) -> Option<SocketAddr> {
    let states = mesh.run.board.all().into_iter();
    let mut loads = states.filter(|(name, _)| name.workload == "load");
    loads.find_map(|(_, state)| Some(state.ports?.outbound))
}

/// What every sidecar that answers has counted.
async fn scrape_all(mesh: &Mesh) -> BTreeMap<ReplicaName, Scrape> {
    let sidecars = mesh.run.board.all().into_iter().filter_map(|(name, state)| {
        let admin = state.ports?.admin;
        Some(async move {
            let text = admin::metrics(admin).await.ok()?;
            Some((name, traffic::scrape(&prometheus::parse(&text))))
        })
    });
    join_all(sidecars).await.into_iter().flatten().collect()
}
