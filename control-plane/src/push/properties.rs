//! What must hold of discovery, whatever a proxy says: fuzzed, and run over the corpus by the tests.
//!
//! - From whatever a proxy says that it holds, a bounded number of differences leads to what there is; what
//!   is withheld stays until it may go. A version that was refused is not sent again.
//! - A registration that is allowed makes endpoints that other proxies can put in force, one that is not makes
//!   none; its end leaves nothing behind.
//! - Names are bounded, and mean the same when they are written again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use prost::Message;
use weft_proto::{
    ServicePort, TrustDomain, digest,
    discovery::{
        self, Endpoint, Held, HeldEndpoint, Hello, ProxyMessage, Register, ResourceKey, Service,
        proxy_message::Kind,
    },
};

use super::{
    content::{self, ServiceContent},
    registry,
    resource::{Key, Resource},
    stream::clipped,
    subscription::{Acknowledged, Content, MAX_ENDPOINTS, Subscription},
};
use crate::{
    index::{self, Index, properties},
    model::{InstanceKey, Object, Registration, parse_documents},
};

/// Two workloads: one whose ports have no numbers, one whose port has.
const OBJECTS: &str = "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: cart, namespace: shop}
spec:
  service: cart
  ports:
  - {name: http, protocol: http, servicePort: 80}
  - {name: admin, servicePort: 81, mode: permissive}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: web, namespace: shop}
spec: {service: web, port: 8080}
";

/// Checks a proxy's stream: messages, each behind its length.
pub fn check(mut bytes: &[u8]) {
    let mut speaker = registry::instance_key("shop/cart", "0").expect("valid");
    while !bytes.is_empty() {
        let Ok(message) = ProxyMessage::decode_length_delimited(&mut bytes) else { return };
        match message.kind {
            Some(Kind::Hello(hello)) => {
                check_held(&hello);
                speaker =
                    registry::instance_key(&hello.workload, &hello.instance).unwrap_or(speaker);
            }
            Some(Kind::Subscribe(message)) => message.keys.into_iter().for_each(check_key),
            Some(Kind::Unsubscribe(message)) => message.keys.into_iter().for_each(check_key),
            Some(Kind::Ack(ack)) => ack.key.into_iter().for_each(check_key),
            Some(Kind::Nack(nack)) => check_clipped(&nack.reason),
            Some(Kind::Health(health)) => check_clipped(&health.detail),
            Some(Kind::Register(register)) => check_register(&speaker, register),
            Some(Kind::Ejections(_) | Kind::Deregister(_)) | None => {}
        }
    }
}

fn index() -> Index {
    static PARSED: LazyLock<Vec<Object>> = LazyLock::new(|| {
        parse_documents("", OBJECTS).into_iter().flatten().map(|parsed| parsed.object).collect()
    });
    let mut index = Index::new(TrustDomain::default());
    index.apply_all(PARSED.iter());
    index
}

fn check_key(message: ResourceKey) {
    let Ok(key) = Key::try_from(message.clone()) else {
        return assert!(message.name.len() > 500, "refused: {message:?}");
    };
    assert_eq!(key.message(), message);
    match key.resource() {
        Resource::Target(name) => properties::check_target(&index(), &name),
        Resource::Service(port) => {
            assert_eq!(port.to_string().parse::<ServicePort>().as_ref(), Ok(&port));
        }
        Resource::Mesh | Resource::Trust | Resource::Inbound | Resource::Unknown => {}
    }
}

fn check_clipped(text: &str) {
    let clipped = clipped(text);
    assert!(text.starts_with(clipped) && clipped.len() <= 1024);
    assert!(clipped.len() == text.len() || clipped.len() > 1020);
}

/// A registration comes and goes.
fn check_register(key: &InstanceKey, register: Register) {
    let ports: Result<Vec<_>, _> = register.ports.into_iter().map(registry::port).collect();
    let Ok(ports) = ports else { return };
    let account = &key.workload.name;
    let identity = weft_proto::SpiffeId::new(&TrustDomain::default(), "shop", account);
    let registration = Registration {
        key: key.clone(),
        incarnation: "1".into(),
        spiffe_id: identity.expect("a workload's name is a service account's"),
        ports,
        ready: true,
        detail: String::new(),
        zone: "".into(),
    };
    let mut index = index();
    let before = properties::pushed(&index);
    index.register(registration.clone());
    match index.check_registration(&registration) {
        Ok(()) => check_registered(&index, &registration),
        Err(refusal) => {
            assert!(!refusal.to_string().is_empty());
            assert_eq!(properties::pushed(&index), before, "{refusal}");
        }
    }
    index.deregister(key, "1");
    assert_eq!(properties::pushed(&index), before);
}

fn check_registered(index: &Index, registration: &Registration) {
    for port in ["shop/cart:80", "shop/cart:81", "shop/web:80", "shop/web:8080"] {
        let port = port.parse().expect("valid");
        let endpoints = index.service(&port).map(|view| view.endpoints.values());
        endpoints.into_iter().flatten().for_each(|held| properties::check_endpoint(&held.endpoint));
    }
    for port in &registration.ports {
        let at = std::net::SocketAddr::new(port.address.ip(), port.app_port.number());
        properties::check_target(index, &at.to_string());
    }
    let inbound = index.inbound(&registration.key).expect("the workload exists");
    let numbers: BTreeSet<u32> = inbound.ports.iter().map(|port| port.port).collect();
    assert_eq!(numbers.len(), inbound.ports.len(), "a port is named twice");
}

/// What a proxy holds is taken up, and becomes what there is.
fn check_held(hello: &Hello) {
    for held in &hello.held {
        let Ok(key) = Key::try_from(held.key.clone().unwrap_or_default()) else { continue };
        check_key(key.message());
        let service = Arc::new(service_like(held));
        let held = &honest(held);
        let mut proxy = Proxy::holding(held, key.message());
        proxy.settle(&Content::Service(service.clone()), |id| id.len() % 2 == 0);
        let expected: BTreeMap<_, _> = held
            .endpoints
            .iter()
            .filter(|held| held.id.len() % 2 == 0)
            .map(|held| (held.id.clone(), held.digest))
            .chain(of_service(&service))
            .collect();
        assert_eq!(proxy.endpoints, expected, "what is withheld stays");
        proxy.settle(&Content::Service(service.clone()), |_| false);
        assert_eq!(proxy.endpoints, of_service(&service).collect());
        proxy.refuse(&Content::Gone);
        proxy.settle(&Content::Service(service.clone()), |_| false);
        assert_eq!(proxy.endpoints, of_service(&service).collect());
    }
}

/// What is held, with digests as an honest proxy has them: no few of them add up to nothing. A version that is
/// right is believed; this is none.
fn honest(held: &Held) -> Held {
    let endpoints = held.endpoints.iter().map(|endpoint| HeldEndpoint {
        id: endpoint.id.clone(),
        digest: digest::of_bytes(&endpoint.digest.to_le_bytes()),
    });
    Held { key: held.key.clone(), version: String::new(), endpoints: endpoints.collect() }
}

/// A service with some of the endpoints that are held, some of them changed, and one that is new.
fn service_like(held: &Held) -> ServiceContent {
    let endpoint = |id: &str| Arc::new(Endpoint { id: id.to_owned(), ..Endpoint::default() });
    let mut endpoints: BTreeMap<Arc<str>, index::HeldEndpoint> = BTreeMap::new();
    for held in held.endpoints.iter().filter(|held| held.digest % 4 != 0) {
        let digest = if held.digest % 4 == 1 { !held.digest } else { held.digest };
        let new = index::HeldEndpoint { endpoint: endpoint(&held.id), digest };
        endpoints.insert(held.id.as_str().into(), new);
    }
    let new = index::HeldEndpoint { endpoint: endpoint("new"), digest: 7 };
    endpoints.insert("new".into(), new);
    let service = Service { name: "cart".into(), ..Service::default() };
    let service_digest = digest::of_message(&service);
    let digest = content::digest_of(service_digest, endpoints.values().map(|held| held.digest));
    ServiceContent { service: service.into(), service_digest, endpoints, digest }
}

fn of_service(service: &ServiceContent) -> impl Iterator<Item = (String, u64)> {
    service.endpoints.iter().map(|(id, held)| (id.to_string(), held.digest))
}

/// One resource of a proxy, and the stream's view of it.
struct Proxy {
    key: ResourceKey,
    subscription: Subscription,
    endpoints: BTreeMap<String, u64>,
}

impl Proxy {
    fn holding(held: &Held, key: ResourceKey) -> Self {
        let endpoints = held.endpoints.iter().map(|held| (held.id.clone(), held.digest)).collect();
        Self { key, subscription: Subscription::resumed(held.clone()), endpoints }
    }

    /// Takes and acknowledges updates until there are none.
    fn settle(&mut self, content: &Content, withholds: impl Fn(&str) -> bool) {
        let Content::Service(service) = content else { return };
        let most = service.endpoints.len() / MAX_ENDPOINTS + 2;
        for _ in 0..most {
            let next = self.subscription.next(&self.key, content, &withholds, None);
            let Some(update) = next else { return };
            self.apply(update.endpoints.as_ref(), service);
            assert_eq!(self.subscription.ack(&update.version), Acknowledged::Now(None));
        }
        assert!(self.subscription.next(&self.key, content, &withholds, None).is_none(), "endless");
    }

    fn apply(&mut self, delta: Option<&discovery::EndpointsDelta>, service: &ServiceContent) {
        let Some(delta) = delta else { return };
        if delta.reset {
            self.endpoints.clear();
        }
        for id in &delta.removed {
            assert!(self.endpoints.remove(id).is_some(), "{id} is not held");
        }
        for endpoint in &delta.upserted {
            let digest = service.endpoints[endpoint.id.as_str()].digest;
            self.endpoints.insert(endpoint.id.clone(), digest);
        }
    }

    /// Refuses one update, and is not asked again.
    fn refuse(&mut self, content: &Content) {
        let next = self.subscription.next(&self.key, content, |_| false, None);
        let update = next.expect("it is not what is held");
        assert!(self.subscription.nack(&update.version));
        assert!(self.subscription.next(&self.key, content, |_| false, None).is_none());
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_what_proxies_say_is_answered_in_differences() {
        crate::replay::corpus("discovery_hello", super::check);
    }
}
