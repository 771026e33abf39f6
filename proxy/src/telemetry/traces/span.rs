//! The spans of one request, from its head to its response's end.
//!
//! Attributes follow OpenTelemetry's semantic conventions for HTTP and gRPC; Weft's own begin with `weft.`. Paths
//! stand without their query, which may hold secrets. A request that is not sampled has spans too, which carry
//! its trace context on and are dropped at their end.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::Method;
use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::{Shared, inject, new_span_id};
use crate::{
    clock::{self, Instant},
    discovery::Endpoint,
    http::{Fields, RequestHead},
    reason::Reason,
    telemetry::{Direction, RequestOutcome},
};

/// The server span and the client span of one request.
#[derive(Debug)]
pub struct RequestSpan {
    common: Common,
    direction: Direction,
    server: Began,
    /// Begins with the first attempt.
    client: Option<Began>,
    parent: Option<SpanId>,
    method: Method,
    path: String,
    grpc: bool,
    /// What telemetry calls the service, once routed.
    service: Option<Arc<str>>,
    /// The rule of a route that took it.
    route: Option<Arc<str>>,
    /// The service port that the rule sent it to.
    backend: Option<Arc<str>>,
    client_id: Option<String>,
    attempts: u32,
}

/// What all spans of a request share.
#[derive(Debug, Clone)]
struct Common {
    shared: Arc<Shared>,
    trace: TraceId,
    sampled: bool,
}

/// A span that has begun: both clocks, so that its length is exact whatever the wall clock does.
#[derive(Debug, Clone, Copy)]
struct Began {
    id: SpanId,
    at: SystemTime,
    instant: Instant,
}

impl Began {
    fn now() -> Self {
        let at = SystemTime::UNIX_EPOCH + clock::since_epoch();
        Self { id: new_span_id(), at, instant: clock::now() }
    }

    fn elapsed(&self) -> Duration {
        clock::now().saturating_duration_since(self.instant)
    }
}

impl RequestSpan {
    pub(super) fn new(
        shared: Arc<Shared>,
        trace: TraceId,
        parent: Option<SpanId>,
        sampled: bool,
        direction: Direction,
        head: &RequestHead,
    ) -> Self {
        Self {
            common: Common { shared, trace, sampled },
            direction,
            server: Began::now(),
            client: None,
            parent,
            method: head.method.clone(),
            path: if sampled { head.target.path().to_owned() } else { String::new() },
            grpc: head.is_grpc(),
            service: None,
            route: None,
            backend: None,
            client_id: None,
            attempts: 0,
        }
    }

    /// The trace, 32 hexadecimal digits, for the access log.
    #[must_use]
    pub fn trace_id(&self) -> String {
        self.common.trace.to_string()
    }

    /// The request goes to this service.
    pub fn routed(&mut self, service: &Arc<str>) {
        self.service = Some(Arc::clone(service));
    }

    /// A rule of the service's routes took it.
    pub fn taken_by(&mut self, route: &Arc<str>) {
        self.route = Some(Arc::clone(route));
    }

    /// The rule sent it to this service port.
    pub fn sent_to(&mut self, backend: &Arc<str>) {
        self.backend = Some(Arc::clone(backend));
    }

    /// Who called, verified.
    pub fn called_by(&mut self, identity: &weft_proto::SpiffeId) {
        self.client_id = Some(identity.to_string());
    }

    /// An attempt begins at this endpoint.
    #[must_use]
    pub fn attempt(&mut self, endpoint: &Endpoint) -> AttemptSpan {
        self.attempts += 1;
        let client = *self.client.get_or_insert_with(Began::now);
        let mut attributes = Vec::new();
        if self.common.sampled {
            attributes.push(KeyValue::new("weft.endpoint", endpoint.id.to_string()));
            let (ip, port) = (endpoint.address.ip(), endpoint.address.port());
            attributes.push(KeyValue::new("network.peer.address", ip.to_string()));
            attributes.push(KeyValue::new("network.peer.port", i64::from(port)));
            if self.attempts > 1 {
                let resent = i64::from(self.attempts - 1);
                attributes.push(KeyValue::new("http.request.resend_count", resent));
            }
        }
        AttemptSpan {
            common: self.common.clone(),
            began: Began::now(),
            parent: client.id,
            name: self.name(),
            attributes,
        }
    }

    /// The request ended.
    pub fn end(self, outcome: &RequestOutcome) {
        if !self.common.sampled {
            return;
        }
        let name = self.name();
        let mut attributes = self.attributes(outcome);
        if let Some(client) = self.client {
            let error = outcome.reason.is_some() || outcome.status >= 400;
            let status = status(error, outcome.reason);
            let span =
                self.common.span(client, Some(self.server.id), SpanKind::Client, name.clone());
            self.common.finish(SpanData { attributes: attributes.clone(), status, ..span });
        }
        attributes.push(KeyValue::new("url.path", self.path));
        if let Some(client_id) = self.client_id {
            attributes.push(KeyValue::new("weft.client.id", client_id));
        }
        let error = outcome.reason.is_some_and(is_failure) || outcome.status >= 500;
        let span = SpanData {
            attributes,
            status: status(error, outcome.reason),
            parent_span_is_remote: self.parent.is_some(),
            ..self.common.span(self.server, self.parent, SpanKind::Server, name)
        };
        self.common.finish(span);
    }

    /// A gRPC method's full name, or the HTTP method: few different ones.
    fn name(&self) -> Cow<'static, str> {
        if self.grpc && !self.path.is_empty() {
            return self.path.trim_start_matches('/').to_owned().into();
        }
        match self.method {
            Method::GET => "GET".into(),
            Method::POST => "POST".into(),
            _ => self.method.to_string().into(),
        }
    }

    fn attributes(&self, outcome: &RequestOutcome) -> Vec<KeyValue> {
        let mut attributes = vec![
            KeyValue::new("weft.direction", self.direction.as_str()),
            KeyValue::new("weft.tls", outcome.tls.as_str()),
            KeyValue::new("weft.attempts", i64::from(self.attempts)),
            KeyValue::new("http.request.method", self.method.to_string()),
            KeyValue::new("http.response.status_code", i64::from(outcome.status)),
        ];
        if let Some(service) = &self.service {
            attributes.push(KeyValue::new("weft.service", service.to_string()));
        }
        for (key, value) in [("weft.route", &self.route), ("weft.backend", &self.backend)] {
            if let Some(value) = value {
                attributes.push(KeyValue::new(key, value.to_string()));
            }
        }
        if let Some(grpc_status) = outcome.grpc_status {
            attributes.push(KeyValue::new("rpc.grpc.status_code", i64::from(grpc_status)));
        }
        if let Some(reason) = outcome.reason {
            attributes.push(KeyValue::new("weft.reason", reason.code()));
            if is_failure(reason) {
                attributes.push(KeyValue::new("error.type", reason.code()));
            }
        } else if outcome.status >= 500 {
            attributes.push(KeyValue::new("error.type", outcome.status.to_string()));
        }
        attributes
    }
}

/// The span of one attempt.
#[derive(Debug)]
pub struct AttemptSpan {
    common: Common,
    began: Began,
    parent: SpanId,
    name: Cow<'static, str>,
    attributes: Vec<KeyValue>,
}

impl AttemptSpan {
    /// Makes this attempt the parent of what the next hop does with the request.
    pub fn inject(&self, headers: &mut Fields) {
        inject(headers, self.common.trace, self.began.id, self.common.sampled);
    }

    /// The response's head came, with this status, or the attempt failed. An attempt that is dropped without
    /// an end leaves no span.
    pub fn end(self, result: Result<u16, Reason>) {
        if !self.common.sampled {
            return;
        }
        let Self { common, began, parent, name, mut attributes } = self;
        let (error, reason) = match result {
            Ok(status) => {
                attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
                (status >= 400, None)
            }
            Err(reason) => {
                attributes.push(KeyValue::new("weft.reason", reason.code()));
                attributes.push(KeyValue::new("error.type", reason.code()));
                (true, Some(reason))
            }
        };
        let span = common.span(began, Some(parent), SpanKind::Client, name);
        common.finish(SpanData { attributes, status: status(error, reason), ..span });
    }
}

impl Common {
    /// A span that ends now.
    fn span(
        &self,
        began: Began,
        parent: Option<SpanId>,
        span_kind: SpanKind,
        name: Cow<'static, str>,
    ) -> SpanData {
        let (flags, state) = (TraceFlags::SAMPLED, TraceState::NONE);
        SpanData {
            span_context: SpanContext::new(self.trace, began.id, flags, false, state),
            parent_span_id: parent.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: false,
            span_kind,
            name,
            start_time: began.at,
            end_time: began.at + began.elapsed(),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("weft-proxy")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }

    fn finish(&self, span: SpanData) {
        self.shared.finish(span);
    }
}

/// A redirect is what a route says.
fn is_failure(reason: Reason) -> bool {
    reason != Reason::RouteRedirect
}

fn status(error: bool, reason: Option<Reason>) -> Status {
    match (error, reason) {
        (false, _) => Status::Unset,
        (true, Some(reason)) => Status::error(reason.meaning()),
        (true, None) => Status::error(""),
    }
}
