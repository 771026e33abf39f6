//! Where one request goes, and as what: the rule of the service's routes that takes it, the rule's filters, the
//! backend.
//!
//! ```text
//! no routes ───────────────────────────────────────────> the service's own endpoints
//! a rule ──> the rule's filters ──> a backend by weight ──> the backend's filters ──> the backend's endpoints
//!       │                      └──> redirect
//!       └──> none takes it: route-not-found
//! ```
//!
//! Comes in: a request and its service. Goes out: the service whose endpoints are tried, or an answer. The backend is
//! chosen once: further attempts stay with it. Its own routes are not followed. Filters on the response act on what a
//! backend answers; what this proxy answers by itself says why in its own words and is left as it is.

use std::{rc::Rc, sync::Arc};

use http::{HeaderValue, header};

use super::{Exchange, Record};
use crate::{
    balance::EndpointSet,
    destination::{Service, authority},
    error::ProxyError,
    http::{Asked, Request, RequestHead, Response, ResponseHead, respond},
    policy::RequestPolicy,
    reason::Reason,
    route::{Backend, Filter, Rule, Target, redirect::Redirect},
};

/// Where a request goes.
pub(super) struct Course {
    /// The service whose endpoints are tried.
    pub(super) service: Rc<Service>,
    /// Its snapshot, which the request keeps.
    pub(super) snapshot: Rc<EndpointSet>,
    rule: Option<Taken>,
}

/// The rule that took the request.
struct Taken {
    rule: Arc<Rule>,
    /// How many bytes of the path are the prefix by which it was taken.
    prefix: usize,
    backend: Option<Arc<Backend>>,
}

impl Course {
    /// Chooses the rule of the service's routes that takes the request, where it has routes.
    ///
    /// # Errors
    /// `route-not-found`.
    pub(super) fn choose(
        service: Rc<Service>,
        head: &RequestHead,
        record: &mut Record,
    ) -> Result<Self, ProxyError> {
        let snapshot = service.snapshot();
        let routes = snapshot.destination.routes.as_ref();
        let Some(table) = routes.and_then(|routes| routes.http.as_ref()) else {
            return Ok(Self { service, snapshot, rule: None });
        };
        let authority = authority::of_request(head)?;
        let Some(taken) = table.decide(&authority, head) else {
            let (label, path) = (&service.label, head.target.path());
            let detail = format!("no rule of {label} takes {} {authority}{path}", head.method);
            return Err(ProxyError::new(Reason::RouteNotFound, detail));
        };
        record.taken_by(taken.rule);
        let taken = Taken { rule: taken.rule.clone(), prefix: taken.prefix, backend: None };
        Ok(Self { service, snapshot, rule: Some(taken) })
    }

    /// Applies the filters on the request, and finds the backend between the rule's and the backend's own. A redirect
    /// is an answer.
    ///
    /// # Errors
    /// There is no backend, or nothing is known of it.
    pub(super) async fn prepare(
        &mut self,
        exchange: &Exchange,
        request: &mut Request,
        record: &mut Record,
    ) -> Result<Option<Response>, ProxyError> {
        let Some(taken) = &mut self.rule else { return Ok(None) };
        let mut filters = Filters { exchange, service: &self.service, prefix: taken.prefix };
        if let Some(answer) = filters.apply(&taken.rule.filters, request, record)? {
            return Ok(Some(answer));
        }
        let drawn = self.service.draw(|random| taken.rule.backends.choose(random).cloned());
        let Some(backend) = drawn else {
            let detail = format!("{} has no backend with a weight", taken.rule.name);
            return Err(ProxyError::new(Reason::BackendInvalid, detail));
        };
        let destinations = &exchange.shared.destinations;
        let metrics = destinations.backend_metrics(&self.service, &taken.rule.name, &backend);
        record.sent_to(&backend, metrics);
        if let Target::Invalid(why) = &backend.target {
            let detail = format!("{}: {why}", taken.rule.name);
            return Err(ProxyError::new(Reason::BackendInvalid, detail));
        }
        if let Some(answer) = filters.apply(&backend.filters, request, record)? {
            return Ok(Some(answer));
        }
        let found = destinations.backend(&self.service, &backend.label).await?;
        if !Rc::ptr_eq(&found, &self.service) {
            self.snapshot = found.snapshot();
            self.service = found;
        }
        taken.backend = Some(backend);
        Ok(None)
    }

    /// What holds for the request: the rule's word, else that of the service whose endpoints are tried.
    pub(super) fn policy(&self) -> &RequestPolicy {
        let of_rule = self.rule.as_ref().and_then(|taken| taken.rule.requests.as_deref());
        of_rule.unwrap_or(&self.snapshot.destination.requests)
    }

    /// Applies the filters on the backend's response.
    pub(super) fn finish(&self, head: &mut ResponseHead) {
        let Some(taken) = &self.rule else { return };
        let of_backend = taken.backend.iter().flat_map(|backend| &backend.filters);
        for filter in taken.rule.filters.iter().chain(of_backend) {
            if let Filter::ResponseHeaders(modifier) = filter {
                modifier.apply(&mut head.headers);
            }
        }
    }
}

/// What filters on a request need beside it.
struct Filters<'a> {
    exchange: &'a Exchange,
    /// The service that the request was sent to, whose routes are followed.
    service: &'a Rc<Service>,
    /// Of the path as it is now.
    prefix: usize,
}

impl Filters<'_> {
    /// Applies filters in order; a redirect ends it with an answer.
    fn apply(
        &mut self,
        filters: &[Filter],
        request: &mut Request,
        record: &mut Record,
    ) -> Result<Option<Response>, ProxyError> {
        for filter in filters {
            match filter {
                Filter::RequestHeaders(modifier) => {
                    modifier.apply(&mut request.head.headers);
                }
                Filter::Rewrite(rewrite) => {
                    rewrite.apply(&mut request.head, self.prefix)?;
                    self.prefix = rewrite.prefix_after(self.prefix);
                }
                Filter::Redirect(redirect) => return self.redirect(redirect, request, record),
                Filter::Mirror(mirror) => {
                    if self.service.draw(|random| mirror.takes(random)) {
                        self.exchange.mirror(self.service, &mirror.backend, request);
                    }
                }
                Filter::ResponseHeaders(_) => {}
            }
        }
        Ok(None)
    }

    /// The redirect as an answer; a gRPC client, which follows none, hears why there is no other.
    fn redirect(
        &self,
        redirect: &Redirect,
        request: &Request,
        record: &mut Record,
    ) -> Result<Option<Response>, ProxyError> {
        let head = &request.head;
        let authority = authority::of_request(head)?;
        let snapshot = self.service.snapshot();
        let port = snapshot.destination.service.as_ref().map(|service| service.port);
        let location = redirect.location(head, &authority, self.prefix, port);
        let asked = Asked { status: Some(redirect.status), ..Asked::from(head) };
        let error = ProxyError::new(Reason::RouteRedirect, format!("to {location}"));
        let mut response = respond::respond(&error, asked, self.exchange.origin.audience());
        if !asked.grpc {
            let location = HeaderValue::try_from(location).map_err(|_| {
                ProxyError::new(Reason::Internal, "the redirect's location is no field's value")
            })?;
            response.head.headers.insert(header::LOCATION, location);
        }
        record.answered(Reason::RouteRedirect);
        Ok(Some(response))
    }
}

#[cfg(test)]
mod tests;
