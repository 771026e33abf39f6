//! Which endpoints callers' breakers have ejected, as the callers' own sidecars say it.
//!
//! Comes in: what one proxy says of a service, each time all of it. Goes out: what there is to show of an endpoint, with
//! whose word it is. It is kept with the proxy's stream, for operators alone: a proxy's word must never change what
//! another one is told. Nor may it cost more than it says: a proxy has so many endpoints in all, each name is bounded,
//! and an answer lists so many callers of an endpoint and counts the others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;
use weft_proto::{
    ServicePort,
    api::{EjectionStatus, EndpointStatus},
    discovery::{self, EjectionCause},
};

use super::proxies::Record;

/// Endpoints that one proxy may name, over all its services.
const MAX_ENDPOINTS: usize = 1_000;

/// The longest id of an endpoint that is believed.
const MAX_ID_BYTES: usize = 512;

/// Callers that an answer lists for one endpoint.
const MAX_LISTED: usize = 100;

/// No time that a proxy says is longer than this.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What one proxy says.
#[derive(Debug, Default)]
pub(super) struct Reported(Mutex<HashMap<ServicePort, Vec<Ejection>>>);

/// One endpoint that a proxy has ejected.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ejection {
    endpoint: Box<str>,
    cause: EjectionCause,
    /// When the proxy said so.
    said_at: Instant,
    /// So long it was ejected by then.
    since: Duration,
    /// So long it was still to be left alone by then.
    left: Duration,
}

impl Reported {
    /// Takes in all that the proxy says of a service now.
    pub(super) fn replace(
        &self,
        service: ServicePort,
        endpoints: Vec<discovery::Ejection>,
        said_at: Instant,
    ) {
        let mut services = self.lock();
        services.remove(&service);
        let room = MAX_ENDPOINTS.saturating_sub(services.values().map(Vec::len).sum());
        let named = endpoints.into_iter().filter(|said| said.endpoint.len() <= MAX_ID_BYTES);
        let ejected: Vec<_> = named.take(room).map(|said| Ejection::heard(said, said_at)).collect();
        if !ejected.is_empty() {
            services.insert(service, ejected);
        }
    }

    /// The proxy uses the service no longer.
    pub(super) fn forget(&self, service: &ServicePort) {
        self.lock().remove(service);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServicePort, Vec<Ejection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ejection {
    fn heard(said: discovery::Ejection, said_at: Instant) -> Self {
        let time = |millis| Duration::from_millis(millis).min(LONGEST);
        Self {
            cause: said.cause(),
            endpoint: said.endpoint.into(),
            said_at,
            since: time(said.since_ms),
            left: time(said.left_ms),
        }
    }

    fn status(&self, caller: &Record, now: Instant, wall: SystemTime) -> EjectionStatus {
        let passed = now.saturating_duration_since(self.said_at);
        let since = wall.checked_sub(self.since + passed).unwrap_or(UNIX_EPOCH);
        EjectionStatus {
            workload: caller.key.workload.to_string(),
            instance: caller.key.instance.to_string(),
            cause: cause_name(self.cause).to_owned(),
            since: milliseconds(since.duration_since(UNIX_EPOCH).unwrap_or_default()),
            left_ms: milliseconds(self.left.saturating_sub(passed)),
        }
    }
}

/// Writes beside endpoints which of these callers have ejected them.
pub fn note(endpoints: &mut [EndpointStatus], callers: &[Arc<Record>], wall: SystemTime) {
    let now = Instant::now();
    let mut by_endpoint: HashMap<(String, Box<str>), Vec<EjectionStatus>> = HashMap::new();
    for caller in callers {
        for (service, ejected) in caller.ejections().lock().iter() {
            let service = service.to_string();
            for one in ejected {
                let key = (service.clone(), one.endpoint.clone());
                by_endpoint.entry(key).or_default().push(one.status(caller, now, wall));
            }
        }
    }
    for endpoint in endpoints {
        let key = (endpoint.service_port.clone(), endpoint.id.as_str().into());
        let Some(said) = by_endpoint.get(&key) else { continue };
        endpoint.ejected_by = u32::try_from(said.len()).unwrap_or(u32::MAX);
        let mut said = said.clone();
        said.sort_by(|a, b| {
            (a.since, &a.workload, &a.instance).cmp(&(b.since, &b.workload, &b.instance))
        });
        said.truncate(MAX_LISTED);
        endpoint.ejections = said;
    }
}

/// As the sidecars' metrics name it.
const fn cause_name(cause: EjectionCause) -> &'static str {
    match cause {
        EjectionCause::Unspecified => "unknown",
        EjectionCause::ConsecutiveFailures => "consecutive-failures",
        EjectionCause::ConsecutivePathFailures => "consecutive-path-failures",
        EjectionCause::FailurePercent => "failure-percent",
        EjectionCause::SuccessRate => "success-rate",
        EjectionCause::Probe => "probe",
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use weft_proto::discovery::Hello;

    use super::*;
    use crate::model::InstanceKey;

    fn caller(instance: &str) -> Arc<Record> {
        let key = InstanceKey {
            workload: "shop/web".parse().expect("a name"),
            instance: instance.into(),
        };
        let identity = "spiffe://weft.local/ns/shop/sa/web".parse().expect("an identity");
        Arc::new(Record::new(key, identity, None, &Hello::default()))
    }

    fn cart() -> ServicePort {
        "shop/cart:80".parse().expect("a service port")
    }

    fn said(endpoint: &str, since_ms: u64, left_ms: u64) -> discovery::Ejection {
        let cause = EjectionCause::ConsecutiveFailures.into();
        discovery::Ejection { endpoint: endpoint.to_owned(), cause, since_ms, left_ms }
    }

    /// The endpoint of cart with this id, as operators see it.
    fn shown(id: &str, callers: &[Arc<Record>]) -> EndpointStatus {
        let mut endpoints = [EndpointStatus {
            service_port: cart().to_string(),
            id: id.to_owned(),
            ..EndpointStatus::default()
        }];
        note(&mut endpoints, callers, UNIX_EPOCH + Duration::from_secs(1_000));
        let [shown] = endpoints;
        shown
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_shows_who_ejected_it_why_since_when_and_for_how_long() {
        let (one, other) = (caller("0"), caller("1"));
        one.ejections().replace(cart(), vec![said("a", 2_000, 5_000)], Instant::now());
        other.ejections().replace(cart(), vec![said("a", 3_000, 0)], Instant::now());
        let callers = [one, other];
        tokio::time::advance(Duration::from_secs(1)).await;
        let shown_now = shown("a", &callers);
        let brief = |status: &EjectionStatus| {
            (status.instance.clone(), status.cause.clone(), status.since, status.left_ms)
        };
        assert_eq!(shown_now.ejected_by, 2);
        assert_eq!(
            shown_now.ejections.iter().map(brief).collect::<Vec<_>>(),
            [
                ("1".to_owned(), "consecutive-failures".to_owned(), 996_000, 0),
                ("0".to_owned(), "consecutive-failures".to_owned(), 997_000, 4_000),
            ]
        );
        assert_eq!(shown("b", &callers), EndpointStatus { id: "b".into(), ..shown("b", &[]) });
        // All of a service is said each time.
        callers[0].ejections().replace(cart(), vec![said("b", 0, 1)], Instant::now());
        callers[1].ejections().replace(cart(), Vec::new(), Instant::now());
        assert_eq!((shown("a", &callers).ejected_by, shown("b", &callers).ejected_by), (0, 1));
        callers[0].ejections().forget(&cart());
        assert_eq!(shown("b", &callers).ejected_by, 0);
    }

    #[test]
    fn a_proxy_cannot_make_the_control_plane_remember_more_than_its_share() {
        let web = caller("0");
        let many = |prefix: &str| {
            (0..MAX_ENDPOINTS).map(|n| said(&format!("{prefix}{n}"), u64::MAX, u64::MAX)).collect()
        };
        web.ejections().replace(cart(), many("a"), Instant::now());
        let other: ServicePort = "shop/other:80".parse().expect("a service port");
        web.ejections().replace(other.clone(), many("b"), Instant::now());
        let held = |service: &ServicePort| web.ejections().lock().get(service).map_or(0, Vec::len);
        assert_eq!((held(&cart()), held(&other)), (MAX_ENDPOINTS, 0));
        // What it says anew takes the place of what it said.
        web.ejections().replace(cart(), many("c"), Instant::now());
        assert_eq!(held(&cart()), MAX_ENDPOINTS);
        let long = said(&"x".repeat(MAX_ID_BYTES + 1), 0, 0);
        web.ejections().replace(cart(), vec![long, said("d", u64::MAX, u64::MAX)], Instant::now());
        assert_eq!(held(&cart()), 1);
        assert!(shown("d", &[web]).ejections[0].left_ms > 0);
    }

    #[test]
    fn callers_beyond_those_listed_are_counted() {
        let callers: Vec<_> = (0..MAX_LISTED + 5).map(|n| caller(&n.to_string())).collect();
        for caller in &callers {
            caller.ejections().replace(cart(), vec![said("a", 0, 1)], Instant::now());
        }
        let shown = shown("a", &callers);
        assert_eq!(
            (shown.ejected_by as usize, shown.ejections.len()),
            (MAX_LISTED + 5, MAX_LISTED)
        );
    }
}
