//! A raw client of the control plane's secured port: it asks for certificates and opens streams as a sidecar does, and
//! as none would.

use std::{net::SocketAddr, sync::Arc};

use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject as _,
};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};
use weft_proto::{
    discovery::{
        Ack, ControlMessage, Hello, ProxyMessage, ResourceKey, ResourceKind, Subscribe, Update,
        control_message, discovery_client::DiscoveryClient, proxy_message,
    },
    identity::{IssueRequest, Renewal, identity_client::IdentityClient, issue_request::Proof},
};

/// A client that trusts these roots.
#[derive(Debug, Clone)]
pub struct Joining {
    address: SocketAddr,
    roots: Arc<RootCertStore>,
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Svid {
    /// The identity that it carries.
    pub spiffe_id: String,
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

/// A stream that asks for one resource, and takes what it is told.
#[derive(Debug)]
pub struct Following {
    outgoing: mpsc::Sender<ProxyMessage>,
    incoming: Streaming<ControlMessage>,
}

impl Following {
    /// The next update, acknowledged.
    ///
    /// # Panics
    /// When the stream ends.
    pub async fn next(&mut self) -> Update {
        loop {
            let message = self.incoming.message().await.expect("the stream goes on");
            let Some(control_message::Kind::Update(update)) =
                message.expect("the stream goes on").kind
            else {
                continue;
            };
            let ack = Ack { key: update.key.clone(), version: update.version.clone() };
            let ack = ProxyMessage { kind: Some(proxy_message::Kind::Ack(ack)) };
            self.outgoing.send(ack).await.expect("the stream goes on");
            return update;
        }
    }
}

fn hello(workload: &str, instance: &str) -> ProxyMessage {
    let hello = Hello {
        workload: workload.to_owned(),
        instance: instance.to_owned(),
        incarnation: "1".to_owned(),
        ..Hello::default()
    };
    ProxyMessage { kind: Some(proxy_message::Kind::Hello(hello)) }
}

impl Joining {
    /// A client of this port that trusts the roots of a PEM text.
    ///
    /// # Panics
    /// When the text holds no roots.
    #[must_use]
    pub fn new(address: SocketAddr, roots_pem: &str) -> Self {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots_pem.as_bytes()) {
            roots.add(root.expect("PEM of certificates")).expect("a root");
        }
        assert!(!roots.is_empty(), "there are no roots in {roots_pem:?}");
        Self { address, roots: Arc::new(roots) }
    }

    /// Asks for a certificate by a pod's token.
    ///
    /// # Errors
    /// The control plane's refusal.
    pub async fn by_token(&self, token: &str, workload: &str) -> Result<Svid, Status> {
        let proof = Proof::ServiceAccountToken(token.to_owned());
        self.issue(None, proof, workload).await
    }

    /// Asks for another certificate by the one in force.
    ///
    /// # Errors
    /// The control plane's refusal.
    pub async fn by_renewal(&self, svid: &Svid, workload: &str) -> Result<Svid, Status> {
        self.issue(Some(svid), Proof::Renewal(Renewal {}), workload).await
    }

    /// Opens a stream as an instance; resolves when it is welcomed.
    ///
    /// # Errors
    /// The control plane's refusal.
    pub async fn hello(
        &self,
        svid: &Svid,
        workload: &str,
        instance: &str,
    ) -> Result<ControlMessage, Status> {
        let outgoing = tokio_stream::iter([hello(workload, instance)]);
        let mut client = DiscoveryClient::new(self.channel(Some(svid)).await?);
        let mut incoming = client.connect(outgoing).await?.into_inner();
        let welcome = incoming.message().await?;
        welcome.ok_or_else(|| Status::cancelled("the stream ended without a word"))
    }

    /// Opens a stream as an instance that asks for a service port, "NAMESPACE/NAME:PORT".
    ///
    /// # Errors
    /// The control plane's refusal.
    pub async fn follow(
        &self,
        svid: &Svid,
        workload: &str,
        instance: &str,
        port: &str,
    ) -> Result<Following, Status> {
        let (outgoing, queue) = mpsc::channel(4);
        let key = ResourceKey { kind: ResourceKind::Service.into(), name: port.to_owned() };
        let subscribe = proxy_message::Kind::Subscribe(Subscribe { keys: vec![key] });
        let subscribe = ProxyMessage { kind: Some(subscribe) };
        for message in [hello(workload, instance), subscribe] {
            outgoing.send(message).await.map_err(|_| Status::cancelled("the queue is ours"))?;
        }
        let mut client = DiscoveryClient::new(self.channel(Some(svid)).await?);
        let incoming = client.connect(ReceiverStream::new(queue)).await?.into_inner();
        Ok(Following { outgoing, incoming })
    }

    async fn issue(
        &self,
        svid: Option<&Svid>,
        proof: Proof,
        workload: &str,
    ) -> Result<Svid, Status> {
        let key = KeyPair::generate().expect("a key");
        let request = CertificateParams::default().serialize_request(&key).expect("a request");
        let request = IssueRequest {
            csr: request.der().to_vec(),
            proof: Some(proof),
            workload: workload.to_owned(),
        };
        let mut client = IdentityClient::new(self.channel(svid).await?);
        let answer = client.issue(request).await?.into_inner();
        let chain = answer.chain.into_iter().map(CertificateDer::from).collect();
        Ok(Svid { spiffe_id: answer.spiffe_id, chain, key })
    }

    async fn channel(&self, svid: Option<&Svid>) -> Result<Channel, Status> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3 is there")
            .with_root_certificates(self.roots.clone());
        let mut config = match svid {
            None => builder.with_no_client_auth(),
            Some(svid) => {
                let key = PrivatePkcs8KeyDer::from(svid.key.serialize_der());
                let key = PrivateKeyDer::from(key);
                builder
                    .with_client_auth_cert(svid.chain.clone(), key)
                    .expect("they belong together")
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let address = self.address;
        let connect = tower::service_fn(move |_: http::Uri| {
            let connector = connector.clone();
            async move {
                let tcp = TcpStream::connect(address).await?;
                let name = ServerName::try_from("localhost").expect("a name");
                connector.connect(name, tcp).await.map(TokioIo::new)
            }
        });
        let endpoint = Endpoint::from_static("http://control-plane");
        let connected = endpoint.connect_with_connector(connect).await;
        connected.map_err(|error| Status::unavailable(format!("{error:?}")))
    }
}
