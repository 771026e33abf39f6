//! One request, from its head to its answer.
//!
//! In come HTTP requests, out go objects, streams of events, or `Status` objects. The order: count, faults, who asks,
//! what for, may they, and only then what is there; so a caller without rights learns nothing but that.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::body::{Body, to_bytes};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    addresses::ServiceRange,
    admission::ServiceAddresses,
    binding,
    caller::Caller,
    delete::{delete, delete_collection},
    discovery,
    failure::Failure,
    faults::Faults,
    kinds::{Kind, REVIEWS},
    rbac::Action,
    read,
    request::{Asked, Target, Verb},
    reviews,
    store::Store,
    tokens::{API_AUDIENCE, Tokens},
    watch::Watch,
    write::{Write, Written},
};

/// The largest body that is read, as Kubernetes has it.
const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// Everything that answers are made of.
#[derive(Debug)]
pub struct Server {
    store: Arc<Mutex<Store>>,
    changed: watch::Sender<u64>,
    /// The admin's token.
    pub admin_token: String,
    /// The service accounts' tokens.
    pub tokens: Tokens,
    /// The Services' cluster addresses.
    pub addresses: ServiceRange,
    /// Where Services that webhooks stand behind are served.
    pub services: ServiceAddresses,
    /// What goes wrong.
    pub faults: Faults,
}

/// What a request is answered with.
enum Answer {
    Object(Written),
    Events(Box<Watch>),
}

impl Server {
    /// A server with nothing in it.
    #[must_use]
    pub fn new(addresses: ServiceRange) -> Self {
        Self {
            store: Arc::default(),
            changed: watch::Sender::new(0),
            admin_token: format!("admin-{:032x}", fastrand::u128(..)),
            tokens: Tokens::default(),
            addresses,
            services: ServiceAddresses::default(),
            faults: Faults::default(),
        }
    }

    /// The objects.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the watches.
    pub fn announce(&self, store: &Store) {
        self.changed.send_replace(store.version());
    }

    /// Answers a request.
    pub async fn answer(
        self: Arc<Self>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Infallible> {
        let (head, body) = request.into_parts();
        tokio::time::sleep(self.faults.latency()).await;
        let body = match to_bytes(body, BODY_LIMIT).await {
            Ok(body) => body,
            Err(error) => return Ok(refusal(&Failure::bad_request(error.to_string()))),
        };
        let asked = Asked::of(&head.method, &head.uri, &head.headers, body);
        if let Ok(Some(asked)) = &asked {
            self.faults.count(asked);
        }
        let answered = match (self.faults.let_through(), self.caller(&head.headers), asked) {
            (Err(failure), ..) | (_, Err(failure), _) | (_, _, Err(failure)) => Err(failure),
            (Ok(()), Ok(caller), Ok(None)) => self.about_itself(&caller, head.uri.path()),
            (Ok(()), Ok(caller), Ok(Some(asked))) => self.about_objects(&caller, &asked).await,
        };
        Ok(match answered {
            Ok(Answer::Object(written)) => object(&written),
            Ok(Answer::Events(watch)) => self.events(*watch),
            Err(failure) => refusal(&failure),
        })
    }

    /// Who asks, by the token.
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, Failure> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Ok(Caller::anonymous());
        };
        let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
        let token = token.ok_or_else(Failure::unauthorized)?.trim();
        if token == self.admin_token {
            return Ok(Caller::admin());
        }
        let audiences = [API_AUDIENCE.to_owned()];
        let found = self.tokens.caller(&self.store(), token, &audiences);
        found.map(|(caller, _)| caller).map_err(|_| Failure::unauthorized())
    }

    /// Requests about the server.
    fn about_itself(&self, caller: &Caller, path: &str) -> Result<Answer, Failure> {
        let store = self.store();
        let action =
            Action { verb: "get".to_owned(), target: Target::default(), path: path.to_owned() };
        action.authorize(&store, caller)?;
        let object = discovery::document(&store, path).ok_or_else(Failure::no_such_path)?;
        Ok(Answer::Object(Written { object, code: StatusCode::OK, warnings: Vec::new() }))
    }

    /// Requests about objects.
    async fn about_objects(&self, caller: &Caller, asked: &Asked) -> Result<Answer, Failure> {
        let kind = self.permitted(caller, asked)?;
        let Some(kind) = kind else {
            let object = reviews::answer(self, caller, asked)?;
            let written = Written { object, code: StatusCode::CREATED, warnings: Vec::new() };
            return Ok(Answer::Object(written));
        };
        check_verb(&kind, asked)?;
        let write = Write { server: self, kind: &kind, asked, caller };
        let read = |object| Written { object, code: StatusCode::OK, warnings: Vec::new() };
        Ok(match (asked.verb, asked.target.subresource.as_str()) {
            (Verb::Get, _) => Answer::Object(read(read::get(&self.store(), &kind, &asked.target)?)),
            (Verb::List, _) => Answer::Object(read(read::list(&self.store(), &kind, asked)?)),
            (Verb::Watch, _) => {
                let watch = Watch::begin(&self.store, self.changed.subscribe(), kind, asked)?;
                Answer::Events(Box::new(watch))
            }
            (Verb::Create, "token") => {
                let object = self.tokens.request(&self.store(), asked)?;
                Answer::Object(Written { object, code: StatusCode::CREATED, warnings: Vec::new() })
            }
            (Verb::Create, "binding") => Answer::Object(binding::bind(self, &kind, asked)?),
            (Verb::Create, _) => Answer::Object(write.create().await?),
            (Verb::Update, _) => Answer::Object(write.update().await?),
            (Verb::Patch, _) => Answer::Object(write.patch().await?),
            (Verb::Delete, _) => Answer::Object(delete(self, &kind, asked)?),
            (Verb::DeleteCollection, _) => Answer::Object(delete_collection(self, &kind, asked)?),
        })
    }

    /// The kind that is asked for, after the caller's rights were checked; none for reviews.
    fn permitted(&self, caller: &Caller, asked: &Asked) -> Result<Option<Arc<Kind>>, Failure> {
        let store = self.store();
        let target = &asked.target;
        let verb = asked.verb.as_str().to_owned();
        let mut sought = target.clone();
        // Who lists or watches one object by its name needs rights to that one alone.
        if let (true, Some(name)) = (sought.name.is_empty(), asked.options.fields.name()) {
            name.clone_into(&mut sought.name);
        }
        Action { verb, target: sought, path: String::new() }.authorize(&store, caller)?;
        let is_review = |(group, resource, _): &&(&str, &str, &str)| {
            *group == target.group && *resource == target.resource && target.version == "v1"
        };
        if REVIEWS.iter().any(|review| is_review(&review)) {
            return if asked.verb == Verb::Create {
                Ok(None)
            } else {
                Err(Failure::no_such_verb())
            };
        }
        let kind = store.kind(&target.group, &target.version, &target.resource);
        kind.map(Some).ok_or_else(Failure::no_such_path)
    }

    /// A watch's answer: lines, until it ends or is cut.
    fn events(self: Arc<Self>, watch: Watch) -> Response<Body> {
        let lines = watch.lines().map(move |line| {
            if self.faults.cuts_now() {
                return vec![
                    Ok(line.slice(..line.len() / 2)),
                    Err(io::Error::from(io::ErrorKind::ConnectionReset)),
                ];
            }
            vec![Ok(line)]
        });
        let body = Body::from_stream(lines.flat_map(futures_util::stream::iter));
        let mut response = Response::new(body);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// Whether the kind takes the verb there: namespaced kinds are made in a namespace, subresources have few verbs.
fn check_verb(kind: &Kind, asked: &Asked) -> Result<(), Failure> {
    let target = &asked.target;
    let nowhere = kind.namespaced && target.namespace.is_empty();
    let misplaced = !kind.namespaced && !target.namespace.is_empty() && !kind.is("namespaces");
    if misplaced || (nowhere && !target.name.is_empty()) {
        return Err(Failure::no_such_path());
    }
    if nowhere && matches!(asked.verb, Verb::Create | Verb::DeleteCollection) {
        return Err(Failure::no_such_verb());
    }
    match target.subresource.as_str() {
        "" if asked.verb == Verb::Create && !target.name.is_empty() => Err(Failure::no_such_verb()),
        "" if asked.verb == Verb::DeleteCollection && kind.is("namespaces") => {
            Err(Failure::no_such_verb())
        }
        "" => Ok(()),
        subresource if !kind.has_subresource(subresource) => Err(Failure::no_such_path()),
        subresource => match (subresource, asked.verb) {
            ("status", Verb::Get | Verb::Update | Verb::Patch)
            | ("finalize", Verb::Update)
            | ("token" | "binding", Verb::Create) => Ok(()),
            _ => Err(Failure::no_such_verb()),
        },
    }
}

fn object(written: &Written) -> Response<Body> {
    let mut response = json_response(written.code, &written.object);
    for warning in &written.warnings {
        let text = format!("299 - {}", json!(warning));
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

fn refusal(failure: &Failure) -> Response<Body> {
    let code = StatusCode::from_u16(failure.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_response(code, &failure.to_status());
    if let Some(seconds) = failure.details["retryAfterSeconds"].as_u64() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn json_response(code: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
