//! What the breakers have ejected, as the control plane is told of it.
//!
//! Comes in: the services that are held, now and then. Goes out: of each of which something has changed since, all that
//! is ejected; nothing where nothing has. It looks at atomics alone, and at services whose policy ejects alone, so that
//! it costs data workers nothing. It must never say more than the control plane takes in: so many endpoints in all.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
};

use weft_proto::{
    ServicePort,
    discovery::{self as wire, EjectionCause, ServiceEjections},
};

use super::Destination;
use crate::policy::breaker::Cause;

/// Endpoints that are named, over all services: what `discovery.proto` allows.
const MAX_ENDPOINTS: usize = 1_000;

/// Why and since when an endpoint is not in use, kept beside its breaker.
#[derive(Debug, Default)]
pub(super) struct EjectionNote {
    /// The cause's place in [`Cause::ALL`].
    cause: AtomicU8,
    since_ms: AtomicU64,
}

impl EjectionNote {
    /// The endpoint is ejected for this. Where it was being tried out, what it was ejected for at first says more.
    pub(super) fn write(&self, cause: Cause, now_ms: u64) {
        if cause != Cause::Probe {
            self.cause.store(cause as u8, Relaxed);
            self.since_ms.store(now_ms, Relaxed);
        }
    }

    /// What is known of an ejection that lasts until then.
    pub(super) fn read(&self, until_ms: u64) -> Ejection {
        let cause = Cause::ALL[usize::from(self.cause.load(Relaxed)) % Cause::ALL.len()];
        Ejection { cause, since_ms: self.since_ms.load(Relaxed), until_ms }
    }
}

/// An ejection, in the process's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// Why the endpoint was ejected.
    pub cause: Cause,
    /// Since when it has not been in use.
    pub since_ms: u64,
    /// Until when it is left alone; half open then.
    pub until_ms: u64,
}

/// The ejected endpoints of a service, in the order of their ids.
type Ejected = Vec<(Arc<str>, Ejection)>;

/// What the open stream has said already.
#[derive(Debug, Default)]
pub(super) struct Report {
    said: BTreeMap<ServicePort, Ejected>,
}

impl Report {
    /// On a new stream nothing has been said.
    pub(super) fn begin(&mut self) {
        self.said.clear();
    }

    /// What has changed of the services that are held; `None` for nothing.
    pub(super) fn changes<'a>(
        &mut self,
        held: impl Iterator<Item = (&'a ServicePort, &'a Destination)> + Clone,
        now_ms: u64,
    ) -> Option<wire::Ejections> {
        let mut ejected: BTreeMap<&ServicePort, Ejected> = held
            .clone()
            .map(|(service, destination)| (service, ejected_of(destination)))
            .filter(|(service, ejected)| !ejected.is_empty() || self.said.contains_key(*service))
            .collect();
        // What is held no longer, the control plane has forgotten by itself.
        self.said.retain(|service, _| ejected.contains_key(service));
        let mut room = MAX_ENDPOINTS;
        for endpoints in ejected.values_mut() {
            endpoints.truncate(room);
            room -= endpoints.len();
        }
        ejected.retain(|service, now| {
            self.said.get(*service).map_or(&[][..], Vec::as_slice) != now.as_slice()
        });
        if ejected.is_empty() {
            return None;
        }
        // Those that have become fewer first: at no moment there are too many.
        let mut services: Vec<_> = ejected.into_iter().collect();
        let said = |service| self.said.get(service).map_or(0, Vec::len);
        services.sort_by_key(|(service, now)| now.len() >= said(*service));
        let services = services.into_iter().map(|(service, endpoints)| {
            let message = message(service, &endpoints, now_ms);
            if endpoints.is_empty() {
                self.said.remove(service);
            } else {
                self.said.insert(service.clone(), endpoints);
            }
            message
        });
        Some(wire::Ejections { services: services.collect() })
    }
}

fn ejected_of(destination: &Destination) -> Ejected {
    if destination.breaking.is_none() {
        return Vec::new();
    }
    let ejected = destination.endpoints.iter().filter_map(|endpoint| {
        Some((Arc::clone(&endpoint.id), endpoint.health.breaker.ejection()?))
    });
    ejected.collect()
}

fn message(
    service: &ServicePort,
    endpoints: &[(Arc<str>, Ejection)],
    now_ms: u64,
) -> ServiceEjections {
    let endpoints = endpoints.iter().map(|(id, ejection)| wire::Ejection {
        endpoint: id.to_string(),
        cause: wire_cause(ejection.cause).into(),
        since_ms: now_ms.saturating_sub(ejection.since_ms),
        left_ms: ejection.until_ms.saturating_sub(now_ms),
    });
    ServiceEjections { service: service.to_string(), endpoints: endpoints.collect() }
}

const fn wire_cause(cause: Cause) -> EjectionCause {
    match cause {
        Cause::ConsecutiveFailures => EjectionCause::ConsecutiveFailures,
        Cause::ConsecutivePathFailures => EjectionCause::ConsecutivePathFailures,
        Cause::FailurePercent => EjectionCause::FailurePercent,
        Cause::SuccessRate => EjectionCause::SuccessRate,
        Cause::Probe => EjectionCause::Probe,
    }
}

#[cfg(test)]
mod tests;
