//! What a rule says of its requests itself: how long they may take, and when they are tried again.

use weft_proto::discovery;

use crate::model::gateway::time::{Retry, Timeouts};

/// A rule's own fields, as they travel.
pub(super) fn own_requests(
    timeouts: Option<&Timeouts>,
    retry: Option<&Retry>,
) -> discovery::RequestPolicy {
    discovery::RequestPolicy {
        request_timeout_ms: timeouts.and_then(|it| it.request).map(|it| it.millis()),
        attempt_timeout_ms: timeouts.and_then(|it| it.backend_request).map(|it| it.millis()),
        retry: retry.map(|retry| discovery::Retry {
            attempts: retry.attempts(),
            backoff_base_ms: retry.backoff.map(|backoff| backoff.millis()),
            statuses: retry.codes().collect(),
            ..discovery::Retry::default()
        }),
        ..discovery::RequestPolicy::default()
    }
}
