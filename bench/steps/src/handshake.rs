//! A handshake of mutual TLS, both sides of it in one thread, over loopback: from two fresh connections to the first
//! byte that the server says.
//!
//! As in a mesh at work, each side has seen the other's certificate before; with a new session signatures are made and
//! verified all the same.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use weft_proto::{MeshServerName, Port, SpiffeId};
use weft_proxy::{
    identity::{Identity, PrivateKey, Svid},
    io::Socket,
    net::{TcpListener, TcpStream},
    telemetry::Metrics,
    tls::{Alpn, MutualTls, Role},
    worker,
};

const TIMEOUT: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const CLIENT: &str = "spiffe://weft.local/ns/shop/sa/web";
const SERVER: &str = "spiffe://weft.local/ns/shop/sa/cart";

/// How the two sides know each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Session {
    /// Not yet: each handshake is with another endpoint.
    New,
    /// From the handshake before.
    Remembered,
}

/// Makes so many handshakes, after a first one.
pub(crate) fn run(times: usize, session: Session) -> Result<()> {
    worker::run(handshakes(times, session))?
}

async fn handshakes(times: usize, session: Session) -> Result<()> {
    let sides = Sides::new()?;
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    for number in 0..=times {
        let endpoint = match session {
            Session::New => format!("endpoint {number}"),
            Session::Remembered => "endpoint".to_owned(),
        };
        sides.meet(&listener, &endpoint).await?;
    }
    let made = sides.client.counts().with(Role::Server);
    let resumed = match session {
        Session::New => 0,
        Session::Remembered => times as u64,
    };
    ensure!(made.resumed == resumed, "{} of {times} handshakes were resumed", made.resumed);
    Ok(())
}

/// Two sidecars of one mesh.
struct Sides {
    client: MutualTls,
    server: MutualTls,
    expected: Arc<[SpiffeId]>,
    server_name: MeshServerName,
}

impl Sides {
    fn new() -> Result<Self> {
        let authority = Authority::new()?;
        let side = |identity| {
            let identity = authority.identity(identity)?;
            anyhow::Ok(MutualTls::new(identity, TIMEOUT, Metrics::new().tls()))
        };
        let port = Port::new(8080).context("a port")?;
        Ok(Self {
            client: side(CLIENT)?,
            server: side(SERVER)?,
            expected: [SERVER.parse()?].into(),
            server_name: MeshServerName::of_port(port),
        })
    }

    /// One handshake, and a byte from the server, before which its session tickets come.
    async fn meet(&self, listener: &TcpListener, endpoint: &str) -> Result<()> {
        let connect = TcpStream::connect(listener.local_addr()?);
        let (out, into) = tokio::join!(connect, listener.accept());
        let (out, into) = (Socket::new(out?), Socket::new(into?.0));
        let offer = [Alpn::Http2, Alpn::Http1];
        let (connected, accepted) = tokio::join!(
            self.client.connect(out, endpoint, &self.expected, &self.server_name, &offer),
            self.server.accept(into),
        );
        let (mut connected, mut accepted) = (connected?, accepted?);
        accepted.socket.write_all(b"x").await?;
        ensure!(connected.socket.read_u8().await? == b'x', "another byte came");
        Ok(())
    }
}

/// Who signs for the mesh.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key)?.der().clone();
        Ok(Self { issuer: Issuer::new(params, key), root })
    }

    /// The identity of one sidecar, in force.
    fn identity(&self, id: &str) -> Result<Identity> {
        let key = PrivateKey::generate()?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id.try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (SystemTime::now() - HOUR).into();
        params.not_after = (SystemTime::now() + HOUR).into();
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        let identity = Identity::default();
        identity.install(Svid::new(vec![certificate], key)?, vec![self.root.clone()])?;
        Ok(identity)
    }
}
