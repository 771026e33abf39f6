//! ONE request, from its head to its record: the life of every HTTP request through the proxy.
//!
//! ```text
//! record start -> sanitize -> route -> filters -> authorize -> admit ->
//!   faults -> turn -> loop { pick endpoint -> breaker -> connection -> send -> judge } ->
//! filters on the response -> record end
//! ```
//!
//! Comes in: a [`Request`] from either server codec. Goes out: a [`Response`], always; what the proxy itself
//! ended has a reason. The request sees one snapshot of its destination from start to end.
//!
//! - `course`: which rule of a route takes it, its filters, its backend; `mirror`: copies of it;
//! - `admission`: who may do what, and how much of it, at the server's side; `passage`: for how long;
//! - `carry`: what a request became that asked for another protocol;
//! - `attempts`: everything from the pick of an endpoint to a response's head.

pub(crate) mod admission;
mod attempts;
pub(crate) mod carry;
pub mod connect;
mod course;
mod mirror;
pub mod origin;
pub mod passage;
pub mod record;

use std::rc::Rc;

use http::Method;

pub use mirror::{CopiedBody, Mirrors};
pub use origin::{Inbound, Origin, Outbound};
pub use passage::Requests;
pub use record::{Record, RecordedBody};

use crate::{
    error::ProxyError,
    http::{Asked, Audience, Handler, Request, Response, Takeover, Tunnel, respond, side},
    outside,
    shared::Shared,
};
use admission::Admission;
use attempts::{Call, Routed};
use course::Course;

/// Answers the requests of one client connection.
#[derive(Debug)]
pub struct Exchange {
    shared: Rc<Shared>,
    origin: Origin,
}

impl Handler for Exchange {
    async fn handle(&self, mut request: Request) -> Response {
        let mut record = Record::start(&self.shared, &self.origin, &request.head);
        let served = self.serve(&mut request, &mut record).await;
        let attempts = record.attempts();
        let mut response = match served {
            Ok(mut response) => {
                admission::inform(&record, &mut response);
                record.keep(request.head, &mut response);
                self.origin.keep_with(&mut response, &mut record);
                record.follow(response)
            }
            Err(error) => {
                let mut response = respond::respond(&error, &request.head, self.origin.audience());
                admission::inform(&record, &mut response);
                record.refuse(error, response)
            }
        };
        if attempts > 1 && self.origin.audience() == Audience::Local {
            side::put_attempts(&mut response.head.headers, attempts);
        }
        response
    }

    fn refuse(&self, error: ProxyError, asked: Asked) -> Response {
        let response = respond::respond(&error, asked, self.origin.audience());
        Record::unread(&self.shared, &self.origin, asked).refuse(error, response)
    }

    async fn carry(&self, client: &Tunnel, takeover: Takeover) {
        self.go_on(client, takeover).await;
    }
}

impl Exchange {
    /// For one client connection.
    #[must_use]
    pub const fn new(shared: Rc<Shared>, origin: Origin) -> Self {
        Self { shared, origin }
    }

    /// The phases of a request, in order.
    async fn serve(
        &self,
        request: &mut Request,
        record: &mut Record,
    ) -> Result<Response, ProxyError> {
        // 1. Sanitize: what only the mesh may say is taken from who is not the mesh.
        let deadline = record.handed_on(&self.origin, &request.head);
        self.origin.sanitize(&mut request.head);

        if request.head.method == Method::CONNECT {
            return connect::tunnel(&self.shared, &self.origin, &request.head).await;
        }

        // 2. Route: the service, the rule of its routes that takes the request, and the snapshot that it keeps.
        let service = self.origin.route(&self.shared, &mut request.head).await?;
        record.routed(&service);
        let mut course = Course::choose(service, &request.head, record)?;

        // 3. Filters on the request, and the backend that gets it; a redirect is the answer.
        if let Some(redirect) = course.prepare(self, request, record).await? {
            return Ok(redirect);
        }
        let Course { service, snapshot, .. } = &course;

        if let Some(admission) = Admission::of(&self.shared, &self.origin, &request.head) {
            // 4. Authorize: access policy, on the server's side.
            admission.authorize(record)?;
            // 5. Admit: rate limits, and the application's turn.
            admission.admit(record, deadline).await?;
        }

        // 6. Attempts.
        let routed = Routed { service, snapshot, policy: course.policy(), deadline };
        let mut call = Call::new(self, routed, request, record.began());
        let mut response = call.respond(record).await?;

        outside::bound_takeover(service, &mut response);

        // 7. Filters on the response of the backend.
        self.origin.sanitize_response(&mut response.head);
        course.finish(&mut response.head);
        Ok(response)
    }
}

#[cfg(test)]
mod tests;
