//! Tokens: issued to accounts and pods for an audience, and believed as long as both are there.

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenReview, TokenReviewStatus},
    core::v1::{Pod, ServiceAccount},
};
use kube::{Api as Objects, ResourceExt, api::PostParams};
use serde_json::{Value, json};
use weft_tests::{
    kubernetes::{
        Cluster,
        cluster::{pods::PodWish, refusal},
    },
    wait,
};

use super::objects::object;

const AUDIENCE: &str = "weft.dev";

async fn review(cluster: &Cluster, token: &str, audiences: &[&str]) -> TokenReviewStatus {
    let reviews: Objects<TokenReview> = Objects::all(cluster.client());
    let review: TokenReview =
        object(json!({"metadata": {}, "spec": {"token": token, "audiences": audiences}}));
    let answer = reviews.create(&PostParams::default(), &review).await.expect("the admin may ask");
    answer.status.expect("a review has a status")
}

async fn bound_pod(cluster: &Cluster, namespace: &str) -> Pod {
    cluster.service_account(namespace, "web").await;
    let node = cluster.node("a").await;
    cluster.pod(namespace, &PodWish::named("web-0", &node).service_account("web")).await
}

#[tokio::test]
async fn a_bound_token_says_whose_it_is() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("tokens").await;
    let pod = bound_pod(&cluster, &namespace).await;
    let token = cluster.token(&namespace, "web", Some(&pod), &[AUDIENCE]).await;
    assert_eq!(token.split('.').count(), 3);

    let status = review(&cluster, &token, &[AUDIENCE, "another"]).await;

    assert_eq!((status.authenticated, status.error), (Some(true), None));
    assert_eq!(status.audiences, Some(vec![AUDIENCE.to_owned()]));
    let user = status.user.expect("a user");
    assert_eq!(user.username, Some(format!("system:serviceaccount:{namespace}:web")));
    let groups = user.groups.expect("groups");
    assert!(groups.contains(&format!("system:serviceaccounts:{namespace}")), "{groups:?}");
    let extra = user.extra.expect("extra");
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], ["web-0"]);
    assert_eq!(extra["authentication.kubernetes.io/pod-uid"], [pod.uid().expect("a uid")]);
}

#[tokio::test]
async fn a_token_is_worth_nothing_to_others() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("tokens").await;
    let pod = bound_pod(&cluster, &namespace).await;
    let token = cluster.token(&namespace, "web", Some(&pod), &[AUDIENCE]).await;

    for (token, audiences) in
        [(token.as_str(), &["another"][..]), (token.as_str(), &[]), ("a.b.c", &[AUDIENCE])]
    {
        let status = review(&cluster, token, audiences).await;
        assert_ne!(status.authenticated, Some(true), "{audiences:?}");
        assert_eq!(status.user.unwrap_or_default().username, None);
    }
    let maps: Objects<Pod> = Objects::namespaced(cluster.client_with_token(&token), &namespace);
    assert_eq!(refusal(maps.get("web-0").await).code, 401, "it is not for the API");
}

#[tokio::test]
async fn a_token_dies_with_its_pod() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("tokens").await;
    let pod = bound_pod(&cluster, &namespace).await;
    let token = cluster.token(&namespace, "web", Some(&pod), &[AUDIENCE]).await;
    cluster.terminate_pod(&namespace, "web-0").await;
    let terminating = review(&cluster, &token, &[AUDIENCE]).await;
    assert_eq!(terminating.authenticated, Some(true), "a terminating pod still serves");

    cluster.remove_pod(&namespace, "web-0").await;

    // A real server remembers a good answer for ten seconds.
    wait::until_true("the token is dead", || async {
        review(&cluster, &token, &[AUDIENCE]).await.authenticated != Some(true)
    })
    .await;
}

#[tokio::test]
async fn tokens_are_refused_for_other_pods_and_short_lives() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("tokens").await;
    let pod = bound_pod(&cluster, &namespace).await;
    let accounts: Objects<ServiceAccount> = cluster.objects(&namespace);
    let request = |account: &'static str, spec: Value| {
        let accounts = accounts.clone();
        async move {
            let request: TokenRequest = object(json!({"metadata": {}, "spec": spec}));
            refusal(accounts.create_token_request(account, &PostParams::default(), &request).await)
        }
    };
    let bound = |name: &str, uid: Option<String>| {
        let reference = json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
        json!({"audiences": [AUDIENCE], "boundObjectRef": reference})
    };

    assert_eq!(request("web", bound("web-1", None)).await.code, 404);
    assert_eq!(request("web", bound("web-0", Some("another".to_owned()))).await.code, 409);
    assert_eq!(request("default", bound("web-0", pod.uid())).await.code, 400);
    assert_eq!(request("nobody", bound("web-0", pod.uid())).await.code, 404);
    let short = json!({"audiences": [AUDIENCE], "expirationSeconds": 599});
    assert_eq!(request("web", short).await.code, 422);
}
