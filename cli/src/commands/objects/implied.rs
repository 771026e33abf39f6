//! Services without an object of their own: a Workload that names a service (`spec.service`) makes it.
//!
//! Comes in: the Workloads and the Service objects that there are. Goes out: the services that exist by
//! Workloads alone, in words, so that nobody who asks for a service hears that it is not there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use weft_proto::api::{GetRequest, ObjectRef};

use super::columns::text;
use crate::client::Client;

/// A service that Workloads make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Implied {
    /// "default/hello".
    pub(super) service: String,
    workloads: Vec<String>,
}

/// Those of a namespace, or with "" of all, and of one name unless it is "". What cannot be asked is left out.
pub(super) async fn implied(client: &mut Client, namespace: &str, name: &str) -> Vec<Implied> {
    let workloads = objects(client, "Workload", namespace).await;
    let services = objects(client, "Service", namespace).await;
    let mut implied = between(&workloads, &services);
    implied.retain(|one| name.is_empty() || one.service.ends_with(&format!("/{name}")));
    implied
}

async fn objects(client: &mut Client, kind: &str, namespace: &str) -> Vec<Value> {
    let all = ObjectRef { kind: kind.into(), namespace: namespace.into(), name: String::new() };
    let Ok(answer) = client.get(GetRequest { r#ref: Some(all) }).await else { return Vec::new() };
    let objects = answer.into_inner().objects;
    objects.iter().filter_map(|object| serde_json::from_str(object).ok()).collect()
}

fn between(workloads: &[Value], services: &[Value]) -> Vec<Implied> {
    let in_namespace =
        |object: &Value, name: &str| format!("{}/{name}", text(&object["metadata"]["namespace"]));
    let own_name = |object: &Value| text(&object["metadata"]["name"]);
    let declared: BTreeSet<String> =
        services.iter().map(|service| in_namespace(service, &own_name(service))).collect();
    let mut implied: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for workload in workloads {
        let Some(service) = workload["spec"]["service"].as_str() else { continue };
        let service = in_namespace(workload, service);
        if !declared.contains(&service) {
            implied.entry(service).or_default().push(own_name(workload));
        }
    }
    let one = |(service, workloads)| Implied { service, workloads };
    implied.into_iter().map(one).collect()
}

impl Implied {
    /// "Workload hello", "Workloads a, b".
    pub(super) fn made_by(&self) -> String {
        let word = if self.workloads.len() == 1 { "Workload" } else { "Workloads" };
        format!("{word} {}", self.workloads.join(", "))
    }
}

/// What to add to a list of Service objects.
pub(super) fn note(implied: &[Implied]) -> String {
    let one = |one: &Implied| format!("{} (by {})", one.service, one.made_by());
    let all = implied.iter().map(one).collect::<Vec<_>>().join(", ");
    format!("without an object of their own, made by Workloads: {all}; `weft endpoints` shows them")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_that_workloads_name_and_no_object_declares_is_implied() {
        let object = |namespace: &str, name: &str, service: Option<&str>| {
            json!({
                "metadata": {"namespace": namespace, "name": name},
                "spec": {"service": service},
            })
        };
        let workloads = [
            object("default", "a", Some("hello")),
            object("default", "b", Some("hello")),
            object("default", "visitor", None),
            object("shop", "cart", Some("cart")),
            object("other", "cart", Some("cart")),
        ];
        let implied = between(&workloads, &[object("shop", "cart", None)]);
        assert_eq!(
            note(&implied),
            "without an object of their own, made by Workloads: default/hello (by Workloads a, b), \
             other/cart (by Workload cart); `weft endpoints` shows them"
        );
    }
}
