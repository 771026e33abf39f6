//! The stream to the control plane: opened, kept alive, opened again.
//!
//! Comes in: questions of the workers, updates of the control plane. Goes out: subscriptions, acks and nacks,
//! the registration of this workload, and what [`super::Directory`] shows. Runs on the control runtime as one
//! task. It must never withdraw what it holds because the control plane is away: stale is better than none.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Interval, MissedTickBehavior},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Streaming, transport::Channel};
use tracing::{debug, info, warn};
use weft_proto::discovery::{
    Ack, ControlMessage, Deregister, Goodbye, Health, Hello, Nack, ProxyMessage, Registration,
    ResourceKey, Subscribe, Unsubscribe, Update, control_message,
    discovery_client::DiscoveryClient, proxy_message::Kind,
};

use super::{
    Settings, Shared,
    backoff::Backoff,
    ejections::Report,
    finder::Finder,
    holdings::{Effects, Holdings, Reply},
    probe::AppHealth,
    status,
    table::Question,
};
use crate::{clock, telemetry::DiscoveryMetrics};

/// Opening a stream, from the TCP connection to the control plane's first headers.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How often unused answers are looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// How often it is looked for what breakers have ejected, and so told at most.
const REPORT: Duration = Duration::from_secs(1);
/// One update may hold a service with tens of thousands of endpoints.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// Makes a new channel to the control plane for every stream, so that each handshake shows the newest
/// certificate and no stream lands on a connection that is being drained. The channel connects lazily.
pub type Dial = Arc<dyn Fn() -> Channel + Send + Sync>;

/// A channel's settings that discovery relies on: pings, so that a partition is noticed in seconds.
#[must_use]
pub fn with_keepalive(endpoint: tonic::transport::Endpoint) -> tonic::transport::Endpoint {
    endpoint
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .http2_adaptive_window(true)
}

/// The task behind a [`super::Directory`]. Dropping it closes the stream; the directory keeps what it has.
pub struct Client {
    settings: Settings,
    dial: Dial,
    shared: Arc<Shared>,
    questions: mpsc::UnboundedReceiver<Question>,
    holdings: Holdings,
    finder: Finder,
    backoff: Backoff,
    metrics: Arc<DiscoveryMetrics>,
    sweep: Interval,
    report: Report,
    report_due: Interval,
    app_health: watch::Receiver<AppHealth>,
    draining: watch::Receiver<bool>,
    /// Where messages of the open stream go; `None` without one.
    link: Option<mpsc::UnboundedSender<ProxyMessage>>,
}

/// Why a stream ended.
enum End {
    Goodbye(Goodbye),
    Lost(String),
}

impl Client {
    pub(super) fn new(
        settings: Settings,
        dial: Dial,
        shared: Arc<Shared>,
        questions: mpsc::UnboundedReceiver<Question>,
        metrics: Arc<DiscoveryMetrics>,
    ) -> Self {
        if settings.registration.is_some() {
            shared.status.send_modify(|status| {
                status.registration = status::Registration::Awaited;
            });
        }
        Self {
            app_health: shared.app_health.subscribe(),
            draining: shared.draining.subscribe(),
            holdings: Holdings::seen_from(&settings.zone),
            finder: Finder::new(settings.lookup.clone(), Arc::clone(&shared)),
            settings,
            dial,
            shared,
            questions,
            backoff: Backoff::new(fastrand::Rng::new()),
            metrics,
            sweep: every(SWEEP),
            report: Report::default(),
            report_due: every(REPORT),
            link: None,
        }
    }

    /// Keeps a stream open until dropped.
    pub async fn run(mut self) {
        loop {
            let opened = clock::now();
            let end = self.stream().await;
            self.link = None;
            let was_connected = self.shared.status.borrow().connected;
            self.metrics.connected(false);
            let delay = match &end {
                End::Goodbye(Goodbye { replaced: false, .. }) => self.backoff.after_goodbye(),
                // Who replaced it may live and come back as well: not both at once for ever.
                End::Goodbye(_) | End::Lost(_) => self.backoff.after_loss(opened.elapsed()),
            };
            self.note_end(end, was_connected, delay);
            self.serve_until(tokio::time::sleep(delay)).await;
        }
    }

    /// Logs the end of a stream: once an outage, unless the cause changes.
    fn note_end(&self, end: End, was_connected: bool, delay: Duration) {
        let error = match end {
            End::Goodbye(Goodbye { reason, replaced: true }) => {
                warn!(reason, retry_in = ?delay, "the control plane serves another sidecar instead");
                format!("goodbye: {reason}")
            }
            End::Goodbye(Goodbye { reason, .. }) => {
                info!(reason, "the control plane says goodbye: connecting again");
                format!("goodbye: {reason}")
            }
            End::Lost(error) => {
                let repeated = self.shared.status.borrow().last_error.as_ref() == Some(&error);
                if was_connected || !repeated {
                    warn!(error, retry_in = ?delay, "no stream to the control plane: working with what is held");
                } else {
                    debug!(error, retry_in = ?delay, "still no stream to the control plane");
                }
                error
            }
        };
        self.shared.status.send_modify(|status| {
            status.connected = false;
            status.last_error = Some(error);
        });
    }

    /// One stream, from `Hello` to its end.
    async fn stream(&mut self) -> End {
        let (link, messages) = mpsc::unbounded_channel();
        self.link = Some(link);
        self.greet();
        let mut client = DiscoveryClient::new((self.dial)()).max_decoding_message_size(MAX_MESSAGE);
        let opening = client.connect(UnboundedReceiverStream::new(messages));
        let opened = self.serve_until(clock::timeout(OPEN_TIMEOUT, opening)).await;
        let mut incoming = match opened {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return End::Lost(describe(&status)),
            Err(_) => return End::Lost(format!("no answer within {OPEN_TIMEOUT:?}")),
        };
        self.metrics.connected(true);
        self.shared.status.send_modify(|status| {
            status.connected = true;
            status.last_error = None;
        });
        self.receive(&mut incoming).await
    }

    /// Says who this is and what it holds, subscribes to the rest, and registers.
    fn greet(&mut self) {
        self.report.begin();
        let (held, missing) = self.holdings.resume();
        let settings = &self.settings;
        self.send(Kind::Hello(Hello {
            workload: settings.workload.to_string(),
            instance: settings.instance.clone(),
            incarnation: settings.incarnation.clone(),
            version: settings.version.clone(),
            zone: settings.zone.clone(),
            admin_address: settings.admin_address.map(|a| a.to_string()).unwrap_or_default(),
            interception: settings.interception.into(),
            held,
        }));
        self.subscribe(missing);
        let draining = *self.draining.borrow_and_update();
        if let (Some(registration), false) = (&self.settings.registration, draining) {
            self.send(Kind::Register(registration.clone()));
            self.report_health();
        }
    }

    /// Handles everything of an open stream until it ends.
    async fn receive(&mut self, incoming: &mut Streaming<ControlMessage>) -> End {
        loop {
            // `message` is cancel-safe: it keeps a partly read message in the stream.
            let message = match self.serve_until(incoming.message()).await {
                Ok(Some(message)) => message,
                Ok(None) => return End::Lost("the control plane closed the stream".to_owned()),
                Err(status) => return End::Lost(describe(&status)),
            };
            match message.kind {
                Some(control_message::Kind::Update(update)) => self.update(&update),
                Some(control_message::Kind::Welcome(welcome)) => {
                    let control_plane = format!("{} {}", welcome.control_plane, welcome.version);
                    info!(control_plane, "connected to the control plane");
                    self.shared.status.send_modify(|status| {
                        status.control_plane = Some(control_plane);
                    });
                }
                Some(control_message::Kind::Registration(answer)) => self.registration(answer),
                Some(control_message::Kind::Goodbye(goodbye)) => {
                    return End::Goodbye(goodbye);
                }
                // A newer control plane may say more than this proxy knows.
                None => debug!("a message of an unknown kind is left aside"),
            }
        }
    }

    /// Waits for `future` and, beside it, serves the workers, the sweep and the application's health.
    async fn serve_until<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        loop {
            // All branches are cancel-safe; what they bring is handled at once.
            tokio::select! {
                output = &mut future => return output,
                Some(question) = self.questions.recv() => self.answer(question),
                now = self.sweep.tick() => self.shared.table().sweep(now),
                _ = self.report_due.tick() => self.report_ejections(),
                Ok(()) = self.app_health.changed() => self.report_health(),
                Ok(()) = self.draining.changed() => self.deregister(),
            }
        }
    }

    /// Takes all questions that wait, so that they travel together.
    fn answer(&mut self, first: Question) {
        let mut effects = Effects::default();
        let mut next = Some(first);
        while let Some(question) = next {
            match question {
                Question::Ask(name) => self.holdings.ask(&name, &mut effects),
                Question::Forget(name) => {
                    self.holdings.forget(&name, &mut effects);
                    self.finder.forget(&name);
                }
            }
            next = self.questions.try_recv().ok();
        }
        self.perform(effects);
    }

    /// Applies an update and answers it.
    fn update(&mut self, update: &Update) {
        let mut effects = Effects::default();
        let reply = self.holdings.apply(update, &mut effects);
        let key = update.key.clone();
        let kind = key.as_ref().map_or("unknown", |key| kind_name(key));
        self.perform(effects);
        match reply {
            Reply::Ack => {
                debug!(kind, key = name_of(key.as_ref()), version = update.version, "in force");
                self.metrics.update(kind, true);
                self.send(Kind::Ack(Ack { key, version: update.version.clone() }));
            }
            Reply::Nack(reason) => {
                let name = name_of(key.as_ref());
                warn!(kind, key = name, reason, "an update is refused: the last good one stays");
                self.metrics.update(kind, false);
                self.send(Kind::Nack(Nack { key, version: update.version.clone(), reason }));
            }
            Reply::Silence => debug!(kind, "an update of what is not subscribed to is left aside"),
        }
    }

    /// Shows what changed to the workers, and (un)subscribes.
    fn perform(&mut self, effects: Effects) {
        if let Some(mesh) = effects.mesh {
            self.shared.mesh.send_replace(Some(Arc::clone(&mesh)));
            self.shared.table().set_scope(mesh);
            self.shared.status.send_modify(|status| status.mesh = true);
        }
        if let Some(trust) = effects.trust {
            self.shared.trust.send_replace(Some(trust));
        }
        if let Some(inbound) = effects.inbound {
            self.shared.inbound.send_replace(Some(inbound));
            self.shared.status.send_modify(|status| status.inbound = true);
        }
        if !effects.resolved.is_empty() {
            self.finder.publish(effects.resolved);
        }
        if !effects.unsubscribe.is_empty() {
            self.send(Kind::Unsubscribe(Unsubscribe { keys: effects.unsubscribe }));
        }
        self.subscribe(effects.subscribe);
        let (targets, services) = self.holdings.counts();
        self.metrics.subscriptions(targets, services);
    }

    fn registration(&self, answer: Registration) {
        let new = if answer.accepted {
            status::Registration::Accepted
        } else {
            status::Registration::Refused(answer.reason)
        };
        let changed = self.shared.status.send_if_modified(|status| {
            let changed = status.registration != new;
            status.registration = new.clone();
            changed
        });
        match (changed, &new) {
            (true, status::Registration::Refused(reason)) => {
                warn!(workload = %self.settings.workload, reason, "the registration is refused");
            }
            (true, _) => info!(workload = %self.settings.workload, "registered"),
            (false, _) => {}
        }
    }

    fn report_health(&mut self) {
        let health = self.app_health.borrow_and_update().clone();
        let draining = *self.draining.borrow();
        if self.settings.registration.is_some() && !draining {
            self.send(Kind::Health(Health { ready: health.ready, detail: health.detail }));
        }
    }

    /// Tells operators what the breakers have ejected, where that has changed.
    fn report_ejections(&mut self) {
        if self.link.is_none() {
            return;
        }
        if let Some(changes) = self.report.changes(self.holdings.services(), clock::process_ms()) {
            self.send(Kind::Ejections(changes));
        }
    }

    /// Takes its leave, also where nothing is registered: so the control plane knows that it did not vanish.
    fn deregister(&mut self) {
        if *self.draining.borrow_and_update() {
            self.send(Kind::Deregister(Deregister { reason: "draining".to_owned() }));
        }
    }

    fn subscribe(&self, keys: Vec<ResourceKey>) {
        if !keys.is_empty() {
            self.send(Kind::Subscribe(Subscribe { keys }));
        }
    }

    /// Without a stream nothing is sent: the next one's `Hello` says it all.
    fn send(&self, kind: Kind) {
        if let Some(link) = &self.link {
            let _ = link.send(ProxyMessage { kind: Some(kind) });
        }
    }
}

/// Ticks that are late do not add up.
fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// A status as an operator reads it: what failed, down to the cause.
fn describe(status: &tonic::Status) -> String {
    let mut text = format!("{}: {}", status.code(), status.message());
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let error_text = error.to_string();
        if !text.contains(&error_text) {
            text.push_str(": ");
            text.push_str(&error_text);
        }
        cause = error.source();
    }
    text
}

fn kind_name(key: &ResourceKey) -> &'static str {
    use weft_proto::discovery::ResourceKind as K;
    match key.kind() {
        K::Unspecified => "unknown",
        K::Mesh => "mesh",
        K::Trust => "trust",
        K::Inbound => "inbound",
        K::Target => "target",
        K::Service => "service",
    }
}

fn name_of(key: Option<&ResourceKey>) -> &str {
    key.map_or("", |key| key.name.as_str())
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("workload", &self.settings.workload).finish_non_exhaustive()
    }
}
