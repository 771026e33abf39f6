//! What must hold of what a proxy holds, whatever the control plane says: fuzzed, and run over the corpus by
//! the tests.
//!
//! - An update is put in force whole, or refused with a reason and changes nothing; said again, it changes
//!   nothing either. What nobody asks about is left aside.
//! - The control plane is subscribed to exactly what is held, and to nothing when nobody asks any more.
//! - Differences add up: a service's endpoints are those that the updates in force leave.
//! - Nothing gets through that the data path cannot use: an endpoint without an address to dial, a meshed one
//!   without identities.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use prost::Message;
use weft_proto::{
    digest,
    discovery::{
        ControlMessage, EndpointsDelta, Held, ResourceKey, ResourceKind, Update, control_message,
        update::Body,
    },
};

use super::{
    Destination, Resolution, Transport,
    holdings::{EAGER, Effects, Holdings, Reply},
};

/// Checks a stream of the control plane: messages, each behind its length.
pub fn check(bytes: &[u8]) {
    let updates = updates(bytes);
    let mut proxy = Proxy::default();
    proxy.ask_for_all(&updates);
    for update in &updates {
        let reply = proxy.apply(update);
        let held = proxy.held();
        assert_eq!(proxy.apply(update), reply, "said again: {update:?}");
        assert_eq!(proxy.held(), held, "said again: {update:?}");
    }
    proxy.forget(|index| index % 2 == 0);
    for update in &updates {
        proxy.apply(update);
    }
    proxy.forget(|_| true);
    assert_eq!(proxy.holdings.counts(), (0, 0));
    assert!(proxy.subscribed.is_empty(), "still subscribed to {:?}", proxy.subscribed);
}

fn updates(mut bytes: &[u8]) -> Vec<Update> {
    let mut updates = Vec::new();
    while !bytes.is_empty() {
        match ControlMessage::decode_length_delimited(&mut bytes) {
            Ok(ControlMessage { kind: Some(control_message::Kind::Update(update)) }) => {
                updates.push(update);
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    updates
}

/// A key that can be kept in sets.
type Key = (i32, String);

fn key(key: &ResourceKey) -> Key {
    (key.kind, key.name.clone())
}

/// What is held, in order.
type InForce = BTreeMap<Key, (String, BTreeMap<String, u64>)>;

/// A proxy, with what its control plane and its workers know of it.
#[derive(Default)]
struct Proxy {
    holdings: Holdings,
    /// What the workers ask about.
    asked: Vec<Arc<str>>,
    /// What the control plane was told, beyond the eager set.
    subscribed: BTreeSet<Key>,
    /// The endpoints that updates in force have left.
    endpoints: BTreeMap<Key, BTreeMap<String, u64>>,
}

impl Proxy {
    /// The workers ask about every target that occurs, and about some that they forget at once.
    fn ask_for_all(&mut self, updates: &[Update]) {
        let targets = updates.iter().filter_map(|update| update.key.as_ref());
        let targets = targets.filter(|key| key.kind() == ResourceKind::Target);
        let names: BTreeSet<&str> = targets.map(|key| key.name.as_str()).collect();
        self.asked = names.into_iter().map(Arc::from).collect();
        let mut effects = Effects::default();
        for name in &self.asked {
            self.holdings.ask(name, &mut effects);
            let passing = format!("{name}?").into();
            self.holdings.ask(&passing, &mut effects);
            self.holdings.forget(&passing, &mut effects);
        }
        self.perform(&effects);
    }

    /// The workers forget some of what they asked about.
    fn forget(&mut self, which: impl Fn(usize) -> bool) {
        let mut effects = Effects::default();
        let asked = std::mem::take(&mut self.asked);
        for (index, name) in asked.into_iter().enumerate() {
            if which(index) {
                self.holdings.forget(&name, &mut effects);
            } else {
                self.asked.push(name);
            }
        }
        self.perform(&effects);
    }

    fn apply(&mut self, update: &Update) -> Reply {
        let before = self.held();
        let mut effects = Effects::default();
        let reply = self.holdings.apply(update, &mut effects);
        match &reply {
            Reply::Ack => self.note(update),
            Reply::Nack(reason) => assert!(!reason.is_empty(), "{update:?}"),
            Reply::Silence => {}
        }
        self.perform(&effects);
        if reply != Reply::Ack {
            assert!(is_nothing(&effects), "{reply:?}, but {effects:?}");
            assert_eq!(self.held(), before, "{reply:?}, but something changed");
        }
        for (name, resolution) in &effects.resolved {
            assert!(self.asked.contains(name), "nobody asks about {name}");
            if let Resolution::Mesh(destination) = resolution {
                check_destination(destination);
            }
        }
        reply
    }

    /// An update is in force.
    fn note(&mut self, update: &Update) {
        let key = key(update.key.as_ref().expect("what has no key is refused"));
        let endpoints = self.endpoints.entry(key.clone()).or_default();
        match (&update.body, &update.endpoints) {
            (Some(Body::Gone(_)), _) => endpoints.clear(),
            (_, Some(delta)) => add_up(endpoints, delta),
            (_, None) => {}
        }
        let (version, _) = &self.held()[&key];
        assert_eq!(*version, update.version);
    }

    /// Tells the control plane, in the order in which the stream does.
    fn perform(&mut self, effects: &Effects) {
        for gone in effects.unsubscribe.iter().map(key) {
            self.subscribed.remove(&gone);
            self.endpoints.remove(&gone);
        }
        for new in effects.subscribe.iter().map(key) {
            assert!(self.subscribed.insert(new.clone()), "{new:?} is subscribed to twice");
        }
        let (held, missing) = self.holdings.resume();
        let of_held = held.iter().filter_map(|held| held.key.as_ref());
        let all: BTreeSet<Key> = of_held.chain(&missing).map(key).collect();
        let eager = EAGER.map(|kind| (kind.into(), String::new()));
        assert_eq!(all, self.subscribed.iter().cloned().chain(eager).collect());
    }

    /// What is held, which must be what the updates in force have left.
    fn held(&self) -> InForce {
        let mut in_force = InForce::new();
        for Held { key: of, version, endpoints } in self.holdings.resume().0 {
            let of = key(&of.expect("what is held has a key"));
            let endpoints: BTreeMap<_, _> =
                endpoints.into_iter().map(|endpoint| (endpoint.id, endpoint.digest)).collect();
            in_force.insert(of, (version, endpoints));
        }
        for (key, (_, endpoints)) in &in_force {
            let is_service = key.0 == i32::from(ResourceKind::Service);
            let left = self.endpoints.get(key).filter(|_| is_service);
            assert!(left.is_none_or(|left| left == endpoints), "{endpoints:?}, not {left:?}");
        }
        in_force
    }
}

/// What a difference leaves of some endpoints.
fn add_up(endpoints: &mut BTreeMap<String, u64>, delta: &EndpointsDelta) {
    if delta.reset {
        endpoints.clear();
    }
    for id in &delta.removed {
        endpoints.remove(id);
    }
    let upserted = delta.upserted.iter();
    endpoints.extend(upserted.map(|endpoint| (endpoint.id.clone(), digest::of_message(endpoint))));
}

fn is_nothing(effects: &Effects) -> bool {
    effects.mesh.is_none()
        && effects.trust.is_none()
        && effects.inbound.is_none()
        && effects.resolved.is_empty()
        && effects.subscribe.is_empty()
        && effects.unsubscribe.is_empty()
}

/// What the data path relies on.
fn check_destination(destination: &Destination) {
    assert!(!destination.label.is_empty());
    let mut ids = BTreeSet::new();
    for endpoint in &destination.endpoints {
        assert!(ids.insert(&endpoint.id), "{} stands twice", endpoint.id);
        assert!(!endpoint.address.ip().is_unspecified() && endpoint.address.port() != 0);
        if let Transport::Mesh(identities) = &endpoint.transport {
            assert!(!identities.is_empty(), "anybody may be {}", endpoint.id);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_updates_is_put_in_force_or_refused_whole() {
        crate::replay::corpus("discovery_update", super::check);
    }
}
