//! Reviews: questions that are answered and not kept.
//!
//! In come TokenReview, SelfSubjectReview, SubjectAccessReview, SelfSubjectAccessReview and SelfSubjectRulesReview,
//! out goes the same with a status, by the same rules that requests are held to.

use serde_json::{Map, Value, json};

use super::{
    caller::Caller,
    failure::Failure,
    rbac::{Action, rules_of},
    request::{Asked, Target},
    server::Server,
    store::Store,
};

/// Answers a review.
///
/// # Errors
/// When the request makes no sense.
pub fn answer(server: &Server, caller: &Caller, asked: &Asked) -> Result<Value, Failure> {
    let store = server.store();
    match asked.target.resource.as_str() {
        "tokenreviews" => server.tokens.review(&store, asked),
        "selfsubjectreviews" => {
            let mut review = asked.json()?;
            review["status"] = json!({"userInfo": caller.to_value()});
            Ok(review)
        }
        "selfsubjectaccessreviews" => {
            access(&store, caller, asked.json()?, "SelfSubjectAccessReview")
        }
        "subjectaccessreviews" => {
            let review = asked.json()?;
            let spec = &review["spec"];
            let groups = spec["groups"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let subject = Caller {
                name: spec["user"].as_str().unwrap_or_default().to_owned(),
                uid: String::new(),
                groups: groups.map(str::to_owned).collect(),
                extra: Map::new(),
            };
            access(&store, &subject, review, "SubjectAccessReview")
        }
        "selfsubjectrulesreviews" => rules(&store, caller, asked.json()?),
        _ => Err(Failure::no_such_path()),
    }
}

fn access(
    store: &Store,
    subject: &Caller,
    mut review: Value,
    kind: &str,
) -> Result<Value, Failure> {
    let (resource, path) =
        (&review["spec"]["resourceAttributes"], &review["spec"]["nonResourceAttributes"]);
    if resource.is_object() == path.is_object() {
        return Err(Failure::bad_request(
            "spec: exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ));
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let asked = if resource.is_object() { resource } else { path };
    let action = Action {
        verb: text(&asked["verb"]),
        target: Target {
            group: text(&resource["group"]),
            version: text(&resource["version"]),
            resource: text(&resource["resource"]),
            namespace: text(&resource["namespace"]),
            name: text(&resource["name"]),
            subresource: text(&resource["subresource"]),
        },
        path: text(&path["path"]),
    };
    review["apiVersion"] = json!("authorization.k8s.io/v1");
    review["kind"] = json!(kind);
    review["status"] = json!({"allowed": action.is_allowed(store, subject)});
    Ok(review)
}

fn rules(store: &Store, caller: &Caller, mut review: Value) -> Result<Value, Failure> {
    let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Failure::bad_request("no namespace on request"));
    }
    let mut rules = rules_of(store, caller, namespace);
    if caller.groups.iter().any(|group| group == "system:masters") {
        rules.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
    }
    let (paths, resources): (Vec<Value>, Vec<Value>) =
        rules.into_iter().partition(|rule| rule["nonResourceURLs"].is_array());
    review["apiVersion"] = json!("authorization.k8s.io/v1");
    review["kind"] = json!("SelfSubjectRulesReview");
    review["status"] =
        json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
    Ok(review)
}
