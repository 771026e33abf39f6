//! Copies of requests, sent to another service beside the one that answers.
//!
//! Comes in: a request on its way, whose filters say that it is mirrored. Goes out: the same request to the mirror's
//! service, its answer thrown away. A copy must never delay, change or fail the request: it is sent when the request's
//! body has passed by whole, by a task of its own, within bounds of memory, number and time; beyond them there is
//! none, and that is counted. Trailers are not copied.
//!
//! A copy is a request to its service like any other in metrics, access log and traces.

use std::{
    cell::Cell,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::header;

use super::{
    Exchange, Origin, Outbound, Record,
    attempts::{Call, Routed},
};
use crate::{
    clock,
    destination::Service,
    error::ProxyError,
    http::{Body, BodyError, Frame, Interim, Request, RequestHead, Response, respond},
    route::{Backend, Target},
    shared::Shared,
    telemetry::{MirrorMetrics, Mirrored},
};

/// Copies under way at once on one worker, those counted whose bodies are still passing by. With bodies of at most the
/// replay limit (64 KiB by default) they hold 4 MiB at most.
const MAX_UNDER_WAY: u32 = 64;
/// A copy that is not answered by then is given up.
const TIME: Duration = Duration::from_secs(30);

/// A worker's copies under way.
#[derive(Debug)]
pub struct Mirrors {
    metrics: MirrorMetrics,
    under_way: Rc<Cell<u32>>,
}

impl Mirrors {
    /// None yet.
    #[must_use]
    pub fn new(metrics: MirrorMetrics) -> Self {
        Self { metrics, under_way: Rc::default() }
    }

    /// Room for another copy.
    fn enter(&self) -> Option<UnderWay> {
        let number = self.under_way.get();
        (number < MAX_UNDER_WAY).then(|| {
            self.under_way.set(number + 1);
            UnderWay(self.under_way.clone())
        })
    }
}

/// Counts as under way until dropped.
#[derive(Debug)]
struct UnderWay(Rc<Cell<u32>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// A copy that waits for its body.
struct Copy {
    shared: Rc<Shared>,
    /// The service whose route says so.
    parent: Rc<Service>,
    /// The service that gets it.
    name: Arc<str>,
    head: RequestHead,
    _under_way: UnderWay,
}

impl Exchange {
    /// Sends a copy of the request to another service, once its body has passed by.
    pub(super) fn mirror(&self, parent: &Rc<Service>, backend: &Backend, request: &mut Request) {
        let mirrors = &self.shared.mirrors;
        if let Target::Invalid(why) = &backend.target {
            tracing::debug!(service = %parent.label, %why, "a copy of a request has nowhere to go");
            return mirrors.metrics.note(Mirrored::Failed);
        }
        let limit = self.shared.config.limits.replay_bytes;
        let is_long = request.body.exact_length().is_some_and(|length| length > limit as u64);
        if request.head.upgrade.is_some() || is_long {
            return mirrors.metrics.note(Mirrored::NotWhole);
        }
        let Some(under_way) = mirrors.enter() else {
            return mirrors.metrics.note(Mirrored::NoRoom);
        };
        let mut head = request.head.clone();
        // The body is here when the copy is sent, and comes without trailers.
        for name in [header::EXPECT, header::TRAILER] {
            head.headers.remove(name);
        }
        let copy = Copy {
            shared: self.shared.clone(),
            parent: parent.clone(),
            name: backend.label.clone(),
            head,
            _under_way: under_way,
        };
        match std::mem::take(&mut request.body) {
            body if body.is_end() => {
                request.body = body;
                copy.send(Bytes::new());
            }
            inner => {
                let copy = Some(Box::new(copy));
                let body = CopiedBody { inner, content: Vec::new(), limit, copy };
                request.body = Body::Copied(Box::new(body));
            }
        }
    }
}

impl Copy {
    /// Sends the copy by a task of its own.
    fn send(self, content: Bytes) {
        let shared = self.shared.clone();
        let task = async move {
            let shared = self.shared.clone();
            let result = match clock::timeout(TIME, self.exchange(content)).await {
                Ok(Ok(())) => Mirrored::Answered,
                Ok(Err(_)) | Err(_) => Mirrored::Failed,
            };
            shared.mirrors.metrics.note(result);
        };
        shared.tasks.spawn(task);
    }

    /// The copy as a request of its own, up to its answer's end. The mirror's own routes are not followed.
    async fn exchange(self, content: Bytes) -> Result<(), ProxyError> {
        let Self { shared, parent, name, head, _under_way } = self;
        let service = shared.destinations.backend(&parent, &name).await?;
        let snapshot = service.snapshot();
        let exchange = Exchange::new(shared, Origin::Outbound(Outbound::to(service.clone())));
        let body = Body::full(content);
        let mut request = Request { head, body, interim: Interim::default() };
        let mut record = Record::start(&exchange.shared, &exchange.origin, &request.head);
        record.routed(&service);
        let policy = &*snapshot.destination.requests;
        let routed = Routed { service: &service, snapshot: &snapshot, policy, deadline: None };
        let call = Call::new(&exchange, routed, &mut request, record.began());
        match call.respond(&mut record).await {
            Ok(response) => discard(record.follow(response)).await,
            Err(error) => {
                let audience = exchange.origin.audience();
                let reason = error.reason;
                let answer = respond::respond(&error, &request.head, audience);
                drop(record.refuse(error, answer));
                return Err(ProxyError::new(reason, ""));
            }
        }
        Ok(())
    }
}

/// Reads a response to its end, while what is left of its request goes out.
async fn discard(mut response: Response) {
    let upload = response.upload.take();
    let send = async {
        if let Some(upload) = upload {
            // What became of it, the response says.
            let _ = upload.await;
        }
    };
    let read = async { while let Some(Ok(_)) = response.body.frame().await {} };
    tokio::join!(send, read);
}

/// A request's body that is copied as it passes by.
pub struct CopiedBody {
    inner: Body,
    content: Vec<u8>,
    limit: usize,
    /// `None` when it was sent or given up.
    copy: Option<Box<Copy>>,
}

impl CopiedBody {
    /// See [`Body::poll_frame`].
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = self.inner.poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                self.gather(data);
                // Who reads may not ask again where nothing more can come.
                if self.inner.is_end() {
                    self.complete();
                }
            }
            Poll::Ready(Some(Ok(Frame::Trailers(_))) | None) => self.complete(),
            Poll::Ready(Some(Err(_))) => self.give_up(),
            Poll::Pending => {}
        }
        polled
    }

    /// See [`Body::is_end`].
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.inner.is_end()
    }

    /// See [`Body::exact_length`].
    #[must_use]
    pub fn exact_length(&self) -> Option<u64> {
        self.inner.exact_length()
    }

    fn gather(&mut self, data: &[u8]) {
        if self.content.len() + data.len() > self.limit {
            self.give_up();
        } else if self.copy.is_some() {
            self.content.extend_from_slice(data);
        }
    }

    fn complete(&mut self) {
        if let Some(copy) = self.copy.take() {
            copy.send(std::mem::take(&mut self.content).into());
        }
    }

    fn give_up(&mut self) {
        self.content = Vec::new();
        if let Some(copy) = self.copy.take() {
            copy.shared.mirrors.metrics.note(Mirrored::NotWhole);
        }
    }
}

impl Drop for CopiedBody {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl std::fmt::Debug for CopiedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopiedBody").field("inner", &self.inner).finish_non_exhaustive()
    }
}
