//! One proxy's stream: what comes in, what becomes due, what goes out, until it ends.
//!
//! Comes in: the proxy's messages, changes of the mesh and of the roots, time. Goes out: updates, as fast as
//! the proxy takes them. It must never wait for a slow proxy with anything but a set of keys in hand.

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    sync::Arc,
};

use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        mpsc, watch,
    },
    time::{Instant, sleep_until},
};
use tonic::{Status, Streaming};
use weft_proto::discovery::{
    self, ControlMessage, Goodbye, Hello, ProxyMessage, ResourceKey, TrustBundle, control_message,
    proxy_message, target, update::Body,
};

use super::{
    Push, StreamId,
    pending::Pending,
    proxies::Record,
    registry,
    resource::{Key, Resource},
    subscription::{Acknowledged, Content, Subscription},
    view::{Asker, Changed},
};
use crate::{
    ca::{
        Bundle,
        peer::{self, Peer},
    },
    clock,
    index::Dependency,
    model::Registration,
    secure::PeerChain,
};

/// The queue to the socket.
pub(super) type Outgoing = mpsc::Sender<Result<ControlMessage, Status>>;

/// Why a stream ended.
pub(super) enum Ended {
    /// The proxy closed it, or is gone.
    ByProxy,
    /// The proxy is to reconnect.
    Goodbye(Goodbye),
    /// The proxy may not go on.
    Refused(Status),
}

impl Ended {
    fn goodbye(reason: &str) -> Self {
        Self::Goodbye(Goodbye { reason: reason.to_owned(), replaced: false })
    }
}

/// One proxy's stream.
pub(super) struct Stream {
    push: Arc<Push>,
    attached: Attached,
    asker: Asker,
    peer: Peer,
    chain: PeerChain,
    record: Arc<Record>,
    incarnation: Arc<str>,
    zone: Arc<str>,
    subscriptions: BTreeMap<Key, Subscribed>,
    pending: Pending,
    /// What the proxy registered on this stream, and what it was told of it.
    registration: Option<(Registration, Result<(), String>)>,
    /// Answers to registrations that wait for room in the queue; the last one counts.
    answer: VecDeque<control_message::Kind>,
    changes: broadcast::Receiver<Arc<Changed>>,
    trust: watch::Receiver<Arc<Bundle>>,
    stopping: watch::Receiver<bool>,
}

struct Subscribed {
    resource: Resource,
    state: Subscription,
    /// For targets: what the answer hangs on.
    depends_on: Vec<Dependency>,
}

/// The instance's entry in the tables; given back however the stream ends.
struct Attached {
    push: Arc<Push>,
    stream: StreamId,
    record: Arc<Record>,
    /// The proxy said that it leaves, and not otherwise since.
    leaves: bool,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.push.registry.detach(self.stream, &self.record.key, Instant::now());
        if !self.leaves {
            self.push.proxies.detach(self.stream, &self.record.key);
        } else if self.push.proxies.leave(self.stream, &self.record.key) {
            self.push.issued.left(&self.record.key);
        }
        self.push.metrics.proxies(-1);
        tracing::info!(proxy = %self.record.key, "a proxy's stream ended");
    }
}

impl Stream {
    /// Takes the instance over from any earlier stream, and takes up what the proxy holds.
    pub(super) fn attach(
        push: Arc<Push>,
        asker: Asker,
        peer: Peer,
        chain: PeerChain,
        record: Arc<Record>,
        hello: Hello,
    ) -> Result<Self, Status> {
        let stream = push.new_stream();
        push.registry.attach(&asker.key, stream);
        push.proxies.attach(stream, record.clone());
        push.metrics.proxies(1);
        let attached =
            Attached { push: push.clone(), stream, record: record.clone(), leaves: false };
        let mut this = Self {
            changes: push.view.changes(),
            trust: push.authority.watch(),
            stopping: push.stopping.clone(),
            pending: Pending::new(push.pace),
            push,
            attached,
            asker,
            peer,
            chain,
            record,
            incarnation: hello.incarnation.into(),
            zone: hello.zone.into(),
            subscriptions: BTreeMap::new(),
            registration: None,
            answer: VecDeque::new(),
        };
        for held in hello.held {
            let key = this.key(held.key.clone())?;
            this.record.holds(&key, &held.version);
            this.subscribe(key, Subscription::resumed(held))?;
        }
        Ok(this)
    }

    /// Serves the stream until it ends.
    pub(super) async fn run(
        mut self,
        mut incoming: Streaming<ProxyMessage>,
        out: &Outgoing,
    ) -> Ended {
        let life = self.peer.not_after.duration_since(clock::now()).unwrap_or_default();
        let expired_at = Instant::now() + life;
        let mut settled_at = Some(self.push.registry.settled_at());
        loop {
            let can_send = self.pending.is_due() || !self.answer.is_empty();
            // Every branch is cancel-safe: each resolves at once with what it takes.
            tokio::select! {
                message = incoming.message() => match message {
                    Ok(Some(message)) => {
                        if let Err(status) = self.on_message(message) {
                            return Ended::Refused(status);
                        }
                    }
                    Ok(None) | Err(_) => return Ended::ByProxy,
                },
                changed = self.changes.recv() => match changed {
                    Ok(changed) => self.on_change(&changed),
                    Err(RecvError::Lagged(_)) => self.look_at_everything(),
                    Err(RecvError::Closed) => return Ended::goodbye("the control plane stops"),
                },
                Ok(()) = self.trust.changed() => {
                    if let Err(status) = self.on_trust() {
                        return Ended::Refused(status);
                    }
                }
                () = at(self.pending.gathered_at()) => self.pending.release(),
                () = at(settled_at) => {
                    settled_at = None;
                    self.look_at_everything();
                }
                permit = out.reserve(), if can_send => match permit {
                    Ok(permit) => {
                        if let Some(kind) = self.next_message() {
                            permit.send(Ok(ControlMessage { kind: Some(kind) }));
                        }
                    }
                    Err(_) => return Ended::ByProxy,
                },
                () = sleep_until(expired_at) => {
                    return Ended::goodbye("the certificate of this connection has expired; reconnect");
                }
                goodbye = self.record.replaced() => return Ended::Goodbye(goodbye),
                () = stopped(&mut self.stopping) => {
                    return Ended::goodbye("the control plane stops");
                }
            }
        }
    }

    fn on_message(&mut self, message: ProxyMessage) -> Result<(), Status> {
        use proxy_message::Kind;
        match message.kind {
            Some(Kind::Subscribe(message)) => {
                for key in message.keys {
                    let key = self.key(Some(key))?;
                    self.subscribe(key, Subscription::default())?;
                }
            }
            Some(Kind::Unsubscribe(message)) => {
                for key in message.keys {
                    let key = self.key(Some(key))?;
                    self.unsubscribe(&key);
                }
            }
            Some(Kind::Ack(ack)) => {
                let key = self.key(ack.key)?;
                self.on_ack(key, &ack.version);
            }
            Some(Kind::Nack(nack)) => {
                let key = self.key(nack.key)?;
                self.on_nack(key, &nack.version, &nack.reason);
            }
            Some(Kind::Register(register)) => self.on_register(register)?,
            Some(Kind::Health(health)) => self.push.registry.health(
                self.attached.stream,
                &self.asker.key,
                health.ready,
                clipped(&health.detail),
            ),
            Some(Kind::Deregister(message)) => {
                tracing::info!(proxy = %self.asker.key, reason = message.reason, "deregistered");
                self.registration = None;
                self.attached.leaves = true;
                self.push.registry.deregister(self.attached.stream, &self.asker.key);
            }
            Some(Kind::Ejections(message)) => self.on_ejections(message),
            Some(Kind::Hello(_)) => {
                return Err(Status::invalid_argument("a stream has one Hello"));
            }
            // Of a newer proxy: it has to do without.
            None => tracing::debug!(proxy = %self.asker.key, "a message of an unknown kind"),
        }
        Ok(())
    }

    fn key(&self, key: Option<ResourceKey>) -> Result<Key, Status> {
        key.unwrap_or_default().try_into().map_err(Status::invalid_argument)
    }

    fn subscribe(&mut self, key: Key, state: Subscription) -> Result<(), Status> {
        if self.subscriptions.contains_key(&key) {
            return Ok(());
        }
        let limit = self.push.max_subscriptions;
        if self.subscriptions.len() >= limit {
            return Err(Status::resource_exhausted(format!(
                "a proxy may have {limit} subscriptions; {key} is one too many"
            )));
        }
        let resource = key.resource();
        let subscribed = Subscribed { resource, state, depends_on: Vec::new() };
        self.subscriptions.insert(key.clone(), subscribed);
        self.pending.at_once(key, None);
        self.push.metrics.subscriptions(1);
        Ok(())
    }

    fn unsubscribe(&mut self, key: &Key) {
        if self.subscriptions.remove(key).is_some() {
            self.pending.forget(key);
            self.record.dropped(key);
            if let Resource::Service(port) = key.resource() {
                self.record.ejections().forget(&port);
            }
            self.push.proxies.refuses(&self.asker.key, key, None);
            self.push.metrics.subscriptions(-1);
        }
    }

    fn on_ack(&mut self, key: Key, version: &str) {
        let Some(subscribed) = self.subscriptions.get_mut(&key) else { return };
        if let Acknowledged::Now(changed_at) = subscribed.state.ack(version) {
            self.record.acked(&key, version);
            self.push.proxies.refuses(&self.asker.key, &key, None);
            self.push.metrics.answered(key.kind(), true);
            if let Some(changed_at) = changed_at {
                self.push.metrics.change_acknowledged(changed_at.elapsed());
            }
            self.pending.answered(key);
        }
    }

    fn on_nack(&mut self, key: Key, version: &str, reason: &str) {
        let Some(subscribed) = self.subscriptions.get_mut(&key) else { return };
        if subscribed.state.nack(version) {
            let proxy = &self.asker.key;
            let reason = clipped(reason);
            tracing::warn!(%proxy, resource = %key, version, reason, "an update is refused");
            self.record.nacked(&key, reason);
            self.push.proxies.refuses(&self.asker.key, &key, Some(reason));
            self.push.metrics.answered(key.kind(), false);
            self.pending.answered(key);
        }
    }

    /// Only of services that the proxy uses there is anything to say; what it let go of may cross with its word.
    fn on_ejections(&self, message: discovery::Ejections) {
        let now = Instant::now();
        for said in message.services {
            let Ok(service) = said.service.parse() else { continue };
            if self.subscriptions.contains_key(&Key::service(&service)) {
                self.record.ejections().replace(service, said.endpoints, now);
            }
        }
    }

    fn on_register(&mut self, message: discovery::Register) -> Result<(), Status> {
        let ports: Result<Vec<_>, String> = message.ports.into_iter().map(registry::port).collect();
        let registration = Registration {
            key: self.asker.key.clone(),
            incarnation: self.incarnation.clone(),
            spiffe_id: self.peer.spiffe_id.clone(),
            ports: ports.map_err(|error| Status::invalid_argument(format!("Register: {error}")))?,
            ready: false,
            detail: String::new(),
            zone: self.zone.clone(),
        };
        self.attached.leaves = false;
        let verdict = self.push.view.check(&registration);
        self.tell(&verdict);
        // What is not allowed now is kept as well: the index offers it as soon as an object allows it.
        self.push.registry.register(self.attached.stream, registration.clone());
        self.registration = Some((registration, verdict));
        if self.subscriptions.contains_key(&Key::INBOUND) {
            self.pending.at_once(Key::INBOUND, None);
        }
        Ok(())
    }

    fn tell(&mut self, verdict: &Result<(), String>) {
        let reason = verdict.as_ref().err().cloned().unwrap_or_default();
        if !reason.is_empty() {
            tracing::warn!(proxy = %self.asker.key, reason, "a registration is refused");
        }
        let message = discovery::Registration { accepted: verdict.is_ok(), reason };
        self.answer.clear();
        self.answer.push_back(control_message::Kind::Registration(message));
    }

    /// Marks what a change touched, to be looked at when changes pause.
    fn on_change(&mut self, changed: &Changed) {
        let now = Instant::now();
        let changes = &changed.changes;
        let workload = &self.asker.key.workload;
        for (key, subscribed) in &self.subscriptions {
            let touched = match &subscribed.resource {
                Resource::Mesh => changes.mesh,
                Resource::Inbound => {
                    changes.inbounds.contains(workload) || changes.pods.contains(&self.asker.key)
                }
                Resource::Target(_) => {
                    changes.all_targets
                        || subscribed.depends_on.iter().any(|on| changes.targets.contains(on))
                }
                Resource::Service(port) => changes.services.contains(port),
                Resource::Trust | Resource::Unknown => false,
            };
            if touched {
                self.pending.soon(key.clone(), changed.at, now);
            }
        }
        if changes.registrations.contains(workload) {
            self.check_registration();
        }
    }

    /// The objects that allow the registration changed: the proxy is told when the verdict is another one.
    fn check_registration(&mut self) {
        let Some((registration, told)) = self.registration.take() else { return };
        let verdict = self.push.view.check(&registration);
        if verdict != told {
            self.tell(&verdict);
        }
        self.registration = Some((registration, verdict));
    }

    /// The roots changed: the proxy hears at once, if its certificate still counts.
    fn on_trust(&mut self) -> Result<(), Status> {
        let bundle = self.trust.borrow_and_update().clone();
        peer::verify(&self.chain, &bundle, clock::now()).map_err(|refusal| {
            Status::unauthenticated(format!("{refusal}; reconnect with a renewed one"))
        })?;
        if self.subscriptions.contains_key(&Key::TRUST) {
            self.pending.at_once(Key::TRUST, Some(Instant::now()));
        }
        Ok(())
    }

    fn look_at_everything(&mut self) {
        for key in self.subscriptions.keys() {
            self.pending.at_once(key.clone(), None);
        }
        self.check_registration();
    }

    /// The next message that is due, if anything of what is pending differs from what the proxy has.
    fn next_message(&mut self) -> Option<control_message::Kind> {
        if let Some(answer) = self.answer.pop_front() {
            return Some(answer);
        }
        while let Some((key, since)) = self.pending.pop() {
            let Some(subscribed) = self.subscriptions.get(&key) else { continue };
            if subscribed.state.is_waiting() {
                self.pending.when_answered(key, since);
                continue;
            }
            let Some(content) = self.content(&key) else { continue };
            let now = Instant::now();
            let (registry, view) = (&self.push.registry, &self.push.view);
            let registers = |workload: &_| view.service_account(workload).is_some();
            let Some(subscribed) = self.subscriptions.get_mut(&key) else { continue };
            let withholds = |id: &str| registry.withholds(id, now, registers);
            if let Some(update) = subscribed.state.next(&key.message(), &content, withholds, since)
            {
                self.record.sent(&key, &update.version, now);
                self.push.metrics.update_sent(key.kind());
                return Some(control_message::Kind::Update(update));
            }
        }
        None
    }

    /// What a resource is now; `None` when the proxy is to keep what it has for the time being.
    fn content(&mut self, key: &Key) -> Option<Content> {
        let subscribed = self.subscriptions.get_mut(key)?;
        let holds = subscribed.state.held_version().is_some();
        // Instances that have not come back since the start are missing in the view.
        let settling = holds && self.push.registry.is_settling(Instant::now());
        let view = &self.push.view;
        Some(match &subscribed.resource {
            Resource::Mesh => Content::Whole(Box::new(Body::Mesh(view.mesh()))),
            Resource::Trust => {
                Content::Whole(Box::new(Body::Trust(trust_message(&self.trust.borrow()))))
            }
            Resource::Inbound => {
                let registers = view.pod(&self.asker.key).is_none();
                if holds && registers && self.registration.is_none() {
                    // It is about to register again; until then the view may not know its ports.
                    return None;
                }
                Content::Whole(Box::new(Body::Inbound(view.inbound(&self.asker.key))))
            }
            Resource::Target(name) => {
                let resolved = view.target(name, &self.asker);
                subscribed.depends_on = resolved.depends_on;
                let found = resolved.target.found.as_ref();
                if settling && matches!(found, None | Some(target::Found::NotFound(_))) {
                    return None;
                }
                Content::Whole(Box::new(Body::Target(resolved.target)))
            }
            Resource::Service(port) => match view.service(port, &self.asker) {
                Some(content) => Content::Service(content),
                None if settling => return None,
                None => Content::Gone,
            },
            Resource::Unknown => Content::Gone,
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let count = i64::try_from(self.subscriptions.len()).unwrap_or(i64::MAX);
        self.push.metrics.subscriptions(-count);
    }
}

/// The bundle as it travels.
pub(super) fn trust_message(bundle: &Bundle) -> TrustBundle {
    TrustBundle {
        trust_domain: bundle.trust_domain.to_string(),
        roots: bundle.roots.iter().map(|root| root.to_vec()).collect(),
    }
}

/// Text of a proxy, cut to what an operator reads.
pub(super) fn clipped(text: &str) -> &str {
    const LONGEST: usize = 1024;
    let end = (0..=text.len().min(LONGEST)).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// Once the control plane stops.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // The sender goes only with the control plane itself.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// At that moment; never without one.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}
