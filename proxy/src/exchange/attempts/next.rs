//! Whether another attempt follows one that has ended, after which wait, and on which endpoint.
//!
//! Comes in: an attempt that brought no response, or one that the policy wants tried again. Goes out: an endpoint that
//! takes the next attempt now, chosen when the wait is over; or none, and then what there is goes to the client. What an
//! attempt says of its endpoint is said before the wait.

use std::{rc::Rc, time::Duration};

use super::{Answer, Call, Failure, grpc_code};
use crate::{
    balance::Member,
    clock,
    destination::Chosen,
    error::ProxyError,
    http::retry_after::retry_after,
    policy::{
        breaker::Verdict,
        retry::{Decision, Facts, Outcome, Withheld},
    },
    telemetry::Retried,
};

impl Call<'_> {
    /// Where the next attempt begins, once it does; `None` where there is none.
    ///
    /// # Errors
    /// The request's time was over after the wait.
    pub(super) async fn next(
        &mut self,
        member: &Rc<Member>,
        ended: &mut Result<Answer, Failure>,
    ) -> Result<Option<Chosen>, ProxyError> {
        self.look_again();
        let decision = self.policy.retry.decide(&self.facts(member, ended), fastrand::f64());
        let next = match decision {
            Decision::Last => None,
            Decision::Withheld(withheld) => {
                self.service.metrics.withheld(withheld);
                None
            }
            Decision::Again(wait) => self.retry(member, ended, wait).await?,
            Decision::Resend => self.resend(member),
        };
        if next.is_some() {
            let after = self.retried(ended);
            tracing::debug!(service = %self.service.label, endpoint = %member.endpoint.id, after = after.as_str(), "sending the request once more");
            self.service.metrics.retried(after);
            self.kept_connection_failed |=
                ended.as_ref().is_err_and(|failure| failure.kept_connection);
        }
        Ok(next)
    }

    async fn retry(
        &mut self,
        member: &Rc<Member>,
        ended: &mut Result<Answer, Failure>,
        wait: Duration,
    ) -> Result<Option<Chosen>, ProxyError> {
        let destination = &self.snapshot.destination;
        if destination.endpoints.is_empty() || destination.all_ejected(clock::process_ms()) {
            return Ok(None);
        }
        if !destination.state.budget.withdraw(self.policy.retry.budget, clock::now()) {
            self.service.metrics.withheld(Withheld::Budget);
            return Ok(None);
        }
        if !self.is_tried(member) {
            self.tried.push(member.clone());
        }
        if let Ok(Answer { response, trial, .. }) = ended
            && let Some(trial) = trial.take()
        {
            let verdict = Verdict::of_response(response.head.status, grpc_code(response));
            trial.judge(Some(verdict));
        }
        if !wait.is_zero() {
            clock::sleep(wait).await;
            self.check_deadline()?;
        }
        self.look_again();
        self.retries += 1;
        Ok(self.choose().ok())
    }

    /// What found a kept connection closed goes to the same endpoint on a new one: it is tied to that one perhaps, and
    /// nothing speaks against it, unless it is gone.
    fn resend(&self, member: &Rc<Member>) -> Option<Chosen> {
        let is_there = self.snapshot.has(member);
        let same = is_there.then(|| self.service.chosen(&self.snapshot, member.clone()));
        same.flatten().or_else(|| self.choose().ok())
    }

    fn is_tried(&self, member: &Rc<Member>) -> bool {
        self.tried.iter().any(|tried| tried.endpoint.id == member.endpoint.id)
    }

    fn retried(&self, ended: &Result<Answer, Failure>) -> Retried {
        match ended {
            Ok(answer) if self.policy.retry.statuses.contains(&answer.response.head.status) => {
                Retried::Status
            }
            Ok(_) => Retried::GrpcCode,
            Err(failure) => Retried::Failed(failure.error.reason),
        }
    }

    fn facts<'b>(&'b self, member: &Rc<Member>, ended: &'b Result<Answer, Failure>) -> Facts<'b> {
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
        let is_further = self.snapshot.has(member) && !self.is_tried(member);
        let tried = self.tried.len() + usize::from(is_further);
        Facts {
            role: self.role(),
            method: &self.head.method,
            has_idempotency_key: self.head.headers.contains_key("idempotency-key"),
            retries_made: self.retries,
            another_endpoint: self.snapshot.destination.endpoints.len() > tried,
            replayable: self.replay.is_possible(),
            left: self.deadline.map(|deadline| deadline.left(clock::now())),
            outcome,
        }
    }
}

#[cfg(test)]
mod tests;
