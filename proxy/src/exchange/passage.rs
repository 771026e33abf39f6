//! The requests under way on one connection of another workload, and word to each that may go on no longer.
//!
//! Comes in: requests as they begin, and their heads where they last; that the port's policy is another now, from whoever
//! watches it. Goes out: why one must end. Each time the port's access policy has changed, a request is judged again by
//! what it was let in for; one that is still allowed notices nothing.
//!
//! | a request | is judged by |
//! |---|---|
//! | whose response is awaited | its head, which is at hand |
//! | whose response or body lasts, or that became something else | its head, which is kept |
//! | whose response is short | its caller alone: it ends where the caller may send nothing |
//!
//! Where nothing changes a request pays for a look at a counter each time it is polled. It must never be let go on
//! because its connection carries others that may.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use weft_proto::SpiffeId;

use super::admission;
use crate::{
    discovery::InboundPort,
    error::{Delivery, ProxyError},
    http::{BodyError, RequestHead, Response, body::Upload},
    inbound::LivePort,
    policy::{
        authz::{Deed, Source},
        operation::RequestFacts,
    },
    reason::Reason,
    telemetry::AdmissionMetrics,
};

/// A response up to this length is over soon.
const SHORT: u64 = 64 * 1024;

/// The requests of one connection. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Requests(Rc<Connection>);

#[derive(Debug)]
struct Connection {
    port: LivePort,
    peer: Option<SpiffeId>,
    remote: Option<SocketAddr>,
    metrics: Arc<AdmissionMetrics>,
    places: RefCell<Places>,
}

/// Who is to be woken.
#[derive(Debug, Default)]
struct Places {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

/// A request that is under way; not any more once dropped.
#[derive(Debug)]
pub struct Passage {
    connection: Weak<Connection>,
    place: usize,
    /// The version of the policy that it was judged by last.
    seen: Cell<u64>,
    kept: Option<Rc<Kept>>,
}

/// What is kept of a request that lasts, shared by its response's side and its upload's.
#[derive(Debug)]
struct Kept {
    head: RequestHead,
    /// One of them has counted that the request may go on no longer.
    is_counted: Cell<bool>,
}

impl Requests {
    /// None yet, on a connection to a port; `peer` is who calls, where that is verified.
    #[must_use]
    pub fn new(
        port: LivePort,
        peer: Option<SpiffeId>,
        remote: Option<SocketAddr>,
        metrics: Arc<AdmissionMetrics>,
    ) -> Self {
        let places = RefCell::default();
        Self(Rc::new(Connection { port, peer, remote, metrics, places }))
    }

    /// The port's policy as it stands now.
    #[must_use]
    pub fn port(&self) -> Rc<InboundPort> {
        self.0.port.now()
    }

    /// Who calls; `None` where the port is permissive and the caller is not in the mesh.
    #[must_use]
    pub fn peer(&self) -> Option<&SpiffeId> {
        self.0.peer.as_ref()
    }

    /// Where the connection comes from.
    #[must_use]
    pub fn remote(&self) -> Option<SocketAddr> {
        self.0.remote
    }

    /// Who calls, for policies.
    #[must_use]
    pub fn source(&self) -> Source<'_> {
        self.0.source()
    }

    /// A request begins.
    pub(super) fn enter(&self) -> Passage {
        Passage::of(&self.0, None)
    }

    /// The port's policy may be another: each request looks.
    pub fn wake(&self) {
        for waker in self.0.places.borrow().wakers.iter().flatten() {
            waker.wake_by_ref();
        }
    }
}

impl Connection {
    fn source(&self) -> Source<'_> {
        let address = self.remote.map(|remote| remote.ip());
        Source { identity: self.peer.as_ref(), address }
    }
}

impl Places {
    fn take(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.wakers.push(None);
            self.wakers.len() - 1
        })
    }
}

impl Passage {
    fn of(connection: &Rc<Connection>, kept: Option<Rc<Kept>>) -> Self {
        Self {
            place: connection.places.borrow_mut().take(),
            seen: Cell::new(connection.port.version()),
            connection: Rc::downgrade(connection),
            kept,
        }
    }

    /// Keeps the head of a request for as long as its response lasts, and lets its upload go on no longer than that.
    pub(super) fn keep(&mut self, head: RequestHead, response: &mut Response) {
        let is_short = response.body.exact_length().is_some_and(|length| length <= SHORT);
        if is_short && response.upload.is_none() && response.takeover.is_none() {
            return;
        }
        self.kept = Some(Rc::new(Kept { head, is_counted: Cell::new(false) }));
        let Some(connection) = self.connection.upgrade() else { return };
        if let Some(upload) = response.upload.take() {
            let passage = Self::of(&connection, self.kept.clone());
            passage.seen.set(self.seen.get());
            response.upload = Some(Upload::new(passage.bound(upload)));
        }
    }

    /// An upload that ends with the passage. The response's side says why, as long as there is one.
    async fn bound(self, mut upload: Upload) -> Result<(), BodyError> {
        poll_fn(|cx| {
            if let Some(error) = self.revoked(None) {
                if self.kept.as_ref().is_some_and(|kept| Rc::strong_count(kept) == 1) {
                    tracing::info!(reason = %error.reason, detail = %error.detail, "upload ended behind its response");
                }
                return Poll::Ready(Err(BodyError::Expired(Reason::AuthzDenied)));
            }
            let polled = Pin::new(&mut upload).poll(cx);
            self.wait_where_pending(&polled, cx);
            polled
        })
        .await
    }

    /// Goes on with a future for as long as the request may go on, judged by its head.
    ///
    /// # Errors
    /// It may not.
    pub(super) async fn hold<F: Future>(
        passage: Option<&Self>,
        head: &RequestHead,
        mut future: Pin<&mut F>,
    ) -> Result<F::Output, ProxyError> {
        let Some(passage) = passage else { return Ok(future.await) };
        poll_fn(|cx| {
            if let Some(error) = passage.revoked(Some(head)) {
                return Poll::Ready(Err(error));
            }
            let polled = future.as_mut().poll(cx);
            passage.wait_where_pending(&polled, cx);
            polled.map(Ok)
        })
        .await
    }

    /// Completes, with why, when the request may go on no longer.
    pub async fn ended(&self) -> ProxyError {
        poll_fn(|cx| {
            self.wait(cx);
            self.revoked(None).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Why the request may not go on, by its head where that is at hand; `None` where it may. Counts what it ends, once.
    pub(super) fn revoked(&self, head: Option<&RequestHead>) -> Option<ProxyError> {
        let (policy, error) = self.judge(head)?;
        let is_counted = self.kept.as_ref().is_some_and(|kept| kept.is_counted.replace(true));
        if let Some(connection) = self.connection.upgrade().filter(|_| !is_counted) {
            connection.metrics.refused(&policy, Reason::AuthzDenied);
        }
        Some(error)
    }

    /// Whose word it is that the request may not go on, and how that is said.
    fn judge(&self, head: Option<&RequestHead>) -> Option<(Arc<str>, ProxyError)> {
        let connection = self.connection.upgrade()?;
        let version = connection.port.version();
        if self.seen.replace(version) == version {
            return None;
        }
        let port = connection.port.now();
        let (access, source) = (port.access.as_ref()?, connection.source());
        let head = head.or(self.kept.as_deref().map(|kept| &kept.head));
        let decision = match head {
            Some(head) => access.decide(source, Deed::Request(&RequestFacts::new(head))),
            None => access.decide(source, Deed::AnyRequest),
        };
        if decision.allowed {
            return None;
        }
        let deed = head.map_or_else(
            || "a request under way".to_owned(),
            |head| format!("{} {}, under way", head.method, head.target.path()),
        );
        let mut error = admission::denied(&decision, source, &deed);
        error.delivery = Delivery::Unknown;
        Some((Arc::clone(decision.by), error))
    }

    /// Whoever polls this is woken when the policy may be another.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        let Some(connection) = self.connection.upgrade() else { return };
        match &mut connection.places.borrow_mut().wakers[self.place] {
            Some(waker) => waker.clone_from(cx.waker()),
            place @ None => *place = Some(cx.waker().clone()),
        }
    }

    fn wait_where_pending<T>(&self, polled: &Poll<T>, cx: &Context<'_>) {
        if polled.is_pending() {
            self.wait(cx);
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.upgrade() {
            let mut places = connection.places.borrow_mut();
            let waker = places.wakers[self.place].take();
            places.free.push(self.place);
            drop(places);
            drop(waker);
        }
    }
}
