//! How many requests and connections one proxy has towards one service.
//!
//! In come what a policy says, and a request; out goes its turn at a [`Gate`], at once or when it comes, or why it gets
//! none. Requests and connections have a gate each, kept with the service's state. A request must never wait longer than
//! the policy or its own deadline lets it.

use std::{sync::Arc, time::Duration};

use super::gate::{Answer, Gate, Turn};
use crate::{
    clock::{self, Instant},
    error::ProxyError,
    reason::Reason,
};

/// The limits of one service, as a policy sets them; zero is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceLimits {
    /// Connections.
    pub max_connections: u32,
    /// Requests, until their responses' ends.
    pub max_in_flight: u32,
    /// Requests that wait for one of the two.
    pub max_pending: u32,
    /// How long each waits.
    pub max_wait: Duration,
    /// How long a connection may take to be made, instead of the proxy's own limit.
    pub connect_timeout: Option<Duration>,
    /// How long a connection is kept without a request, instead of the proxy's own limit.
    pub idle_timeout: Option<Duration>,
    /// Whose word this is, in order of precedence, for operators.
    pub policies: Box<[Box<str>]>,
}

impl ServiceLimits {
    /// A turn among the requests in flight; none where there is no limit.
    ///
    /// # Errors
    /// `service-limit`: the line is full, or its turn did not come in time. What `deadline` allows is less than what
    /// the policy does when it is earlier.
    pub async fn request_turn(
        &self,
        gate: &Arc<Gate>,
        deadline: Option<Instant>,
    ) -> Result<Option<Turn>, ProxyError> {
        if self.max_in_flight == 0 {
            return Ok(None);
        }
        match gate.ask(self.max_in_flight, self.places_in_line()) {
            Answer::Turn(turn) => Ok(Some(turn)),
            Answer::Wait(turn) => match self.patiently(turn, deadline).await {
                Some(turn) => Ok(Some(turn)),
                None => Err(self.refused("maxWait", "requests in flight")),
            },
            Answer::Full => Err(self.refused("maxPending", "requests in flight")),
        }
    }

    /// How many may wait in one line.
    #[must_use]
    pub fn places_in_line(&self) -> usize {
        match usize::try_from(self.max_pending) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(places) => places,
        }
    }

    /// Waits for something as long as a request may wait; `None` when it does not come in time.
    pub async fn patiently<T>(
        &self,
        coming: impl Future<Output = T>,
        deadline: Option<Instant>,
    ) -> Option<T> {
        self.patiently_since(clock::now(), coming, deadline).await
    }

    /// The same of a request that has waited since then.
    pub async fn patiently_since<T>(
        &self,
        began: Instant,
        coming: impl Future<Output = T>,
        deadline: Option<Instant>,
    ) -> Option<T> {
        let patience = (!self.max_wait.is_zero()).then(|| began + self.max_wait);
        match [patience, deadline].into_iter().flatten().min() {
            Some(until) => clock::timeout_at(until, coming).await.ok(),
            None => Some(coming.await),
        }
    }

    /// The error of a request that does not get its turn.
    #[must_use]
    pub fn refused(&self, field: &str, what: &str) -> ProxyError {
        let Self { max_connections, max_in_flight, max_pending, max_wait, policies, .. } = self;
        let detail = format!(
            "no room for more {what} ({field} of {}: maxInFlight {max_in_flight}, maxConnections \
             {max_connections}, maxPending {max_pending}, maxWait {max_wait:?})",
            policies.join(", ")
        );
        ProxyError::new(Reason::ServiceLimit, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_as_long_as_it_may() {
        let gate = Arc::default();
        let limits = ServiceLimits {
            max_in_flight: 1,
            max_wait: Duration::from_secs(2),
            ..ServiceLimits::default()
        };
        let held = limits.request_turn(&gate, None).await.expect("room");
        let began = clock::now();
        let late = limits.request_turn(&gate, None).await.expect_err("no room");
        assert_eq!((late.reason, began.elapsed()), (Reason::ServiceLimit, Duration::from_secs(2)));
        let deadline = clock::now() + Duration::from_secs(1);
        assert!(limits.request_turn(&gate, Some(deadline)).await.is_err());
        assert_eq!(began.elapsed(), Duration::from_secs(3));
        let (got, ()) = tokio::join!(limits.request_turn(&gate, None), async { drop(held) });
        assert!(got.expect("its turn").is_some());
        let unlimited = ServiceLimits::default().request_turn(&gate, None).await;
        assert!(unlimited.expect("no limit").is_none());
    }
}
