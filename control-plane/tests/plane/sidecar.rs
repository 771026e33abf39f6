//! A raw client that does what a sidecar does: joins, renews, opens a stream, answers updates.

use std::{sync::Arc, time::SystemTime};

use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};
use weft_control_plane::ca::{Bundle, peer};
use weft_proto::{
    JoinToken,
    discovery::{
        self, Ack, ControlMessage, Health, Held, HeldEndpoint, Hello, Nack, ProxyMessage, Register,
        RegisteredPort, ResourceKey, ResourceKind, Subscribe, Update, control_message,
        discovery_client::DiscoveryClient, proxy_message::Kind,
    },
    identity::{
        IssueRequest, IssueResponse, Renewal, identity_client::IdentityClient, issue_request::Proof,
    },
};

use crate::harness::{DEADLINE, Plane};

/// A certificate with its key, and the roots that came with it.
#[derive(Clone)]
pub(crate) struct Svid {
    pub(crate) key: Arc<KeyPair>,
    pub(crate) response: IssueResponse,
}

/// Whom the client trusts: a root by its hash, or roots that it was given.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    Pin([u8; 32]),
    Roots(Vec<Vec<u8>>),
}

pub(crate) fn csr(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

pub(crate) fn key(kind: ResourceKind, name: &str) -> ResourceKey {
    ResourceKey { kind: kind.into(), name: name.into() }
}

/// Joins with a token.
pub(crate) async fn join(plane: &Plane, token: &str, workload: &str) -> Result<Svid, Status> {
    let key = KeyPair::generate().unwrap();
    let request = IssueRequest {
        csr: csr(&key),
        proof: Some(Proof::JoinToken(token.to_owned())),
        workload: workload.to_owned(),
    };
    let pin = token.parse::<JoinToken>().map_or([0; 32], |token| token.root_sha256);
    let response = issue(plane, Trust::Pin(pin), None, request).await?;
    Ok(Svid { key: Arc::new(key), response })
}

/// Renews over a connection with the certificate in force.
pub(crate) async fn renew(plane: &Plane, svid: &Svid, workload: &str) -> Result<Svid, Status> {
    let key = KeyPair::generate().unwrap();
    let request = IssueRequest {
        csr: csr(&key),
        proof: Some(Proof::Renewal(Renewal {})),
        workload: workload.to_owned(),
    };
    let response = issue(plane, svid.trust(), Some(svid), request).await?;
    Ok(Svid { key: Arc::new(key), response })
}

pub(crate) async fn issue(
    plane: &Plane,
    trust: Trust,
    svid: Option<&Svid>,
    request: IssueRequest,
) -> Result<IssueResponse, Status> {
    let channel = channel(plane, trust, svid).await?;
    Ok(IdentityClient::new(channel).issue(request).await?.into_inner())
}

impl Svid {
    pub(crate) fn trust(&self) -> Trust {
        Trust::Roots(self.response.roots.clone())
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.response.chain.iter().cloned().map(CertificateDer::from).collect()
    }
}

/// A connection to the secured port; a failed handshake is an `UNAVAILABLE` status.
pub(crate) async fn channel(
    plane: &Plane,
    trust: Trust,
    svid: Option<&Svid>,
) -> Result<Channel, Status> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier(trust)));
    let mut config = match svid {
        Some(svid) => {
            let key = PrivatePkcs8KeyDer::from(svid.key.serialize_der());
            config.with_client_auth_cert(svid.chain(), PrivateKeyDer::from(key)).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let address = plane.address();
    let connect = tower::service_fn(move |_: http::Uri| {
        let connector = connector.clone();
        async move {
            let tcp = TcpStream::connect(address).await?;
            let name = ServerName::try_from("localhost").unwrap();
            connector.connect(name, tcp).await.map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://control-plane")
        .connect_with_connector(connect)
        .await
        .map_err(|error| Status::unavailable(format!("{error:?}")))
}

/// Takes the control plane by its SPIFFE ID under the roots that it trusts.
#[derive(Debug)]
struct Verifier(Trust);

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let sha256 = |der: &[u8]| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
        let roots: Vec<CertificateDer<'static>> = match &self.0 {
            Trust::Pin(pin) => above
                .iter()
                .filter(|certificate| sha256(certificate).as_ref() == pin)
                .map(|certificate| certificate.clone().into_owned())
                .collect(),
            Trust::Roots(roots) => roots.iter().cloned().map(CertificateDer::from).collect(),
        };
        let mut anchors = RootCertStore::empty();
        for root in &roots {
            anchors.add(root.clone())?;
        }
        let trust_domain = weft_proto::TrustDomain::default();
        let bundle = Bundle { trust_domain, roots, anchors: Arc::new(anchors) };
        let chain: Vec<_> = std::iter::once(leaf).chain(above).cloned().collect();
        let peer = peer::verify(&chain, &bundle, SystemTime::now())
            .map_err(|refusal| Error::General(refusal.to_string()))?;
        let expected = "spiffe://weft.local/ns/weft-system/sa/control-plane";
        if peer.spiffe_id.as_str() != expected {
            return Err(Error::General(format!("{} is not {expected}", peer.spiffe_id)));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let algorithms = &provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// A discovery stream, after its Welcome.
pub(crate) struct Stream {
    messages: mpsc::Sender<ProxyMessage>,
    incoming: Streaming<ControlMessage>,
}

pub(crate) fn hello(workload: &str, instance: &str, incarnation: &str) -> Hello {
    Hello {
        workload: workload.into(),
        instance: instance.into(),
        incarnation: incarnation.into(),
        ..Hello::default()
    }
}

impl Stream {
    pub(crate) async fn open(
        plane: &Plane,
        trust: Trust,
        svid: Option<&Svid>,
        hello: Hello,
    ) -> Result<Self, Status> {
        let channel = channel(plane, trust, svid).await?;
        let (messages, queue) = mpsc::channel(64);
        messages.send(ProxyMessage { kind: Some(Kind::Hello(hello)) }).await.unwrap();
        let incoming = DiscoveryClient::new(channel)
            .max_decoding_message_size(64 << 20)
            .connect(ReceiverStream::new(queue))
            .await?
            .into_inner();
        let mut this = Self { messages, incoming };
        match this.next().await? {
            control_message::Kind::Welcome(_) => Ok(this),
            other => panic!("a Welcome comes first, not {other:?}"),
        }
    }

    /// Opens a stream with a certificate, as a sidecar does.
    pub(crate) async fn of(plane: &Plane, svid: &Svid, hello: Hello) -> Self {
        Self::open(plane, svid.trust(), Some(svid), hello).await.unwrap()
    }

    pub(crate) async fn send(&self, kind: Kind) {
        self.messages.send(ProxyMessage { kind: Some(kind) }).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Result<control_message::Kind, Status> {
        let message =
            timeout(DEADLINE, self.incoming.message()).await.expect("a message in time")?;
        Ok(message.ok_or_else(|| Status::cancelled("the stream ended"))?.kind.unwrap())
    }

    /// The next update, without an answer.
    pub(crate) async fn update(&mut self) -> Update {
        loop {
            match self.next().await.unwrap() {
                control_message::Kind::Update(update) => return update,
                control_message::Kind::Registration(answer) => {
                    assert!(answer.accepted, "{answer:?}")
                }
                other => panic!("an update is due, not {other:?}"),
            }
        }
    }

    pub(crate) async fn ack(&self, update: &Update) {
        let (key, version) = (update.key.clone(), update.version.clone());
        self.send(Kind::Ack(Ack { key, version })).await;
    }

    pub(crate) async fn nack(&self, update: &Update, reason: &str) {
        let (key, version) = (update.key.clone(), update.version.clone());
        self.send(Kind::Nack(Nack { key, version, reason: reason.into() })).await;
    }

    /// The next update, acknowledged.
    pub(crate) async fn take(&mut self) -> Update {
        let update = self.update().await;
        self.ack(&update).await;
        update
    }

    pub(crate) async fn subscribe(&self, key: ResourceKey) {
        self.send(Kind::Subscribe(Subscribe { keys: vec![key] })).await;
    }

    /// Subscribes, and takes the first answer.
    pub(crate) async fn get(&mut self, kind: ResourceKind, name: &str) -> Update {
        self.subscribe(key(kind, name)).await;
        let update = self.take().await;
        assert_eq!(update.key, Some(key(kind, name)));
        update
    }

    /// Registers the only port, and reports health.
    pub(crate) async fn register(&mut self, inbound: u16, ready: bool) {
        let port = RegisteredPort {
            name: String::new(),
            app_port: 8080,
            address: format!("127.0.0.1:{inbound}"),
        };
        self.send(Kind::Register(Register { ports: vec![port] })).await;
        self.health(ready).await;
    }

    pub(crate) async fn health(&self, ready: bool) {
        self.send(Kind::Health(Health { ready, detail: "as probed".into() })).await;
    }

    /// As below, after the answer to a registration.
    pub(crate) async fn nothing_is_due_after_answer(&mut self) {
        let answer = self.next().await.unwrap();
        assert!(matches!(answer, control_message::Kind::Registration(_)), "{answer:?}");
        self.nothing_is_due().await;
    }

    /// Nothing is on its way: the answer to a new question comes next.
    pub(crate) async fn nothing_is_due(&mut self) {
        let name = format!("nobody/nothing:{}", fastrand::u16(1..));
        let update = self.get(ResourceKind::Service, &name).await;
        assert!(matches!(update.body, Some(discovery::update::Body::Gone(_))), "{update:?}");
    }
}

/// The ids that an update adds and removes.
pub(crate) fn ids(update: &Update) -> (Vec<&str>, Vec<&str>) {
    let delta = update.endpoints.as_ref().expect("endpoints");
    let added = delta.upserted.iter().map(|endpoint| endpoint.id.as_str()).collect();
    (added, delta.removed.iter().map(String::as_str).collect())
}

/// What a proxy states after a reconnect, having taken these updates of one service.
pub(crate) fn held(updates: &[&Update]) -> Held {
    let mut endpoints = std::collections::BTreeMap::new();
    for delta in updates.iter().filter_map(|update| update.endpoints.as_ref()) {
        if delta.reset {
            endpoints.clear();
        }
        for endpoint in &delta.upserted {
            endpoints.insert(endpoint.id.clone(), weft_proto::digest::of_message(endpoint));
        }
        for id in &delta.removed {
            endpoints.remove(id);
        }
    }
    let last = updates.last().expect("at least one update");
    Held {
        key: last.key.clone(),
        version: last.version.clone(),
        endpoints: endpoints.into_iter().map(|(id, digest)| HeldEndpoint { id, digest }).collect(),
    }
}
