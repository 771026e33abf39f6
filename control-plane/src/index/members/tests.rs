//! Whom services take: objects and pods in, members and what their sidecars are told out.

use weft_proto::TrustDomain;

use super::*;
use crate::model::{Life, NamespacedName, Object, ObjectKey, Pod, parse_documents};

fn objects(text: &str) -> Vec<Object> {
    parse_documents("", text).into_iter().map(|parsed| parsed.unwrap().object).collect()
}

#[test]
fn a_name_for_what_is_outside_has_no_members_even_with_a_selector() {
    let text = "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: cart, namespace: shop, labels: {app: cart}}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: away, namespace: shop}
spec: {type: ExternalName, externalName: example.org, selector: {app: cart}, ports: [{name: http, port: 80}]}
---
apiVersion: weft.dev/v1alpha1
kind: AccessPolicy
metadata: {name: who, namespace: shop}
spec: {targetRefs: [{kind: Service, name: away}], default: Deny}
";
    let mut index = Index::new(TrustDomain::default());
    index.apply_all(&objects(text));
    assert!(index.members(&"shop/away".parse().unwrap()).is_empty());
    let key = InstanceKey { workload: "shop/cart".parse().unwrap(), instance: "1".into() };
    let port = &index.inbound(&key).unwrap().ports[0];
    assert_eq!((port.service.as_str(), &port.access), ("", &None));
}

fn label(number: u64) -> (String, String) {
    (["app", "part-of", "tier"][number as usize % 3].to_owned(), (number / 3).to_string())
}

fn pod(name: u64, labels: BTreeMap<String, String>) -> Pod {
    let namespace: Arc<str> = "shop".into();
    Pod {
        key: NamespacedName {
            namespace: Arc::clone(&namespace),
            name: format!("p{name}").as_str().into(),
        },
        uid: "1".into(),
        workload: WorkloadName { namespace, name: "p".into() },
        service_account: "p".into(),
        addresses: Vec::new(),
        host_network: false,
        meshed: true,
        life: Life::Running,
        settings: Arc::default(),
        labels,
        ports: BTreeMap::new(),
    }
}

fn service(name: u64, selector: &BTreeMap<String, String>) -> Object {
    let selector: Vec<String> = selector.iter().map(|(k, v)| format!("{k}: '{v}'")).collect();
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: s{name}, namespace: shop}}\n\
         spec: {{selector: {{{}}}, ports: [{{port: 80}}]}}",
        selector.join(", ")
    );
    objects(&text).remove(0)
}

/// What a walk over all pods and services finds.
fn walked(index: &Index) -> BTreeSet<(String, String)> {
    let pairs = index.services.iter().flat_map(|(name, service)| {
        let pods = index.pods().filter(|pod| service.spec.selects(&pod.labels));
        pods.map(move |pod| (name.to_string(), pod.key.to_string()))
    });
    pairs.collect()
}

#[test]
fn look_ups_by_label_find_what_a_walk_over_everything_finds() {
    let seed = std::env::var("WEFT_SIMULATION_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut index = Index::new(TrustDomain::default());
    let mut most = 0;
    for step in 0..1000 {
        let name = random.u64(..8);
        let labels = (0..random.u64(..4)).map(|_| label(random.u64(..6))).collect();
        match random.u64(..6) {
            0 => drop(index.remove_pod(&pod(name, labels).key)),
            1 => {
                let key = ObjectKey::new(crate::model::Kind::Service, "shop", &format!("s{name}"));
                index.remove(&key);
            }
            2 | 3 => drop(index.apply_pod(pod(name, labels))),
            _ => drop(index.apply(&service(name, &labels))),
        }
        let walked = walked(&index);
        most = most.max(walked.len());
        let by_service: BTreeSet<_> = index
            .services
            .iter()
            .flat_map(|(name, service)| {
                let pods = index.selected_pods(name, &service.spec);
                pods.map(move |pod| (name.to_string(), pod.key.to_string()))
            })
            .collect();
        let by_pod: BTreeSet<_> = index
            .pods()
            .flat_map(|pod| {
                let ports = index.ports_of_pod(pod).into_iter();
                ports.map(|(port, _)| (port.service.to_string(), pod.key.to_string()))
            })
            .collect();
        assert_eq!(by_service, walked, "WEFT_SIMULATION_SEED={seed}, step {step}");
        assert_eq!(by_pod, walked, "WEFT_SIMULATION_SEED={seed}, step {step}");
    }
    assert!(most > 5, "WEFT_SIMULATION_SEED={seed}: {most}");
}
