//! The seam to the index: what push asks of the mesh, and how it hears that something changed.

use std::sync::Arc;

use tokio::{sync::broadcast, time::Instant};
use weft_proto::{
    ServicePort, WorkloadName,
    discovery::{Inbound, Interception, Mesh},
};

use super::content::ServiceContent;
use crate::{
    index::{Changes, ResolvedTarget},
    model::{InstanceKey, Pod, Registration},
};

/// Who asks: answers differ by where the asker stands.
#[derive(Debug, Clone)]
pub struct Asker {
    /// The proxy's instance.
    pub key: InstanceKey,
    /// How traffic reaches the proxy.
    pub interception: Interception,
}

/// A change of the mesh.
#[derive(Debug, Clone)]
pub struct Changed {
    /// What it touched.
    pub changes: Changes,
    /// When it happened.
    pub at: Instant,
}

/// The mesh as it is now.
pub trait View: Send + Sync {
    /// Every later change. Whoever lags behind looks at everything again.
    fn changes(&self) -> broadcast::Receiver<Arc<Changed>>;
    /// The service account of a workload; `None` when no object names the workload.
    fn service_account(&self, workload: &WorkloadName) -> Option<Arc<str>>;
    /// The pod that is this instance; `None` when the instance is no pod.
    fn pod(&self, key: &InstanceKey) -> Option<Arc<Pod>>;
    /// Whether the objects allow a registration.
    ///
    /// # Errors
    /// Why not: names the object, the field and the value.
    fn check(&self, registration: &Registration) -> Result<(), String>;
    /// The eager set.
    fn mesh(&self) -> Mesh;
    /// What an instance serves and how.
    fn inbound(&self, key: &InstanceKey) -> Inbound;
    /// What an application's destination stands for.
    fn target(&self, name: &str, asker: &Asker) -> ResolvedTarget;
    /// A service port, as the asker's namespace is told of it; `None` when there is none.
    fn service(&self, port: &ServicePort, asker: &Asker) -> Option<Arc<ServiceContent>>;
}
