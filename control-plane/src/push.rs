//! Discovery: the mesh as it is, told to each sidecar as far as it asked, in differences.
//!
//! Comes in: sidecars' streams on the secured port, and the index's changes. Goes out: updates, each of which
//! is acknowledged or refused; registrations, for the index. It must never tell a proxy that something is
//! gone because the control plane has just started, let a slow proxy grow memory, or let an old stream's end
//! undo what a new stream said.
//!
//! In the order in which a stream passes them:
//! - [`service`]: the gRPC service: certificate, Hello, whether the two belong together;
//! - `stream`: one stream's life: what comes in, what becomes due, what goes out;
//! - `pending`: which resources to look at, now or when changes pause (pure);
//! - `resource`: what a proxy may ask for;
//! - `subscription`: one resource on one stream: what the proxy has, what it is to get (pure);
//! - [`content`]: a service's endpoints with their digests, shared by all streams;
//! - [`view`]: the seam to the index;
//! - [`registry`]: the registrations of workloads outside Kubernetes;
//! - [`proxies`]: who is connected and holds what, for operators;
//! - [`ejections`]: what their breakers have ejected, for operators too.
//!
//! # Memory and pace
//! A stream has at most one update of a resource under way, and a short queue to the socket. What changes
//! meanwhile is remembered as a set of keys; content is computed when it can be sent. Changes are gathered
//! until they pause for [`Pace::quiet`], at most for [`Pace::longest`]; the first answer to a
//! subscription waits for nothing.
//!
//! # After a restart
//! The registry starts empty, and fills as sidecars come back. For the settle period an endpoint that a
//! proxy holds is not withdrawn as long as its instance has not reported to this process: see
//! [`registry::Registry::withholds`]. That is the only mechanism; when the period is over, each stream
//! compares again and what has not come back goes.

pub mod content;
pub mod ejections;
mod pending;
#[cfg(any(test, fuzzing))]
pub mod properties;
pub mod proxies;
pub mod registry;
mod resource;
pub mod service;
mod stream;
mod subscription;
pub mod view;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use weft_proto::discovery::update::Body;

use crate::{
    ca::{Authority, Bundle, IssuedRecord},
    metrics::Metrics,
};
use proxies::Proxies;
use registry::Registry;
use view::View;

/// How changes are gathered.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// A pause this long ends the gathering.
    pub quiet: Duration,
    /// It never lasts longer than this.
    pub longest: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { quiet: Duration::from_millis(10), longest: Duration::from_millis(100) }
    }
}

/// What all streams share.
pub struct Push {
    /// What the mesh is.
    pub view: Arc<dyn View>,
    /// Where sidecars register.
    pub registry: Arc<Registry>,
    /// Who is connected.
    pub proxies: Arc<Proxies>,
    /// The roots.
    pub authority: Arc<Authority>,
    /// Remembers certificates seen.
    pub issued: Arc<IssuedRecord>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// How changes are gathered.
    pub pace: Pace,
    /// Subscriptions that a stream may have.
    pub max_subscriptions: usize,
    /// Names this process.
    pub instance: String,
    /// Turns true when the control plane stops: streams say goodbye.
    pub stopping: watch::Receiver<bool>,
    /// The next stream's number.
    pub next_stream: AtomicU64,
    /// The streams' tasks.
    pub tasks: TaskTracker,
}

/// Tells streams apart: a later one has a higher number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

impl Push {
    fn new_stream(&self) -> StreamId {
        StreamId(self.next_stream.fetch_add(1, Ordering::Relaxed))
    }
}

/// The version in which proxies hold this bundle.
#[must_use]
pub fn trust_version(bundle: &Bundle) -> String {
    subscription::whole_version(&Body::Trust(stream::trust_message(bundle)))
}
