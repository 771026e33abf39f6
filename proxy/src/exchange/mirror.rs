//! Copies of requests, sent to another service beside the one that answers.
//!
//! Comes in: a request on its way, whose filters say that it is mirrored. Goes out: the same request to the mirror's
//! service, its answer thrown away. A copy must never delay, change or fail the request: nothing waits for it. It is
//! sent when the request's body has passed by whole, by a task of its own, within bounds of memory, number and time;
//! beyond them there is none, and that is counted. Trailers are not copied.
//!
//! ```text
//! gathers --the body was whole in time, and short enough--> is sent --answered, or TIME is over--> its place is free
//!    |----too long, broke off, or PASSES_BY is over--> not whole: its place is free
//! ```
//!
//! A copy is a request to its service like any other in metrics, access log and traces.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::header;
use tokio::sync::oneshot;

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
/// replay limit (64 KiB by default) they hold 4 MiB at most; a place is held for [`PASSES_BY`] and [`TIME`] at most.
const MAX_UNDER_WAY: u32 = 64;
/// A body must have passed by in this time: a stream that stays open, or trickles, holds no place for long.
const PASSES_BY: Duration = Duration::from_secs(5);
/// A copy that is not answered by then is given up.
const TIME: Duration = Duration::from_secs(30);
/// An answer is read up to here; the rest of a longer one is not waited for.
const MAX_ANSWER: usize = 1024 * 1024;

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

/// A copy on its way, with its place.
struct Copy {
    shared: Rc<Shared>,
    /// The service whose route says so.
    parent: Rc<Service>,
    /// The service that gets it.
    name: Arc<str>,
    head: RequestHead,
    _under_way: UnderWay,
}

/// What has passed by of a body, shared between it and the copy, which forgets it when its time is over.
type Content = Rc<RefCell<Vec<u8>>>;

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
                self.shared.tasks.spawn(copy.send(Bytes::new()));
            }
            inner => {
                let (gathering, gathered) = Gathering::new(limit);
                self.shared.tasks.spawn(copy.gather(gathered));
                let body = CopiedBody { inner, gathering: Some(gathering) };
                request.body = Body::Copied(Box::new(body));
            }
        }
    }
}

impl Copy {
    /// Waits for the body, and sends the copy when it is whole.
    async fn gather(self, gathered: Gathered) {
        match gathered.whole().await {
            Some(content) => self.send(content).await,
            None => self.shared.mirrors.metrics.note(Mirrored::NotWhole),
        }
    }

    async fn send(self, content: Bytes) {
        let shared = self.shared.clone();
        let result = match clock::timeout(TIME, self.exchange(content)).await {
            Ok(Ok(())) => Mirrored::Answered,
            Ok(Err(_)) | Err(_) => Mirrored::Failed,
        };
        shared.mirrors.metrics.note(result);
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
        let mut call = Call::new(&exchange, routed, &mut request, record.began());
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

/// Reads a response as far as it is waited for, while what is left of its request goes out.
async fn discard(mut response: Response) {
    let upload = response.upload.take();
    let send = async {
        if let Some(upload) = upload {
            // What became of it, the response says.
            let _ = upload.await;
        }
    };
    let read = async {
        let mut read = 0;
        while let Some(Ok(frame)) = response.body.frame().await {
            if let Frame::Data(data) = frame {
                read += data.len();
            }
            if read > MAX_ANSWER {
                return;
            }
        }
    };
    tokio::join!(send, read);
}

/// A request's body that is copied as it passes by.
pub struct CopiedBody {
    inner: Body,
    /// `None` when it has passed by, or was given up.
    gathering: Option<Gathering>,
}

/// The body's side of a copy. Dropped, it gives the copy up.
struct Gathering {
    content: Content,
    limit: usize,
    is_whole: oneshot::Sender<()>,
}

/// The copy's side. Dropped, it forgets the content.
struct Gathered {
    content: Content,
    is_whole: oneshot::Receiver<()>,
}

impl Gathering {
    fn new(limit: usize) -> (Self, Gathered) {
        let (content, (sender, receiver)) = (Content::default(), oneshot::channel());
        let gathered = Gathered { content: content.clone(), is_whole: receiver };
        (Self { content, limit, is_whole: sender }, gathered)
    }

    /// Whether the content, with this, is still wanted.
    fn takes(&self, data: &[u8]) -> bool {
        let mut content = self.content.borrow_mut();
        let takes = !self.is_whole.is_closed() && content.len() + data.len() <= self.limit;
        if takes {
            content.extend_from_slice(data);
        }
        takes
    }
}

impl Gathered {
    /// The content, when it is whole; `None` when it was given up or takes too long.
    async fn whole(mut self) -> Option<Bytes> {
        let is_whole = clock::timeout(PASSES_BY, &mut self.is_whole).await;
        matches!(is_whole, Ok(Ok(()))).then(|| self.content.take().into())
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        self.content.take();
    }
}

impl CopiedBody {
    /// See [`Body::poll_frame`].
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = self.inner.poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                self.gathering.take_if(|gathering| !gathering.takes(data));
                // Who reads may not ask again where nothing more can come.
                if self.inner.is_end() {
                    self.complete();
                }
            }
            Poll::Ready(Some(Ok(Frame::Trailers(_))) | None) => self.complete(),
            Poll::Ready(Some(Err(_))) => self.gathering = None,
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

    fn complete(&mut self) {
        if let Some(gathering) = self.gathering.take() {
            // A copy whose time is over hears nothing.
            let _ = gathering.is_whole.send(());
        }
    }
}

impl std::fmt::Debug for CopiedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopiedBody").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
