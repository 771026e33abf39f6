//! The shop's customers: `$RATE` requests a second to web, whatever web does, up to a bound of open ones.
//!
//! First one request at a time, until the whole shop has answered several in a row; from then on `/ready` on
//! `$PORT` says so, and the full rate is sent. Failures are told once a second.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context as _;
use serde_json::json;
use tokio::{task::JoinSet, time::MissedTickBehavior};
use weft_proxy::clock;

use super::{call::Caller, serve, variable};

const PAGE: &str = "http://web.shop/";
/// Each replica of web, and each of theirs, has its turn in these.
const WARM: u32 = 12;
const MOST_OPEN: usize = 512;

pub(super) async fn run() -> anyhow::Result<()> {
    let rate = variable("RATE").unwrap_or_else(|_| "50".into());
    let rate: u32 = rate.parse().with_context(|| format!("RATE is {rate:?}: give a number"))?;
    let caller = Caller::from_environment()?;
    let warm = Arc::new(AtomicBool::new(false));
    let is_warm = Arc::clone(&warm);
    let readiness = serve::serve(move |_| {
        let ready = is_warm.load(Relaxed);
        async move {
            if ready {
                Ok(json!({ "ready": true }))
            } else {
                Err("the shop does not answer yet".into())
            }
        }
    });
    let load = async {
        warm_up(&caller).await;
        warm.store(true, Relaxed);
        send(caller, rate.max(1)).await
    };
    tokio::select! {
        ended = readiness => ended,
        ended = load => ended,
    }
}

async fn warm_up(caller: &Caller) {
    let mut answered = 0;
    let mut said = String::new();
    while answered < WARM {
        match caller.get(PAGE).await {
            Ok(_) => answered += 1,
            Err(why) => {
                answered = 0;
                if why != said {
                    let _ = crate::output::print(&format!("waiting for the shop: {why}\n"));
                    said = why;
                }
                clock::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn send(caller: Caller, rate: u32) -> anyhow::Result<()> {
    let failures = Arc::new(Failures::default());
    let mut open = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    // After a pause of the machine the missed requests are not sent all at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tell = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                while open.try_join_next().is_some() {}
                if open.len() < MOST_OPEN {
                    open.spawn(one(caller.clone(), Arc::clone(&failures)));
                }
            }
            _ = tell.tick() => failures.tell(),
        }
    }
}

async fn one(caller: Caller, failures: Arc<Failures>) {
    if let Err(error) = caller.get(PAGE).await {
        failures.count(error);
    }
}

/// What failed since it was last told.
#[derive(Debug, Default)]
struct Failures {
    count: AtomicU64,
    last: std::sync::Mutex<String>,
}

impl Failures {
    fn count(&self, error: String) {
        self.count.fetch_add(1, Relaxed);
        *self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = error;
    }

    fn tell(&self) {
        let count = self.count.swap(0, Relaxed);
        if count > 0 {
            let last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let _ =
                crate::output::print(&format!("{count} requests failed, the last one: {last}\n"));
        }
    }
}
