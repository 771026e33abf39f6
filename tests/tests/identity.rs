//! A sidecar's identity against the real certificate authority: joining, renewing, following a new root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use weft_control_plane::{
    ca::{
        Authority, AuthorityConfig, IssuedRecord, NewToken, Tokens,
        service::{IdentityService, WorkloadAccounts},
        serving::Serving,
    },
    model::{NamespacedName, Pod},
    secure,
};
use weft_proto::{SpiffeId, TrustDomain, WorkloadName, identity::identity_server::IdentityServer};
use weft_proxy::{
    identity::{ControlPlane, GrpcIssuer, Identity, Keeper, TokenSource},
    tls::Bundle,
};
use weft_tests::wait;

/// Every workload runs as the service account `cart`.
struct Cart;

impl WorkloadAccounts for Cart {
    fn service_account(&self, _: &WorkloadName) -> Option<Arc<str>> {
        Some("cart".into())
    }

    fn pod(&self, _: &NamespacedName) -> Option<Arc<Pod>> {
        None
    }
}

/// A control plane that does nothing but issue.
struct Issuing {
    authority: Arc<Authority>,
    tokens: Arc<Tokens>,
    address: SocketAddr,
    folder: tempfile::TempDir,
    tasks: JoinSet<()>,
}

impl Issuing {
    async fn start(svid_ttl: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = AuthorityConfig {
            trust_domain: TrustDomain::default(),
            svid_ttl,
            root_lifetime: Duration::from_secs(86_400),
            propagation: Duration::ZERO,
            external: None,
        };
        let authority = Authority::open(folder.path(), config, SystemTime::now()).unwrap();
        let authority = Arc::new(authority);
        let tokens = Arc::new(Tokens::open(folder.path(), TrustDomain::default()).unwrap());
        let serving = Serving::new(Arc::clone(&authority), &["127.0.0.1".to_owned()]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let incoming = secure::accept(listener, serving.tls_config().unwrap(), &mut tasks);
        let service = IdentityService {
            authority: Arc::clone(&authority),
            tokens: Arc::clone(&tokens),
            issued: Arc::new(IssuedRecord::default()),
            pod_tokens: None,
            workloads: Arc::new(Cart),
            metrics: Arc::default(),
        };
        tasks.spawn(serving.keep_current());
        tasks.spawn(async move {
            let server = Server::builder().add_service(IdentityServer::new(service));
            server.serve_with_incoming(ReceiverStream::new(incoming)).await.unwrap();
        });
        Self { authority, tokens, address, folder, tasks }
    }

    /// A file with a token for `cart`.
    fn token_file(&self) -> TokenSource {
        use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
        let wanted = NewToken {
            namespace: "shop".to_owned(),
            service_account: "cart".to_owned(),
            ttl: Duration::from_secs(60),
            uses: Some(1),
        };
        let (token, _) =
            self.tokens.create(wanted, self.authority.pin(), SystemTime::now()).unwrap();
        let path = self.folder.path().join(&token.id);
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(token.to_string().as_bytes()).unwrap();
        TokenSource::File(path)
    }

    /// A sidecar that keeps its identity alive.
    fn sidecar(&mut self, token: TokenSource) -> Identity {
        let identity = Identity::default();
        let control_plane = ControlPlane::new(&self.address.to_string(), identity.clone()).unwrap();
        let issuer = GrpcIssuer::new(control_plane, "shop/cart".parse().unwrap());
        self.tasks.spawn(Keeper::new(identity.clone(), issuer, Some(token)).run());
        identity
    }

    /// What discovery would push.
    fn push_roots(&self, to: &Identity) {
        to.set_bundle(self.authority.bundle().roots.clone()).unwrap();
    }
}

#[tokio::test]
async fn a_sidecar_joins_once_by_token_and_renews_again_and_again() {
    let mut control_plane = Issuing::start(Duration::from_secs(3)).await;
    let token = control_plane.token_file();
    let identity = control_plane.sidecar(token);
    wait::until_true("three SVIDs", async || identity.status().issued >= 3).await;
    let status = identity.status();
    let cart = SpiffeId::new(&TrustDomain::default(), "shop", "cart").unwrap();
    assert_eq!(status.identity, Some(cart));
    assert_eq!((status.failures, status.last_failure), (0, None));
    assert!(status.ready);
    assert_eq!(identity.bundle_generation(), 1);
}

#[tokio::test]
async fn a_new_root_is_followed_and_a_token_of_before_still_joins() {
    let mut control_plane = Issuing::start(Duration::from_secs(60)).await;
    let early = control_plane.token_file();
    let token = control_plane.token_file();
    let identity = control_plane.sidecar(token);
    wait::until_true("the first SVID", async || identity.status().ready).await;

    control_plane.authority.rotate_root(SystemTime::now()).unwrap();
    control_plane.push_roots(&identity);
    assert_eq!(identity.bundle_generation(), 2);
    control_plane.authority.advance(SystemTime::now(), true).unwrap();
    control_plane.push_roots(&identity);
    let newest = control_plane.authority.bundle().roots[0].clone();
    let newest = Bundle::new(vec![newest]).unwrap();
    wait::until_true("an SVID under the new root", async || {
        newest.newest_root_issued(identity.credentials().unwrap().svid.chain())
    })
    .await;

    let late = control_plane.sidecar(early);
    wait::until_true("the late sidecar's SVID", async || late.status().ready).await;
    assert!(newest.newest_root_issued(late.credentials().unwrap().svid.chain()));
}

#[tokio::test]
async fn a_used_token_is_refused_and_the_status_says_so() {
    let mut control_plane = Issuing::start(Duration::from_secs(60)).await;
    let token = control_plane.token_file();
    let first = control_plane.sidecar(token.clone());
    wait::until_true("the first SVID", async || first.status().ready).await;
    let second = control_plane.sidecar(token);
    wait::until_true("a failure", async || second.status().failures > 0).await;
    let failure = second.status().last_failure.unwrap();
    assert!(failure.contains("used"), "{failure}");
    assert!(!second.status().ready);
}
