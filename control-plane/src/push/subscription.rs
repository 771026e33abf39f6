//! One resource on one stream: what the proxy has of it, what is under way, what it is to get next.
//!
//! Pure: content and time are arguments. At most one update is under way, because a refused one leaves the
//! proxy where it was, and the next difference must start from there.
//!
//! ```text
//!  idle ──content differs──► under way ──ack──► idle (holds it)
//!                                │
//!                                └──nack──► idle (holds the former; this version is not sent again)
//! ```

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;
use weft_proto::{
    digest,
    discovery::{EndpointsDelta, Gone, Held, ResourceKey, Update, update::Body},
};

use super::content::{self, ServiceContent};

/// Endpoints in one update: beyond that they follow in the next ones, so that messages stay small.
pub(super) const MAX_ENDPOINTS: usize = 2_000;

/// What a resource is now.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// There is none.
    Gone,
    /// A message that travels as a whole.
    Whole(Box<Body>),
    /// A service with endpoints.
    Service(Arc<ServiceContent>),
}

/// What the proxy holds of a resource.
#[derive(Debug, Clone)]
struct Possession {
    version: String,
    /// `None`: not known (it is held from an earlier stream), or nothing.
    service_digest: Option<u64>,
    endpoints: Endpoints,
}

#[derive(Debug, Clone)]
enum Endpoints {
    /// Those of a content that all streams share.
    Shared(Arc<ServiceContent>),
    Listed(BTreeMap<Arc<str>, u64>),
}

impl Endpoints {
    fn digest_of(&self, id: &str) -> Option<u64> {
        match self {
            Self::Shared(content) => content.endpoints.get(id).map(|endpoint| endpoint.digest),
            Self::Listed(listed) => listed.get(id).copied(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Shared(content) => content.endpoints.is_empty(),
            Self::Listed(listed) => listed.is_empty(),
        }
    }

    fn iter(&self) -> Box<dyn Iterator<Item = (&Arc<str>, u64)> + '_> {
        match self {
            Self::Shared(content) => {
                Box::new(content.endpoints.iter().map(|(id, endpoint)| (id, endpoint.digest)))
            }
            Self::Listed(listed) => Box::new(listed.iter().map(|(id, digest)| (id, *digest))),
        }
    }
}

#[derive(Debug)]
struct UnderWay {
    result: Possession,
    /// When the change happened that this tells of; `None` for a first answer.
    changed_at: Option<Instant>,
}

/// One resource on one stream.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    has: Option<Possession>,
    under_way: Option<UnderWay>,
    refused: Option<String>,
}

/// What an acknowledgement means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Acknowledged {
    /// The update under way is in force. When it told of a change: when that happened.
    Now(Option<Instant>),
    /// It was not about the update under way.
    Stale,
}

impl Subscription {
    /// A resource that the proxy holds from an earlier stream.
    pub(super) fn resumed(held: Held) -> Self {
        let listed = held
            .endpoints
            .into_iter()
            .map(|endpoint| (Arc::from(endpoint.id), endpoint.digest))
            .collect();
        let has = Possession {
            version: held.version,
            service_digest: None,
            endpoints: Endpoints::Listed(listed),
        };
        Self { has: Some(has), ..Self::default() }
    }

    /// The version that the proxy has acknowledged, or said that it holds.
    pub(super) fn held_version(&self) -> Option<&str> {
        self.has.as_ref().map(|has| has.version.as_str())
    }

    /// Whether an update is under way.
    pub(super) fn is_waiting(&self) -> bool {
        self.under_way.is_some()
    }

    /// The update to send now, if the proxy lacks anything of this content; it is under way then.
    /// `withholds` names endpoints that must not be withdrawn yet.
    pub(super) fn next(
        &mut self,
        key: &ResourceKey,
        content: &Content,
        withholds: impl Fn(&str) -> bool,
        changed_at: Option<Instant>,
    ) -> Option<Update> {
        if self.under_way.is_some() {
            return None;
        }
        let (mut update, result) = match content {
            Content::Gone => Self::whole(Body::Gone(Gone {})),
            Content::Whole(body) => Self::whole((**body).clone()),
            Content::Service(service) => self.service(service, withholds),
        };
        if self.held_version() == Some(result.version.as_str()) {
            // The same content, by now perhaps shared with other streams.
            self.has = Some(result);
            return None;
        }
        if self.refused.as_deref() == Some(result.version.as_str()) {
            return None;
        }
        update.key = Some(key.clone());
        update.version.clone_from(&result.version);
        self.under_way = Some(UnderWay { result, changed_at });
        Some(update)
    }

    /// The proxy put an update in force.
    pub(super) fn ack(&mut self, version: &str) -> Acknowledged {
        match self.take_under_way(version) {
            Some(done) => {
                self.has = Some(done.result);
                self.refused = None;
                Acknowledged::Now(done.changed_at)
            }
            None => Acknowledged::Stale,
        }
    }

    /// The proxy refused an update and keeps what it had. Returns whether that was the one under way.
    pub(super) fn nack(&mut self, version: &str) -> bool {
        let refused = self.take_under_way(version);
        if refused.is_some() {
            self.refused = Some(version.to_owned());
        }
        refused.is_some()
    }

    fn take_under_way(&mut self, version: &str) -> Option<UnderWay> {
        self.under_way.take_if(|under_way| under_way.result.version == version)
    }

    fn whole(body: Body) -> (Update, Possession) {
        let possession = Possession {
            version: whole_version(&body),
            service_digest: None,
            endpoints: Endpoints::Listed(BTreeMap::new()),
        };
        (Update { body: Some(body), ..Update::default() }, possession)
    }

    fn service(
        &self,
        content: &Arc<ServiceContent>,
        withholds: impl Fn(&str) -> bool,
    ) -> (Update, Possession) {
        let (delta, endpoints) = self.difference(content, withholds);
        let version = match &endpoints {
            Endpoints::Shared(content) => content.digest,
            Endpoints::Listed(listed) => {
                content::digest_of(content.service_digest, listed.values().copied())
            }
        };
        let known = self.has.as_ref().and_then(|has| has.service_digest);
        let unchanged = known == Some(content.service_digest);
        let update = Update {
            body: (!unchanged).then(|| Body::Service((*content.service).clone())),
            endpoints: Some(delta),
            ..Update::default()
        };
        let possession = Possession {
            version: digest::version(version),
            service_digest: Some(content.service_digest),
            endpoints,
        };
        (update, possession)
    }

    /// What the proxy lacks of the content's endpoints, and what it has after that.
    fn difference(
        &self,
        content: &Arc<ServiceContent>,
        withholds: impl Fn(&str) -> bool,
    ) -> (EndpointsDelta, Endpoints) {
        let holds_none = self.has.as_ref().is_none_or(|has| has.endpoints.is_empty());
        let mut delta = EndpointsDelta { reset: holds_none, ..EndpointsDelta::default() };
        if let Some(Endpoints::Shared(has)) = self.has.as_ref().map(|has| &has.endpoints)
            && Arc::ptr_eq(has, content)
        {
            return (delta, Endpoints::Shared(content.clone()));
        }
        let (removed, kept) = self.surplus(content, withholds);
        delta.removed = removed.iter().map(|id| id.to_string()).collect();
        let lacking = content.endpoints.iter().filter(|(id, endpoint)| {
            let held = self.has.as_ref().and_then(|has| has.endpoints.digest_of(id));
            held != Some(endpoint.digest)
        });
        let mut lacking = lacking.peekable();
        for (_, endpoint) in lacking.by_ref().take(MAX_ENDPOINTS) {
            delta.upserted.push((*endpoint.endpoint).clone());
        }
        if lacking.peek().is_none() && kept.is_empty() {
            return (delta, Endpoints::Shared(content.clone()));
        }
        let after = self.after(&removed, &delta, content);
        (delta, Endpoints::Listed(after))
    }

    /// What the proxy holds beyond the content: what goes, and what is withheld from going.
    fn surplus(
        &self,
        content: &ServiceContent,
        withholds: impl Fn(&str) -> bool,
    ) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        let Some(has) = &self.has else { return (Vec::new(), Vec::new()) };
        has.endpoints
            .iter()
            .map(|(id, _)| id.clone())
            .filter(|id| !content.endpoints.contains_key(id))
            .partition(|id| !withholds(id))
    }

    fn after(
        &self,
        removed: &[Arc<str>],
        delta: &EndpointsDelta,
        content: &ServiceContent,
    ) -> BTreeMap<Arc<str>, u64> {
        let mut after: BTreeMap<Arc<str>, u64> = match &self.has {
            Some(has) => has.endpoints.iter().map(|(id, digest)| (id.clone(), digest)).collect(),
            None => BTreeMap::new(),
        };
        for id in removed {
            after.remove(id);
        }
        for endpoint in &delta.upserted {
            if let Some((id, endpoint)) = content.endpoints.get_key_value(endpoint.id.as_str()) {
                after.insert(id.clone(), endpoint.digest);
            }
        }
        after
    }
}

/// The version of a message that travels as a whole.
pub(super) fn whole_version(body: &Body) -> String {
    let update = Update { body: Some(body.clone()), ..Update::default() };
    digest::version(digest::of_message(&update))
}

#[cfg(test)]
mod tests;
