//! The API server's question and the answer (`AdmissionReview`, admission.k8s.io/v1): bytes come in, what they ask
//! goes out; an outcome comes in, the answer goes out. Nothing is kept, so a dry run is a run.

use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Outcome, Reason, object, shape::strings};
use crate::model::{FieldError, OwnerReference, workload_name};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// What the API server asks.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Question,
}

/// One object that is about to be made.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// Names the question; the answer repeats it.
    pub uid: String,
    /// The object's kind.
    pub kind: GroupVersionKind,
    /// Its namespace; the object itself may not name it yet.
    #[serde(default)]
    pub namespace: String,
    /// "CREATE", …
    pub operation: String,
    /// The object.
    #[serde(default)]
    pub object: Value,
}

/// A kind as the API server names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GroupVersionKind {
    /// Empty for the core.
    #[serde(default)]
    pub group: String,
    /// "v1".
    pub version: String,
    /// "Pod".
    pub kind: String,
}

/// What the API server is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<ByteString>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
}

impl Question {
    /// Reads a question.
    ///
    /// # Errors
    /// Says what is wrong with the bytes.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let review: Review =
            serde_json::from_slice(bytes).map_err(|error| format!("no {KIND}: {error}"))?;
        if review.api_version != API_VERSION || review.kind != KIND {
            let (version, kind) = (&review.api_version, &review.kind);
            return Err(format!("{version} {kind} is not known here: send {API_VERSION} {KIND}"));
        }
        Ok(review.request)
    }

    /// Whether it is about a new pod.
    #[must_use]
    pub fn is_new_pod(&self) -> bool {
        self.kind.group.is_empty() && self.kind.kind == "Pod" && self.operation == "CREATE"
    }

    /// The pod's workload. A pod that a controller makes has no name yet, only what it will begin with.
    #[must_use]
    pub fn workload(&self) -> String {
        let metadata = &self.object["metadata"];
        let owners: Vec<_> = metadata["ownerReferences"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|owner| OwnerReference {
                kind: owner["kind"].as_str().unwrap_or_default().to_owned(),
                name: owner["name"].as_str().unwrap_or_default().to_owned(),
                controller: owner["controller"].as_bool().unwrap_or_default(),
            })
            .collect();
        let (annotations, labels) =
            (strings(metadata.get("annotations")), strings(metadata.get("labels")));
        workload_name(&annotations, &labels, &owners, &object::name(&self.object))
    }

    /// What the pod is called in logs.
    #[must_use]
    pub fn pod(&self) -> String {
        format!("{}/{}", self.namespace, object::name(&self.object))
    }
}

impl Answer {
    /// Carries out an outcome.
    #[must_use]
    pub fn new(question: &Question, outcome: &Outcome) -> Self {
        let response = match outcome {
            Outcome::Injected { object, warnings } => injected(question, object, warnings),
            Outcome::Left(reason) => left(question, reason),
            Outcome::Refused(errors) => refused(question, errors),
        };
        Self { api_version: API_VERSION, kind: KIND, response }
    }
}

fn allowed(question: &Question) -> Response {
    Response {
        uid: question.uid.clone(),
        allowed: true,
        status: None,
        patch_type: None,
        patch: None,
        warnings: Vec::new(),
    }
}

fn injected(question: &Question, object: &Value, warnings: &[String]) -> Response {
    let patch = json_patch::diff(&question.object, object);
    // A patch is made of JSON and is JSON again.
    let patch = serde_json::to_vec(&patch).ok().map(ByteString);
    let warnings = warnings.iter().map(|warning| format!("weft: {warning}")).collect();
    Response { patch_type: Some("JSONPatch"), patch, warnings, ..allowed(question) }
}

fn left(question: &Question, reason: &Reason) -> Response {
    let mut response = allowed(question);
    if reason.is_surprising() {
        response.warnings.push(format!("weft: this pod gets no sidecar: {reason}"));
    }
    response
}

fn refused(question: &Question, errors: &[FieldError]) -> Response {
    let listed: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let message = format!("weft cannot inject pod {}: {}", question.pod(), listed.join("; "));
    let status = Some(Status { code: 422, reason: "Invalid", message });
    Response { allowed: false, status, ..allowed(question) }
}
