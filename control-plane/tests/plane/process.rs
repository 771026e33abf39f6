//! The binary as a process: what was acknowledged outlives kill -9, and a restart serves within a second.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tonic::transport::{Channel, Endpoint};
use weft_proto::{
    JoinToken,
    api::{
        ApplyRequest, CreateTokenRequest, GetRequest, ListTokensRequest, RotateRootRequest,
        VersionRequest, api_client::ApiClient,
    },
};

use crate::harness::DEADLINE;

/// The process; killed when it goes out of scope.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL; it may be dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(state: &Path) -> Process {
    let child = Command::new(env!("CARGO_BIN_EXE_weft-control-plane"))
        .arg("--discovery-listen=127.0.0.1:0")
        .arg(format!("--state={}", state.display()))
        .arg(format!("--initial-token=shop/cart={}", token_file(state).display()))
        .env("WEFT_LOG", "off")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    Process(child)
}

fn token_file(state: &Path) -> PathBuf {
    state.join("cart.token")
}

/// The API of a process that has just been started.
async fn api(state: &Path) -> ApiClient<Channel> {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let path = format!("unix:{}", state.join("api.sock").display());
    loop {
        if let Ok(channel) = Endpoint::from_shared(path.clone()).unwrap().connect().await {
            let mut api = ApiClient::new(channel);
            if api.version(VersionRequest {}).await.is_ok() {
                return api;
            }
        }
        assert!(tokio::time::Instant::now() < deadline, "the API does not answer in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_was_acknowledged_outlives_kill_9_and_a_restart_serves_within_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = start(folder.path());
    let mut before = api(folder.path()).await;
    let workload = r#"{"apiVersion":"weft.dev/v1alpha1","kind":"Workload","metadata":{"namespace":"shop","name":"cart"},"spec":{"service":"cart","port":8080}}"#;
    let request = ApplyRequest { objects: vec![workload.into()], dry_run: false };
    before.apply(request).await.unwrap();
    let request = CreateTokenRequest {
        namespace: "shop".into(),
        service_account: "cart".into(),
        ..CreateTokenRequest::default()
    };
    let token = before.create_token(request).await.unwrap().into_inner();
    before.rotate_root(RotateRootRequest::default()).await.unwrap();
    let initial = std::fs::read_to_string(token_file(folder.path())).unwrap();
    process.0.kill().unwrap();
    process.0.wait().unwrap();

    let began = tokio::time::Instant::now();
    let _process = start(folder.path());
    let mut after = api(folder.path()).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let tokens = after.list_tokens(ListTokensRequest {}).await.unwrap().into_inner().tokens;
    assert!(tokens.iter().any(|known| known.id == token.id));
    let objects = after.get(GetRequest::default()).await.unwrap().into_inner().objects;
    assert!(objects.iter().any(|object| object.contains("\"cart\"")), "{objects:?}");
    let again = after.rotate_root(RotateRootRequest::default()).await.unwrap_err();
    assert!(again.message().contains("announced already"), "{again:?}");
    let kept = std::fs::read_to_string(token_file(folder.path())).unwrap();
    assert_eq!(kept, initial, "a token that is good still is kept");
    kept.parse::<JoinToken>().unwrap();
}

#[tokio::test]
async fn a_second_one_on_the_same_objects_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let _first = start(folder.path());
    api(folder.path()).await;
    let second = Command::new(env!("CARGO_BIN_EXE_weft-control-plane"))
        .arg("--discovery-listen=127.0.0.1:0")
        .arg(format!("--state={}", folder.path().display()))
        .env_remove("WEFT_LOG")
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("in use by another control plane"), "{said}");
}
