//! Deleting: at once, or with grace, or when the last finalizer has gone.
//!
//! In come requests that are allowed, out go objects that are gone or on their way. No controller stands behind the
//! server: a terminating pod stays until somebody, in a kubelet's place, deletes it with a grace period of 0, and a
//! terminating namespace until it is finalized.

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    failure::Failure,
    kinds::Kind,
    metadata::in_seconds,
    read::shown,
    request::Asked,
    server::Server,
    store::{Key, Store},
    write::Written,
};

/// What a delete's body and query say.
#[derive(Debug, Default)]
struct DeleteOptions {
    grace: Option<i64>,
    uid: Option<String>,
    version: Option<String>,
    dry_run: bool,
}

impl DeleteOptions {
    fn of(asked: &Asked) -> Result<Self, Failure> {
        let body = if asked.body.is_empty() { json!({}) } else { asked.json()? };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let conditions = &body["preconditions"];
        Ok(Self {
            grace: body["gracePeriodSeconds"].as_i64(),
            uid: text(&conditions["uid"]),
            version: text(&conditions["resourceVersion"]),
            dry_run: asked.options.dry_run
                || body["dryRun"].as_array().is_some_and(|all| !all.is_empty()),
        })
    }

    fn check(&self, kind: &Kind, object: &Value) -> Result<(), Failure> {
        let pairs =
            [("UID", "uid", &self.uid), ("ResourceVersion", "resourceVersion", &self.version)];
        for (word, field, wanted) in pairs {
            let found = object["metadata"][field].as_str().unwrap_or_default();
            if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != found) {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let why = format!(
                    "Precondition failed: {word} in precondition: {wanted}, {word} in object meta: {found}"
                );
                return Err(Failure::conflict(kind, name, &why));
            }
        }
        Ok(())
    }
}

/// Deletes one object.
///
/// # Errors
/// When it is not there, or not the one that was meant.
pub fn delete(server: &Server, kind: &Kind, asked: &Asked) -> Result<Written, Failure> {
    let options = DeleteOptions::of(asked)?;
    let mut store = server.store();
    let key = Key::new(kind, &asked.target.namespace, &asked.target.name);
    let object = store.get(&key).ok_or_else(|| Failure::not_found(kind, &key.name))?;
    options.check(kind, object)?;
    let uid = object["metadata"]["uid"].clone();
    let left = delete_one(&mut store, kind, &key, &options);
    server.announce(&store);
    let object = left.unwrap_or_else(|| {
        let details = json!({"name": key.name, "group": kind.group, "kind": kind.plural, "uid": uid});
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
    });
    Ok(Written { object, code: StatusCode::OK, warnings: Vec::new() })
}

/// Deletes what the selectors select.
///
/// # Errors
/// When the request makes no sense.
pub fn delete_collection(server: &Server, kind: &Kind, asked: &Asked) -> Result<Written, Failure> {
    let options = DeleteOptions::of(asked)?;
    asked.options.fields.check(&kind.qualified())?;
    let mut store = server.store();
    let resource = kind.qualified();
    let meant: Vec<(Key, Value)> = store
        .list(&resource, &asked.target.namespace)
        .filter(|(_, object)| {
            asked.options.labels.selects(object) && asked.options.fields.selects(object)
        })
        .map(|(key, object)| (key.clone(), shown(kind, object)))
        .collect();
    for (key, _) in &meant {
        delete_one(&mut store, kind, key, &options);
    }
    server.announce(&store);
    let items: Vec<Value> = meant.into_iter().map(|(_, object)| object).collect();
    let object = json!({
        "kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(),
        "metadata": {"resourceVersion": store.version().to_string()}, "items": items,
    });
    Ok(Written { object, code: StatusCode::OK, warnings: Vec::new() })
}

/// Deletes an object, or says that it is to be; answers what is left of it, or what is answered in its place.
fn delete_one(store: &mut Store, kind: &Kind, key: &Key, options: &DeleteOptions) -> Option<Value> {
    let object = Value::clone(store.get(key)?);
    let grace = grace_of(kind, &object, options.grace);
    let is_held = ["/metadata/finalizers", "/spec/finalizers"]
        .iter()
        .filter(|path| kind.is("namespaces") || **path == "/metadata/finalizers")
        .filter_map(|path| object.pointer(path)?.as_array())
        .any(|finalizers| !finalizers.is_empty());
    if grace == 0 && !is_held {
        return remove(store, kind, key, options.dry_run);
    }
    let is_sooner =
        object["metadata"]["deletionGracePeriodSeconds"].as_i64().is_none_or(|now| grace < now);
    if object["metadata"]["deletionTimestamp"].is_string() && !is_sooner {
        return Some(shown(kind, &object));
    }
    let mut object = object;
    object["metadata"]["deletionTimestamp"] = json!(in_seconds(grace));
    object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    if let Some(generation) = object["metadata"]["generation"].as_u64() {
        object["metadata"]["generation"] = json!(generation + 1);
    }
    if kind.is("namespaces") {
        object["status"]["phase"] = json!("Terminating");
    }
    if options.dry_run {
        return Some(shown(kind, &object));
    }
    let stored = store.put(key.clone(), object);
    Some(shown(kind, &stored))
}

/// Removes an object, and with a definition the objects of its kind.
fn remove(store: &mut Store, kind: &Kind, key: &Key, dry_run: bool) -> Option<Value> {
    let answers_object = kind.is("pods")
        || kind.is("services")
        || kind.is("serviceaccounts")
        || kind.is("namespaces");
    if dry_run {
        return store.get(key).filter(|_| answers_object).map(|object| shown(kind, object));
    }
    if kind.is("customresourcedefinitions.apiextensions.k8s.io") {
        let of_kind: Vec<Key> = store.list(&key.name, "").map(|(key, _)| key.clone()).collect();
        for key in of_kind {
            store.remove(&key);
        }
    }
    let object = store.remove(key)?;
    answers_object.then(|| shown(kind, &object))
}

/// How long an object is given: only pods that run somewhere are given time.
fn grace_of(kind: &Kind, object: &Value, asked: Option<i64>) -> i64 {
    if !kind.is("pods") {
        return 0;
    }
    let is_nowhere = object["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let is_over = ["Succeeded", "Failed"].iter().any(|phase| object["status"]["phase"] == *phase);
    if is_nowhere || is_over {
        return 0;
    }
    let period = asked.or_else(|| object["spec"]["terminationGracePeriodSeconds"].as_i64());
    let period = period.unwrap_or(30);
    if period < 0 { 1 } else { period }
}
