//! The conditions that objects get.

mod never_sent;

use tokio::time::timeout;
use weft_proto::TrustDomain;

use super::*;
use crate::{
    index::Index,
    model::parse_documents,
    store::{DirStore, Event, List, Version, Written},
};

const WEB: &str = "apiVersion: weft.dev/v1alpha1\nkind: Workload\nmetadata: {name: web, labels: {app: web}}\nspec: {service: web, port: 8080, upstreams: [{service: cart}]}\n";
const CART: &str = "apiVersion: weft.dev/v1alpha1\nkind: Workload\nmetadata: {name: cart}\nspec: {service: cart, addresses: [{address: 10.0.0.1}], port: 8080}\n";

fn service(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {spec}\n")
}

fn mesh(spec: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {{name: mesh}}\nspec: {spec}\n"
    )
}

fn objects(texts: &[&str]) -> Vec<Object> {
    let all = parse_documents("test.yaml", &texts.join("---\n")).into_iter();
    all.map(|parsed| parsed.expect("valid").object).collect()
}

/// What is said of the last object among these, but for what simply holds.
fn said(texts: &[&str]) -> Vec<String> {
    let objects = objects(texts);
    let mut index = Index::new(TrustDomain::default());
    index.apply_all(&objects);
    let judged = judge(objects.last().expect("one"), &index, &refused::Refused::default());
    let judgements = judged.conditions;
    assert!(judgements.iter().any(|judgement| judgement.r#type == "Accepted"));
    let unwell = judgements.into_iter().filter(|judgement| !judgement.holds);
    unwell.map(|one| format!("{} {}: {}", one.r#type, one.reason, one.message)).collect()
}

#[test]
fn each_object_is_told_what_is_not_in_force_and_why() {
    let no_endpoints = "Programmed NoEndpoints: no ready instance stands behind the service";
    let no_instances = "Programmed NoInstances: no instance has registered";
    let cases: &[(&[&str], &[&str])] = &[
        (&[CART], &[]),
        (&["apiVersion: weft.dev/v1alpha1\nkind: Workload\nmetadata: {name: shell}\n"], &[]),
        (
            &[CART, WEB],
            &[
                "ResolvedRefs PortNotFound: spec.upstreams[0].port: service default/cart has no port 80: it has 8080",
                no_instances,
            ],
        ),
        (
            &[WEB],
            &[
                "ResolvedRefs ServiceNotFound: spec.upstreams[0].service: there is no service default/cart: correct the name, or have a Workload in default say spec.service \"cart\"",
                no_instances,
            ],
        ),
        (
            &[&service("{ports: [{port: 80, targetPort: 9}]}"), WEB],
            &[
                "ResolvedRefs PortNotServed: spec.service: none of the workload's ports stands behind a port of Service default/web: compare its targetPort with spec.ports",
                no_instances,
            ],
        ),
        (&[WEB, &service("{ports: [{port: 80}]}")], &[no_endpoints]),
        (
            &[WEB, &service("{ports: [{name: a, port: 80}, {name: b, port: 81, targetPort: 9}]}")],
            &[
                "ResolvedRefs PortNotServed: spec.ports: no workload of the service has a port for 81 (targetPort 9): correct targetPort, or add the port to a Workload",
                no_endpoints,
            ],
        ),
        (
            &[&service("{selector: {app: wbe}, ports: [{port: 80}]}")],
            &[
                "ResolvedRefs NoWorkloads: spec.selector app=wbe matches no Workload in default: compare metadata.labels there",
                no_endpoints,
            ],
        ),
        (
            &[&service("{ports: [{port: 80}]}")],
            &[
                "ResolvedRefs NoWorkloads: no Workload in default has spec.service \"web\", and spec.selector is empty",
                no_endpoints,
            ],
        ),
        (&[&mesh("{trustDomain: weft.local}")], &[]),
        (
            &[&mesh("{trustDomain: example.org}")],
            &[
                "Accepted TrustDomainDiffers: spec.trustDomain is \"example.org\", but the control plane was started with \"weft.local\": restart it with the other, or leave the field out",
            ],
        ),
        (&["apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"], &[]),
    ];
    for (texts, expected) in cases {
        assert_eq!(said(texts), *expected, "{texts:?}");
    }
}

#[test]
fn a_condition_keeps_its_time_until_it_turns() {
    let mut object = objects(&[WEB]).remove(0);
    object.metadata_mut().generation = 3;
    let judgement = |holds, message: &str| Judgement {
        r#type: "Accepted",
        holds,
        reason: "Accepted",
        message: message.to_owned(),
    };
    let combined = |object: &Object, holds, message, now| {
        combine(object, vec![judgement(holds, message)].into(), now)
    };
    *object.status_mut() = combined(&object, true, "one", "t1");
    assert_eq!(object.status().conditions[0].observed_generation, 3);
    for (holds, message, time) in [(true, "one", "t1"), (true, "other", "t1"), (false, "one", "t2")]
    {
        let condition = combined(&object, holds, message, "t2").conditions.remove(0);
        assert_eq!(
            (condition.last_transition_time.as_str(), condition.message.as_str()),
            (time, message)
        );
    }
}

#[tokio::test]
async fn statuses_follow_objects_and_the_index_and_come_to_rest() {
    let folder = tempfile::tempdir().expect("a folder");
    let store: Arc<dyn Store> = Arc::new(DirStore::open(folder.path()).await.expect("a store"));
    let (change, changes) = broadcast::channel::<()>(8);
    let word = Arc::new(std::sync::Mutex::new("first"));
    let said = Arc::clone(&word);
    let begin = move || {
        let reason = *said.lock().expect("not poisoned");
        move |_: &Object| {
            let accepted =
                Judgement { r#type: "Accepted", holds: true, reason, message: String::new() };
            Judged::from(vec![accepted])
        }
    };
    let (refusals, refused) = watch::channel(0);
    let mut watch = store.watch(None).await.expect("watched");
    let kept = tokio::spawn(keep(Arc::clone(&store), begin, changes, refused));
    store.write(objects(&[WEB]).remove(0), false).await.expect("written");
    let mut until = async |wanted: &str| {
        timeout(Duration::from_secs(20), async {
            loop {
                if let Event::Applied(object) = watch.next().await.expect("an event")
                    && object.status().conditions.iter().any(|condition| condition.reason == wanted)
                {
                    return object;
                }
            }
        })
        .await
        .expect("in time")
    };
    let first = until("first").await;
    *word.lock().expect("not poisoned") = "second";
    change.send(()).expect("it listens");
    let second = until("second").await;
    assert_eq!(
        first.status().conditions[0].last_transition_time,
        second.status().conditions[0].last_transition_time
    );
    *word.lock().expect("not poisoned") = "third";
    refusals.send(1).expect("it listens");
    let third = until("third").await;
    drop(change);
    kept.await.expect("it ends when nothing can change any more");
    let rest = store.list().await.expect("listed");
    assert_eq!(rest.objects[0].metadata().resource_version, third.metadata().resource_version);
}

/// A store that does not take the status of one object.
struct Stubborn(DirStore);

#[tonic::async_trait]
impl Store for Stubborn {
    async fn list(&self) -> Result<List, StoreError> {
        self.0.list().await
    }
    async fn watch(&self, since: Option<Version>) -> Result<Watch, StoreError> {
        self.0.watch(since).await
    }
    async fn write(&self, object: Object, dry_run: bool) -> Result<Written, StoreError> {
        self.0.write(object, dry_run).await
    }
    async fn delete(&self, key: &ObjectKey) -> Result<Option<Arc<Object>>, StoreError> {
        self.0.delete(key).await
    }
    async fn write_status(
        &self,
        key: &ObjectKey,
        uid: &str,
        status: Status,
    ) -> Result<(), StoreError> {
        if key.name == "a" {
            return Err(StoreError::TooOld { since: Version(1) });
        }
        self.0.write_status(key, uid, status).await
    }
    fn problems(&self) -> Vec<String> {
        self.0.problems()
    }
}

#[tokio::test]
async fn a_status_that_is_not_taken_keeps_no_other_from_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Stubborn(DirStore::open(folder.path()).await.expect("a store"));
    for name in ["a", "b"] {
        let text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
        store.write(objects(&[&text]).remove(0), false).await.expect("written");
    }
    let judge = |_: &Object| {
        let message = "x".repeat(40_000);
        Judged::from(vec![Judgement { r#type: "Accepted", holds: false, reason: "No", message }])
    };
    write_all(&store, &judge).await.expect_err("of a");
    let said = store.list().await.expect("listed").objects;
    let lengths: Vec<Option<usize>> =
        said.iter().map(|object| Some(object.status().conditions.first()?.message.len())).collect();
    let [None, Some(length)] = lengths[..] else { panic!("{lengths:?}") };
    assert!((30_000..32_768).contains(&length), "what Kubernetes takes: {length}");
}

#[test]
fn a_grant_that_says_more_than_is_known_says_that_this_grants_nothing() {
    let grant = "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: routes, namespace: lab}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop, unless: x}]
  to: [{group: '', kind: Service}]
";
    let said = said(&[grant]);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("UnsupportedValue"), "{said:?}");
    assert!(said[0].contains("spec.from[0].unless"), "{said:?}");
}
