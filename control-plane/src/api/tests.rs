//! The API over its socket: objects, watches, and the answers to a user's mistakes.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{Code, transport::Channel};
use tonic_reflection::pb::v1 as reflection;
use weft_proto::api::{api_client::ApiClient, object_result::Outcome, watch_event};

use super::{serve::ServeError, *};
use crate::{model::Kind, store::DirStore};

const CART: &str = r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cart"}, "spec": {"ports": [{"port": 80}]}}"#;

/// A mesh that does nothing but say its name.
struct Nothing;

#[async_trait]
impl Runtime for Nothing {
    async fn version(&self) -> Result<api::VersionResponse, Status> {
        Ok(api::VersionResponse { version: "1.2.3".into(), ..Default::default() })
    }
    async fn proxies(&self) -> Result<api::ProxiesResponse, Status> {
        Ok(api::ProxiesResponse::default())
    }
    async fn endpoints(
        &self,
        request: api::EndpointsRequest,
    ) -> Result<api::EndpointsResponse, Status> {
        Err(Status::not_found(format!("there is no service {}", request.service)))
    }
    async fn authz(&self, request: api::AuthzRequest) -> Result<api::AuthzResponse, Status> {
        Err(Status::not_found(format!("there is no service {}", request.service)))
    }
    async fn applied(&self, request: api::AppliedRequest) -> Result<api::AppliedResponse, Status> {
        Err(Status::not_found(format!("there is no service {}", request.service)))
    }
    async fn identities(
        &self,
        _: api::IdentitiesRequest,
    ) -> Result<api::IdentitiesResponse, Status> {
        Ok(api::IdentitiesResponse::default())
    }
    async fn create_token(
        &self,
        request: api::CreateTokenRequest,
    ) -> Result<api::CreateTokenResponse, Status> {
        Ok(api::CreateTokenResponse { id: request.service_account, ..Default::default() })
    }
    async fn list_tokens(&self) -> Result<api::ListTokensResponse, Status> {
        Ok(api::ListTokensResponse::default())
    }
    async fn revoke_token(
        &self,
        _: api::RevokeTokenRequest,
    ) -> Result<api::RevokeTokenResponse, Status> {
        Ok(api::RevokeTokenResponse { existed: true })
    }
    async fn rotate_root(
        &self,
        _: api::RotateRootRequest,
    ) -> Result<api::RotateRootResponse, Status> {
        Ok(api::RotateRootResponse::default())
    }
}

struct Served {
    folder: TempDir,
    channel: Channel,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), ServeError>>,
}

impl Served {
    async fn begin() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let objects = folder.path().join("objects");
        let store = Arc::new(DirStore::open(&objects).await.expect("a store"));
        let socket = folder.path().join("api.sock");
        let listener = ApiListener::unix(&socket).await.expect("bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move {
            let _ = stopped.await;
        };
        let ended =
            tokio::spawn(serve(ApiService::new(store, Arc::new(Nothing)), listener, stopped));
        Self { channel: connect(&socket).await, folder, stop, ended }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("api.sock")
    }

    fn client(&self) -> ApiClient<Channel> {
        ApiClient::new(self.channel.clone())
    }

    async fn apply(&self, objects: &[&str], dry_run: bool) -> Vec<api::ObjectResult> {
        let objects = objects.iter().map(ToString::to_string).collect();
        let answer = self.client().apply(api::ApplyRequest { objects, dry_run }).await;
        answer.expect("an answer").into_inner().results
    }

    async fn get(&self, kind: &str, namespace: &str, name: &str) -> api::GetResponse {
        let request = api::GetRequest { r#ref: Some(reference(kind, namespace, name)) };
        self.client().get(request).await.expect("an answer").into_inner()
    }
}

async fn connect(socket: &Path) -> Channel {
    let address = format!("unix://{}", socket.display());
    let endpoint = tonic::transport::Endpoint::try_from(address).expect("an address");
    endpoint.connect().await.expect("connected")
}

fn reference(kind: &str, namespace: &str, name: &str) -> api::ObjectRef {
    api::ObjectRef { kind: kind.into(), namespace: namespace.into(), name: name.into() }
}

#[tokio::test]
async fn objects_are_applied_read_and_deleted() {
    let served = Served::begin().await;
    let results = served.apply(&[CART], true).await;
    assert_eq!(results[0].outcome(), Outcome::Created);
    assert!(served.get("svc", "", "").await.objects.is_empty(), "that was a dry run");
    let changed = CART.replace("80", "81");
    for (text, outcome) in
        [(CART, Outcome::Created), (CART, Outcome::Unchanged), (&changed, Outcome::Configured)]
    {
        let results = served.apply(&[text], false).await;
        assert_eq!(
            (results[0].outcome(), results[0].object.as_str()),
            (outcome, "Service default/cart")
        );
    }
    let read = served.get("services", "default", "cart").await;
    let cart: serde_json::Value = serde_json::from_str(&read.objects[0]).expect("JSON");
    assert_eq!((&cart["kind"], &cart["spec"]["ports"][0]["port"]), (&"Service".into(), &81.into()));
    assert_eq!(cart["metadata"]["generation"], 2);
    assert!(served.get("svc", "other", "").await.objects.is_empty());
    assert_eq!(served.get("", "", "").await.objects.len(), 1, "every kind");
    let refs = vec![reference("svc", "", "cart"), reference("Service", "shop", "none")];
    let answer = served.client().delete(api::DeleteRequest { refs }).await.expect("an answer");
    let outcomes: Vec<_> =
        answer.get_ref().results.iter().map(api::ObjectResult::outcome).collect();
    assert_eq!(outcomes, [Outcome::Deleted, Outcome::NotFound]);
}

#[tokio::test]
async fn one_refused_object_does_not_stop_the_rest() {
    let served = Served::begin().await;
    let hand_made = served.folder.path().join("objects/shop.yaml");
    fs::write(&hand_made, CART.replace("cart", "web")).expect("written");
    let mut watch =
        served.client().watch(api::GetRequest::default()).await.expect("watched").into_inner();
    while watch.message().await.expect("an event").expect("no end").kind()
        != watch_event::Kind::Applied
    {}
    let web = CART.replace("cart", "web").replace("80", "81");
    let broken = CART.replace("80", "0");
    let results = served.apply(&["{}", &broken, &web, "", CART], false).await;
    let told: Vec<_> =
        results.iter().map(|result| (result.outcome(), result.message.as_str())).collect();
    let hand_made = hand_made.display();
    let message = format!(
        "Service default/web stands in {hand_made}, which is made by hand: change it there"
    );
    let known = format!("kind: \"\" is no known kind: use one of {}", Kind::known());
    let port =
        "spec.ports[0].port: invalid value: integer `0`, expected a port number from 1 to 65535";
    assert_eq!(told[0], (Outcome::Refused, known.as_str()));
    assert_eq!((results[1].object.as_str(), told[1]), ("Service cart", (Outcome::Refused, port)));
    assert_eq!(told[2], (Outcome::Refused, message.as_str()));
    assert_eq!(told[3].0, Outcome::Refused);
    assert_eq!(told[4], (Outcome::Created, ""));
}

#[tokio::test]
async fn whoever_applies_a_route_is_told_what_of_it_has_no_support() {
    let served = Served::begin().await;
    let route = |spec: &str| {
        format!(
            r#"{{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {{"name": "split"}}, "spec": {spec}}}"#
        )
    };
    for (spec, told) in [
        (r#"{"rules": [{}]}"#, ""),
        (
            r#"{"rules": [{"sessionPersistence": {}}, {"filters": [{"type": "CORS", "cors": {}}]}]}"#,
            "spec.rules[0].sessionPersistence: is not supported: leave it out; \
             spec.rules[1].filters[0].type Cors: is not supported: leave it out",
        ),
        (
            r#"{"parentRefs": [{"name": "edge"}]}"#,
            "spec.parentRefs[0]: Gateway \"edge\" is not Weft's to route for: it takes Services",
        ),
    ] {
        let results = served.apply(&[&route(spec)], true).await;
        assert_eq!((results[0].outcome(), results[0].message.as_str()), (Outcome::Created, told));
    }
    let refused =
        route(r#"{"rules": [{"backendRefs": [{"name": "a", "port": 80, "weight": -1}]}]}"#);
    let results = served.apply(&[&refused], false).await;
    let message = "spec.rules[0].backendRefs[0].weight: -1 is out of range: use 0 to 1000000";
    assert_eq!((results[0].outcome(), results[0].message.as_str()), (Outcome::Refused, message));
}

#[tokio::test]
async fn broken_files_are_told_with_every_answer() {
    let served = Served::begin().await;
    let file = served.folder.path().join("objects/shop.yaml");
    let mut watch =
        served.client().watch(api::GetRequest::default()).await.expect("watched").into_inner();
    fs::write(&file, CART).expect("written");
    while watch.message().await.expect("an event").expect("no end").kind()
        != watch_event::Kind::Applied
    {}
    fs::write(&file, CART.replace("80", "0")).expect("written");
    let mut often = tokio::time::interval(std::time::Duration::from_millis(5));
    let problems = tokio::time::timeout(std::time::Duration::from_secs(20), async {
        loop {
            let read = served.get("svc", "", "").await;
            if !read.problems.is_empty() {
                assert_eq!(read.objects.len(), 1, "the last good state");
                return read.problems;
            }
            often.tick().await;
        }
    });
    let problems = problems.await.expect("in time");
    assert!(
        problems[0].starts_with(&format!("{}:1: Service cart: spec.ports[0].port", file.display())),
        "{problems:?}"
    );
}

#[tokio::test]
async fn whoever_applies_an_object_is_told_at_once_what_its_status_will_say() {
    let served = Served::begin().await;
    let object = |api: &str, kind: &str, name: &str, spec: &str| {
        format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    };
    let weft = |kind: &str, name: &str, spec: &str| object("weft.dev/v1alpha1", kind, name, spec);
    let policy = |name: &str, target: &str| {
        let spec = format!("{{targetRefs: [{{kind: {target}}}], timeouts: {{request: 1s}}}}");
        weft("TrafficPolicy", name, &spec)
    };
    let parent = "parentRefs: [{group: '', kind: Service, name: cart}]";
    let rules = "rules: [{backendRefs: [{name: cart, port: 80}]}]";
    let route = object(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        "split",
        &format!("{{{parent}, {rules}}}"),
    );
    let outside = weft("ExternalService", "cart", "{hosts: [a.example.com], ports: [{port: 443}]}");
    let none = "spec.parentRefs[0].name: there is no service default/cart: correct the name, or make it; \
                spec.rules[0].backendRefs[0]: there is no service default/cart: correct the name, or make it";
    let results = served.apply(&[&route], true).await;
    assert_eq!(results[0].message, none);
    let all = [
        route.as_str(),
        CART,
        &policy("a", "Service, name: cart"),
        &policy("b", "Service, name: cart"),
        &policy("c", "Service, name: cat"),
        &policy("d", "HTTPRoute, name: split, sectionName: one"),
        &outside,
    ];
    let told = [
        "",
        "",
        "",
        "spec.timeouts: TrafficPolicy default/a, which is older, sets it on Service default/cart already: nothing of \
         this policy is in force; change one of them",
        "spec.targetRefs[0].name: there is no Service \"cat\" in namespace default: correct the name, or apply it",
        "spec.targetRefs[0].sectionName: HTTPRoute default/split has no rule \"one\": its rules have no names: give \
         them some",
        "metadata.name: there is a Service default/cart, which goes before: give this object another name",
    ];
    for dry_run in [true, false, false] {
        let results = served.apply(&all, dry_run).await;
        let messages: Vec<&str> = results.iter().map(|result| result.message.as_str()).collect();
        assert_eq!(messages, told, "{dry_run}");
    }
    let results = served.apply(&[&route], false).await;
    assert_eq!(results[0].message, "", "it is known by now");
}

#[tokio::test]
async fn a_watch_tells_the_state_a_mark_and_changes_of_what_it_asked_for() {
    let served = Served::begin().await;
    served.apply(&[CART], false).await;
    let request = api::GetRequest { r#ref: Some(reference("service", "", "cart")) };
    let mut watch = served.client().watch(request).await.expect("watched").into_inner();
    served.apply(&[&CART.replace("cart", "web"), &CART.replace("80", "81")], false).await;
    let refs = vec![reference("svc", "", "cart")];
    served.client().delete(api::DeleteRequest { refs }).await.expect("an answer");
    let mut told = Vec::new();
    while told.len() < 4 {
        let event = watch.message().await.expect("an event").expect("no end");
        assert!(!event.object.contains("web"));
        told.push(event.kind());
    }
    use watch_event::Kind::{Applied, Deleted, Synced};
    assert_eq!(told, [Applied, Synced, Applied, Deleted]);
}

#[tokio::test]
async fn a_users_mistakes_are_answered_with_what_is_right() {
    let served = Served::begin().await;
    let request = api::GetRequest { r#ref: Some(reference("pod", "", "")) };
    let error = served.client().get(request).await.expect_err("no such kind");
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().starts_with("\"pod\" is no known kind: use one of Service"), "{error}");
    let refs = vec![reference("svc", "", "")];
    let error = served.client().delete(api::DeleteRequest { refs }).await.expect_err("which?");
    assert_eq!(error.code(), Code::InvalidArgument);
    let request = api::EndpointsRequest { service: "x".into() };
    let error = served.client().endpoints(request).await.expect_err("none");
    assert_eq!((error.code(), error.message()), (Code::NotFound, "there is no service x"));
    let version = served.client().version(api::VersionRequest {}).await.expect("an answer");
    assert_eq!(version.get_ref().version, "1.2.3");
}

#[tokio::test]
async fn health_and_reflection_are_served() {
    let served = Served::begin().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(served.channel.clone());
    for service in ["", "weft.api.v1.Api"] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.into() };
        let answer = health.check(request).await.expect("known");
        assert_eq!(
            answer.get_ref().status(),
            tonic_health::pb::health_check_response::ServingStatus::Serving
        );
    }
    let mut client =
        reflection::server_reflection_client::ServerReflectionClient::new(served.channel.clone());
    let question =
        reflection::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = reflection::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    };
    let answer = client.server_reflection_info(futures_util::stream::iter([request])).await;
    let answer = answer.expect("served").into_inner().message().await.expect("an answer");
    let text = format!("{answer:?}");
    assert!(text.contains("weft.api.v1.Api") && text.contains("grpc.health.v1.Health"), "{text}");
}

#[tokio::test]
async fn the_socket_is_its_owners_alone_and_goes_with_the_server() {
    let served = Served::begin().await;
    let socket = served.socket();
    assert_eq!(fs::metadata(&socket).expect("there").permissions().mode() & 0o777, 0o600);
    let taken = ApiListener::unix(&socket).await.expect_err("somebody answers there");
    assert!(matches!(taken, ServeError::InUse { .. }), "{taken}");
    // A watch is open: it does not hold up the end for longer than a second or so.
    let _watch = served.client().watch(api::GetRequest::default()).await.expect("watched");
    served.stop.send(()).expect("it serves");
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), served.ended).await;
    ended.expect("in time").expect("no panic").expect("no error");
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_dead_servers_socket_is_replaced_and_a_file_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("api.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("bound"));
    assert!(socket.exists(), "a dead server leaves it");
    drop(ApiListener::unix(&socket).await.expect("replaced"));
    assert!(!socket.exists());
    fs::write(&socket, "precious").expect("written");
    let error = ApiListener::unix(&socket).await.expect_err("that is a file").to_string();
    assert!(error.ends_with("a file that is no socket is there"), "{error}");
    assert_eq!(fs::read_to_string(&socket).expect("untouched"), "precious");
}

#[tokio::test]
async fn tcp_is_for_loopback_alone() {
    let error = ApiListener::tcp("0.0.0.0:0".parse().expect("valid")).await.expect_err("refused");
    assert!(matches!(error, ServeError::NotLoopback { .. }), "{error}");
    let listener = ApiListener::tcp("127.0.0.1:0".parse().expect("valid")).await.expect("bound");
    assert_ne!(listener.address().expect("TCP").port(), 0);
}
