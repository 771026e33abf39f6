//! Who is taken for the control plane, and who is not.

use std::{
    io,
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll},
};

use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::Connected},
};
use weft_proto::{
    JoinToken,
    identity::{
        IssueRequest, IssueResponse,
        identity_server::{Identity as IdentityService, IdentityServer},
        issue_request::Proof as WireProof,
    },
};

use super::*;
use crate::{
    identity::{GrpcIssuer, Issuer as _, PrivateKey, Proof, ServiceAccount, Svid},
    net::TcpListener,
    tls::testing::{Authority, id, leaf_params},
};

const CONTROL_PLANE: &str = "spiffe://weft.local/ns/weft-system/sa/control-plane";

/// A TLS connection that tells the service who called.
struct Secure(server::TlsStream<TcpStream>);

impl Connected for Secure {
    type ConnectInfo = Caller;
    fn connect_info(&self) -> Caller {
        let certificates = self.0.get_ref().1.peer_certificates().unwrap_or_default();
        Caller(certificates.first().map(|leaf| leaf.to_vec()))
    }
}

/// The caller's certificate.
#[derive(Clone)]
struct Caller(Option<Vec<u8>>);

impl AsyncRead for Secure {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Secure {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Issues under a root, and remembers how each caller proved itself.
struct Service {
    authority: Arc<Authority>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Token(String),
    ServiceAccount(String),
    Renewal(Vec<u8>),
}

#[tonic::async_trait]
impl IdentityService for Service {
    async fn issue(
        &self,
        request: Request<IssueRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        let caller = request.extensions().get::<Caller>().and_then(|caller| caller.0.clone());
        let request = request.into_inner();
        let seen = match request.proof {
            Some(WireProof::JoinToken(token)) => Seen::Token(token),
            Some(WireProof::ServiceAccountToken(token)) => Seen::ServiceAccount(token),
            Some(WireProof::Renewal(_)) => {
                Seen::Renewal(caller.ok_or_else(|| Status::unauthenticated("who?"))?)
            }
            None => return Err(Status::invalid_argument("no proof")),
        };
        self.seen.lock().unwrap().push(seen);
        if request.workload != "shop/cart" {
            return Err(Status::permission_denied("there is no such Workload"));
        }
        let csr = request.csr.as_slice().into();
        let request = rcgen::CertificateSigningRequestParams::from_der(&csr).unwrap();
        let leaf = self.authority.issue(leaf_params(&id("cart")), &request.public_key);
        Ok(Response::new(IssueResponse {
            chain: vec![leaf.to_vec()],
            roots: vec![self.authority.root().to_vec()],
            spiffe_id: id("cart"),
            not_after: 0,
        }))
    }
}

/// A control plane on a port of its own; it ends with this.
struct Fake {
    authority: Arc<Authority>,
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

impl Fake {
    async fn start() -> Self {
        let authority = Arc::new(Authority::new("root"));
        let root = authority.root();
        Self::start_as(authority, CONTROL_PLANE, &[root]).await
    }

    /// With this SPIFFE ID, and these certificates behind its own.
    async fn start_as(
        authority: Arc<Authority>,
        identity: &str,
        behind: &[CertificateDer<'static>],
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let acceptor = TlsAcceptor::from(Arc::new(server_config(&authority, identity, behind)));
        let seen = Arc::default();
        let service = Service { authority: Arc::clone(&authority), seen: Arc::clone(&seen) };
        let (sender, receiver) = tokio::sync::mpsc::channel(8);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = sender.send(Ok::<_, io::Error>(Secure(stream))).await;
                }
            }
        });
        tasks.spawn(async move {
            let incoming = futures_util::stream::unfold(receiver, |mut receiver| async move {
                receiver.recv().await.map(|stream| (stream, receiver))
            });
            let server = Server::builder().add_service(IdentityServer::new(service));
            server.serve_with_incoming(incoming).await.unwrap();
        });
        Self { authority, address, seen, _tasks: tasks }
    }

    fn issuer(&self, identity: &Identity) -> GrpcIssuer {
        let control_plane = ControlPlane::new(&self.address, identity.clone()).unwrap();
        GrpcIssuer::new(control_plane, "shop/cart".parse().unwrap())
    }

    fn token(&self) -> JoinToken {
        token_of(&self.authority)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn token_of(authority: &Authority) -> JoinToken {
    let mut root_sha256 = [0; 32];
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &authority.root());
    root_sha256.copy_from_slice(digest.as_ref());
    JoinToken { id: "0123456789abcdef".into(), secret: "5a".repeat(32), root_sha256 }
}

fn server_config(
    authority: &Authority,
    identity: &str,
    behind: &[CertificateDer<'static>],
) -> ServerConfig {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut chain = vec![authority.issue(leaf_params(identity), &key)];
    chain.extend_from_slice(behind);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.root()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .unwrap();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key.into())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Asks once, and puts what comes into force.
async fn issue(fake: &Fake, identity: &Identity, proof: Proof) -> Result<(), String> {
    let key = PrivateKey::generate().unwrap();
    let request = key.signing_request().unwrap();
    let issued =
        fake.issuer(identity).issue(request, proof).await.map_err(|error| error.to_string())?;
    identity.install(Svid::new(issued.chain, key).unwrap(), issued.roots).unwrap();
    Ok(())
}

#[tokio::test]
async fn a_sidecar_joins_by_token_and_renews_by_its_svid() {
    let fake = Fake::start().await;
    let identity = Identity::default();
    issue(&fake, &identity, Proof::Token(fake.token())).await.unwrap();
    let first = identity.credentials().unwrap().svid.chain()[0].to_vec();
    issue(&fake, &identity, Proof::Svid).await.unwrap();
    let seen = [Seen::Token(fake.token().to_string()), Seen::Renewal(first)];
    assert_eq!(fake.seen(), seen);
}

#[tokio::test]
async fn a_server_without_the_pinned_root_is_never_sent_the_token() {
    let mesh = Arc::new(Authority::new("root"));
    let stranger = Arc::new(Authority::new("stranger"));
    let token = token_of(&mesh);
    // Another root altogether; and a stranger that sends our root, which is public, behind its own chain.
    for behind in [vec![stranger.root()], vec![stranger.root(), mesh.root()]] {
        let fake = Fake::start_as(Arc::clone(&stranger), CONTROL_PLANE, &behind).await;
        let proof = Proof::Token(token.clone());
        let error = issue(&fake, &Identity::default(), proof).await.unwrap_err();
        let expected =
            if behind.len() == 1 { "not the root with the SHA-256" } else { "leads to no root" };
        assert!(error.contains(expected), "{error}");
        assert!(error.contains(&fake.address), "{error}");
        assert_eq!(fake.seen(), []);
    }
}

const POD_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOlsid2VmdC5kZXYiXX0.c2lnbmF0dXJl";

/// A pod's proof, in whose volume lie these roots.
fn pod_proof(roots: &[&Authority]) -> Proof {
    let folder = tempfile::tempdir().unwrap();
    let (token, file) = (folder.path().join("token"), folder.path().join("roots.pem"));
    std::fs::write(&token, POD_TOKEN).unwrap();
    std::fs::write(&file, roots.iter().map(|root| root.root_pem()).collect::<String>()).unwrap();
    ServiceAccount { token, roots: file }.read().unwrap()
}

#[tokio::test]
async fn a_pod_joins_by_its_service_account_whichever_of_its_roots_signs() {
    let old = Authority::new("old");
    // The root itself need not be sent: it lies in the pod.
    let authority = Arc::new(Authority::new("root"));
    let fake = Fake::start_as(Arc::clone(&authority), CONTROL_PLANE, &[]).await;
    let identity = Identity::default();
    issue(&fake, &identity, pod_proof(&[&old, &authority])).await.unwrap();
    assert_eq!(fake.seen(), [Seen::ServiceAccount(POD_TOKEN.to_owned())]);
    // With another bundle in force, as after an outage in which the roots were rotated.
    let joined_before = old.sidecar("cart");
    issue(&fake, &joined_before, pod_proof(&[&authority])).await.unwrap();
    assert_eq!(fake.seen().len(), 2);
}

#[tokio::test]
async fn who_is_not_the_control_plane_under_the_pods_roots_is_never_sent_its_token() {
    let mesh = Arc::new(Authority::new("root"));
    let stranger = Arc::new(Authority::new("stranger"));
    for (authority, name, expected) in [
        (&stranger, CONTROL_PLANE, "leads to no root"),
        (&mesh, &*id("payments"), "peer-unexpected"),
    ] {
        let behind = [authority.root()];
        let fake = Fake::start_as(Arc::clone(authority), name, &behind).await;
        let error = issue(&fake, &Identity::default(), pod_proof(&[&mesh])).await.unwrap_err();
        assert!(error.contains(expected) && error.contains(&fake.address), "{error}");
        assert_eq!(fake.seen(), []);
    }
}

#[tokio::test]
async fn a_sidecar_cannot_pass_for_the_control_plane() {
    let mesh = Arc::new(Authority::new("root"));
    let fake = Fake::start_as(Arc::clone(&mesh), &id("payments"), &[mesh.root()]).await;
    let joining = Identity::default();
    let proof = Proof::Token(fake.token());
    let error = issue(&fake, &joining, proof).await.unwrap_err();
    for part in [CONTROL_PLANE, &id("payments"), "peer-unexpected"] {
        assert!(error.contains(part), "{error}");
    }
    let error = issue(&fake, &mesh.sidecar("cart"), Proof::Svid).await.unwrap_err();
    assert!(error.contains("peer-unexpected"), "{error}");
    assert_eq!(fake.seen(), []);
}

#[tokio::test]
async fn a_control_plane_of_another_domain_is_not_ours() {
    let mesh = Arc::new(Authority::new("root"));
    let other = "spiffe://other.example/ns/weft-system/sa/control-plane";
    let fake = Fake::start_as(Arc::clone(&mesh), other, &[mesh.root()]).await;
    let error = issue(&fake, &mesh.sidecar("cart"), Proof::Svid).await.unwrap_err();
    assert!(error.contains("other.example"), "{error}");
}

#[tokio::test]
async fn what_the_control_plane_says_and_what_hinders_a_connection_reach_the_reader() {
    let fake = Fake::start().await;
    let identity = fake.authority.sidecar("cart");
    let control_plane = ControlPlane::new(&fake.address, identity).unwrap();
    let issuer = GrpcIssuer::new(control_plane, "shop/none".parse().unwrap());
    let request = PrivateKey::generate().unwrap().signing_request().unwrap();
    let error = issuer.issue(request, Proof::Svid).await.unwrap_err().to_string();
    assert!(error.contains("there is no such Workload"), "{error}");

    let error = issue(&fake, &Identity::default(), Proof::Svid).await.unwrap_err();
    assert!(error.contains("no SVID yet"), "{error}");

    let address = fake.address.clone();
    drop(fake);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap().to_string();
    drop(listener);
    let control_plane = ControlPlane::new(&closed, Identity::default()).unwrap();
    let issuer = GrpcIssuer::new(control_plane, "shop/cart".parse().unwrap());
    let token = token_of(&Authority::new("root"));
    let error = issuer.issue(Vec::new(), Proof::Token(token)).await.unwrap_err().to_string();
    assert!(error.contains(&format!("cannot connect to the control plane at {closed}")), "{error}");
    assert_ne!(closed, address);
}

#[tokio::test]
async fn a_channel_follows_rotated_roots_and_renewed_svids() {
    let (old, new) = (Arc::new(Authority::new("old")), Arc::new(Authority::new("new")));
    let identity = old.sidecar("cart");
    let rotated = Fake::start_as(Arc::clone(&new), CONTROL_PLANE, &[new.root()]).await;
    let error = issue(&rotated, &identity, Proof::Svid).await.unwrap_err();
    assert!(error.contains("leads to no root"), "{error}");
    identity.set_bundle(vec![new.root(), old.root()]).unwrap();
    identity.install(new.svid(&id("cart")), vec![new.root(), old.root()]).unwrap();
    issue(&rotated, &identity, Proof::Svid).await.unwrap();
}

#[test]
fn addresses_are_host_and_port() {
    let control_plane = |address| ControlPlane::new(address, Identity::default());
    for address in ["127.0.0.1:4480", "[::1]:4480", "control-plane.weft-system:4480"] {
        assert_eq!(control_plane(address).unwrap().address(), address);
    }
    for address in ["", "127.0.0.1", ":4480", "host:", "host:0", "host:99999", "http://host:80"] {
        let error = control_plane(address).unwrap_err().to_string();
        assert!(error.contains("use HOST:PORT"), "{error}");
    }
}
