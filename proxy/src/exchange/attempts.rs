//! The attempts of one request: an endpoint, a connection, the request on it, the response's head judged, until
//! there is a response that goes to the client, or no further attempt is safe.
//!
//! Comes in: a routed request, the snapshot of its service, the policy that holds for it. Goes out: a response whose
//! body is still to come, or why there is none. It must never send a request again that may have been served, unless
//! that is safe, nor begin an attempt when the request's time is over; and a response that cannot be tried again is
//! passed on as it is.

mod send;

use std::{cell::Cell, pin::pin, rc::Rc, time::Duration};

use super::{Exchange, Origin, Record, record::UnderWay};
use crate::{
    balance::{Affinity, EndpointSet, InFlight, Member},
    clock::{self, Instant},
    destination::Service,
    discovery::Trial,
    error::ProxyError,
    http::{
        Interim, Request, RequestHead, Response, grpc, replay::Replay, retry_after::retry_after,
        side,
    },
    policy::{
        RequestPolicy,
        breaker::Verdict,
        deadline::Deadline,
        fault,
        gate::Turn,
        retry::{Decision, Facts, Outcome, Role, Withheld},
        timeout::{Bounds, Limit, WatchedBody, within},
    },
    reason::Reason,
    shared::Shared,
    telemetry::Retried,
};

/// A response that another attempt follows is read to its end, so that its connection can be used again, when it is no
/// longer than this,
const DISCARDED_BYTES: usize = 16 * 1024;
/// and comes as soon as this. Else its stream is reset, its connection closed.
const DISCARDED_WITHIN: Duration = Duration::from_secs(1);

/// Where a request goes, and what holds for it there.
#[derive(Clone, Copy)]
pub(super) struct Routed<'a> {
    pub(super) service: &'a Rc<Service>,
    pub(super) snapshot: &'a EndpointSet,
    pub(super) policy: &'a RequestPolicy,
    /// What the caller gives the request.
    pub(super) deadline: Option<Deadline>,
}

/// The attempts of one request.
pub(super) struct Call<'a> {
    shared: &'a Rc<Shared>,
    origin: &'a Origin,
    service: &'a Rc<Service>,
    snapshot: &'a EndpointSet,
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
    /// The attempt under way has a connection: something may have been sent.
    has_connection: Cell<bool>,
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
            snapshot,
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
            has_connection: Cell::new(false),
        }
    }

    /// Sends the request until there is a response for the client, or no further attempt is safe or in time.
    pub(super) async fn respond(mut self, record: &mut Record) -> Result<Response, ProxyError> {
        self.check_deadline()?;
        if !self.policy.faults.is_empty() {
            Box::pin(self.inject()).await?;
        }
        if let Some(limits) = &self.snapshot.destination.limits {
            let gate = &self.snapshot.destination.state.requests;
            let deadline = self.deadline.map(|deadline| deadline.at());
            let turn = limits.request_turn(gate, deadline).await;
            self.check_deadline()?;
            self.turn = turn?;
        }
        if self.role() == Role::Client {
            self.snapshot.destination.state.budget.deposit(self.began);
        }
        let mut member = self.pick()?;
        loop {
            let ended = self.attempt(&member, record).await;
            if let Ok(answer) = &ended
                && !self.may_be_tried_again(&answer.response)
            {
                return Ok(self.passed_on(ended?, record));
            }
            let Some((wait, next)) = self.another(&member, &ended) else {
                return ended
                    .map(|answer| self.passed_on(answer, record))
                    .map_err(ProxyError::from);
            };
            if let Ok(answer) = ended {
                answer.discard(self.shared);
            }
            if !wait.is_zero() {
                clock::sleep(wait).await;
                self.check_deadline()?;
            }
            member = next;
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

    fn pick(&self) -> Result<Rc<Member>, ProxyError> {
        let picked = self.service.pick(self.snapshot, &self.tried, self.affinity.key());
        let member = picked.ok_or_else(|| self.service.without_endpoints(self.snapshot))?;
        let destination = &self.snapshot.destination;
        if destination.is_ejected(&member.endpoint, clock::process_ms()) {
            let detail = format!("every endpoint of {} is ejected", self.service.label);
            return Err(ProxyError::new(Reason::BreakerOpen, detail));
        }
        Ok(member)
    }

    /// One attempt on one endpoint, within its time.
    async fn attempt(
        &mut self,
        member: &Rc<Member>,
        record: &mut Record,
    ) -> Result<Answer, Failure> {
        let Some(body) = self.replay.attempt() else {
            return Err(Failure::new(Reason::Internal, "the request's body is gone"));
        };
        self.made += 1;
        record.attempt(self.made, member, &mut self.head.headers);
        let destination = &self.snapshot.destination;
        let trial = Trial::begin(destination, &member.endpoint, &self.service.metrics);
        let began = clock::now();
        // Waits before it, and attempts before it, are no silence of this one.
        if let Some(activity) = self.bounds.activity() {
            activity.touch(began);
        }
        let bounds = self.attempt_bounds(began);
        let body = WatchedBody::of_request(body, &bounds);
        let ended = {
            let sent = pin!(self.send(member, body));
            within(&bounds, sent).await
        };
        let ended = ended.unwrap_or_else(|reason| {
            // How long it did not answer is known, though not how long it would have taken.
            member.observe(began);
            Err(self.timed_out(reason))
        });
        record.attempted(match &ended {
            Ok((response, _)) => Ok(response.head.status),
            Err(failure) => Err(failure.error.reason),
        });
        match ended {
            Ok((response, in_flight)) => Ok(Answer { response, in_flight, trial }),
            Err(failure) => {
                if let Some(trial) = trial {
                    trial.judge(Verdict::of_failure(failure.error.reason));
                }
                self.hint(failure.error.reason);
                if failure.error.is_without_application() {
                    // As after a connection that could not be made: or each request in two would need another attempt,
                    // for which there is no budget.
                    let backoff = self.shared.config.pool.connect_backoff.as_millis();
                    let backoff = u64::try_from(backoff).unwrap_or(u64::MAX);
                    let until = clock::process_ms().saturating_add(backoff);
                    member.endpoint.health.cool_until(until);
                }
                Err(failure)
            }
        }
    }

    /// What the attempt's way to a response's head is bounded by.
    fn attempt_bounds(&self, began: Instant) -> Bounds {
        let mut bounds = self.bounds.clone().attempt(self.policy.timeouts.attempt.set(), began);
        let default = self.shared.config.timeouts.request;
        // A time that the caller's sidecar has handed on goes before the default of the server's.
        let is_theirs = self.role() == Role::Server && self.deadline.is_some();
        if self.policy.timeouts.request == Limit::Default && !default.is_zero() && !is_theirs {
            bounds = bounds.by(self.began.checked_add(default), Reason::RequestTimeout);
        }
        bounds
    }

    fn timed_out(&self, reason: Reason) -> Failure {
        let waited = clock::now().saturating_duration_since(self.began).as_millis();
        let policies = self.policy.policies.join(", ");
        let whose = match reason {
            Reason::DeadlineExceeded => "the caller's deadline",
            _ if policies.is_empty() => "WEFT_REQUEST_TIMEOUT",
            _ => &policies,
        };
        let detail = format!("no response head, {waited} ms after the request's ({whose})");
        let error = match self.has_connection.get() {
            true => ProxyError::after_send(reason, detail),
            false => ProxyError::new(reason, detail),
        };
        Failure { error, kept_connection: false }
    }

    /// An application that refuses connections is probed before its next turn.
    fn hint(&self, reason: Reason) {
        if let (Origin::Inbound(_), Reason::ConnectRefused) = (self.origin, reason) {
            self.shared.destinations.application_refused();
        }
    }

    fn may_be_tried_again(&self, response: &Response) -> bool {
        let retry = &self.policy.retry;
        self.role() == Role::Client
            && retry.takes_response(response.head.status, || grpc_code(response))
    }

    /// Whether another attempt follows one that brought this: after which wait, and where. Without an endpoint for it
    /// there is none, and what this one brought is the answer.
    fn another(
        &mut self,
        member: &Rc<Member>,
        ended: &Result<Answer, Failure>,
    ) -> Option<(Duration, Rc<Member>)> {
        if !self.tried.iter().any(|tried| Rc::ptr_eq(tried, member)) {
            self.tried.push(member.clone());
        }
        let decision = self.policy.retry.decide(&self.facts(ended), fastrand::f64());
        let wait = match decision {
            Decision::Last => return None,
            Decision::Withheld(withheld) => {
                self.service.metrics.withheld(withheld);
                return None;
            }
            Decision::Again(wait) => wait,
            Decision::Resend => Duration::ZERO,
        };
        let next = self.pick().ok()?;
        if decision != Decision::Resend {
            let budget = &self.snapshot.destination.state.budget;
            if !budget.withdraw(self.policy.retry.budget, clock::now()) {
                self.service.metrics.withheld(Withheld::Budget);
                return None;
            }
            self.retries += 1;
        }
        let retried = match ended {
            Ok(answer) if self.policy.retry.statuses.contains(&answer.response.head.status) => {
                Retried::Status
            }
            Ok(_) => Retried::GrpcCode,
            Err(failure) => Retried::Failed(failure.error.reason),
        };
        tracing::debug!(service = %self.service.label, endpoint = %member.endpoint.id, after = retried.as_str(), ?wait, "sending the request once more");
        self.service.metrics.retried(retried);
        self.kept_connection_failed |= ended.as_ref().is_err_and(|failure| failure.kept_connection);
        Some((wait, next))
    }

    fn facts<'b>(&'b self, ended: &'b Result<Answer, Failure>) -> Facts<'b> {
        let outcome = match ended {
            Ok(Answer { response, .. }) => Outcome::Answered {
                status: response.head.status,
                grpc_code: grpc_code(response),
                retry_after: retry_after(&response.head.headers, clock::since_epoch()),
            },
            Err(failure) => {
                Outcome::Failed { error: &failure.error, kept_connection: failure.kept_connection }
            }
        };
        Facts {
            role: self.role(),
            method: &self.head.method,
            has_idempotency_key: self.head.headers.contains_key("idempotency-key"),
            retries_made: self.retries,
            another_endpoint: self.snapshot.destination.endpoints.len() > self.tried.len(),
            replayable: self.replay.is_possible(),
            left: self.deadline.map(|deadline| deadline.left(clock::now())),
            outcome,
        }
    }

    /// The response goes to the client, its body within what is left of the request's time.
    fn passed_on(&mut self, answer: Answer, record: &mut Record) -> Response {
        let Answer { mut response, in_flight, trial } = answer;
        self.affinity.mark(&mut response.head);
        // What the other sidecar itself ended for the client's sake says nothing of the endpoint.
        let trial = trial.filter(|_| {
            let reason = side::reason(&response.head.headers);
            reason.is_none_or(|reason| Verdict::of_failure(reason).is_some())
        });
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

impl Answer {
    /// Lets go of a response that another attempt follows.
    fn discard(self, shared: &Shared) {
        let Self { response, trial, .. } = self;
        if let Some(trial) = trial {
            let grpc_code = grpc_code(&response);
            trial.judge(Some(Verdict::of_response(response.head.status, grpc_code)));
        }
        discard(shared, response);
    }
}

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
