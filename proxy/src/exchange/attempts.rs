//! The attempts of one request: an endpoint, a connection, the request on it, the response's head judged, until
//! there is a response that goes to the client, or no further attempt is safe.
//!
//! Comes in: a routed request, the snapshot of its service, the policy that holds for it. Goes out: a response whose
//! body is still to come, or why there is none. It must never send a request again that may have been served, unless
//! that is safe, nor begin an attempt when the request's time is over, nor one at an endpoint that was gone before it; and a response that cannot be tried again is
//! passed on as it is.

mod next;
mod report;
mod send;

use std::{pin::pin, rc::Rc, time::Duration};

use super::{Exchange, Origin, Record, record::UnderWay};
use crate::{
    balance::{Affinity, EndpointSet, InFlight, Member},
    clock::{self, Instant},
    destination::{Chosen, Service},
    discovery::Trial,
    error::ProxyError,
    http::{Interim, Request, RequestHead, Response, grpc, replay::Replay},
    policy::{
        RequestPolicy,
        deadline::Deadline,
        fault,
        gate::Turn,
        retry::Role,
        timeout::{Bounds, Limit, WatchedBody, within},
    },
    reason::Reason,
    shared::Shared,
};
use report::{Report, Times};

/// A response that another attempt follows is read to its end, so that its connection can be used again, when it is no
/// longer than this,
const DISCARDED_BYTES: usize = 16 * 1024;
/// and comes as soon as this. Else its stream is reset, its connection closed.
const DISCARDED_WITHIN: Duration = Duration::from_secs(1);

/// Where a request goes, and what holds for it there.
#[derive(Clone, Copy)]
pub(super) struct Routed<'a> {
    pub(super) service: &'a Rc<Service>,
    pub(super) snapshot: &'a Rc<EndpointSet>,
    pub(super) policy: &'a RequestPolicy,
    /// What the caller gives the request.
    pub(super) deadline: Option<Deadline>,
}

/// The attempts of one request.
pub(super) struct Call<'a> {
    shared: &'a Rc<Shared>,
    origin: &'a Origin,
    service: &'a Rc<Service>,
    /// As it was when the last wait was over.
    snapshot: Rc<EndpointSet>,
    policy: &'a RequestPolicy,
    head: &'a mut RequestHead,
    interim: &'a Interim,
    replay: Replay,
    /// What ties it to an endpoint.
    affinity: Affinity,
    began: Instant,
    /// Of the caller and of the policy, the earlier.
    deadline: Option<Deadline>,
    /// Of the whole response.
    bounds: Bounds,
    made: u32,
    retries: u32,
    /// Endpoints that failed this request, each once.
    tried: Vec<Rc<Member>>,
    /// A kept connection failed this request: others may have been closed with it.
    kept_connection_failed: bool,
    /// Its place among the service's requests, where these are limited.
    turn: Option<Turn>,
}

/// How one attempt failed.
struct Failure {
    error: ProxyError,
    /// On a connection that had been used before.
    kept_connection: bool,
}

/// A response's head, while it is being judged.
struct Answer {
    response: Response,
    in_flight: InFlight,
    trial: Option<Trial>,
}

impl<'a> Call<'a> {
    /// A request to a service, as this snapshot of it stands.
    pub(super) fn new(
        exchange: &'a Exchange,
        routed: Routed<'a>,
        request: &'a mut Request,
        began: Instant,
    ) -> Self {
        let Routed { service, snapshot, policy, deadline } = routed;
        let body = std::mem::take(&mut request.body);
        let plan = snapshot.destination.balancing.as_deref();
        let affinity =
            Affinity::of_request(plan, &request.head, || exchange.origin.client_address());
        let timeout = policy.timeouts.request.set();
        let of_policy = timeout.and_then(|timeout| Deadline::of_timeout(began, timeout));
        let deadline = Deadline::earlier(deadline, of_policy);
        let mut bounds = Bounds::default().idle(policy.timeouts.stream_idle.set(), began);
        if let Some(deadline) = &deadline {
            bounds = bounds.by(Some(deadline.cut()), deadline.reason());
        }
        let body_limit =
            policy.retry.body_limit.unwrap_or(exchange.shared.config.limits.replay_bytes);
        Self {
            shared: &exchange.shared,
            origin: &exchange.origin,
            service,
            snapshot: snapshot.clone(),
            policy,
            head: &mut request.head,
            interim: &request.interim,
            replay: Replay::new(body, body_limit),
            affinity,
            began,
            deadline,
            bounds,
            made: 0,
            retries: 0,
            tried: Vec::new(),
            kept_connection_failed: false,
            turn: None,
        }
    }

    /// Sends the request until there is a response for the client, or no further attempt is safe or in time.
    pub(super) async fn respond(&mut self, record: &mut Record) -> Result<Response, ProxyError> {
        self.check_deadline()?;
        if !self.policy.faults.is_empty() {
            Box::pin(self.inject()).await?;
            self.look_again();
        }
        if self.snapshot.destination.limits.is_some() {
            self.line_up().await?;
            self.look_again();
        }
        if self.role() == Role::Client {
            self.snapshot.destination.state.budget.deposit(self.began);
        }
        let mut chosen = self.choose()?;
        loop {
            let member = chosen.member.clone();
            let mut ended = self.attempt(chosen, record).await;
            if let Ok(answer) = &ended
                && !self.may_be_tried_again(&answer.response)
            {
                return Ok(self.passed_on(ended?, record));
            }
            // Boxed: it is rare.
            let Some(next) = Box::pin(self.next(&member, &mut ended)).await? else {
                return ended
                    .map(|answer| self.passed_on(answer, record))
                    .map_err(ProxyError::from);
            };
            if let Ok(answer) = ended {
                discard(self.shared, answer.response);
            }
            chosen = next;
        }
    }

    /// Does to the request what the policy wants done on purpose.
    async fn inject(&self) -> Result<(), ProxyError> {
        let is_grpc = self.head.is_grpc();
        for fault in fault::chosen(&self.policy.faults, self.head, fastrand::f64) {
            if !fault.delay.is_zero() {
                let left = self.deadline.map(|deadline| deadline.left(clock::now()));
                clock::sleep(left.map_or(fault.delay, |left| left.min(fault.delay))).await;
                self.check_deadline()?;
            }
            if let Some(error) = fault.abort.and_then(|abort| abort.error(is_grpc)) {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes a place among the service's requests, where these are limited.
    async fn line_up(&mut self) -> Result<(), ProxyError> {
        let destination = &self.snapshot.destination;
        let Some(limits) = &destination.limits else { return Ok(()) };
        let deadline = self.deadline.map(|deadline| deadline.at());
        let turn = limits.request_turn(&destination.state.requests, deadline).await;
        self.check_deadline()?;
        self.turn = turn?;
        Ok(())
    }

    /// A wait is over: endpoints have come and gone meanwhile, perhaps all. The policy, and what ties the request to an
    /// endpoint, stay those with which it began.
    fn look_again(&mut self) {
        self.snapshot = self.service.snapshot();
        self.tried.retain(|member| self.snapshot.has(member));
    }

    /// Work for a request whose time is over is not begun.
    fn check_deadline(&self) -> Result<(), ProxyError> {
        let Some(deadline) = &self.deadline else { return Ok(()) };
        deadline.check(clock::now()).map_err(|error| match self.made {
            0 => error,
            _ => ProxyError::after_send(error.reason, "its time was over before another attempt"),
        })
    }

    fn role(&self) -> Role {
        match self.origin {
            Origin::Outbound(_) => Role::Client,
            Origin::Inbound(_) => Role::Server,
        }
    }

    fn choose(&self) -> Result<Chosen, ProxyError> {
        self.service.choose(&self.snapshot, &self.tried, self.affinity.key())
    }

    /// One attempt on one endpoint, within its time.
    async fn attempt(&mut self, chosen: Chosen, record: &mut Record) -> Result<Answer, Failure> {
        let Some(body) = self.replay.attempt() else {
            return Err(Failure::new(Reason::Internal, "the request's body is gone"));
        };
        let member = chosen.member.clone();
        self.made += 1;
        record.attempt(self.made, &member, &mut self.head.headers);
        let report = Report::new(chosen, self.replay.client(), self.times());
        // Waits before it, and attempts before it, are no silence of this one.
        if let Some(activity) = self.bounds.activity() {
            activity.touch(clock::now());
        }
        let bounds = self.attempt_bounds();
        let limit = self.policy.timeouts.attempt.set();
        let body = WatchedBody::of_request(body, &bounds);
        let ended = {
            let sent = pin!(self.send(&member, body, &report.progress, record.passage()));
            within(&bounds, limit, || report.since(), sent).await
        };
        let ended = match ended {
            Ok(Ok((response, in_flight))) => {
                let trial = report.answered(&response.head.headers);
                if response.head.status.is_success() {
                    // An application answered, not a sidecar.
                    self.origin.destination().unwrap_or(self.service).learn_http();
                }
                Ok(Answer { response, in_flight, trial })
            }
            Ok(Err(failure)) => {
                report.failed(&failure);
                Err(failure)
            }
            Err(reason) => {
                let failure = self.timed_out(reason, report.progress.has_connection());
                report.cut(reason);
                Err(failure)
            }
        };
        match &ended {
            Ok(answer) => record.attempted(Ok(answer.response.head.status)),
            Err(failure) => {
                record.attempted(Err(failure.error.reason));
                self.heed(&member, &failure.error);
            }
        }
        ended
    }

    /// What a failure says beside the breaker's verdict.
    fn heed(&self, member: &Member, error: &ProxyError) {
        if let (Origin::Inbound(_), Reason::ConnectRefused) = (self.origin, error.reason) {
            // An application that refuses connections is probed before its next turn.
            self.shared.destinations.application_refused();
        }
        if error.is_without_application() {
            // As after a connection that could not be made: or each request in two would need another attempt,
            // for which there is no budget.
            let backoff = self.shared.config.pool.connect_backoff.as_millis();
            let backoff = u64::try_from(backoff).unwrap_or(u64::MAX);
            let until = clock::process_ms().saturating_add(backoff);
            member.endpoint.health.cool_until(until);
        }
    }

    fn times(&self) -> Times {
        let of_caller = self.deadline.filter(|it| it.reason() == Reason::DeadlineExceeded);
        Times {
            began: self.began,
            given: of_caller.map(|deadline| deadline.left(self.began)),
            silence: self.policy.timeouts.stream_idle.set(),
        }
    }

    /// What the attempt's way to a response's head is bounded by.
    fn attempt_bounds(&self) -> Bounds {
        let mut bounds = self.bounds.clone();
        let default = self.shared.config.timeouts.request;
        // A time that the caller's sidecar has handed on goes before the default of the server's.
        let is_theirs = self.role() == Role::Server && self.deadline.is_some();
        if self.policy.timeouts.request == Limit::Default && !default.is_zero() && !is_theirs {
            bounds = bounds.by(self.began.checked_add(default), Reason::RequestTimeout);
        }
        bounds
    }

    fn timed_out(&self, reason: Reason, has_connection: bool) -> Failure {
        let waited = clock::now().saturating_duration_since(self.began).as_millis();
        let policies = self.policy.policies.join(", ");
        let whose = match reason {
            Reason::DeadlineExceeded => "the caller's deadline",
            _ if policies.is_empty() => "WEFT_REQUEST_TIMEOUT",
            _ => &policies,
        };
        let detail = format!("no response head, {waited} ms after the request's ({whose})");
        let error = match has_connection {
            true => ProxyError::after_send(reason, detail),
            false => ProxyError::new(reason, detail),
        };
        Failure { error, kept_connection: false }
    }

    fn may_be_tried_again(&self, response: &Response) -> bool {
        let retry = &self.policy.retry;
        self.role() == Role::Client
            && retry.takes_response(response.head.status, || grpc_code(response))
    }

    /// The response goes to the client, its body within what is left of the request's time.
    fn passed_on(&mut self, answer: Answer, record: &mut Record) -> Response {
        let Answer { mut response, in_flight, trial } = answer;
        self.affinity.mark(&mut response.head);
        record.responding(UnderWay { in_flight, trial, turn: self.turn.take() });
        if !self.bounds.is_empty() {
            if let Some(activity) = self.bounds.activity() {
                activity.touch(clock::now());
            }
            let body = std::mem::take(&mut response.body);
            response.body = WatchedBody::of_response(body, self.bounds.clone());
        }
        response
    }
}

impl Failure {
    fn new(reason: Reason, detail: &'static str) -> Self {
        Self { error: ProxyError::new(reason, detail), kept_connection: false }
    }
}

impl From<Failure> for ProxyError {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

/// The code of a gRPC response that is its head alone.
fn grpc_code(response: &Response) -> Option<u8> {
    grpc::status(&response.head.headers).filter(|_| response.head.is_grpc())
}

/// Lets go of a response that another attempt follows.
fn discard(shared: &Shared, response: Response) {
    let Response { mut body, upload, .. } = response;
    // Where the request is still being sent, the connection cannot be used again anyway.
    if body.is_end() || upload.is_some() {
        return;
    }
    shared.tasks.spawn(async move {
        let rest = async {
            let mut read = 0;
            while let Some(Ok(frame)) = body.frame().await {
                if let crate::http::Frame::Data(data) = frame {
                    read += data.len();
                }
                if read > DISCARDED_BYTES {
                    return;
                }
            }
        };
        // What does not come in time is reset when it is dropped.
        let _ = clock::timeout(DISCARDED_WITHIN, rest).await;
    });
}
