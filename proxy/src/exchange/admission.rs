//! Whether a request may come to the application: access policy, rate limits, and its turn.
//!
//! Comes in: an inbound request, and its port's policy as it stands at this moment. Goes out: nothing where it may, and
//! else why not, with the policy's name for operators alone. A port without these policies costs one look. It must
//! never let a request pass that waited for its turn beyond its time, nor tell a caller which rule refused it.

use std::{rc::Rc, time::Duration};

use http::{HeaderName, HeaderValue, header};

use super::{Inbound, Origin, Record, record::Grant};
use crate::{
    clock,
    discovery::InboundPort,
    error::ProxyError,
    http::{Fields, RequestHead, Response},
    policy::{
        authz::{Decision, Deed, Source},
        concurrency::{self, Concurrency},
        deadline::Deadline,
        gate::Turn,
        operation::RequestFacts,
        rate_limit::{Quota, RateLimits},
    },
    reason::Reason,
    shared::Shared,
};

/// The fields of draft-ietf-httpapi-ratelimit-headers up to its sixth edition, which are what clients read; later
/// editions fold them into one.
const RATE_LIMIT_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const RATE_LIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// A request at the door of the application.
pub(super) struct Admission<'a> {
    shared: &'a Shared,
    inbound: &'a Inbound,
    port: Rc<InboundPort>,
    facts: RequestFacts<'a>,
}

impl<'a> Admission<'a> {
    /// Of a request; `None` where nothing is to be asked.
    pub(super) fn of(
        shared: &'a Shared,
        origin: &'a Origin,
        head: &'a RequestHead,
    ) -> Option<Self> {
        let Origin::Inbound(inbound) = origin else { return None };
        let port = inbound.requests.port();
        let has_policy =
            port.access.is_some() || port.rate_limits.is_some() || port.concurrency.is_some();
        has_policy.then(|| Self { shared, inbound, port, facts: RequestFacts::new(head) })
    }

    /// Whether the caller may do this here.
    pub(super) fn authorize(&self, record: &mut Record) -> Result<(), ProxyError> {
        let Some(access) = &self.port.access else { return Ok(()) };
        let decision = access.decide(self.source(), Deed::Request(&self.facts));
        let head = self.facts.head();
        if !decision.allowed {
            let deed = format!("{} {}", head.method, head.target.path());
            self.shared.admission.refused(decision.by, Reason::AuthzDenied);
            return Err(denied(&decision, self.source(), &deed));
        }
        if let Some(policy) = decision.audited {
            record.audited(policy);
            if note_audited(self.shared, &decision) {
                let (client, path) = (who(self.source()), head.target.path());
                tracing::info!(%policy, client, method = %head.method, path, "would be refused: the policy is in Audit mode");
            }
        }
        Ok(())
    }

    /// Whether there is room for the request now, or soon enough.
    pub(super) async fn admit(
        &self,
        record: &mut Record,
        deadline: Option<Deadline>,
    ) -> Result<(), ProxyError> {
        self.count(record)?;
        if let Some(limit) = &self.port.concurrency {
            record.admitted(turn(self.shared, limit, deadline).await?);
        }
        Ok(())
    }

    /// Charges the rate limits.
    fn count(&self, record: &mut Record) -> Result<(), ProxyError> {
        let Some(limits) = &self.port.rate_limits else { return Ok(()) };
        match charge(self.shared, limits, Some(&self.facts), self.source()) {
            Ok(Some(quota)) => record.limited(Grant { quota, retry_after: None }),
            Ok(None) => {}
            Err(limited) => {
                record.limited(limited.grant);
                return Err(limited.error);
            }
        }
        Ok(())
    }

    fn source(&self) -> Source<'_> {
        self.inbound.requests.source()
    }
}

/// A rate limit refuses.
pub(crate) struct Limited {
    grant: Grant,
    pub(crate) error: ProxyError,
}

/// Charges rate limits for a request, or for an opaque connection (no facts). `None` where none counts it.
pub(crate) fn charge(
    shared: &Shared,
    limits: &RateLimits,
    facts: Option<&RequestFacts<'_>>,
    source: Source<'_>,
) -> Result<Option<Quota>, Limited> {
    limits.take(facts, source, clock::process_ns()).map_err(|refused| {
        let (quota, wait) = (refused.quota, refused.retry_after);
        shared.admission.refused(&refused.policy, Reason::RateLimited);
        let detail = format!("{}: {} may try again in {wait:?}", refused.policy, who(source));
        Limited {
            grant: Grant { quota, retry_after: Some(wait) },
            error: ProxyError::new(Reason::RateLimited, detail),
        }
    })
}

/// The application's turn for one more, now or soon enough.
pub(crate) async fn turn(
    shared: &Shared,
    limit: &Concurrency,
    deadline: Option<Deadline>,
) -> Result<Turn, ProxyError> {
    if let Some(turn) = limit.try_enter() {
        return Ok(turn);
    }
    let (at_once, policy) = (limit.max_in_flight, &limit.policy);
    let waiting = shared.admission.waiting(policy);
    waiting.inc();
    let _waiting = Decrement(waiting);
    let refused = match limit.enter(deadline.map(|deadline| deadline.at())).await {
        Ok(turn) => return Ok(turn),
        Err(refused) => refused,
    };
    shared.admission.refused(policy, Reason::ConcurrencyLimit);
    let (reason, detail) = match refused {
        concurrency::Refused::QueueFull => {
            let waiting = limit.max_pending;
            let detail = format!("{policy}: {at_once} requests are in flight and {waiting} wait");
            (Reason::ConcurrencyLimit, detail)
        }
        concurrency::Refused::WaitedTooLong => {
            let wait = limit.max_wait;
            let detail = format!(
                "{policy}: {at_once} requests are in flight, and none ended within {wait:?}"
            );
            (Reason::ConcurrencyLimit, detail)
        }
        concurrency::Refused::DeadlinePassed => {
            let detail = format!("{policy}: the deadline passed before its turn came");
            (Reason::DeadlineExceeded, detail)
        }
    };
    Err(ProxyError::new(reason, detail))
}

/// Tells the client how it stands with the rate limits that count its request. What the application says of its own
/// limits stays.
pub(super) fn inform(record: &Record, response: &mut Response) {
    let Some(Grant { quota, retry_after }) = record.grant() else { return };
    let headers = &mut response.head.headers;
    put(headers, RATE_LIMIT_LIMIT, quota.limit);
    put(headers, RATE_LIMIT_REMAINING, quota.remaining);
    put(headers, RATE_LIMIT_RESET, seconds(quota.reset));
    if let Some(wait) = retry_after {
        put(headers, header::RETRY_AFTER, seconds(*wait).max(1));
    }
}

fn put(headers: &mut Fields, name: HeaderName, value: u64) {
    if !headers.contains_key(&name) {
        headers.append(name, HeaderValue::from(value));
    }
}

/// Whole seconds, so that nobody comes too early.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Says a refusal with its policy: to operators alone.
pub(crate) fn denied(decision: &Decision<'_>, source: Source<'_>, deed: &str) -> ProxyError {
    let client = who(source);
    let detail = match &**decision.by {
        "" => format!("no policy allows {client}: {deed}"),
        policy => format!("{policy} refuses {client}: {deed}"),
    };
    ProxyError::new(Reason::AuthzDenied, detail)
}

/// Counts what a policy in audit mode would have refused, and says whether the log has room for it.
pub(crate) fn note_audited(shared: &Shared, decision: &Decision<'_>) -> bool {
    let second = clock::process_ms() / 1000;
    decision.audited.is_some_and(|policy| shared.admission.audited(policy, second))
}

/// The caller, for operators.
pub(crate) fn who(source: Source<'_>) -> String {
    match (source.identity, source.address) {
        (Some(identity), _) => identity.to_string(),
        (None, Some(address)) => format!("{address} (no identity)"),
        (None, None) => "somebody without identity".to_owned(),
    }
}

/// Counts down when dropped.
struct Decrement(prometheus_client::metrics::gauge::Gauge);

impl Drop for Decrement {
    fn drop(&mut self) {
        self.0.dec();
    }
}
