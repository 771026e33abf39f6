//! A steady load of requests, every one of them counted: what goes wrong while it runs is known by number.
//!
//! Each connection sends one request at a time, at its share of the rate. A broken connection is a failure, and
//! the next request goes on a new one.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::{
    apps::Http,
    client::{Client, request},
    wait,
};

/// Failures that are told in full.
const TOLD: usize = 5;

/// Connections of each kind of client.
const CONNECTIONS: u32 = 8;

/// What is sent.
#[derive(Debug, Clone)]
pub struct Requests {
    /// Where the clients connect.
    pub to: SocketAddr,
    /// How they speak.
    pub version: Http,
    /// The method.
    pub method: &'static str,
    /// The target.
    pub uri: &'static str,
    /// The body.
    pub body: Bytes,
}

/// A running load; it ends when dropped.
#[derive(Debug)]
pub struct Load {
    counts: Arc<Counts>,
    clients: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
    told: Mutex<Vec<String>>,
    stop: AtomicBool,
}

/// What became of all requests.
#[derive(Debug)]
pub struct Outcome {
    /// Requests with status 200 and a whole body.
    pub answered: u64,
    /// All others.
    pub failed: u64,
    /// How the first of them failed.
    pub told: Vec<String>,
}

impl Requests {
    /// GETs of this URI.
    #[must_use]
    pub const fn get(to: SocketAddr, version: Http, uri: &'static str) -> Self {
        Self { to, version, method: "GET", uri, body: Bytes::new() }
    }

    /// POSTs to this URI.
    #[must_use]
    pub const fn post(to: SocketAddr, version: Http, uri: &'static str) -> Self {
        Self { to, version, method: "POST", uri, body: Bytes::from_static(b"a body to send again") }
    }
}

/// Requests a second in all: `WEFT_TEST_RATE`, else 1,000.
#[must_use]
pub fn rate() -> u32 {
    std::env::var("WEFT_TEST_RATE").ok().and_then(|rate| rate.parse().ok()).unwrap_or(1_000)
}

impl Load {
    /// Sends these requests, at `rate` a second together, until told to stop.
    #[must_use]
    pub fn start(rate: u32, kinds: &[Requests]) -> Self {
        let counts = Arc::new(Counts::default());
        let mut clients = JoinSet::new();
        let connections = CONNECTIONS * u32::try_from(kinds.len()).expect("a few kinds");
        let pause = Duration::from_secs(1) * connections / rate.max(1);
        for requests in kinds {
            for _ in 0..CONNECTIONS {
                clients.spawn(run(requests.clone(), pause, counts.clone()));
            }
        }
        Self { counts, clients }
    }

    /// Requests answered so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.counts.answered.load(Ordering::Relaxed)
    }

    /// Waits until this many more requests were answered.
    pub async fn answers(&self, more: u64) {
        let enough = self.answered() + more;
        wait::until_true("the load to be answered", || async { self.answered() >= enough }).await;
    }

    /// Lets every request under way end, and sums up.
    pub async fn stop(mut self) -> Outcome {
        self.counts.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("a client does not panic");
        }
        Outcome {
            answered: self.answered(),
            failed: self.counts.failed.load(Ordering::Relaxed),
            told: self.counts.told.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

impl Outcome {
    /// Says the figures.
    ///
    /// # Panics
    /// When a request failed, or nothing was sent.
    pub fn assert_no_failure(&self, scenario: &str) {
        eprintln!("{scenario}: {} requests, {} failures", self.answered + self.failed, self.failed);
        assert_eq!(self.failed, 0, "{scenario}: {self:#?}");
        assert!(self.answered > 0, "{scenario}: nothing was sent");
    }
}

impl Counts {
    fn fail(&self, how: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD {
            told.push(how);
        }
    }
}

async fn run(requests: Requests, pause: Duration, counts: Arc<Counts>) {
    let mut ticks = interval(pause);
    // A late answer delays those behind it no further than the rate allows to make up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut client = None;
    while !counts.stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let mut open = match client.take() {
            Some(open) => open,
            None => Client::connect(requests.to, requests.version).await,
        };
        let request = request(requests.method, requests.uri, requests.body.clone());
        match open.send(request).await {
            Ok(answer) if answer.status == http::StatusCode::OK => {
                counts.answered.fetch_add(1, Ordering::Relaxed);
                client = Some(open);
            }
            Ok(answer) => {
                counts.fail(format!("{answer:?}"));
                client = Some(open);
            }
            Err(error) => counts.fail(format!("{} {}: {error:?}", requests.method, requests.uri)),
        }
    }
}
