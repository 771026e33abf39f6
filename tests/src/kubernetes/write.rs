//! Writing: create, update and patch, and the order of what happens to an object on its way into the store.
//!
//! In come requests that are allowed, out go stored objects. The order is Kubernetes': shape, place, defaults,
//! admission, shape again, validation, and then the store, if nobody was faster. Nothing is written before all of it
//! has succeeded.

mod apart;
mod place;

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use self::{
    apart::{keep_apart, only_written},
    place::{in_open_namespace, must_name_version},
};
use super::{
    admission::{self, Admitted},
    apply::apply,
    body,
    caller::Caller,
    defaults,
    failure::{Cause, Failure},
    kinds::Kind,
    metadata::{is_same, stamp_changed, stamp_new},
    ownership::{Owner, after_update, owners, set_owners},
    patch::{PatchKind, patch},
    rbac::Action,
    read::shown,
    request::{Asked, FieldValidation, Options, Verb},
    server::Server,
    store::Key,
    validate,
};

/// How often a patch is tried again when others were faster.
const ATTEMPTS: usize = 5;

/// What a write led to.
#[derive(Debug, Clone)]
pub struct Written {
    /// The object as it is now, or whatever is answered.
    pub object: Value,
    /// The answer's status.
    pub code: StatusCode,
    /// What is said about the request all the same.
    pub warnings: Vec<String>,
}

/// A write in progress.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// Where to.
    pub server: &'a Server,
    /// What kind.
    pub kind: &'a Arc<Kind>,
    /// What was asked for.
    pub asked: &'a Asked,
    /// By whom.
    pub caller: &'a Caller,
}

impl Write<'_> {
    /// Makes a new object of the body.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn create(self) -> Result<Written, Failure> {
        let mut object = self.asked.json()?;
        let warnings = body::check(self.kind, &mut object, &self.asked.options)?;
        let created = self.create_object(object, None).await?;
        Ok(Written { object: created, code: StatusCode::CREATED, warnings })
    }

    /// Replaces an object by the body.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn update(self) -> Result<Written, Failure> {
        let mut object = self.asked.json()?;
        let warnings = body::check(self.kind, &mut object, &self.asked.options)?;
        self.check_identity(&object)?;
        let named = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if named.is_empty() && must_name_version(self.kind) {
            let field = "metadata.resourceVersion";
            let cause = Cause::invalid(field, &json!(0), "must be specified for an update");
            return Err(Failure::invalid(self.kind, &self.asked.target.name, &[cause]));
        }
        let make = |before: &Value| self.check_version(before, &object).map(|()| object.clone());
        let object = self.change(make).await?;
        Ok(Written { object, code: StatusCode::OK, warnings })
    }

    /// Patches or applies an object; what is applied and not there is made.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn patch(self) -> Result<Written, Failure> {
        let which = PatchKind::of(self.kind, &self.asked.content_type)?;
        let body = self.asked.json()?;
        if which == PatchKind::Apply {
            return self.apply(body).await;
        }
        if self.asked.options.force {
            return Err(bad_patch_option(
                "force: Forbidden: may not be specified for non-apply patch",
            ));
        }
        let warnings = std::sync::Mutex::new(Vec::new());
        let make = |before: &Value| {
            let mut object = patch(self.kind, which, &shown(self.kind, before), body.clone())?;
            let found = body::check(self.kind, &mut object, &self.asked.options)?;
            self.check_identity(&object)?;
            self.check_version(before, &object)?;
            if let Ok(mut warnings) = warnings.lock() {
                *warnings = found;
            }
            Ok(object)
        };
        let object = self.change(make).await?;
        let warnings = warnings.into_inner().unwrap_or_default();
        Ok(Written { object, code: StatusCode::OK, warnings })
    }

    async fn apply(self, mut applied: Value) -> Result<Written, Failure> {
        if self.asked.options.field_manager.is_empty()
            || self.asked.options.field_manager == "unknown"
        {
            return Err(bad_patch_option(
                "fieldManager: Required value: is required for apply patch",
            ));
        }
        if applied["metadata"]["managedFields"].as_array().is_some_and(|fields| !fields.is_empty())
        {
            return Err(Failure::bad_request("metadata.managedFields must be nil"));
        }
        // What is applied may be a part of an object, so it is not held to what a whole one must have.
        let partial = body::check_partial(self.kind, &mut applied, &self.asked.options)?;
        applied["metadata"]["name"] = Value::String(self.asked.target.name.clone());
        self.check_identity(&applied)?;
        only_written(self.kind, &self.asked.target.subresource, &mut applied);
        let manager = self.owner();
        if self.read().is_none() && self.asked.target.subresource.is_empty() {
            self.authorize_create()?;
            let object = apply(self.kind, &json!({"metadata": {}}), &applied, &manager, false)?;
            let mut object = merged_identity(object, &applied);
            body::check(self.kind, &mut object, &ignoring(&self.asked.options))?;
            let owned = owners(&object);
            let created = self.create_object(object, Some(owned)).await?;
            return Ok(Written { object: created, code: StatusCode::CREATED, warnings: partial });
        }
        let make = |before: &Value| {
            self.check_version(before, &applied)?;
            let force = self.asked.options.force;
            let mut object = apply(self.kind, before, &applied, &manager, force)?;
            body::check(self.kind, &mut object, &ignoring(&self.asked.options))?;
            Ok(object)
        };
        let object = self.change(make).await?;
        Ok(Written { object, code: StatusCode::OK, warnings: partial })
    }

    /// Who applies what is not there makes it, and needs the right to.
    fn authorize_create(self) -> Result<(), Failure> {
        let (verb, target) = (Verb::Create.as_str().to_owned(), self.asked.target.clone());
        let action = Action { verb, target, path: String::new() };
        action.authorize(&self.server.store(), self.caller)
    }

    /// Takes an object through everything that happens to a new one.
    async fn create_object(
        self,
        mut object: Value,
        owned: Option<Vec<super::ownership::Owned>>,
    ) -> Result<Value, Failure> {
        let target = &self.asked.target;
        self.check_namespace(&object)?;
        stamp_new(self.kind, &mut object, &target.namespace);
        validate::name(self.kind, &object)?;
        {
            let store = self.server.store();
            in_open_namespace(&store, self.kind, &target.namespace, &object)?;
            defaults::status_of_new(self.kind, &mut object);
            defaults::fill(self.kind, &mut object);
            defaults::admit_pod(&store, self.kind, &mut object)?;
        }
        let mut object = self.admitted("CREATE", None, object).await?;
        defaults::fill(self.kind, &mut object);

        let mut store = self.server.store();
        in_open_namespace(&store, self.kind, &target.namespace, &object)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let key = Key::new(self.kind, &target.namespace, &name);
        if store.get(&key).is_some() {
            return Err(Failure::already_exists(self.kind, &name));
        }
        self.server.addresses.allocate(&store, self.kind, &mut object)?;
        validate::object(self.kind, &object)?;
        let empty = json!({"metadata": {}});
        let owned =
            owned.unwrap_or_else(|| after_update(self.kind, &empty, &object, &self.owner()));
        set_owners(&mut object, &owned);
        if self.asked.options.dry_run {
            return Ok(object);
        }
        let stored = store.put(key, object);
        self.server.announce(&store);
        Ok(shown(self.kind, &stored))
    }

    /// Takes an object through everything that happens to one that changes.
    async fn change(
        self,
        make: impl Fn(&Value) -> Result<Value, Failure>,
    ) -> Result<Value, Failure> {
        let name = &self.asked.target.name;
        for _ in 0..ATTEMPTS {
            let before = self.read().ok_or_else(|| Failure::not_found(self.kind, name))?;
            let mut after = make(&before)?;
            keep_apart(self.kind, &self.asked.target.subresource, &before, &mut after);
            let applied = is_apply(self.asked).then(|| owners(&after));
            after["metadata"]["managedFields"] = before["metadata"]["managedFields"].clone();
            stamp_changed(self.kind, &before, &mut after);
            defaults::fill(self.kind, &mut after);
            let mut after = self.admitted("UPDATE", Some(&before), after).await?;
            stamp_changed(self.kind, &before, &mut after);
            validate::change(self.kind, &before, &after)?;

            let mut store = self.server.store();
            let key = Key::new(self.kind, &self.asked.target.namespace, name);
            if !store.get(&key).is_some_and(|now| Arc::ptr_eq(now, &before)) {
                continue;
            }
            validate::object(self.kind, &after)?;
            let owned =
                applied.unwrap_or_else(|| after_update(self.kind, &before, &after, &self.owner()));
            set_owners(&mut after, &owned);
            if is_same(&before, &after) || self.asked.options.dry_run {
                let unchanged = is_same(&before, &after);
                return Ok(shown(self.kind, if unchanged { &before } else { &after }));
            }
            let stored = store.put(key.clone(), after);
            if is_released(&before, &stored) {
                store.remove(&key);
            }
            self.server.announce(&store);
            return Ok(shown(self.kind, &stored));
        }
        Err(Failure::modified(self.kind, name))
    }

    /// What the webhooks made of an object, checked again.
    async fn admitted(
        self,
        operation: &'static str,
        before: Option<&Value>,
        object: Value,
    ) -> Result<Value, Failure> {
        let admitted = Admitted {
            operation,
            kind: self.kind,
            target: &self.asked.target,
            caller: self.caller,
            dry_run: self.asked.options.dry_run,
            before,
        };
        let mut object = admission::mutate(self.server, &admitted, object).await?;
        body::check(self.kind, &mut object, &ignoring(&self.asked.options))?;
        Ok(object)
    }

    fn read(self) -> Option<Arc<Value>> {
        let target = &self.asked.target;
        self.server.store().get(&Key::new(self.kind, &target.namespace, &target.name)).cloned()
    }

    fn owner(self) -> Owner {
        Owner {
            manager: self.asked.options.field_manager.clone(),
            operation: if is_apply(self.asked) { "Apply" } else { "Update" },
            api_version: self.kind.api_version(),
            subresource: self.asked.target.subresource.clone(),
        }
    }
}

fn is_apply(asked: &Asked) -> bool {
    asked.verb == Verb::Patch && asked.content_type == "application/apply-patch+yaml"
}

/// Whether the last finalizer of an object that is to be deleted has gone.
fn is_released(before: &Value, after: &Value) -> bool {
    let held = |object: &Value| {
        let lists = [&object["metadata"]["finalizers"], &object["spec"]["finalizers"]];
        lists.iter().any(|list| list.as_array().is_some_and(|list| !list.is_empty()))
    };
    after["metadata"]["deletionTimestamp"].is_string() && held(before) && !held(after)
}

/// What is applied names its object; nobody owns the name, so it does not come with the owned fields.
fn merged_identity(mut object: Value, applied: &Value) -> Value {
    for field in ["apiVersion", "kind"] {
        object[field] = applied[field].clone();
    }
    for field in ["name", "namespace"] {
        if applied["metadata"][field].is_string() {
            object["metadata"][field] = applied["metadata"][field].clone();
        }
    }
    object
}

/// The same options, for objects that the client did not write as they are.
fn ignoring(options: &Options) -> Options {
    Options { field_validation: FieldValidation::Ignore, ..options.clone() }
}

fn bad_patch_option(why: &str) -> Failure {
    let message = format!("PatchOptions.meta.k8s.io \"\" is invalid: {why}");
    let mut failure = Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
    failure.details = json!({"group": "meta.k8s.io", "kind": "PatchOptions"});
    failure
}
