//! Rights: a service account may do what RBAC says, and is told so when it says no.

use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::{ConfigMap, Pod, Secret},
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use kube::{
    Api as Objects, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use weft_tests::{
    kubernetes::{Cluster, cluster::refusal, metadata::generated_name},
    wait,
};

use super::{objects::object, watches::config_map};

/// A client of a service account that this namespace's role gives these rules.
async fn client_with_role(cluster: &Cluster, namespace: &str, rules: Value) -> Client {
    cluster.service_account(namespace, "web").await;
    let role: Role = object(json!({"metadata": {"name": "web"}, "rules": rules}));
    cluster.create(&cluster.objects(namespace), &role).await;
    let binding: RoleBinding = object(json!({
        "metadata": {"name": "web"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "web"},
        "subjects": [{"kind": "ServiceAccount", "name": "web", "namespace": namespace}],
    }));
    cluster.create(&cluster.objects(namespace), &binding).await;
    cluster.client_with_token(&cluster.token(namespace, "web", None, &[]).await)
}

/// Waits until a right is known: a real server learns of roles by watching them.
async fn until_allowed(client: &Client, namespace: &str, verb: &str, resource: &str, group: &str) {
    let reviews: Objects<SelfSubjectAccessReview> = Objects::all(client.clone());
    wait::until_true("the right is known", || async {
        let attributes = ResourceAttributes {
            verb: Some(verb.to_owned()),
            resource: Some(resource.to_owned()),
            group: Some(group.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let answer = reviews.create(&PostParams::default(), &review).await.expect("all may ask");
        answer.status.is_some_and(|status| status.allowed)
    })
    .await;
}

#[tokio::test]
async fn a_service_account_may_do_what_its_role_says_and_nothing_else() {
    let cluster = Cluster::start().await;
    let (namespace, other) = (cluster.namespace("rights").await, cluster.namespace("rights").await);
    let rules = json!([
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "create"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"]},
    ]);
    let client = client_with_role(&cluster, &namespace, rules).await;
    until_allowed(&client, &namespace, "list", "configmaps", "").await;
    let maps: Objects<ConfigMap> = Objects::namespaced(client.clone(), &namespace);

    maps.create(&PostParams::default(), &config_map("web", "web")).await.expect("allowed");
    assert_eq!(
        maps.list(&ListParams::default().labels("app=web")).await.expect("allowed").items.len(),
        1
    );
    let status =
        refusal(maps.patch("web", &PatchParams::default(), &Patch::Merge(json!({}))).await);
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        status.message,
        format!(
            "configmaps \"web\" is forbidden: User \"system:serviceaccount:{namespace}:web\" \
             cannot patch resource \"configmaps\" in API group \"\" in the namespace \"{namespace}\""
        )
    );
    let elsewhere: Objects<ConfigMap> = Objects::namespaced(client.clone(), &other);
    assert_eq!(refusal(elsewhere.get("web").await).code, 403);
    let everywhere: Objects<ConfigMap> = Objects::all(client.clone());
    let status = refusal(everywhere.list(&ListParams::default()).await);
    assert!(
        status.message.ends_with(
            "cannot list resource \"configmaps\" in API group \"\" at the cluster scope"
        ),
        "{status:?}"
    );

    let secrets: Objects<Secret> = Objects::namespaced(client.clone(), &namespace);
    assert_eq!(refusal(secrets.get("mine").await).code, 404, "allowed, and not there");
    assert_eq!(refusal(secrets.get("yours").await).code, 403);
    let pods: Objects<Pod> = Objects::namespaced(client, &namespace);
    let patch = Patch::Merge(json!({}));
    assert_eq!(refusal(pods.patch_status("web", &PatchParams::default(), &patch).await).code, 404);
    assert_eq!(refusal(pods.patch("web", &PatchParams::default(), &patch).await).code, 403);
}

#[tokio::test]
async fn a_cluster_role_holds_everywhere_when_it_is_bound_everywhere() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("rights").await;
    cluster.service_account(&namespace, "web").await;
    let name = generated_name("weft-tests-");
    let role: ClusterRole = object(json!({
        "metadata": {"name": name}, "rules": [{"apiGroups": [""], "resources": ["*"], "verbs": ["list"]}],
    }));
    cluster.create_global(&role).await;
    let group = format!("system:serviceaccounts:{namespace}");
    let binding: ClusterRoleBinding = object(json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": group}],
    }));
    cluster.create_global(&binding).await;
    let client = cluster.client_with_token(&cluster.token(&namespace, "web", None, &[]).await);
    until_allowed(&client, "", "list", "pods", "").await;

    let pods: Objects<Pod> = Objects::all(client.clone());
    pods.list(&ListParams::default().limit(1)).await.expect("allowed");
    let leases: Objects<k8s_openapi::api::coordination::v1::Lease> = Objects::all(client);
    assert_eq!(refusal(leases.list(&ListParams::default()).await).code, 403, "another group");
}

#[tokio::test]
async fn a_token_that_nobody_issued_is_nobodys() {
    let cluster = Cluster::start().await;
    let maps: Objects<ConfigMap> =
        Objects::default_namespaced(cluster.client_with_token("made-up"));

    let status = refusal(maps.list(&ListParams::default()).await);

    assert_eq!((status.code, status.reason.as_str()), (401, "Unauthorized"));
}

#[tokio::test]
async fn what_may_be_patched_and_not_made_cannot_be_made_by_applying_it() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("rights").await;
    let rules =
        json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "patch"]}]);
    let client = client_with_role(&cluster, &namespace, rules).await;
    until_allowed(&client, &namespace, "patch", "configmaps", "").await;
    let maps: Objects<ConfigMap> = Objects::namespaced(client, &namespace);
    let parameters = PatchParams::apply("web");
    let applied = Patch::Apply(config_map("web", "web"));

    let status = refusal(maps.patch("web", &parameters, &applied).await);
    assert_eq!(status.code, 403);
    assert!(status.message.contains("cannot create resource \"configmaps\""), "{status:?}");
    cluster.create(&cluster.objects(&namespace), &config_map("web", "web")).await;
    maps.patch("web", &parameters, &applied).await.expect("it is there now");
}

#[tokio::test]
async fn one_object_may_be_watched_by_name_and_no_other() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("rights").await;
    let rules = json!([
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]},
    ]);
    let client = client_with_role(&cluster, &namespace, rules).await;
    until_allowed(&client, &namespace, "get", "configmaps", "").await;
    let secrets: Objects<Secret> = Objects::namespaced(client, &namespace);
    let named = |name: &str| ListParams::default().fields(&format!("metadata.name={name}"));

    secrets.list(&named("mine")).await.expect("its own");
    assert_eq!(refusal(secrets.list(&named("yours")).await).code, 403);
    assert_eq!(refusal(secrets.list(&ListParams::default()).await).code, 403);
}
