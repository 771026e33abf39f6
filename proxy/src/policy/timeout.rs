//! How long a request, an attempt and a silence may last.
//!
//! | timeout | from | to | default |
//! |---|---|---|---|
//! | request | the request's head | the response's end, all attempts included | `WEFT_REQUEST_TIMEOUT`, to the response's head |
//! | attempt | the begin of its connection, or of its request on a kept one; anew when the client, for whose body it waited, has sent more | the response's head | none |
//! | stream idle | a frame in either direction | the next one | none |
//!
//! [`Bounds`] is the pure part: what a wait is bounded by, asked with the time. [`Watch`] waits by it, [`within`] holds an
//! attempt to it, and [`WatchedBody`] a body. None of them costs a timer where nothing is configured.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use crate::{
    clock::{self, Instant, Sleep},
    http::{Body, BodyError, Frame},
    reason::Reason,
};

/// A time that a policy may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Limit {
    /// The proxy's own.
    #[default]
    Default,
    /// None.
    Never,
    /// This one.
    After(Duration),
}

impl Limit {
    /// As the wire says it: absent is the default, zero is none.
    #[must_use]
    pub const fn from_ms(millis: Option<u64>) -> Self {
        match millis {
            None => Self::Default,
            Some(0) => Self::Never,
            Some(millis) => Self::After(Duration::from_millis(millis)),
        }
    }

    /// What a policy set, if it did.
    #[must_use]
    pub const fn set(self) -> Option<Duration> {
        match self {
            Self::Default | Self::Never => None,
            Self::After(limit) => Some(limit),
        }
    }
}

/// How long requests may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestTimeouts {
    /// Until the response is complete, all attempts included.
    pub request: Limit,
    /// Until an attempt's response head.
    pub attempt: Limit,
    /// Without a frame in either direction.
    pub stream_idle: Limit,
}

/// When something moved last, in either direction of a request.
#[derive(Debug, Clone)]
pub struct Activity(Rc<Cell<Instant>>);

impl Activity {
    /// Something moved.
    pub fn touch(&self, now: Instant) {
        self.0.set(now);
    }
}

/// What a wait is bounded by.
#[derive(Debug, Clone, Default)]
pub struct Bounds {
    latest: Option<(Instant, Reason)>,
    idle: Option<(Duration, Activity)>,
}

impl Bounds {
    /// Also by an instant, and what it ends with then.
    #[must_use]
    pub fn by(mut self, at: Option<Instant>, reason: Reason) -> Self {
        if let Some(at) = at
            && self.latest.is_none_or(|(latest, _)| at < latest)
        {
            self.latest = Some((at, reason));
        }
        self
    }

    /// Also by a silence; `now` is when something moved last.
    #[must_use]
    pub fn idle(mut self, limit: Option<Duration>, now: Instant) -> Self {
        self.idle = limit.map(|limit| (limit, Activity(Rc::new(Cell::new(now)))));
        self
    }

    /// The same silence only.
    #[must_use]
    pub fn silence(&self) -> Self {
        Self { latest: None, idle: self.idle.clone() }
    }

    /// Whether nothing bounds the wait.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.latest.is_none() && self.idle.is_none()
    }

    /// Where frames are to be noted.
    #[must_use]
    pub fn activity(&self) -> Option<&Activity> {
        self.idle.as_ref().map(|(_, activity)| activity)
    }

    /// When to ask again; `None` for never.
    ///
    /// # Errors
    /// The time is over, by this reason.
    pub fn check(&self, now: Instant) -> Result<Option<Instant>, Reason> {
        let idle = self.idle.as_ref().and_then(|(limit, activity)| {
            Some((activity.0.get().checked_add(*limit)?, Reason::StreamIdleTimeout))
        });
        let first = [self.latest, idle].into_iter().flatten().min_by_key(|(at, _)| *at);
        match first {
            Some((at, reason)) if now >= at => Err(reason),
            first => Ok(first.map(|(at, _)| at)),
        }
    }
}

/// Waits for the end of the time.
#[derive(Debug)]
pub struct Watch {
    bounds: Bounds,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    /// By these bounds.
    #[must_use]
    pub const fn new(bounds: Bounds) -> Self {
        Self { bounds, sleep: None }
    }

    /// Ready when the time is over, by this reason. Between, what moved is not looked at until the timer fires: bounds
    /// only ever move away.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(cx));
            }
            match (self.bounds.check(clock::now()), &mut self.sleep) {
                (Err(reason), _) => return Poll::Ready(reason),
                (Ok(None), _) => return Poll::Pending,
                (Ok(Some(at)), Some(sleep)) => sleep.as_mut().reset(at),
                (Ok(Some(at)), sleep) => *sleep = Some(Box::pin(clock::sleep_until(at))),
            }
        }
    }
}

/// Waits for the end of the time that an attempt's endpoint has.
#[derive(Debug)]
struct EndpointsTime {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl EndpointsTime {
    /// Ready when the endpoint has been waited for that long `since` then; `None` while something else is waited for.
    fn poll_expired(&mut self, since: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = since.and_then(|since| since.checked_add(self.limit)) else {
            return Poll::Pending;
        };
        while clock::now() < at {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(clock::sleep_until(at)));
            ready!(sleep.as_mut().poll(cx));
            // It was set when the endpoint was waited for since earlier.
            sleep.as_mut().reset(at);
        }
        Poll::Ready(())
    }
}

/// Waits for an attempt as long as the bounds allow, and no longer than its own time for its endpoint. That runs while the
/// endpoint alone is waited for, `since` then: not while a place for a connection, or the client's body, is. Cancel-safe
/// where the future is.
///
/// # Errors
/// The time was over first, by this reason.
pub async fn within<F: Future>(
    bounds: &Bounds,
    attempt: Option<Duration>,
    since: impl Fn() -> Option<Instant>,
    mut future: Pin<&mut F>,
) -> Result<F::Output, Reason> {
    let mut watch = (!bounds.is_empty()).then(|| Watch::new(bounds.clone()));
    let mut endpoints = attempt.map(|limit| EndpointsTime { limit, sleep: None });
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        if let Some(watch) = &mut watch
            && let Poll::Ready(reason) = watch.poll_expired(cx)
        {
            return Poll::Ready(Err(reason));
        }
        match &mut endpoints {
            Some(time) => time.poll_expired(since(), cx).map(|()| Err(Reason::AttemptTimeout)),
            None => Poll::Pending,
        }
    })
    .await
}

/// A body whose frames are noted, and which fails when its time is over.
#[derive(Debug)]
pub struct WatchedBody {
    inner: Body,
    activity: Option<Activity>,
    watch: Option<Watch>,
}

impl WatchedBody {
    /// An attempt's request body: its frames count as movement. The response's side ends it.
    #[must_use]
    pub fn of_request(body: Body, bounds: &Bounds) -> Body {
        match bounds.activity().cloned() {
            Some(activity) if !body.is_end() => {
                Body::Watched(Box::new(Self { inner: body, activity: Some(activity), watch: None }))
            }
            _ => body,
        }
    }

    /// A response's body.
    #[must_use]
    pub fn of_response(body: Body, bounds: Bounds) -> Body {
        if bounds.is_empty() || body.is_end() {
            return body;
        }
        let activity = bounds.activity().cloned();
        let watch = Some(Watch::new(bounds));
        Body::Watched(Box::new(Self { inner: body, activity, watch }))
    }

    /// See [`Body::poll_frame`].
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = self.inner.poll_frame(cx);
        match (&polled, &mut self.watch) {
            (Poll::Ready(_), watch) => {
                let now = clock::now();
                if let Some(activity) = &self.activity {
                    activity.touch(now);
                }
                // A stream that always has more never waits, and has its end all the same.
                match watch.as_ref().map(|watch| watch.bounds.check(now)) {
                    Some(Err(reason)) => Poll::Ready(Some(Err(BodyError::Overdue(reason)))),
                    Some(Ok(_)) | None => polled,
                }
            }
            (Poll::Pending, Some(watch)) => {
                watch.poll_expired(cx).map(|reason| Some(Err(BodyError::Expired(reason))))
            }
            (Poll::Pending, None) => Poll::Pending,
        }
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
}

#[cfg(test)]
mod tests {
    use std::{future::pending, pin::pin};

    use bytes::Bytes;

    use super::*;
    use crate::http::{body, replay::Replay};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_bound_ends_the_wait() {
        let began = clock::now();
        let after = |seconds| began + SECOND * seconds;
        let both = || {
            Bounds::default()
                .by(Some(after(9)), Reason::RequestTimeout)
                .by(Some(after(5)), Reason::AttemptTimeout)
                .by(Some(after(7)), Reason::DeadlineExceeded)
                .by(None, Reason::Internal)
        };
        assert_eq!(both().check(after(4)), Ok(Some(after(5))));
        assert_eq!(both().check(after(5)), Err(Reason::AttemptTimeout));
        let idle = both().idle(Some(SECOND * 3), began);
        assert_eq!(idle.check(after(2)), Ok(Some(after(3))));
        assert_eq!(idle.check(after(3)), Err(Reason::StreamIdleTimeout));
        idle.activity().expect("set").touch(after(2));
        assert_eq!(idle.check(after(4)), Ok(Some(after(5))));
        assert_eq!(idle.silence().check(after(4)), Ok(Some(after(5))));
        assert_eq!(idle.silence().check(after(5)), Err(Reason::StreamIdleTimeout));
        assert_eq!(Bounds::default().check(after(99)), Ok(None));
    }

    #[test]
    fn absent_is_the_default_and_zero_is_none() {
        assert_eq!(Limit::from_ms(None), Limit::Default);
        assert_eq!(Limit::from_ms(Some(0)), Limit::Never);
        assert_eq!(Limit::from_ms(Some(1_500)).set(), Some(Duration::from_millis(1_500)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_future_is_held_to_its_bounds() {
        let at = clock::now() + SECOND;
        let bounds = Bounds::default().by(Some(at), Reason::AttemptTimeout);
        let never = within(&bounds, None, || None, pin!(pending::<()>())).await;
        assert_eq!((never, clock::now()), (Err(Reason::AttemptTimeout), at));
        let there = within(&bounds, None, || None, pin!(async { 1 })).await;
        assert_eq!(there, Ok(1), "what is here is taken");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_moves_is_not_cut_and_one_that_rests_is() {
        let (sender, body) = body::channel();
        let bounds = Bounds::default().idle(Some(SECOND * 2), clock::now());
        let (upload, request) = body::channel();
        let mut request = WatchedBody::of_request(request, &bounds);
        let mut response = WatchedBody::of_response(body, bounds);
        for _ in 0..3 {
            clock::sleep(SECOND).await;
            sender.send(Ok(Frame::Data(Bytes::from_static(b"x")))).expect("it lives");
            assert!(matches!(response.frame().await, Some(Ok(Frame::Data(_)))));
        }
        for _ in 0..3 {
            assert!(clock::timeout(SECOND, response.frame()).await.is_err(), "it waits");
            upload.send(Ok(Frame::Data(Bytes::from_static(b"x")))).expect("it lives");
            assert!(matches!(request.frame().await, Some(Ok(Frame::Data(_)))));
        }
        let ended = response.frame().await;
        let expected = Reason::StreamIdleTimeout;
        assert!(matches!(ended, Some(Err(BodyError::Expired(reason))) if reason == expected));
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoints_time_stands_still_while_the_clients_body_is_waited_for() {
        let (sender, body) = body::channel();
        let replay = Replay::new(body, 10);
        let (mut request, waited_for) = (replay.attempt().expect("the first"), replay.client());
        let began = clock::now();
        let since = || (!waited_for.is_waited_for()).then(|| waited_for.moved().unwrap_or(began));
        let late = Bounds::default().by(Some(began + SECOND * 60), Reason::RequestTimeout);
        let client = async {
            for _ in 0..3 {
                clock::sleep(SECOND * 5).await;
                sender.send(Ok(Frame::Data(Bytes::from_static(b"x")))).expect("it lives");
            }
            drop(sender);
            pending::<()>().await;
        };
        let sent = async {
            while let Some(Ok(_)) = request.frame().await {}
            pending::<()>().await;
        };
        let both = async { tokio::join!(client, sent) };
        let ended = within(&late, Some(SECOND), since, pin!(both)).await.map(|_| ());
        assert_eq!(ended, Err(Reason::AttemptTimeout));
        assert_eq!(clock::now() - began, SECOND * 16, "a second after the body's end");
        let began = clock::now();
        let unread = pin!(pending::<()>());
        let unread = within(&Bounds::default(), Some(SECOND), || Some(began), unread).await;
        assert_eq!(unread, Err(Reason::AttemptTimeout), "what nobody reads is the endpoint's");
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoints_time_begins_when_it_is_waited_for() {
        let place = Cell::new(None);
        let began = clock::now();
        let attempt = async {
            clock::sleep(SECOND * 5).await;
            place.set(Some(clock::now()));
            pending::<()>().await;
        };
        let bounds = Bounds::default();
        let ended = within(&bounds, Some(SECOND), || place.get(), pin!(attempt)).await;
        assert_eq!((ended, clock::now() - began), (Err(Reason::AttemptTimeout), SECOND * 6));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_ends_at_the_requests_deadline_though_it_moves() {
        let (sender, body) = body::channel();
        let bounds = Bounds::default().by(Some(clock::now() + SECOND), Reason::RequestTimeout);
        let mut response = WatchedBody::of_response(body, bounds);
        sender.send(Ok(Frame::Data(Bytes::from_static(b"x")))).expect("it lives");
        assert!(matches!(response.frame().await, Some(Ok(Frame::Data(_)))));
        let ended = response.frame().await;
        let expected = Reason::RequestTimeout;
        assert!(matches!(ended, Some(Err(BodyError::Expired(reason))) if reason == expected));
        let (sender, body) = body::channel();
        let bounds = Bounds::default().by(Some(clock::now()), Reason::RequestTimeout);
        let mut unread = WatchedBody::of_response(body, bounds);
        sender.send(Ok(Frame::Data(Bytes::from_static(b"x")))).expect("it lives");
        let ended = unread.frame().await;
        assert!(matches!(ended, Some(Err(BodyError::Overdue(Reason::RequestTimeout)))));
    }
}
