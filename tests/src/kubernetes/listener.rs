//! The server's socket: HTTPS on a port of loopback, that can be shut, opened again and have its connections cut.
//!
//! In come connections, out go requests to `server`. A restart keeps every object and cuts every connection, as a
//! real server's does; a stopped server refuses connections on a port that stays its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use axum::body::Body;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::ByteString;
use kube::{Client, Config, config::Kubeconfig};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use super::{
    addresses::ServiceRange,
    faults::Faults,
    kinds::built_in,
    server::Server,
    store::{Key, Store},
};

/// A running API server; it stops when dropped.
#[derive(Debug)]
pub struct Api {
    server: Arc<Server>,
    address: SocketAddr,
    acceptor: Acceptor,
    certificate: String,
    listening: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Clone)]
struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Acceptor")
    }
}

impl Api {
    /// Starts a server with Kubernetes' own namespaces and nothing else in it.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn start() -> Self {
        Self::with_service_range(ServiceRange::default()).await
    }

    /// Starts a server that gives Services addresses of a range.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn with_service_range(addresses: ServiceRange) -> Self {
        let server = Arc::new(Server::new(addresses));
        make_namespaces(&mut server.store());
        let (acceptor, certificate) = acceptor();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let task = tokio::spawn(serve(listener, acceptor.clone(), Arc::clone(&server)));
        Self { server, address, acceptor, certificate, listening: Mutex::new(Some(task)) }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate that it is to be trusted by, in PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The admin's token.
    #[must_use]
    pub fn admin_token(&self) -> &str {
        &self.server.admin_token
    }

    /// What goes wrong on request, and what was asked for.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.server.faults
    }

    /// Says where a port of a Service is served, for the webhooks behind it.
    pub fn resolve(&self, namespace: &str, service: &str, port: u16, address: SocketAddr) {
        self.server.services.set(namespace, service, port, address);
    }

    /// Lets all tokens that were issued so far expire.
    pub fn expire_tokens(&self) {
        self.server.tokens.expire_all();
    }

    /// Forgets all old versions: whoever goes on from one is told `410 Gone`.
    pub fn compact(&self) {
        let mut store = self.server.store();
        store.compact();
        self.server.announce(&store);
    }

    /// The version of the last change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.server.store().version()
    }

    /// Shuts the socket and cuts all connections; connections are refused from now on.
    pub async fn stop(&self) {
        let task = self.listening.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
            // It was aborted; that is all that it can say.
            let _ = task.await;
        }
    }

    /// Opens the socket again.
    ///
    /// # Panics
    /// When the port is not to be had again.
    pub async fn resume(&self) {
        self.stop().await;
        let listener = TcpListener::bind(self.address).await.expect("its own port");
        let task = tokio::spawn(serve(listener, self.acceptor.clone(), Arc::clone(&self.server)));
        *self.listening.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Cuts all connections and starts again, with every object kept.
    pub async fn restart(&self) {
        self.stop().await;
        self.resume().await;
    }

    /// A kubeconfig for somebody with this token.
    ///
    /// # Panics
    /// Never; it is well-formed.
    #[must_use]
    pub fn kubeconfig(&self, token: &str) -> Kubeconfig {
        let name = "weft-tests";
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": name,
            "clusters": [{"name": name, "cluster": {
                "server": format!("https://{}", self.address),
                "certificate-authority-data": ByteString(self.certificate.as_bytes().to_vec()),
            }}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        });
        serde_json::from_value(kubeconfig).expect("it is a kubeconfig")
    }

    /// How to reach it with this token.
    ///
    /// # Panics
    /// Never; the kubeconfig is its own.
    pub async fn config(&self, token: &str) -> Config {
        let kubeconfig = self.kubeconfig(token);
        Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default())
            .await
            .expect("the kubeconfig is well-formed")
    }

    /// A client with this token.
    ///
    /// # Panics
    /// Never; the configuration is its own.
    pub async fn client(&self, token: &str) -> Client {
        Client::try_from(self.config(token).await).expect("the configuration is well-formed")
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let task = self.listening.lock().unwrap_or_else(PoisonError::into_inner).take();
        task.inspect(JoinHandle::abort);
    }
}

/// Takes connections until it is aborted, which ends them too.
async fn serve(listener: TcpListener, acceptor: Acceptor, server: Arc<Server>) {
    let mut connections = JoinSet::new();
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(connection(stream, acceptor.clone(), Arc::clone(&server)));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, acceptor: Acceptor, server: Arc<Server>) {
    // Events are small and awaited one by one.
    let _ = stream.set_nodelay(true);
    let Ok(stream) = acceptor.0.accept(stream).await else { return };
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        Arc::clone(&server).answer(request.map(Body::new))
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new());
    // A client that goes away is no concern of the server's.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

/// A certificate of the server's own, and what accepts connections with it.
fn acceptor() -> (Acceptor, String) {
    let key = KeyPair::generate().expect("randomness");
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let parameters = CertificateParams::new(names).expect("names");
    let certificate = parameters.self_signed(&key).expect("a key that signs");
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .expect("the key is the certificate's");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    (Acceptor(TlsAcceptor::from(Arc::new(config))), certificate.pem())
}

/// The namespaces that every cluster has.
fn make_namespaces(store: &mut Store) {
    let kind = built_in("namespaces");
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let mut namespace = serde_json::json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
        });
        super::metadata::stamp_new(&kind, &mut namespace, "");
        super::defaults::status_of_new(&kind, &mut namespace);
        store.put(Key::new(&kind, "", name), namespace);
    }
}
