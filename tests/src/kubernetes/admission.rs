//! Admission: which webhooks see a write, in which order, and what becomes of it.
//!
//! In comes an object on its way into the store, out goes what the registered MutatingWebhookConfigurations made of
//! it. As in Kubernetes: by rules, selectors and scope, in order of names, each under its own time limit and failure
//! policy; those with `reinvocationPolicy: IfNeeded` once more when a later one changed the object.
//! `matchConditions` (CEL) are refused at registration rather than passed over.

mod call;

use std::{
    borrow::Cow,
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::{
    caller::Caller,
    failure::{Cause, Failure},
    kinds::Kind,
    metadata::new_uid,
    request::Target,
    selector::LabelSelector,
    server::Server,
};

/// Where webhooks' Services are, as `kube-proxy` would know.
#[derive(Debug, Default)]
pub struct ServiceAddresses {
    known: Mutex<HashMap<(String, String, u16), SocketAddr>>,
}

impl ServiceAddresses {
    /// Says where a port of a Service is served.
    pub fn set(&self, namespace: &str, name: &str, port: u16, address: SocketAddr) {
        let key = (namespace.to_owned(), name.to_owned(), port);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, address);
    }

    fn get(&self, namespace: &str, name: &str, port: u16) -> Option<SocketAddr> {
        let key = (namespace.to_owned(), name.to_owned(), port);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied()
    }
}

/// A write that webhooks may see.
#[derive(Debug, Clone, Copy)]
pub struct Admitted<'a> {
    /// `CREATE` or `UPDATE`.
    pub operation: &'static str,
    /// What kind.
    pub kind: &'a Kind,
    /// Where to.
    pub target: &'a Target,
    /// By whom.
    pub caller: &'a Caller,
    /// Whether it is only tried.
    pub dry_run: bool,
    /// The object that changes.
    pub before: Option<&'a Value>,
}

/// Lets the webhooks see and change an object.
///
/// # Errors
/// When one denies it, or fails where it may not.
pub async fn mutate(
    server: &Server,
    admitted: &Admitted<'_>,
    mut object: Value,
) -> Result<Value, Failure> {
    let hooks = hooks_for(server, admitted, &object);
    let mut seen_by: Vec<(Value, Value)> = Vec::new();
    for hook in hooks {
        object = admitted.call(server, &hook, object).await?;
        seen_by.push((hook, object.clone()));
    }
    for (hook, left) in seen_by {
        if hook["reinvocationPolicy"] == "IfNeeded" && left != object {
            object = admitted.call(server, &hook, object).await?;
        }
    }
    Ok(object)
}

/// The webhooks that are to see a write, in order.
fn hooks_for(server: &Server, admitted: &Admitted<'_>, object: &Value) -> Vec<Value> {
    const RESOURCE: &str = "mutatingwebhookconfigurations.admissionregistration.k8s.io";
    if admitted.kind.group == "admissionregistration.k8s.io" {
        return Vec::new();
    }
    let store = server.store();
    let namespace = match admitted.kind.namespaced {
        true => store.find("namespaces", "", &admitted.target.namespace).map(|it| it.as_ref()),
        false => Some(object).filter(|_| admitted.kind.is("namespaces")),
    };
    let configurations = store.list(RESOURCE, "").map(|(_, configuration)| configuration);
    let hooks = configurations.flat_map(|it| it["webhooks"].as_array().into_iter().flatten());
    let selects =
        |selector: &Value, object: &Value| LabelSelector::of_object(selector).selects(object);
    let sees = |hook: &&Value| {
        let rules = hook["rules"].as_array().into_iter().flatten();
        let in_scope = namespace.is_none_or(|it| selects(&hook["namespaceSelector"], it));
        let selected = selects(&hook["objectSelector"], object)
            || admitted.before.is_some_and(|before| selects(&hook["objectSelector"], before));
        in_scope && selected && rules.into_iter().any(|rule| admitted.is_meant(rule))
    };
    hooks.filter(sees).cloned().collect()
}

impl Admitted<'_> {
    fn is_meant(&self, rule: &Value) -> bool {
        let has = |list: &str, wanted: &str| {
            let items = rule[list].as_array().into_iter().flatten().filter_map(Value::as_str);
            items.into_iter().any(|item| item == "*" || item == wanted)
        };
        let resource = self.target.resource_and_subresource();
        let resources =
            rule["resources"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let is_resource = resources.into_iter().any(|one| match one.split_once('/') {
            None => one == resource || (one == "*" && self.target.subresource.is_empty()),
            Some(("*", "*")) => true,
            Some(("*", subresource)) => subresource == self.target.subresource,
            Some((main, "*")) => main == self.target.resource,
            Some(_) => one == resource,
        });
        let in_scope = match rule["scope"].as_str() {
            Some("Namespaced") => self.kind.namespaced,
            Some("Cluster") => !self.kind.namespaced,
            _ => true,
        };
        is_resource
            && in_scope
            && has("operations", self.operation)
            && has("apiGroups", &self.kind.group)
            && has("apiVersions", &self.kind.version)
    }

    /// Calls one webhook, and does what it and its policy say.
    async fn call(&self, server: &Server, hook: &Value, object: Value) -> Result<Value, Failure> {
        let name = hook["name"].as_str().unwrap_or_default();
        let uid = new_uid();
        let review = self.review(&uid, &object);
        let answer = match call::call(server, hook, &review).await {
            Ok(answer) if answer["response"]["uid"] == uid.as_str() => answer,
            Ok(_) => return failed(hook, name, "its answer has another request's uid", object),
            Err(error) => return failed(hook, name, &error.to_string(), object),
        };
        let response = &answer["response"];
        if response["allowed"] != true {
            return Err(denied(name, &response["status"]));
        }
        let Some(patch) = response.get("patch").filter(|patch| !patch.is_null()) else {
            return Ok(object);
        };
        match patched(response, patch, &object) {
            Ok(object) => Ok(object),
            // A patch that cannot be applied is an error whatever the policy says.
            Err(why) => Err(Failure::internal(format!("webhook \"{name}\" returned {why}"))),
        }
    }

    fn review(&self, uid: &str, object: &Value) -> Value {
        let (group, version) = (&self.kind.group, &self.kind.version);
        let kind = json!({"group": group, "version": version, "kind": self.kind.kind});
        let resource = json!({"group": group, "version": version, "resource": self.kind.plural});
        let mut request = json!({
            "uid": uid, "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
            "operation": self.operation, "userInfo": self.caller.to_value(), "object": object,
            "oldObject": self.before, "dryRun": self.dry_run,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": match self.operation {
                "CREATE" => "CreateOptions",
                _ => "UpdateOptions",
            }},
        });
        // What a generated name will be is not known to a webhook, as its object is not there yet.
        let name = &object["metadata"]["name"];
        request["name"] = name.clone();
        if self.kind.namespaced {
            request["namespace"] = json!(self.target.namespace);
        }
        if !self.target.subresource.is_empty() {
            request["subResource"] = json!(self.target.subresource);
            request["requestSubResource"] = json!(self.target.subresource);
        }
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
    }
}

fn patched(response: &Value, patch: &Value, object: &Value) -> Result<Value, String> {
    if response["patchType"] != "JSONPatch" {
        return Err(format!(
            "patchType {}, and only \"JSONPatch\" is known",
            response["patchType"]
        ));
    }
    let bytes: ByteString = serde_json::from_value(patch.clone())
        .map_err(|error| format!("a patch that is no base64: {error}"))?;
    let patch: json_patch::Patch = serde_json::from_slice(&bytes.0)
        .map_err(|error| format!("a patch that is no JSON patch: {error}"))?;
    let mut object = object.clone();
    json_patch::patch(&mut object, &patch)
        .map_err(|error| format!("a patch that does not fit: {error}"))?;
    Ok(object)
}

/// A webhook that could not be asked: its policy says what becomes of the object.
fn failed(hook: &Value, name: &str, why: &str, object: Value) -> Result<Value, Failure> {
    if hook["failurePolicy"] == "Ignore" {
        return Ok(object);
    }
    Err(Failure::internal(format!(
        "failed calling webhook \"{name}\": failed to call webhook: {why}"
    )))
}

fn denied(name: &str, status: &Value) -> Failure {
    let by = format!("admission webhook \"{name}\" denied the request");
    let text = |field: &str| status[field].as_str().filter(|text| !text.is_empty());
    let message = match (text("message"), text("reason")) {
        (Some(message), _) => format!("{by}: {message}"),
        (None, Some(reason)) => format!("{by}: {reason}"),
        (None, None) => format!("{by} without explanation"),
    };
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok());
    Failure {
        code: code.filter(|code| *code >= 400).unwrap_or(400),
        reason: Cow::Owned(text("reason").unwrap_or_default().to_owned()),
        message,
        details: json!({}),
    }
}

/// Checks a MutatingWebhookConfiguration.
pub fn check_configuration(configuration: &Value, causes: &mut Vec<Cause>) {
    let mut names = Vec::new();
    for (index, hook) in configuration["webhooks"].as_array().into_iter().flatten().enumerate() {
        let path = format!("webhooks[{index}]");
        let name = hook["name"].as_str().unwrap_or_default();
        if name.split('.').filter(|part| !part.is_empty()).count() < 3 {
            let why = "should be a domain with at least three segments separated by dots";
            causes.push(Cause::invalid(format!("{path}.name"), &hook["name"], why));
        }
        if names.contains(&name) {
            causes.push(Cause::duplicate(format!("{path}.name"), &hook["name"]));
        }
        names.push(name);
        check_hook(hook, &path, causes);
    }
}

fn check_hook(hook: &Value, path: &str, causes: &mut Vec<Cause>) {
    let one_of = |field: &str, allowed: &[&str], causes: &mut Vec<Cause>| {
        if !allowed.iter().any(|one| hook[field] == *one) {
            causes.push(Cause::unsupported(format!("{path}.{field}"), &hook[field], allowed));
        }
    };
    one_of("sideEffects", &["None", "NoneOnDryRun"], causes);
    one_of("failurePolicy", &["Fail", "Ignore"], causes);
    one_of("matchPolicy", &["Equivalent", "Exact"], causes);
    one_of("reinvocationPolicy", &["IfNeeded", "Never"], causes);
    if !hook["timeoutSeconds"].as_i64().is_some_and(|seconds| (1..=30).contains(&seconds)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        causes.push(Cause::invalid(format!("{path}.timeoutSeconds"), &hook["timeoutSeconds"], why));
    }
    let versions = hook["admissionReviewVersions"].as_array();
    if !versions.is_some_and(|versions| versions.iter().any(|version| version == "v1")) {
        let field = format!("{path}.admissionReviewVersions");
        let why = "must include at least one of v1, v1beta1";
        causes.push(Cause::invalid(field, &hook["admissionReviewVersions"], why));
    }
    let client = &hook["clientConfig"];
    if client["url"].is_string() == client["service"].is_object() {
        let why = "exactly one of url or service is required";
        causes.push(Cause::required(format!("{path}.clientConfig"), why));
    }
    if client["url"].as_str().is_some_and(|url| !url.starts_with("https://")) {
        let why = "'https' is the only allowed URL scheme";
        causes.push(Cause::invalid(format!("{path}.clientConfig.url"), &client["url"], why));
    }
    if !client["caBundle"].is_null() && !call::is_bundle(&client["caBundle"]) {
        let why = "unable to load root certificates: unable to parse bytes as PEM block";
        causes.push(Cause::invalid(
            format!("{path}.clientConfig.caBundle"),
            &client["caBundle"],
            why,
        ));
    }
    if hook["matchConditions"].as_array().is_some_and(|conditions| !conditions.is_empty()) {
        let why = "this server does not evaluate CEL";
        causes.push(Cause::forbidden(format!("{path}.matchConditions"), why));
    }
}
