//! What the control plane says: one stream, subscriptions on demand, and the live answers that data workers
//! hold.
//!
//! (Being written: this file fixes the seam.) A worker asks the [`Directory`] once for a destination and keeps
//! the [`Subscription`]; a later look at it costs one atomic load. The subscription is dropped, at the control
//! plane too, when no worker holds it for a while.

pub mod snapshot;

pub use snapshot::{
    Destination, Endpoint, EndpointHealth, InboundPort, InboundPorts, MeshScope, Resolution,
    Transport,
};

use std::sync::Arc;

use tokio::sync::watch;

/// A live answer: the newest value, and word when it changes.
pub type Subscription<T> = watch::Receiver<T>;

/// What this proxy knows of the mesh. Shared by all workers; cheap to clone.
#[derive(Debug, Clone)]
pub struct Directory {}

impl Directory {
    /// The eager set. `None` until the control plane's first answer.
    #[must_use]
    pub fn mesh(&self) -> Option<Arc<MeshScope>> {
        None
    }

    /// What this workload serves and how; `None` until the first answer.
    #[must_use]
    pub fn inbound(&self) -> Subscription<Option<Arc<InboundPorts>>> {
        watch::channel(None).1
    }

    /// What a destination, as the application named it, stands for: `HOST:PORT` in lower case without a
    /// trailing dot, or `IP:PORT`. Coalesced with equal questions of other workers; answers are kept while
    /// used, negative ones too, within a bound.
    #[must_use]
    pub fn resolve(&self, _destination: &str) -> Subscription<Resolution> {
        watch::channel(Resolution::Pending).1
    }
}
