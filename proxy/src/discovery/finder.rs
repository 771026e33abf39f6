//! Finds the endpoints of services outside the mesh by DNS, and keeps them current while somebody uses them.
//!
//! Comes in: answers of the control plane. Goes out: the same answers to the workers, those of external services with
//! the addresses that their names have now. Each name that an application uses has a task of its own, from the control
//! plane's answer until nobody uses it any more. It asks again before the answer's time to live is over, within
//! [`FLOOR`] and [`CAP`]. When DNS fails, the last good answer stays: stale is better than none.
//!
//! Each name has endpoints of its own, and so ejections of its own; they end with the name. All else that is remembered of
//! requests is the service's.
//!
//! It must never publish an answer after the control plane has said something else of the name: both happen under the
//! table's lock.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{sync::watch, task::JoinSet};

use super::{Destination, External, Resolution, ServiceBreaking, Shared, external};
use crate::{
    balance::Plan,
    clock::{self, Instant},
    destination::authority,
    dns::Resolver,
    error::ProxyError,
    outside,
};

/// An answer is used at least so long, whatever its time to live: a name with one of zero is not asked for all the time.
const FLOOR: Duration = Duration::from_secs(5);

/// And at most so long, so that a change is seen even of a name that promises a day.
const CAP: Duration = Duration::from_secs(300);

/// After a failure the next question follows so soon, then twice as late each time,
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// up to this.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The first answer is waited for so long before requests hear that there is none: less than they wait for discovery.
const FIRST_ANSWER: Duration = Duration::from_secs(3);

/// Names that are being followed.
#[derive(Debug)]
pub(super) struct Finder {
    lookup: Lookup,
    shared: Arc<Shared>,
    followed: HashMap<Arc<str>, watch::Sender<Arc<Destination>>>,
    tasks: JoinSet<()>,
}

/// How names become addresses.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// Keeps no answers itself.
    pub resolver: Resolver,
    /// The ports that this proxy itself listens on.
    pub own_ports: Arc<[SocketAddr]>,
    /// Addresses that no application may name are not to be had by a name either.
    pub permits: fn(SocketAddr) -> Result<(), ProxyError>,
    /// An answer is used at least so long.
    pub floor: Duration,
}

impl Finder {
    pub(super) fn new(lookup: Lookup, shared: Arc<Shared>) -> Self {
        Self { lookup, shared, followed: HashMap::new(), tasks: JoinSet::new() }
    }

    /// Shows answers to the workers; those of external services once they are found.
    pub(super) fn publish(&mut self, resolved: Vec<(Arc<str>, Resolution)>) {
        let shared = Arc::clone(&self.shared);
        let mut table = shared.table();
        for (name, resolution) in resolved {
            match resolution {
                Resolution::Mesh(destination) if destination.external.is_some() => {
                    self.follow(name, destination);
                }
                resolution => {
                    self.followed.remove(&name);
                    table.publish(&name, resolution);
                }
            }
        }
    }

    /// Nobody uses a name any more.
    pub(super) fn forget(&mut self, name: &str) {
        let _held = self.shared.table();
        self.followed.remove(name);
    }

    fn follow(&mut self, name: Arc<str>, destination: Arc<Destination>) {
        // Those that have ended leave no trace.
        while self.tasks.try_join_next().is_some() {}
        if let Some(wanted) = self.followed.get(&name) {
            wanted.send_replace(destination);
            return;
        }
        let (sender, wanted) = watch::channel(destination);
        let one = One {
            name: Arc::clone(&name),
            wanted,
            lookup: self.lookup.clone(),
            shared: Arc::clone(&self.shared),
            found: None,
            breaking: Arc::default(),
        };
        self.tasks.spawn(one.run());
        self.followed.insert(name, sender);
    }
}

/// One name that is being followed.
struct One {
    name: Arc<str>,
    wanted: watch::Receiver<Arc<Destination>>,
    lookup: Lookup,
    shared: Arc<Shared>,
    /// What workers were shown last.
    found: Option<Arc<Destination>>,
    /// Which of these endpoints are ejected.
    breaking: Arc<ServiceBreaking>,
}

impl One {
    /// Runs until nobody wants the name any more; then nothing of it is ejected.
    async fn run(mut self) {
        self.follow_dns().await;
        if let Some(found) = &self.found {
            self.breaking.follow(&found.endpoints, &[], None);
        }
    }

    async fn follow_dns(&mut self) {
        let mut retry = RETRY_FIRST;
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let Some(external) = wanted.external.clone() else { return };
            let answer = tokio::select! {
                answer = self.ask(&external) => answer,
                () = self.given_up() => return,
            };
            let again = match answer {
                Ok((addresses, valid_until)) => {
                    retry = RETRY_FIRST;
                    self.show(&wanted, Some(addresses));
                    clock::now() + renewal(clock::now(), valid_until, self.lookup.floor)
                }
                Err(error) => {
                    tracing::warn!(name = %self.name, detail = %error.detail, "a host outside the mesh cannot be found: what was found before stays");
                    self.show(&wanted, None);
                    let delay = retry.mul_f64(0.5 + fastrand::f64() / 2.0);
                    retry = (retry * 2).min(RETRY_MAX);
                    clock::now() + delay
                }
            };
            if !self.wait(again, &external).await {
                return;
            }
        }
    }

    /// Waits until it is time to ask again. Takes over changes that leave the hosts as they are. False when nobody wants
    /// the name any more.
    async fn wait(&mut self, until: Instant, hosts: &Arc<External>) -> bool {
        loop {
            tokio::select! {
                () = clock::sleep_until(until) => return true,
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return false;
                    }
                    let wanted = self.wanted.borrow_and_update().clone();
                    if wanted.external.as_ref() != Some(hosts) {
                        return true;
                    }
                    self.show(&wanted, None);
                }
            }
        }
    }

    /// Completes when nobody wants the name any more.
    async fn given_up(&self) {
        let mut wanted = self.wanted.clone();
        while wanted.changed().await.is_ok() {}
    }

    /// The addresses of all names, and until when they hold. One name that fails is left out, unless no other has any.
    async fn ask(&self, external: &External) -> Result<(Vec<IpAddr>, Option<Instant>), ProxyError> {
        let names = external.names(&self.name);
        let asked = join_all(names.into_iter().map(|name| self.lookup.addresses(name, external)));
        let answers = if self.found.is_none() {
            let late = format!("no answer within {FIRST_ANSWER:?}");
            let answers = clock::timeout(FIRST_ANSWER, asked).await;
            answers.map_err(|_| outside::unresolved(&self.name, &late))?
        } else {
            asked.await
        };
        let (mut addresses, mut valid_until, mut failed) = (Vec::new(), None, None);
        for answer in answers {
            match answer {
                Ok((found, until)) => {
                    addresses.extend(found);
                    valid_until = [valid_until, until].into_iter().flatten().min();
                }
                Err(error) => failed = Some(error),
            }
        }
        if addresses.is_empty() {
            let none = || outside::unresolved(&self.name, "none of the hosts is named whole");
            return Err(failed.unwrap_or_else(none));
        }
        Ok((addresses, valid_until))
    }

    /// Shows the workers what is wanted, with new addresses or those from before.
    fn show(&mut self, wanted: &Destination, addresses: Option<Vec<IpAddr>>) {
        let Some(external) = &wanted.external else { return };
        let before = self.found.as_ref().map_or(&[][..], |found| &found.endpoints);
        let endpoints = match addresses {
            Some(addresses) => {
                external::endpoints(addresses, external.port, before, clock::process_ms())
            }
            None => before.to_vec(),
        };
        let plan = |before: &Arc<Plan>| Arc::new(Plan::new(&before.policy, &endpoints, ""));
        let balancing = wanted.balancing.as_ref().map(plan);
        let state = Arc::new(wanted.state.of_name(&self.breaking));
        let destination = Arc::new(Destination { balancing, endpoints, state, ..wanted.clone() });
        let mut table = self.shared.table();
        // Whoever gives a name up holds the lock.
        if self.wanted.has_changed().is_err() {
            return;
        }
        self.breaking.follow(before, &destination.endpoints, wanted.breaking.as_deref());
        table.publish(&self.name, Resolution::Mesh(Arc::clone(&destination)));
        drop(table);
        self.found = Some(destination);
    }
}

impl Lookup {
    /// By the system's DNS, for a proxy that listens on these ports itself.
    #[must_use]
    pub fn by_system(own_ports: Arc<[SocketAddr]>) -> Self {
        let resolver = Resolver::fresh();
        Self { resolver, own_ports, permits: authority::allowed, floor: FLOOR }
    }

    /// The addresses of one name, or an address itself, and until when they hold.
    async fn addresses(
        &self,
        name: &str,
        external: &External,
    ) -> Result<(Vec<IpAddr>, Option<Instant>), ProxyError> {
        let at_port = |ip: IpAddr| SocketAddr::new(ip, external.port.number());
        if let Ok(ip) = name.parse::<IpAddr>() {
            // An operator's word, and so permitted unless it leads back here.
            outside::not_this_proxy(&self.own_ports, at_port(ip))?;
            return Ok((vec![ip], None));
        }
        let answer = self.resolver.resolve(name).await?;
        let (mut addresses, mut refused) = (Vec::new(), None);
        for ip in answer.addresses {
            let address = at_port(ip);
            let permitted = (self.permits)(address)
                .and_then(|()| outside::not_this_proxy(&self.own_ports, address));
            match permitted {
                Ok(()) => addresses.push(ip),
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) if addresses.is_empty() => Err(error),
            _ => Ok((addresses, Some(answer.valid_until))),
        }
    }
}

/// How long to use an answer that holds until then: a little less, within the bounds.
fn renewal(now: Instant, valid_until: Option<Instant>, floor: Duration) -> Duration {
    let time_to_live = valid_until.map_or(CAP, |until| until.saturating_duration_since(now));
    time_to_live.mul_f64(0.9).clamp(floor, CAP)
}

#[cfg(test)]
mod tests;
