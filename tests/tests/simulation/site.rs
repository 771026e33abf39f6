//! What is known of a sidecar's host: the calls of its application, those that it served, the sidecar's metrics.

use std::{
    cell::{Cell, Ref, RefCell},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::try_join_all;
use http::{HeaderValue, StatusCode};
use tokio::sync::Notify;
use weft_proxy::{app::Running, discovery::Directory, identity::Identity};
use weft_tests::{
    apps::{App, Http, echo},
    client::{Client, get_once, request},
    wait,
};

/// The field that numbers calls.
const COUNT: &str = "count";

/// What is known of a sidecar's host.
#[derive(Default)]
pub(crate) struct Site {
    sidecar: RefCell<Option<(Identity, Directory)>>,
    asked: Notify,
    metrics: RefCell<Option<String>>,
    enough: Cell<bool>,
    sent: Cell<usize>,
    calls: RefCell<Vec<Call>>,
    served: Arc<Mutex<Vec<HeaderValue>>>,
}

/// What an application asks of others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// What it calls.
    pub(crate) uri: &'static str,
    /// How it speaks.
    pub(crate) version: Http,
    /// So many connections, each with one call at a time,
    pub(crate) connections: usize,
    /// and a pause of this after each answer.
    pub(crate) pause: Duration,
}

/// A request of an application, and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// When it was sent, since the scenario began.
    pub(crate) at: Duration,
    /// How long the answer took.
    pub(crate) took: Duration,
    /// Which of the application's calls it was.
    pub(crate) number: usize,
    /// The answer's status; none where it broke off.
    pub(crate) status: Option<StatusCode>,
    /// The sidecar's reason, where it answered by itself.
    pub(crate) reason: String,
    /// The application that answered.
    pub(crate) app: String,
    /// How many attempts the sidecar made.
    pub(crate) attempts: usize,
}

impl Call {
    pub(crate) fn is_answered(&self) -> bool {
        self.status == Some(StatusCode::OK)
    }
}

impl Site {
    /// The application of a server: it sends back what it gets, says `name`, and notes which calls it saw.
    pub(crate) async fn serve(&self, name: &'static str, address: SocketAddr) -> turmoil::Result {
        let served = self.served.clone();
        let _app = App::http_at(address, move |request| {
            let count = request.headers().get(COUNT).cloned();
            served.lock().unwrap_or_else(PoisonError::into_inner).extend(count);
            echo(name, request)
        })
        .await;
        std::future::pending().await
    }

    /// Waits until the sidecar says that it is ready.
    pub(crate) async fn ready(&self, admin: SocketAddr) {
        wait::until_true("the sidecar to be ready", || async {
            get_once(admin, "/ready").await.status == StatusCode::OK
        })
        .await;
    }

    /// The application of a client: it calls through the sidecar's outbound port until told to stop.
    pub(crate) async fn call_all(&self, outbound: SocketAddr, load: Load) -> turmoil::Result {
        let connections = (0..load.connections).map(|_| self.call(outbound, load));
        try_join_all(connections).await.map(|_| ())
    }

    /// Calls on one connection as long as it holds.
    async fn call(&self, outbound: SocketAddr, load: Load) -> turmoil::Result {
        let mut client = Client::connect(outbound, load.version).await;
        while !self.enough.get() {
            let (at, began) = (turmoil::sim_elapsed().unwrap_or_default(), turmoil::elapsed());
            if client.is_closed() {
                client = Client::connect(outbound, load.version).await;
            }
            let count = self.sent.replace(self.sent.get() + 1);
            // Not idempotent: nobody may send it twice.
            let mut request = request("POST", load.uri, count.to_string());
            request.headers_mut().insert(COUNT, count.into());
            let answer = client.send(request).await.ok();
            let field = |name| answer.as_ref().map(|answer| answer.field(name).to_owned());
            let call = Call {
                at,
                took: turmoil::elapsed() - began,
                number: count,
                status: answer.as_ref().map(|answer| answer.status),
                reason: field("weft-reason").unwrap_or_default(),
                app: field("app").unwrap_or_default(),
                attempts: field("weft-attempts").and_then(|said| said.parse().ok()).unwrap_or(1),
            };
            if let Some(answer) = answer.filter(|_| call.is_answered()) {
                assert_eq!(answer.body, count.to_string(), "another call's answer");
            }
            self.calls.borrow_mut().push(call);
            tokio::time::sleep(load.pause).await;
        }
        Ok(())
    }

    /// No further call is made.
    pub(crate) fn stop_calling(&self) {
        self.enough.set(true);
    }

    /// Which calls the application has seen, in their order.
    pub(crate) fn served(&self) -> Vec<usize> {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |value: &HeaderValue| value.to_str().ok()?.parse().ok();
        served.iter().map(|value| count(value).expect("a call's number")).collect()
    }

    /// How many calls were sent.
    pub(crate) fn sent(&self) -> usize {
        self.sent.get()
    }

    /// The calls so far.
    pub(crate) fn calls(&self) -> Ref<'_, [Call]> {
        Ref::map(self.calls.borrow(), Vec::as_slice)
    }

    /// The calls that were sent since then.
    pub(crate) fn calls_since(&self, since: Duration) -> Vec<Call> {
        self.calls().iter().filter(|call| call.at >= since).cloned().collect()
    }

    /// Notes what the sidecar knows, and writes its metrics down whenever they are asked for: only on its own host has
    /// it the time.
    pub(crate) async fn report(&self, sidecar: &Running) -> turmoil::Result {
        let known = (sidecar.identity.clone(), sidecar.directory.clone());
        *self.sidecar.borrow_mut() = Some(known);
        loop {
            self.asked.notified().await;
            *self.metrics.borrow_mut() = Some(sidecar.telemetry.metrics.text());
        }
    }

    pub(crate) fn ask_for_metrics(&self) {
        self.asked.notify_one();
    }

    pub(crate) fn take_metrics(&self) -> Option<String> {
        self.metrics.take()
    }

    /// Until when the sidecar's SVID holds, since the Unix epoch.
    pub(crate) fn svid_not_after(&self) -> Option<Duration> {
        let sidecar = self.sidecar.borrow();
        let credentials = sidecar.as_ref().and_then(|(identity, _)| identity.credentials());
        credentials.map(|credentials| credentials.svid.not_after())
    }

    /// Why the sidecar has no stream to the control plane.
    pub(crate) fn stream_error(&self) -> Option<String> {
        let sidecar = self.sidecar.borrow();
        let status = sidecar.as_ref().map(|(_, directory)| directory.status());
        status.and_then(|status| status.borrow().last_error.clone())
    }
}
