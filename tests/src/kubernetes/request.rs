//! What a request asks for: the verb, the resource, the object and the options, read from method, path and query.
//!
//! In come HTTP's words, out goes [`Asked`]. Whether the resource exists, and whether it may be done, is decided
//! elsewhere.

use std::collections::HashMap;

use axum::extract::Query;
use bytes::Bytes;
use http::{HeaderMap, Method, Uri, header};
use serde_json::Value;

use super::{
    failure::Failure,
    selector::{FieldSelector, LabelSelector},
};

/// Kubernetes' verbs, as RBAC names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Reads one object.
    Get,
    /// Reads many.
    List,
    /// Reads changes.
    Watch,
    /// Makes an object.
    Create,
    /// Replaces an object.
    Update,
    /// Changes or applies an object.
    Patch,
    /// Removes an object.
    Delete,
    /// Removes many.
    DeleteCollection,
}

impl Verb {
    /// As RBAC writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// Where a request points.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// The API group; empty for core.
    pub group: String,
    /// The group's version.
    pub version: String,
    /// The resource, as `pods`.
    pub resource: String,
    /// Empty for all namespaces and for what has none.
    pub namespace: String,
    /// Empty for a collection.
    pub name: String,
    /// `status`, `token` …, or empty.
    pub subresource: String,
}

/// A request for objects.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What is to be done.
    pub verb: Verb,
    /// With what.
    pub target: Target,
    /// How.
    pub options: Options,
    /// The media type of the body, without parameters.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
}

/// The options that queries carry.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which labels.
    pub labels: LabelSelector,
    /// Which fields.
    pub fields: FieldSelector,
    /// At most so many objects; 0 is all.
    pub limit: usize,
    /// Where a list goes on.
    pub continue_token: String,
    /// As of which version; empty is the newest.
    pub resource_version: String,
    /// How the version is meant.
    pub resource_version_match: String,
    /// Whether bookmarks are wanted.
    pub bookmarks: bool,
    /// Whether a watch begins with what there is.
    pub send_initial_events: Option<bool>,
    /// How long a watch lasts.
    pub timeout_seconds: Option<u64>,
    /// Who owns the fields that are set.
    pub field_manager: String,
    /// Whether fields of others are taken.
    pub force: bool,
    /// Whether it is only tried.
    pub dry_run: bool,
    /// What happens to unknown fields.
    pub field_validation: FieldValidation,
}

/// What happens to unknown fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped silently.
    Ignore,
    /// They are dropped, and a `Warning` header says so.
    #[default]
    Warn,
    /// The request is refused.
    Strict,
}

impl Target {
    /// Reads a path below `/api` or `/apis`; none for other paths.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let mut parts = path.trim_matches('/').split('/').map(str::to_owned);
        let group = match parts.next()?.as_str() {
            "api" => String::new(),
            "apis" => parts.next()?,
            _ => return None,
        };
        let version = parts.next()?;
        let mut rest: Vec<String> = parts.collect();
        let mut target = Self { group, version, ..Self::default() };
        let of_namespace_itself =
            rest.len() == 3 && matches!(rest[2].as_str(), "status" | "finalize");
        if rest.len() >= 3 && rest[0] == "namespaces" && !of_namespace_itself {
            rest.remove(0);
            target.namespace = rest.remove(0);
        }
        if rest.is_empty() || rest.len() > 3 || rest.iter().any(String::is_empty) {
            return None;
        }
        let mut rest = rest.into_iter();
        target.resource = rest.next().unwrap_or_default();
        target.name = rest.next().unwrap_or_default();
        target.subresource = rest.next().unwrap_or_default();
        if target.resource == "namespaces" {
            target.namespace.clone_from(&target.name);
        }
        Some(target)
    }

    /// `pods` or `pods/status`, as RBAC and admission rules name it.
    #[must_use]
    pub fn resource_and_subresource(&self) -> String {
        match self.subresource.as_str() {
            "" => self.resource.clone(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }
}

impl Asked {
    /// Reads a request; none when it is not about objects.
    ///
    /// # Errors
    /// When the method or an option cannot be understood.
    pub fn of(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Option<Self>, Failure> {
        let Some(mut target) = Target::of_path(uri.path()) else { return Ok(None) };
        let query: HashMap<String, String> = match Query::try_from_uri(uri) {
            Ok(Query(query)) => query,
            Err(error) => return Err(Failure::bad_request(error.body_text())),
        };
        let watch = query.get("watch").is_some_and(|watch| is_true(watch));
        let mut options = Options::of_query(&query)?;
        let verb = match (method, target.name.is_empty()) {
            (&Method::GET, _) if watch => {
                watch_one(&mut target, &mut options);
                Verb::Watch
            }
            (&Method::GET, true) => Verb::List,
            (&Method::GET, false) => Verb::Get,
            (&Method::POST, _) => Verb::Create,
            (&Method::PUT, false) => Verb::Update,
            (&Method::PATCH, false) => Verb::Patch,
            (&Method::DELETE, false) => Verb::Delete,
            (&Method::DELETE, true) => Verb::DeleteCollection,
            _ => return Err(Failure::no_such_verb()),
        };
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        let content_type = header(header::CONTENT_TYPE).split(';').next().unwrap_or_default();
        if options.field_manager.is_empty() {
            let agent = header(header::USER_AGENT).split('/').next().unwrap_or_default();
            options.field_manager = if agent.is_empty() { "unknown" } else { agent }.to_owned();
        }
        Ok(Some(Self { verb, target, options, content_type: content_type.trim().to_owned(), body }))
    }

    /// The body as JSON, which may be written as YAML.
    ///
    /// # Errors
    /// When it is neither.
    pub fn json(&self) -> Result<Value, Failure> {
        let yaml = self.content_type.ends_with("yaml");
        match self.content_type.as_str() {
            _ if yaml => serde_norway::from_slice(&self.body)
                .map_err(|error| Failure::bad_request(format!("error decoding YAML: {error}"))),
            "" | "application/json" => read_json(&self.body),
            kind if kind.ends_with("+json") => read_json(&self.body),
            other => Err(Failure::unsupported_media(other)),
        }
    }
}

impl Options {
    fn of_query(query: &HashMap<String, String>) -> Result<Self, Failure> {
        let text = |name: &str| query.get(name).cloned().unwrap_or_default();
        let flag = |name: &str| query.get(name).is_some_and(|value| is_true(value));
        let number = |name: &str| match query.get(name) {
            None => Ok(None),
            Some(value) => value.parse::<u64>().map(Some).map_err(|_| {
                Failure::bad_request(format!("{name}: {value:?} is not a number of 0 or more"))
            }),
        };
        let dry_run = match text("dryRun").as_str() {
            "" => false,
            "All" => true,
            other => {
                let why =
                    format!("dryRun: Unsupported value: {other:?}: supported values: \"All\"");
                return Err(Failure::bad_request(why));
            }
        };
        let field_validation = match text("fieldValidation").as_str() {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let why = format!(
                    "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Warn\", \"Strict\""
                );
                return Err(Failure::bad_request(why));
            }
        };
        Ok(Self {
            labels: LabelSelector::parse(&text("labelSelector"))?,
            fields: FieldSelector::parse(&text("fieldSelector"))?,
            limit: number("limit")?.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(0),
            continue_token: text("continue"),
            resource_version: text("resourceVersion"),
            resource_version_match: text("resourceVersionMatch"),
            bookmarks: flag("allowWatchBookmarks"),
            send_initial_events: query.get("sendInitialEvents").map(|value| is_true(value)),
            timeout_seconds: number("timeoutSeconds")?,
            field_manager: text("fieldManager"),
            force: flag("force"),
            dry_run,
            field_validation,
        })
    }
}

/// A watch of one object is one of its collection, with a selector.
fn watch_one(target: &mut Target, options: &mut Options) {
    let name = std::mem::take(&mut target.name);
    if target.resource == "namespaces" {
        target.namespace.clear();
    }
    if !name.is_empty() {
        options.fields.require("metadata.name", &name);
    }
}

fn is_true(value: &str) -> bool {
    matches!(value, "true" | "1" | "")
}

fn read_json(body: &Bytes) -> Result<Value, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::bad_request(format!("error decoding JSON: {error}")))
}
