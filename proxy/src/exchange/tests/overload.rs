//! Many more requests than a service may have connections for: each is served in its time, whoever leaves meanwhile, and
//! however the limit changes.
//!
//! The storms have workers in threads of their own and say which seed they ran; `WEFT_SEED` runs another one, and
//! `WEFT_SEEDS` so many from that on.

use std::{
    env,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use futures_util::future::join_all;
use weft_proto::{Port, discovery::Protocol};

use super::{
    lowered::App,
    places::{GET, ask_http2, http2_app, limited, patient, until},
    run,
    stage::{Application, Reply, Stage, ask_on, listen},
};
use crate::{
    clock,
    discovery::{Destination, Endpoint, ServiceState},
    io::Socket,
    net,
    policy::limits::ServiceLimits,
    shared::{Process, Shared},
    tasks::Tasks,
    worker,
};

const WORKERS: usize = 3;
const REQUESTS: usize = 50;

/// What a storm is of.
struct Storm {
    endpoints: Vec<Endpoint>,
    protocol: Protocol,
    /// How many connections there may be at most, at one time or another; zero is any number.
    limits: &'static [u32],
}

impl Storm {
    /// A third of the requests leave soon. The others are all served, long before they may wait no longer; and nothing is
    /// left.
    async fn rages(&self, stage: &Stage) {
        let number = |name| env::var(name).ok().and_then(|value| value.parse().ok());
        let first = number("WEFT_SEED").unwrap_or(0);
        for seed in first..first + number("WEFT_SEEDS").unwrap_or(1) {
            eprintln!("WEFT_SEED={seed}");
            let rages = clock::timeout(Duration::from_secs(15), self.rages_once(stage, seed));
            assert!(rages.await.is_ok(), "seed {seed}: somebody was forgotten");
        }
    }

    async fn rages_once(&self, stage: &Stage, seed: u64) {
        let state = Arc::<ServiceState>::default();
        let mut random = fastrand::Rng::with_seed(seed);
        self.limit(stage, &state, random.choice(self.limits));
        let served = Arc::<AtomicUsize>::default();
        let loads: Vec<_> = (0..WORKERS)
            .map(|number| {
                let (process, served) = (stage.process(), served.clone());
                let (seed, protocol) = (seed * WORKERS as u64 + number as u64, self.protocol);
                thread::spawn(move || worker::run(load(process, protocol, seed, &served)))
            })
            .collect();
        while served.load(Relaxed) < WORKERS && !loads.iter().any(thread::JoinHandle::is_finished) {
            clock::sleep(Duration::from_millis(random.u64(1..40))).await;
            if let [only] = self.limits {
                let out = state.connections.out();
                assert!(out <= *only, "seed {seed}: {out} connections");
            } else {
                self.limit(stage, &state, random.choice(self.limits));
            }
        }
        until("the workers to end", || loads.iter().all(thread::JoinHandle::is_finished)).await;
        for load in loads {
            assert!(load.join().is_ok_and(|ran| ran.is_ok()), "seed {seed}: some failed");
        }
        assert_eq!((state.connections.waiting(), state.connections.out()), (0, 0), "seed {seed}");
    }

    /// There may be so many connections from now on.
    fn limit(&self, stage: &Stage, state: &Arc<ServiceState>, most: Option<&u32>) {
        let anew = |it: &Endpoint| Endpoint {
            id: it.id.clone(),
            transport: it.transport.clone(),
            ..Endpoint::plain(it.address, it.app_port)
        };
        let endpoints = self.endpoints.iter().map(anew).collect();
        let next = limited(endpoints, ServiceLimits::default());
        let most = most.filter(|most| **most > 0);
        let limits = most.map(|most| Arc::new(patient(0, *most)));
        let (state, protocol) = (state.clone(), self.protocol);
        state.limited_by(limits.as_deref());
        stage.pin_destination(Destination { state, protocol, limits, ..next });
    }
}

/// What the applications of one worker ask. The worker is there until all are served.
async fn load(process: Process, protocol: Protocol, seed: u64, served: &AtomicUsize) {
    let address = listen(Shared::new(process, Tasks::default())).await;
    let mut random = fastrand::Rng::with_seed(seed);
    let requests = (0..REQUESTS).map(|number| {
        let begins = Duration::from_millis(random.u64(..100));
        let leaves = (number % 3 == 0).then(|| Duration::from_millis(random.u64(..50)));
        async move {
            clock::sleep(begins).await;
            match leaves {
                Some(after) => drop(clock::timeout(after, is_served(address, protocol)).await),
                None => assert!(is_served(address, protocol).await, "request {number} of {seed}"),
            }
        }
    });
    join_all(requests).await;
    served.fetch_add(1, Relaxed);
    until("all to be served", || served.load(Relaxed) == WORKERS).await;
}

/// Whether the worker that listens there answers as the application does.
async fn is_served(address: SocketAddr, protocol: Protocol) -> bool {
    let socket = Socket::new(net::connect(address).await.expect("it listens"));
    match protocol {
        Protocol::Http2 => ask_http2(socket).await == 200,
        _ => ask_on(socket, GET).await.starts_with("HTTP/1.1 200"),
    }
}

const FEW: &[u32] = &[2];
const CHANGING: &[u32] = &[1, 2, 3, 8, 0];

/// Two endpoints, that answer in this version each.
async fn plain(protocol: Protocol) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for _ in 0..2 {
        endpoints.push(match protocol {
            Protocol::Http2 => {
                let address = http2_app().await;
                Endpoint::plain(address, Port::new(address.port()).expect("bound"))
            }
            _ => Application::start(|_| Reply::status("200 OK", "", "hi")).await.plain(),
        });
    }
    endpoints
}

async fn meshed(stage: &Stage) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for _ in 0..2 {
        let app = Application::start(|_| Reply::status("200 OK", "", "hi")).await;
        endpoints.push(stage.meshed(app.address, Protocol::Http1).await);
    }
    endpoints
}

fn storms_over(protocol: Protocol) {
    for limits in [FEW, CHANGING] {
        run(async {
            let stage = Stage::new();
            Storm { endpoints: plain(protocol).await, protocol, limits }.rages(&stage).await;
        });
    }
}

#[test]
fn nobody_is_forgotten_who_waits_for_http1_connections() {
    storms_over(Protocol::Http1);
}

#[test]
fn nobody_is_forgotten_who_waits_for_shared_connections() {
    storms_over(Protocol::Http2);
}

#[test]
fn nobody_is_forgotten_who_waits_for_either_kind() {
    for limits in [FEW, CHANGING] {
        run(async {
            let stage = Stage::new();
            let endpoints = meshed(&stage).await;
            Storm { endpoints, protocol: Protocol::Http1, limits }.rages(&stage).await;
        });
    }
}

/// One worker, one connection, two endpoints: what becomes idle at the one goes to who waits at the other.
#[test]
fn a_connection_that_becomes_idle_goes_to_who_waits_at_another_endpoint() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        run(async {
            let (stage, apps) = (Stage::new(), [App::default(), App::default()]);
            let mut endpoints = Vec::new();
            for app in &apps {
                endpoints.push(match protocol {
                    Protocol::Http2 => app.http2().await,
                    _ => app.http1().await,
                });
            }
            let mut destination = limited(endpoints, patient(0, 1));
            destination.protocol = protocol;
            let connections = destination.state.connections.clone();
            stage.pin_destination(destination);
            let worker = listen(stage.client().clone()).await;
            let asked = || apps.iter().map(|app| app.asked.get()).collect::<Vec<_>>();
            let both = async {
                until("the first to arrive", || asked().iter().sum::<usize>() == 1).await;
                let answers = async {
                    until("the second to wait", || connections.waiting() == 1).await;
                    apps.iter().for_each(|app| app.answers.set(true));
                };
                tokio::join!(is_served(worker, protocol), answers).0
            };
            let served = async { tokio::join!(is_served(worker, protocol), both) };
            let served = clock::timeout(Duration::from_secs(5), served).await;
            assert_eq!(served, Ok((true, true)), "{protocol:?}");
            assert_eq!(asked(), [1, 1], "it was the other endpoint's turn");
        });
    }
}
