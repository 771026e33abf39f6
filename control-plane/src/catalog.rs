//! The mesh as it is now: the index behind a lock, with word of every change.
//!
//! Comes in: objects from the store, registrations from sidecars' streams, pods and slices of a cluster. Goes out: what the streams, the
//! Identity service and operators ask. Nothing here waits for anything but the lock, which is held for one
//! change or one question.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
};

use tokio::{sync::broadcast, time::Instant};
use weft_proto::{
    ServicePort, TrustDomain, WorkloadName,
    discovery::{Inbound, Mesh},
};

use crate::{
    ca::service::WorkloadAccounts,
    index::{Changes, Defaults, Index, ResolvedTarget},
    model::{InstanceKey, NamespacedName, Pod, Registration},
    push::{
        content::ServiceContent,
        registry::Sink,
        view::{Asker, Changed, View},
    },
};

/// Changes that a stream may lie behind before it looks at everything again.
const HISTORY: usize = 1024;

/// Services as streams share them; built when the first one asks. One for all namespaces, and one for each that has
/// routes of its own.
type Contents = HashMap<ServicePort, HashMap<Option<Arc<str>>, Arc<ServiceContent>>>;

/// The mesh as it is now.
pub struct Catalog {
    index: RwLock<Index>,
    contents: Mutex<Contents>,
    changes: broadcast::Sender<Arc<Changed>>,
}

impl Catalog {
    /// An empty mesh.
    #[must_use]
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self::with_defaults(trust_domain, Defaults::default())
    }

    /// An empty mesh, with other defaults.
    #[must_use]
    pub fn with_defaults(trust_domain: TrustDomain, defaults: Defaults) -> Self {
        Self {
            index: RwLock::new(Index::with_defaults(trust_domain, defaults)),
            contents: Mutex::default(),
            changes: broadcast::Sender::new(HISTORY),
        }
    }

    /// Changes the index, and tells everybody what that touched.
    pub fn change(&self, change: impl FnOnce(&mut Index) -> Changes) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let changes = change(&mut index);
        if changes.is_empty() {
            return;
        }
        let mut contents = self.contents();
        for port in &changes.services {
            contents.remove(port);
        }
        drop(contents);
        // Under the lock, so that changes are told in the order in which they happened. Nobody listens
        // while no stream is open.
        let _ = self.changes.send(Arc::new(Changed { changes, at: Instant::now() }));
    }

    /// The index, to read.
    pub fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View for Catalog {
    fn changes(&self) -> broadcast::Receiver<Arc<Changed>> {
        self.changes.subscribe()
    }

    fn service_account(&self, workload: &WorkloadName) -> Option<Arc<str>> {
        let index = self.read();
        let object = index.workload(workload)?;
        Some(object.spec.service_account(&workload.name).into())
    }

    fn pod(&self, key: &InstanceKey) -> Option<Arc<Pod>> {
        self.read().pod_of(key).cloned()
    }

    fn check(&self, registration: &Registration) -> Result<(), String> {
        self.read().check_registration(registration).map_err(|refusal| refusal.to_string())
    }

    fn mesh(&self) -> Mesh {
        self.read().mesh()
    }

    fn inbound(&self, key: &InstanceKey) -> Inbound {
        self.read().inbound(key).unwrap_or_default()
    }

    fn target(&self, name: &str, asker: &Asker) -> ResolvedTarget {
        self.read().target(&asker.key.workload.namespace, name)
    }

    fn service(&self, port: &ServicePort, asker: &Asker) -> Option<Arc<ServiceContent>> {
        // The index stays locked until the content is remembered: a change cannot come between.
        let index = self.read();
        let (namespace, view) = index.service_from(port, &asker.key.workload.namespace)?;
        let mut contents = self.contents();
        let of_port = contents.entry(port.clone()).or_default();
        let content =
            of_port.entry(namespace).or_insert_with(|| Arc::new(ServiceContent::from(view)));
        Some(content.clone())
    }
}

impl WorkloadAccounts for Catalog {
    fn service_account(&self, workload: &WorkloadName) -> Option<Arc<str>> {
        View::service_account(self, workload)
    }

    fn pod(&self, name: &NamespacedName) -> Option<Arc<Pod>> {
        self.read().pod(name).cloned()
    }
}

impl Sink for Catalog {
    fn registered(&self, registration: &Registration) {
        self.change(|index| index.register(registration.clone()));
    }

    fn ended(&self, registration: &Registration) {
        self.change(|index| index.deregister(&registration.key, &registration.incarnation));
    }
}

#[cfg(test)]
mod tests {
    use weft_proto::discovery::Interception;

    use super::*;
    use crate::model::parse_documents;

    const SHOP: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {ports: [{port: 80}]}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: theirs, namespace: web}\nspec: {parentRefs: [{group: '', kind: Service, name: cart, namespace: shop}]}\n";

    fn asker(namespace: &str) -> Asker {
        let workload = WorkloadName { namespace: namespace.into(), name: "caller".into() };
        let key = InstanceKey { workload, instance: "0".into() };
        Asker { key, interception: Interception::Explicit }
    }

    #[test]
    fn namespaces_share_a_content_unless_they_have_routes_of_their_own() {
        let catalog = Catalog::new(TrustDomain::default());
        let parsed = parse_documents("", SHOP).into_iter();
        let objects: Vec<_> = parsed.map(|parsed| parsed.expect("valid").object).collect();
        catalog.change(|index| index.apply_all(&objects));
        let port = "shop/cart:80".parse().expect("valid");
        let content = |from: &str| catalog.service(&port, &asker(from)).expect("there is one");
        assert!(Arc::ptr_eq(&content("shop"), &content("lab")));
        assert!(content("shop").service.routes.is_none());
        assert!(Arc::ptr_eq(&content("web"), &content("web")));
        assert!(content("web").service.routes.is_some());
        assert_ne!(content("web").digest, content("shop").digest);
        catalog.change(|index| index.remove(&objects[1].key()));
        assert!(Arc::ptr_eq(&content("shop"), &content("web")));
    }
}
