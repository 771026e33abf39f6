//! Who may do what: the RBAC objects in the store, and nothing else.
//!
//! In come a caller and what is to be done, out goes yes or Kubernetes' text for no. The admin's group may do
//! everything; a service account may do what roles that are bound to it say.

use serde_json::{Value, json};

use super::{caller::Caller, failure::Failure, request::Target, store::Store};

/// Something to be done, as rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// As `list`.
    pub verb: String,
    /// With what; for paths that are about no object, the resource is empty.
    pub target: Target,
    /// The path, where it is about no object.
    pub path: String,
}

impl Action {
    /// Decides.
    ///
    /// # Errors
    /// When the caller may not.
    pub fn authorize(&self, store: &Store, caller: &Caller) -> Result<(), Failure> {
        if self.is_allowed(store, caller) {
            return Ok(());
        }
        let message = format!("{} is forbidden: {}", self.subject(), self.refusal(caller));
        let mut failure = Failure::new(http::StatusCode::FORBIDDEN, "Forbidden", message);
        failure.details = json!({
            "name": self.target.name, "group": self.target.group, "kind": self.target.resource,
        });
        Err(failure)
    }

    /// Whether the caller may.
    #[must_use]
    pub fn is_allowed(&self, store: &Store, caller: &Caller) -> bool {
        if caller.groups.iter().any(|group| group == "system:masters") {
            return true;
        }
        if self.is_open_to_all(caller) {
            return true;
        }
        rules_of(store, caller, &self.target.namespace).iter().any(|rule| self.is_granted(rule))
    }

    /// What Kubernetes' own roles give everybody who is somebody: discovery, and asking about oneself.
    fn is_open_to_all(&self, caller: &Caller) -> bool {
        let is_somebody = caller.groups.iter().any(|group| group == "system:authenticated");
        if self.target.resource.is_empty() {
            let path = self.path.as_str();
            let open = ["/version", "/healthz", "/readyz", "/livez"].contains(&path);
            let discovery = path.starts_with("/api") || path.starts_with("/openapi");
            return open || (is_somebody && discovery);
        }
        is_somebody
            && self.verb == "create"
            && matches!(
                self.target.group.as_str(),
                "authorization.k8s.io" | "authentication.k8s.io"
            )
            && self.target.resource.starts_with("selfsubject")
    }

    fn is_granted(&self, rule: &Value) -> bool {
        let has = |list: &str, wanted: &str| {
            let items = rule[list].as_array().into_iter().flatten().filter_map(Value::as_str);
            items.into_iter().any(|item| item == "*" || item == wanted)
        };
        if !has("verbs", &self.verb) {
            return false;
        }
        if self.target.resource.is_empty() {
            let paths = rule["nonResourceURLs"].as_array().into_iter().flatten();
            return paths.filter_map(Value::as_str).any(|path| match path.strip_suffix('*') {
                Some(prefix) => self.path.starts_with(prefix),
                None => self.path == path,
            });
        }
        let resource = self.target.resource_and_subresource();
        let any_of_subresource = format!("*/{}", self.target.subresource);
        let names = rule["resourceNames"].as_array().filter(|names| !names.is_empty());
        has("apiGroups", &self.target.group)
            && (has("resources", &resource)
                || (!self.target.subresource.is_empty() && has("resources", &any_of_subresource)))
            && names.is_none_or(|names| {
                names.iter().any(|name| *name == self.target.name && !self.target.name.is_empty())
            })
    }

    /// `pods "web" `, `deployments.apps`: what a refusal begins with.
    fn subject(&self) -> String {
        let target = &self.target;
        let resource = match (target.group.as_str(), target.resource.as_str()) {
            (_, "") => return format!("path \"{}\"", self.path),
            ("", resource) => resource.to_owned(),
            (group, resource) => format!("{resource}.{group}"),
        };
        if target.name.is_empty() { resource } else { format!("{resource} \"{}\"", target.name) }
    }

    fn refusal(&self, caller: &Caller) -> String {
        let (user, verb, target) = (&caller.name, &self.verb, &self.target);
        if target.resource.is_empty() {
            return format!("User \"{user}\" cannot {verb} path \"{}\"", self.path);
        }
        let place = match target.namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace \"{namespace}\""),
        };
        format!(
            "User \"{user}\" cannot {verb} resource \"{}\" in API group \"{}\" {place}",
            target.resource_and_subresource(),
            target.group
        )
    }
}

/// The rules that hold for a caller in a namespace; of those for the whole cluster when it is empty.
#[must_use]
pub fn rules_of(store: &Store, caller: &Caller, namespace: &str) -> Vec<Value> {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let everywhere = format!("clusterrolebindings.{GROUP}");
    let there = format!("rolebindings.{GROUP}");
    let mut bindings: Vec<&Value> =
        store.list(&everywhere, "").map(|(_, binding)| binding.as_ref()).collect();
    if !namespace.is_empty() {
        bindings.extend(store.list(&there, namespace).map(|(_, binding)| binding.as_ref()));
    }
    let mine = bindings.into_iter().filter(|binding| {
        let home = binding["metadata"]["namespace"].as_str().unwrap_or_default();
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        subjects.into_iter().any(|subject| is_subject(subject, caller, home))
    });
    let roles = mine.filter_map(|binding| {
        let role = &binding["roleRef"];
        let name = role["name"].as_str()?;
        match role["kind"].as_str()? {
            "ClusterRole" => store.find(&format!("clusterroles.{GROUP}"), "", name),
            _ => store.find(
                &format!("roles.{GROUP}"),
                binding["metadata"]["namespace"].as_str()?,
                name,
            ),
        }
    });
    roles.flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default()).collect()
}

fn is_subject(subject: &Value, caller: &Caller, home: &str) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("User") => caller.name == name,
        Some("Group") => caller.groups.iter().any(|group| group == name),
        Some("ServiceAccount") => {
            let namespace = subject["namespace"].as_str().unwrap_or(home);
            caller.name == format!("system:serviceaccount:{namespace}:{name}")
        }
        _ => false,
    }
}
