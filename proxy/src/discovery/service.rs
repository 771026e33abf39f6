//! One service port as it is held: its own fields and its endpoints, each with the digest of its content.
//!
//! Comes in: updates, most often one changed endpoint of many. Goes out: a new [`Destination`] that shares
//! every unchanged endpoint with the one before. A refused update changes nothing.

use std::{collections::BTreeMap, sync::Arc};

use weft_proto::{
    ServicePort, digest,
    discovery::{self as wire, HeldEndpoint, update::Body},
};

use super::{
    Destination, Endpoint, Resolution, ServiceState,
    compile::{self, Refused, ServiceHead},
};
use crate::{balance::Plan, clock};

#[derive(Debug, Default)]
pub(super) struct Service {
    /// `None` until the first answer.
    version: Option<String>,
    /// `None` before the first answer, and while the service does not exist.
    head: Option<ServiceHead>,
    endpoints: BTreeMap<Arc<str>, HeldContent>,
    /// The zone of this proxy; empty when unknown.
    zone: Arc<str>,
    /// What the workers hold.
    destination: Option<Arc<Destination>>,
}

#[derive(Debug, Clone)]
struct HeldContent {
    digest: u64,
    endpoint: Arc<Endpoint>,
}

impl Service {
    /// Nothing is known yet, by a proxy in this zone.
    pub(super) fn seen_from(zone: &Arc<str>) -> Self {
        Self { zone: Arc::clone(zone), ..Self::default() }
    }

    pub(super) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    pub(super) fn held_endpoints(&self) -> Vec<HeldEndpoint> {
        self.endpoints
            .iter()
            .map(|(id, held)| HeldEndpoint { id: id.to_string(), digest: held.digest })
            .collect()
    }

    /// What the workers hold, where there is such a service.
    pub(super) fn destination(&self) -> Option<&Destination> {
        self.destination.as_deref()
    }

    /// What targets of this service resolve to.
    pub(super) fn resolution(&self) -> Resolution {
        match (&self.destination, &self.version) {
            (Some(destination), _) => Resolution::Mesh(Arc::clone(destination)),
            (None, Some(_)) => Resolution::NotFound,
            (None, None) => Resolution::Pending,
        }
    }

    /// The service does not exist (any more).
    pub(super) fn gone(&mut self, version: &str) {
        if let Some(before) = &self.destination {
            before.state.breaking.follow(&before.endpoints, &[], None);
        }
        self.state().limited_by(None);
        *self = Self { version: Some(version.to_owned()), ..Self::seen_from(&self.zone) };
    }

    /// Applies new fields, new endpoints, or both.
    pub(super) fn apply(
        &mut self,
        name: &ServicePort,
        update: &wire::Update,
    ) -> Result<(), Refused> {
        let head = match (&update.body, &self.head) {
            (Some(Body::Service(service)), _) => compile::service(service, name)?,
            (_, Some(head)) => head.clone(),
            (_, None) => {
                return Err(Refused::new("body", "", "endpoints of a service that does not exist"));
            }
        };
        if let Some(delta) = &update.endpoints {
            self.apply_endpoints(delta)?;
        }
        self.version = Some(update.version.clone());
        let endpoints: Vec<_> =
            self.endpoints.values().map(|held| Arc::clone(&held.endpoint)).collect();
        let plan = |policy| Arc::new(Plan::new(policy, &endpoints, &self.zone));
        let state = self.state();
        let before = self.destination.as_ref().map_or(&[][..], |before| &before.endpoints);
        state.breaking.follow(before, &endpoints, head.breaking.as_deref());
        self.destination = Some(Arc::new(Destination {
            service: Some(head.service.clone()),
            protocol: head.protocol,
            routes: head.routes.clone(),
            balancing: head.balancing.as_ref().map(plan),
            external: head.external.clone(),
            endpoints,
            requests: Arc::clone(&head.requests),
            breaking: head.breaking.clone(),
            limits: head.limits.clone(),
            state,
            ..Destination::empty(self.label(&head))
        }));
        self.state().limited_by(head.limits.as_deref());
        self.head = Some(head);
        Ok(())
    }

    /// The label is one text for the life of the service.
    fn label(&self, head: &ServiceHead) -> Arc<str> {
        match &self.destination {
            Some(before) => Arc::clone(&before.label),
            None => head.service.to_string().into(),
        }
    }

    /// What is remembered of requests goes on.
    fn state(&self) -> Arc<ServiceState> {
        self.destination.as_ref().map(|before| Arc::clone(&before.state)).unwrap_or_default()
    }

    /// Compiles all first, so that a bad one leaves everything as it was.
    fn apply_endpoints(&mut self, delta: &wire::EndpointsDelta) -> Result<(), Refused> {
        let mut upserted = Vec::with_capacity(delta.upserted.len());
        for message in &delta.upserted {
            let digest = digest::of_message(message);
            let known = self.endpoints.get(message.id.as_str());
            let endpoint = match known {
                Some(known) if known.digest == digest => Arc::clone(&known.endpoint),
                _ => Arc::new(compile::endpoint(message, known.map(|known| &known.endpoint))?),
            };
            let goes_on =
                known.is_some_and(|known| Arc::ptr_eq(&known.endpoint.health, &endpoint.health));
            if !goes_on && self.head.is_some() {
                endpoint.health.arrived(clock::process_ms());
            }
            upserted.push(HeldContent { digest, endpoint });
        }
        if delta.reset {
            self.endpoints.clear();
        }
        for id in &delta.removed {
            self.endpoints.remove(id.as_str());
        }
        for held in upserted {
            self.endpoints.insert(Arc::clone(&held.endpoint.id), held);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
