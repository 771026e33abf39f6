//! What this proxy holds of the control plane's resources: a pure state machine, fed by one stream after the
//! other.
//!
//! Comes in: questions of the workers, updates of the stream. Goes out: keys to (un)subscribe, answers for
//! the workers, and an Ack or a Nack for each update. A destination is resolved in two steps: its TARGET
//! names a SERVICE, which has the endpoints; several targets share one service. A service that a route names is
//! held under its own name, as if it were a target of itself. An update that is refused leaves the last good one in
//! force.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use weft_proto::{
    ServicePort,
    discovery::{
        self as wire, Held, HeldEndpoint, ResourceKey, ResourceKind, target, update::Body,
    },
};

use super::{
    Destination, InboundPorts, MeshScope, Resolution, TrustBundle,
    compile::{self, Refused},
    scope::is_service_port,
    service::Service,
};

/// The resources that every proxy is subscribed to from the start.
pub(super) const EAGER: [ResourceKind; 3] =
    [ResourceKind::Mesh, ResourceKind::Trust, ResourceKind::Inbound];

/// What an update or a question brought about.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) mesh: Option<Arc<MeshScope>>,
    pub(super) trust: Option<Arc<TrustBundle>>,
    pub(super) inbound: Option<Arc<InboundPorts>>,
    /// New answers, by destination.
    pub(super) resolved: Vec<(Arc<str>, Resolution)>,
    pub(super) subscribe: Vec<ResourceKey>,
    pub(super) unsubscribe: Vec<ResourceKey>,
}

impl Effects {
    fn unsubscribe(&mut self, key: ResourceKey) {
        match self.subscribe.iter().position(|asked| *asked == key) {
            // The question has not left: unsubscriptions go first, and it would stay for ever.
            Some(index) => drop(self.subscribe.swap_remove(index)),
            None => self.unsubscribe.push(key),
        }
    }
}

/// How an update is answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Ack,
    Nack(String),
    /// Not at all: it crossed with an unsubscription on the way.
    Silence,
}

#[derive(Debug, Default)]
pub(super) struct Holdings {
    /// Versions of the eager resources, by kind.
    eager: BTreeMap<i32, String>,
    targets: HashMap<Arc<str>, Target>,
    services: HashMap<ServicePort, Users>,
    /// The zone of this proxy; empty when unknown.
    zone: Arc<str>,
    /// What this workload serves: its limits go on in what comes next.
    inbound: Option<Arc<InboundPorts>>,
}

#[derive(Debug, Default)]
struct Target {
    /// `None` until the first answer.
    version: Option<String>,
    answer: Answer,
}

#[derive(Debug, Default)]
enum Answer {
    #[default]
    None,
    NotFound,
    Outside,
    Service(ServicePort),
    Direct(Arc<Destination>),
}

/// A service with the targets that stand for it; dropped with the last of them.
#[derive(Debug)]
struct Users {
    service: Service,
    targets: HashSet<Arc<str>>,
}

impl Holdings {
    /// Nothing is held yet, by a proxy in this zone.
    pub(super) fn seen_from(zone: &str) -> Self {
        Self { zone: zone.into(), ..Self::default() }
    }

    /// A worker asks for a destination, or for a service port that a route names.
    pub(super) fn ask(&mut self, name: &Arc<str>, effects: &mut Effects) {
        if is_service_port(name) {
            return self.ask_service(name, effects);
        }
        if self.targets.insert(Arc::clone(name), Target::default()).is_none() {
            effects.subscribe.push(target_key(name));
        }
    }

    /// A service port stands for itself.
    fn ask_service(&mut self, name: &Arc<str>, effects: &mut Effects) {
        let resolution = match name.parse() {
            Ok(service) => self.use_service(&service, name, effects),
            Err(_) => Resolution::NotFound,
        };
        if !matches!(resolution, Resolution::Pending) {
            effects.resolved.push((Arc::clone(name), resolution));
        }
    }

    /// No worker uses it any more.
    pub(super) fn forget(&mut self, name: &Arc<str>, effects: &mut Effects) {
        if is_service_port(name)
            && let Ok(service) = name.parse()
        {
            return self.release(&service, name, effects);
        }
        let Some(target) = self.targets.remove(name) else { return };
        effects.unsubscribe(target_key(name));
        if let Answer::Service(service) = target.answer {
            self.release(&service, name, effects);
        }
    }

    /// How many resources of each kind are subscribed to: (targets, services).
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.targets.len(), self.services.len())
    }

    /// The services that are held.
    pub(super) fn services(&self) -> impl Iterator<Item = (&ServicePort, &Destination)> + Clone {
        let each = self.services.iter();
        each.filter_map(|(name, users)| Some((name, users.service.destination()?)))
    }

    /// Opening a stream: what is held, for `Hello`, and what is still to be subscribed to.
    pub(super) fn resume(&self) -> (Vec<Held>, Vec<ResourceKey>) {
        let (mut held, mut missing) = (Vec::new(), Vec::new());
        let mut list =
            |key: ResourceKey, version: Option<&str>, endpoints: Vec<HeldEndpoint>| match version {
                Some(version) => {
                    held.push(Held { key: Some(key), version: version.to_owned(), endpoints });
                }
                None => missing.push(key),
            };
        for kind in EAGER {
            let version = self.eager.get(&kind.into()).map(String::as_str);
            list(key(kind, ""), version, Vec::new());
        }
        for (name, target) in &self.targets {
            list(target_key(name), target.version.as_deref(), Vec::new());
        }
        for (name, Users { service, .. }) in &self.services {
            list(service_key(name), service.version(), service.held_endpoints());
        }
        (held, missing)
    }

    /// Puts an update in force, or refuses it and changes nothing.
    pub(super) fn apply(&mut self, update: &wire::Update, effects: &mut Effects) -> Reply {
        let Some(key) = &update.key else {
            return Reply::Nack("key: missing".to_owned());
        };
        let applied = match ResourceKind::try_from(key.kind) {
            Ok(ResourceKind::Mesh | ResourceKind::Trust | ResourceKind::Inbound) => {
                self.apply_eager(key, update, effects).map(|()| Reply::Ack)
            }
            Ok(ResourceKind::Target) => self.apply_target(key, update, effects),
            Ok(ResourceKind::Service) => self.apply_service(key, update, effects),
            Ok(ResourceKind::Unspecified) | Err(_) => Err(Refused::new(
                "key.kind",
                key.kind.to_string(),
                "not a kind that this proxy knows",
            )),
        };
        applied.unwrap_or_else(|refused| Reply::Nack(refused.to_string()))
    }

    fn apply_eager(
        &mut self,
        key: &ResourceKey,
        update: &wire::Update,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        if !key.name.is_empty() {
            let why = "a resource of this kind has no name";
            return Err(Refused::new("key.name", key.name.as_str(), why));
        }
        match (key.kind(), &update.body) {
            (ResourceKind::Mesh, Some(Body::Mesh(mesh))) => {
                effects.mesh = Some(Arc::new(compile::mesh(mesh)?));
            }
            (ResourceKind::Trust, Some(Body::Trust(trust))) => {
                effects.trust = Some(Arc::new(compile::trust(trust)?));
            }
            (ResourceKind::Inbound, Some(Body::Inbound(inbound))) => {
                let compiled = compile::inbound(inbound, self.inbound.as_deref())?;
                self.serves(compiled, effects);
            }
            // A workload that nobody declares serves nothing.
            (ResourceKind::Inbound, Some(Body::Gone(_))) => {
                self.serves(InboundPorts::default(), effects);
            }
            (kind, _) => return Err(wrong_body(kind)),
        }
        self.eager.insert(key.kind, update.version.clone());
        Ok(())
    }

    fn serves(&mut self, ports: InboundPorts, effects: &mut Effects) {
        let ports = Arc::new(ports);
        if let Some(before) = self.inbound.replace(Arc::clone(&ports)) {
            before.followed_by(&ports);
        }
        effects.inbound = Some(ports);
    }

    fn apply_target(
        &mut self,
        key: &ResourceKey,
        update: &wire::Update,
        effects: &mut Effects,
    ) -> Result<Reply, Refused> {
        let Some((name, target)) = self.targets.get_key_value(key.name.as_str()) else {
            return Ok(Reply::Silence);
        };
        let name = Arc::clone(name);
        let answer = match &update.body {
            Some(Body::Target(wire::Target { found: Some(found) })) => {
                compile_answer(found, &target.answer)?
            }
            Some(Body::Gone(_)) => Answer::NotFound,
            _ => return Err(wrong_body(ResourceKind::Target)),
        };
        let resolution = match &answer {
            Answer::None | Answer::NotFound => Resolution::NotFound,
            Answer::Outside => Resolution::Outside,
            Answer::Direct(destination) => Resolution::Mesh(Arc::clone(destination)),
            Answer::Service(service) => self.use_service(service, &name, effects),
        };
        let target = self.targets.entry(Arc::clone(&name)).or_default();
        target.version = Some(update.version.clone());
        let before = std::mem::replace(&mut target.answer, answer);
        let left = match (before, &target.answer) {
            (Answer::Service(before), Answer::Service(after)) if before == *after => None,
            (Answer::Service(before), _) => Some(before),
            (Answer::None | Answer::NotFound | Answer::Outside | Answer::Direct(_), _) => None,
        };
        if let Some(left) = left {
            self.release(&left, &name, effects);
        }
        // While a new service is being asked for, the last answer stays: stale is better than none.
        if !matches!(resolution, Resolution::Pending) {
            effects.resolved.push((name, resolution));
        }
        Ok(Reply::Ack)
    }

    fn apply_service(
        &mut self,
        key: &ResourceKey,
        update: &wire::Update,
        effects: &mut Effects,
    ) -> Result<Reply, Refused> {
        let name: ServicePort =
            key.name.parse().map_err(|error| Refused::new("key.name", key.name.as_str(), error))?;
        let Some(Users { service, targets }) = self.services.get_mut(&name) else {
            return Ok(Reply::Silence);
        };
        match &update.body {
            // Endpoints alone change what is held: with nothing held, they crossed with an unsubscription.
            None if service.version().is_none() => return Ok(Reply::Silence),
            None | Some(Body::Service(_)) => service.apply(&name, update)?,
            Some(Body::Gone(_)) => service.gone(&update.version),
            Some(_) => return Err(wrong_body(ResourceKind::Service)),
        }
        let resolution = service.resolution();
        let answers = targets.iter().map(|target| (Arc::clone(target), resolution.clone()));
        effects.resolved.extend(answers);
        Ok(Reply::Ack)
    }

    /// `target` stands for `service`: subscribes to it unless another target has.
    fn use_service(
        &mut self,
        service: &ServicePort,
        target: &Arc<str>,
        effects: &mut Effects,
    ) -> Resolution {
        let users = self.services.entry(service.clone()).or_insert_with(|| {
            effects.subscribe.push(service_key(service));
            Users { service: Service::seen_from(&self.zone), targets: HashSet::new() }
        });
        users.targets.insert(Arc::clone(target));
        users.service.resolution()
    }

    /// `target` stands for `service` no longer.
    fn release(&mut self, service: &ServicePort, target: &Arc<str>, effects: &mut Effects) {
        let Some(users) = self.services.get_mut(service) else { return };
        users.targets.remove(target);
        if users.targets.is_empty() {
            self.services.remove(service);
            effects.unsubscribe(service_key(service));
        }
    }
}

fn compile_answer(found: &target::Found, before: &Answer) -> Result<Answer, Refused> {
    Ok(match found {
        target::Found::NotFound(_) => Answer::NotFound,
        target::Found::Passthrough(_) => Answer::Outside,
        target::Found::Service(service) => Answer::Service(
            service
                .parse()
                .map_err(|error| Refused::new("target.service", service.as_str(), error))?,
        ),
        target::Found::Endpoint(endpoint) => {
            let before = match before {
                Answer::Direct(before) => Some(&**before),
                Answer::None | Answer::NotFound | Answer::Outside | Answer::Service(_) => None,
            };
            Answer::Direct(Arc::new(compile::direct(endpoint, before)?))
        }
    })
}

fn wrong_body(kind: ResourceKind) -> Refused {
    Refused::new("body", "", format!("not what a resource of kind {} holds", kind.as_str_name()))
}

fn key(kind: ResourceKind, name: &str) -> ResourceKey {
    ResourceKey { kind: kind.into(), name: name.to_owned() }
}

fn target_key(name: &str) -> ResourceKey {
    key(ResourceKind::Target, name)
}

fn service_key(service: &ServicePort) -> ResourceKey {
    key(ResourceKind::Service, &service.to_string())
}

#[cfg(test)]
mod tests;
