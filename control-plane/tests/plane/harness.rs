//! A control plane in this process, on objects in memory and a state folder that outlives its restarts.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use clap::Parser;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use weft_control_plane::{
    app::{App, Running},
    config::Config,
    model::{Kind, Object, ObjectKey, Status, parse_object},
    store::{List, Outcome, Store, StoreError, Version, Watch, Written, log::Log},
};
use weft_proto::api::{
    CreateTokenRequest, ProxiesRequest, Proxy, RotateRootRequest, RotateRootResponse,
    api_client::ApiClient,
};

/// Nothing in these tests takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    config: Config,
}

pub(crate) struct Plane {
    pub(crate) running: Option<Running>,
    folder: TempDir,
    store: Arc<dyn Store>,
    flags: Vec<String>,
}

impl Plane {
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let store = Arc::new(Memory(Arc::new(Log::new(BTreeMap::new(), Version(1)))));
        Self::start_over(store, flags).await
    }

    /// The same, on objects that lie elsewhere.
    pub(crate) async fn start_over(store: Arc<dyn Store>, flags: &[&str]) -> Self {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let folder = tempfile::tempdir().unwrap();
        let mut this = Self { running: None, folder, store, flags };
        this.run().await;
        this
    }

    async fn run(&mut self) {
        let mut line = vec![
            "weft".to_owned(),
            "--discovery-listen=127.0.0.1:0".to_owned(),
            format!("--state={}", self.folder.path().display()),
        ];
        line.extend(self.flags.iter().cloned());
        let config = Line::try_parse_from(line).unwrap().config;
        self.running = Some(App::start_on(config, self.store.clone()).await.unwrap());
    }

    /// Stops, and starts anew on the same state: at another port.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.run().await;
    }

    pub(crate) async fn stop(&mut self) {
        self.running.take().unwrap().shutdown().await;
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.running.as_ref().unwrap().addresses.discovery
    }

    pub(crate) async fn apply(&self, kind: &str, name: &str, spec: &str) {
        let version = match kind {
            "Workload" => "weft.dev/v1alpha1",
            "HTTPRoute" => "gateway.networking.k8s.io/v1",
            _ => "v1",
        };
        let text = format!(
            r#"{{"apiVersion":"{version}","kind":"{kind}","metadata":{{"namespace":"shop","name":"{name}"}},"spec":{spec}}}"#
        );
        self.store.write(parse_object(&text).unwrap(), false).await.unwrap();
    }

    pub(crate) async fn delete(&self, kind: &str, name: &str) {
        let key = ObjectKey::new(Kind::from_spelling(kind).unwrap(), "shop", name);
        self.store.delete(&key).await.unwrap();
    }

    pub(crate) async fn api(&self) -> ApiClient<Channel> {
        let path = &self.running.as_ref().unwrap().addresses.api;
        let endpoint = Endpoint::from_shared(format!("unix:{}", path.display())).unwrap();
        ApiClient::new(endpoint.connect().await.unwrap())
    }

    /// A token for a service account of `shop`; returns its name and its text.
    pub(crate) async fn token(
        &self,
        account: &str,
        ttl_seconds: i64,
        uses: u32,
    ) -> (String, String) {
        let request = CreateTokenRequest {
            namespace: "shop".into(),
            service_account: account.into(),
            ttl_seconds,
            uses,
        };
        let created = self.api().await.create_token(request).await.unwrap().into_inner();
        (created.id, created.token)
    }

    pub(crate) async fn rotate(&self, retire_old: bool) -> RotateRootResponse {
        let request = RotateRootRequest { retire_old };
        self.api().await.rotate_root(request).await.unwrap().into_inner()
    }

    /// Waits until the table of proxies is as it should be.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&[Proxy]) -> bool) {
        let mut api = self.api().await;
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let proxies = api.proxies(ProxiesRequest {}).await.unwrap().into_inner().proxies;
            if holds(&proxies) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "not so in time: {what}: {proxies:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A store that forgets.
struct Memory(Arc<Log>);

#[tonic::async_trait]
impl Store for Memory {
    async fn list(&self) -> Result<List, StoreError> {
        Ok(self.0.list())
    }

    async fn watch(&self, since: Option<Version>) -> Result<Watch, StoreError> {
        self.0.watch(since)
    }

    async fn write(&self, object: Object, _dry_run: bool) -> Result<Written, StoreError> {
        let object = Arc::new(object);
        let next = Version(self.0.list().version.0 + 1);
        self.0.apply(next, object.clone());
        Ok(Written { object, outcome: Outcome::Configured })
    }

    async fn delete(&self, key: &ObjectKey) -> Result<Option<Arc<Object>>, StoreError> {
        let next = Version(self.0.list().version.0 + 1);
        Ok(self.0.remove(next, key))
    }

    async fn write_status(&self, _: &ObjectKey, _: &str, _: Status) -> Result<(), StoreError> {
        Ok(())
    }

    fn problems(&self) -> Vec<String> {
        Vec::new()
    }
}
