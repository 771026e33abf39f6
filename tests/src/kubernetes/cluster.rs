//! The suite's cluster: the API in memory, or the real API server of `KUBECONFIG`, behind one face.
//!
//! In comes a test's wish for namespaces, accounts, pods in some state, slices and tokens; out go objects that exist.
//! Nothing is assumed to happen by itself, as neither may have controllers, and nothing is assumed not to happen, as
//! the real one may: what is already there is taken as it is. Names are unique, so that tests run side by side and
//! again; all but custom resource definitions is deleted when the cluster is dropped.

mod clean_up;
mod definitions;
pub mod gateway_api;
pub mod pods;
pub mod slices;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket},
    sync::{Mutex, PoisonError},
};

use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{Namespace, Node, NodeCondition, NodeStatus, Pod, ServiceAccount},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api as Objects, Client, Config, Resource, ResourceExt,
    api::{ApiResource, ObjectMeta, Patch, PatchParams, PostParams},
    config::{AuthInfo, Kubeconfig},
    core::Status,
};
use serde::{Serialize, de::DeserializeOwned};

use self::clean_up::Made;
use super::{listener::Api, metadata::generated_name};

/// Who the harness is to server-side apply.
pub const MANAGER: &str = "weft-tests";

/// A cluster, with what a test made in it.
pub struct Cluster {
    config: Config,
    client: Client,
    api: Option<Api>,
    made: Mutex<Made>,
}

impl Cluster {
    /// The cluster of `KUBECONFIG`, or one in memory when that is not set.
    ///
    /// # Panics
    /// When it cannot be reached.
    pub async fn start() -> Self {
        if std::env::var_os("KUBECONFIG").is_none_or(|path| path.is_empty()) {
            return Self::start_in_memory().await;
        }
        let config = Config::infer().await.expect("KUBECONFIG names a readable kubeconfig");
        let client = Client::try_from(config.clone()).expect("the kubeconfig is well-formed");
        client.apiserver_version().await.expect("the API server of KUBECONFIG answers");
        Self { config, client, api: None, made: Mutex::default() }
    }

    /// A cluster in memory, whatever `KUBECONFIG` says: for tests of faults.
    pub async fn start_in_memory() -> Self {
        let api = Api::start().await;
        let config = api.config(api.admin_token()).await;
        let client = Client::try_from(config.clone()).expect("the configuration is well-formed");
        Self { config, client, api: Some(api), made: Mutex::default() }
    }

    /// The API, when it is the one in memory: it can have faults.
    #[must_use]
    pub const fn in_memory(&self) -> Option<&Api> {
        self.api.as_ref()
    }

    /// The admin's client.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// How the admin reaches the API.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// How somebody with this token reaches the API.
    #[must_use]
    pub fn config_with_token(&self, token: &str) -> Config {
        let mut config = self.config.clone();
        config.auth_info = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
        config
    }

    /// A client of somebody with this token.
    ///
    /// # Panics
    /// Never; the configuration is the admin's.
    #[must_use]
    pub fn client_with_token(&self, token: &str) -> Client {
        Client::try_from(self.config_with_token(token)).expect("the configuration is well-formed")
    }

    /// A kubeconfig for somebody with this token, for programs that read one.
    ///
    /// # Panics
    /// When `KUBECONFIG` cannot be read.
    #[must_use]
    pub fn kubeconfig(&self, token: &str) -> Kubeconfig {
        if let Some(api) = &self.api {
            return api.kubeconfig(token);
        }
        let mut kubeconfig = Kubeconfig::read().expect("KUBECONFIG names a readable kubeconfig");
        for user in &mut kubeconfig.auth_infos {
            user.auth_info =
                Some(AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() });
        }
        kubeconfig
    }

    /// This machine's address that the API server reaches, for webhooks.
    ///
    /// # Panics
    /// When the way to the API server is not known.
    #[must_use]
    pub fn own_address(&self) -> IpAddr {
        let url = &self.config.cluster_url;
        let host = url.host().expect("the cluster has a host").trim_matches(['[', ']']);
        let port = url.port_u16().unwrap_or(443);
        let mut addresses = (host, port).to_socket_addrs().expect("the host has an address");
        let address = addresses.next().expect("the host has an address");
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // Nothing is sent: the system only looks up the way.
        let socket = UdpSocket::bind((any, 0)).expect("a free port");
        socket.connect(address).expect("a way there");
        socket.local_addr().expect("it is bound").ip()
    }

    /// Objects of a kind in a namespace.
    #[must_use]
    pub fn objects<K>(&self, namespace: &str) -> Objects<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Objects::namespaced(self.client(), namespace)
    }

    /// A new namespace, with its default service account.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn namespace(&self, prefix: &str) -> String {
        self.labelled_namespace(prefix, &[]).await
    }

    /// Takes a namespace for one of this test's: it goes at the end with all that is in it.
    pub fn adopt_namespace(&self, name: &str) {
        self.made().namespaces.push(name.to_owned());
    }

    /// A new namespace with labels, and its default service account.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn labelled_namespace(&self, prefix: &str, labels: &[(&str, &str)]) -> String {
        let name = generated_name(&format!("{prefix}-"));
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels.collect()),
            ..ObjectMeta::default()
        };
        let namespace = Namespace { metadata, ..Namespace::default() };
        self.made().namespaces.push(name.clone());
        self.create(&Objects::all(self.client()), &namespace).await;
        self.service_account(&name, "default").await;
        name
    }

    /// A service account, made unless it is there, as a controller may have made it.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn service_account(&self, namespace: &str, name: &str) -> ServiceAccount {
        let accounts: Objects<ServiceAccount> = self.objects(namespace);
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let account = ServiceAccount { metadata, ..ServiceAccount::default() };
        match accounts.create(&PostParams::default(), &account).await {
            Ok(account) => account,
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                accounts.get(name).await.expect("it was there just now")
            }
            Err(error) => panic!("service account {namespace}/{name}: {error}"),
        }
    }

    /// A node in a zone, ready; no kubelet stands behind it.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn node(&self, zone: &str) -> String {
        let name = generated_name("weft-test-node-");
        let labels = [
            ("topology.kubernetes.io/zone", zone),
            ("topology.kubernetes.io/region", "test"),
            ("kubernetes.io/hostname", &name),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        };
        let nodes: Objects<Node> = Objects::all(self.client());
        self.made().nodes.push(name.clone());
        self.create(&nodes, &Node { metadata, ..Node::default() }).await;
        let ready = NodeCondition {
            type_: "Ready".to_owned(),
            status: "True".to_owned(),
            reason: Some("Test".to_owned()),
            ..NodeCondition::default()
        };
        let status = NodeStatus { conditions: Some(vec![ready]), ..NodeStatus::default() };
        let patch = Patch::Strategic(serde_json::json!({"status": status}));
        let patched = nodes.patch_status(&name, &PatchParams::default(), &patch).await;
        patched.unwrap_or_else(|error| panic!("status of node {name}: {error}"));
        name
    }

    /// A token of a service account, bound to a pod or not.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn token(
        &self,
        namespace: &str,
        account: &str,
        pod: Option<&Pod>,
        audiences: &[&str],
    ) -> String {
        let bound_object_ref = pod.map(|pod| BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(pod.name_any()),
            uid: pod.uid(),
        });
        let spec = TokenRequestSpec {
            audiences: audiences.iter().map(|&audience| audience.to_owned()).collect(),
            bound_object_ref,
            expiration_seconds: Some(3600),
        };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let accounts: Objects<ServiceAccount> = self.objects(namespace);
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await;
        let answer =
            answer.unwrap_or_else(|error| panic!("token of {namespace}/{account}: {error}"));
        answer.status.expect("a token request has a status").token
    }

    /// Writes an EndpointSlice as it is to be, new or not.
    ///
    /// # Panics
    /// When it is refused, as it is for loopback addresses.
    pub async fn apply_slice(&self, namespace: &str, slice: &EndpointSlice) -> EndpointSlice {
        self.apply(&self.objects(namespace), slice).await
    }

    /// Server-side applies an object by force, as the harness.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn apply<K>(&self, objects: &Objects<K>, object: &K) -> K
    where
        K: Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
    {
        let name = object.name_any();
        let parameters = PatchParams::apply(MANAGER).force();
        let applied = objects.patch(&name, &parameters, &Patch::Apply(object)).await;
        applied.unwrap_or_else(|error| panic!("apply of {name}: {error}"))
    }

    /// Creates an object.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn create<K>(&self, objects: &Objects<K>, object: &K) -> K
    where
        K: Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
    {
        let created = objects.create(&PostParams::default(), object).await;
        created.unwrap_or_else(|error| panic!("{}: {error}", object.name_any()))
    }

    /// Creates an object of the whole cluster, which is deleted at the end.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn create_global<K>(&self, object: &K) -> K
    where
        K: Resource<Scope = k8s_openapi::ClusterResourceScope, DynamicType = ()>,
        K: Clone + Serialize + DeserializeOwned + std::fmt::Debug,
    {
        let created = self.create(&Objects::all(self.client()), object).await;
        self.made().global.push((ApiResource::erase::<K>(&()), created.name_any()));
        created
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Cluster").field("url", &self.config.cluster_url).finish()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let made = std::mem::take(&mut *self.made());
        // What lies in memory goes with it.
        if self.api.is_none() {
            made.delete_all(self.config.clone());
        }
    }
}

/// The Status of a request that must be refused.
///
/// # Panics
/// When it was not, or by something else than the API.
pub fn refusal<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> Box<Status> {
    match result {
        Err(kube::Error::Api(status)) => status,
        other => panic!("the API was to refuse it, but: {other:?}"),
    }
}
