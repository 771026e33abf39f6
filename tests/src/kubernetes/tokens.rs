//! Tokens of service accounts: issued by TokenRequest, checked by TokenReview and at every request.
//!
//! In come requests for tokens and tokens, out go tokens that look like Kubernetes' (three parts, readable claims) and
//! callers. A token is believed because it is remembered, not for its signature, and only as long as account and pod
//! are there: a deleted pod's token is worth nothing, a terminating one's for a minute more.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use http::StatusCode;
use k8s_openapi::{
    ByteString,
    jiff::{Timestamp, ToSpan},
};
use serde_json::{Value, json};

use super::{
    caller::Caller,
    failure::{Cause, Failure},
    kinds::{Kind, built_in},
    metadata::{in_seconds, new_uid},
    request::Asked,
    store::Store,
};

/// Whom tokens are for that say nothing else.
pub const API_AUDIENCE: &str = "https://kubernetes.default.svc";

/// How long tokens outlive the deletion time of what they are bound to.
const LEEWAY_SECONDS: i64 = 60;

/// The tokens that were issued.
#[derive(Debug, Default)]
pub struct Tokens {
    issued: Mutex<HashMap<String, Issued>>,
}

#[derive(Debug, Clone)]
struct Issued {
    namespace: String,
    account: String,
    account_uid: String,
    audiences: Vec<String>,
    expires: Timestamp,
    /// Name and uid of the pod that it is bound to.
    pod: Option<(String, String)>,
    id: String,
}

impl Tokens {
    /// Answers a TokenRequest.
    ///
    /// # Errors
    /// When the account or the pod is not there, or not that one, or the request makes no sense.
    pub fn request(&self, store: &Store, asked: &Asked) -> Result<Value, Failure> {
        let (namespace, name) = (&asked.target.namespace, &asked.target.name);
        let accounts = built_in("serviceaccounts");
        let account = store
            .find("serviceaccounts", namespace, name)
            .ok_or_else(|| Failure::not_found(&accounts, name))?;
        let mut request = asked.json()?;
        let spec = request["spec"].clone();
        let seconds = spec["expirationSeconds"].as_i64().unwrap_or(3600);
        if seconds < 600 {
            let field = "spec.expirationSeconds";
            let why = "may not specify a duration less than 10 minutes";
            return Err(refuse_request(Cause::invalid(field, &json!(seconds), why)));
        }
        let mut audiences = texts(&spec["audiences"]);
        if audiences.is_empty() {
            audiences.push(API_AUDIENCE.to_owned());
        }
        let pod = bound_pod(store, namespace, name, &spec["boundObjectRef"])?;
        let expires = Timestamp::now().checked_add(seconds.seconds()).unwrap_or(Timestamp::MAX);
        let issued = Issued {
            namespace: namespace.clone(),
            account: name.clone(),
            account_uid: account["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
            audiences,
            expires,
            pod,
            id: new_uid(),
        };
        let token = issued.to_token();
        request["apiVersion"] = json!("authentication.k8s.io/v1");
        request["kind"] = json!("TokenRequest");
        request["metadata"] = json!({"name": name, "namespace": namespace});
        request["spec"]["audiences"] = json!(issued.audiences);
        request["spec"]["expirationSeconds"] = json!(seconds);
        request["status"] = json!({"token": token, "expirationTimestamp": in_seconds(seconds)});
        self.issued.lock().unwrap_or_else(PoisonError::into_inner).insert(token, issued);
        Ok(request)
    }

    /// Answers a TokenReview.
    ///
    /// # Errors
    /// When the request makes no sense; a token that is not believed is an answer.
    pub fn review(&self, store: &Store, asked: &Asked) -> Result<Value, Failure> {
        let mut review = asked.json()?;
        let token = review["spec"]["token"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            return Err(Failure::bad_request(
                "token is required for TokenReview in authentication",
            ));
        }
        let mut audiences = texts(&review["spec"]["audiences"]);
        if audiences.is_empty() {
            audiences.push(API_AUDIENCE.to_owned());
        }
        review["apiVersion"] = json!("authentication.k8s.io/v1");
        review["kind"] = json!("TokenReview");
        review["status"] = match self.caller(store, &token, &audiences) {
            Ok((caller, audiences)) => json!({
                "authenticated": true, "user": caller.to_value(), "audiences": audiences,
            }),
            Err(why) => json!({"user": {}, "error": format!("[invalid bearer token, {why}]")}),
        };
        Ok(review)
    }

    /// Whose a token is, and which of the audiences it is for.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn caller(
        &self,
        store: &Store,
        token: &str,
        audiences: &[String],
    ) -> Result<(Caller, Vec<String>), String> {
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned();
        let issued = issued.ok_or("the token was not issued here")?;
        if issued.expires <= Timestamp::now() {
            return Err("service account token has expired".to_owned());
        }
        let meant: Vec<String> =
            issued.audiences.iter().filter(|one| audiences.contains(one)).cloned().collect();
        if meant.is_empty() {
            return Err(format!(
                "token audiences {:?} is invalid for the target audiences {audiences:?}",
                issued.audiences
            ));
        }
        let namespace = &issued.namespace;
        let is_there = |resource: &str, name: &str, uid: &str| {
            store
                .find(resource, namespace, name)
                .is_some_and(|object| object["metadata"]["uid"] == uid && !is_long_deleted(object))
        };
        if !is_there("serviceaccounts", &issued.account, &issued.account_uid) {
            return Err("service account token has been invalidated".to_owned());
        }
        let mut caller = Caller::service_account(namespace, &issued.account, &issued.account_uid);
        let id = format!("JTI={}", issued.id);
        caller.extra.insert("authentication.kubernetes.io/credential-id".to_owned(), json!([id]));
        if let Some((name, uid)) = &issued.pod {
            if !is_there("pods", name, uid) {
                return Err("service account token has been invalidated".to_owned());
            }
            for (what, value) in [("pod-name", name), ("pod-uid", uid)] {
                let key = format!("authentication.kubernetes.io/{what}");
                caller.extra.insert(key, json!([value]));
            }
        }
        Ok((caller, meant))
    }

    /// Lets all tokens so far expire, as time would.
    pub fn expire_all(&self) {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        issued.values_mut().for_each(|one| one.expires = Timestamp::now());
    }
}

impl Issued {
    /// Header, claims and what stands for a signature.
    fn to_token(&self) -> String {
        let now = Timestamp::now().as_second();
        let mut kubernetes = json!({
            "namespace": self.namespace,
            "serviceaccount": {"name": self.account, "uid": self.account_uid},
        });
        if let Some((name, uid)) = &self.pod {
            kubernetes["pod"] = json!({"name": name, "uid": uid});
        }
        let claims = json!({
            "aud": self.audiences, "exp": self.expires.as_second(), "iat": now, "nbf": now,
            "iss": API_AUDIENCE, "jti": self.id, "kubernetes.io": kubernetes,
            "sub": format!("system:serviceaccount:{}:{}", self.namespace, self.account),
        });
        let header = json!({"alg": "RS256", "kid": "weft-tests"});
        let signature: Vec<u8> = (0..64).map(|_| fastrand::u8(..)).collect();
        let part = |value: &Value| base64_url(value.to_string().into_bytes());
        format!("{}.{}.{}", part(&header), part(&claims), base64_url(signature))
    }
}

fn base64_url(bytes: Vec<u8>) -> String {
    let text = json!(ByteString(bytes));
    let text = text.as_str().unwrap_or_default();
    text.trim_end_matches('=').replace('+', "-").replace('/', "_")
}

fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The pod that a token is to be bound to must be there, be that one and run as this account.
fn bound_pod(
    store: &Store,
    namespace: &str,
    account: &str,
    reference: &Value,
) -> Result<Option<(String, String)>, Failure> {
    if reference.is_null() {
        return Ok(None);
    }
    let text = |name: &str| reference[name].as_str().unwrap_or_default().to_owned();
    let (name, uid) = (text("name"), text("uid"));
    if text("kind") != "Pod" || text("apiVersion") != "v1" {
        let why = format!(
            "cannot bind token to object of type {}, Kind={}",
            text("apiVersion"),
            text("kind")
        );
        return Err(Failure::bad_request(why));
    }
    let pods: &Kind = &built_in("pods");
    let pod =
        store.find("pods", namespace, &name).ok_or_else(|| Failure::not_found(pods, &name))?;
    if pod["spec"]["serviceAccountName"] != account {
        return Err(Failure::bad_request(format!(
            "cannot bind token for serviceaccount \"{account}\" to pod running with different serviceaccount name."
        )));
    }
    let found = pod["metadata"]["uid"].as_str().unwrap_or_default();
    if !uid.is_empty() && uid != found {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. \
             The object might have been deleted and then recreated"
        );
        return Err(Failure::conflict(pods, &name, &why));
    }
    Ok(Some((name, found.to_owned())))
}

fn is_long_deleted(object: &Value) -> bool {
    let deleted = object["metadata"]["deletionTimestamp"].as_str();
    let deleted = deleted.and_then(|time| time.parse::<Timestamp>().ok());
    deleted.is_some_and(|time| time.as_second() + LEEWAY_SECONDS < Timestamp::now().as_second())
}

fn refuse_request(cause: Cause) -> Failure {
    let message = format!(
        "TokenRequest.authentication.k8s.io \"\" is invalid: {}: {}",
        cause.field, cause.message
    );
    let mut failure = Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
    failure.details = json!({"group": "authentication.k8s.io", "kind": "TokenRequest", "causes": [
        {"reason": cause.reason, "message": cause.message, "field": cause.field},
    ]});
    failure
}
