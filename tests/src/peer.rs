//! Peers of mutual TLS made by hand: with any certificate, any protocol offered, and no judgement of their own.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName as Subject, Error, ServerConfig,
    SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weft_proxy::identity::{PrivateKey, Svid};

use crate::{mesh::Mesh, raw::Raw, wait};

/// How long a certificate of this authority has held already: clocks may differ by as much.
const BACKDATED: Duration = Duration::from_secs(300);

/// A root that issues whatever it is asked for.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Authority {
    /// A root that no mesh knows.
    #[must_use]
    pub fn stranger(name: &str) -> Self {
        let key = KeyPair::generate().expect("randomness");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key).expect("a root can be signed").der().clone();
        Self { issuer: Issuer::new(params, key), root }
    }

    /// The root that a mesh's control plane signs with, out of its state.
    #[must_use]
    pub fn of(mesh: &Mesh) -> Self {
        let state = std::fs::read(mesh.state().join("authority.json")).expect("it is written");
        let state: serde_json::Value = serde_json::from_slice(&state).expect("JSON");
        let pem = |field: &str| state["roots"][0][field].as_str().expect("PEM").to_owned();
        let root = CertificateDer::from_pem_slice(pem("certificate").as_bytes()).expect("PEM");
        let key = KeyPair::from_pem(&pem("key")).expect("PKCS#8");
        let issuer = Issuer::from_ca_cert_der(&root, key).expect("a root");
        Self { issuer, root }
    }

    /// The root's certificate.
    #[must_use]
    pub fn root(&self) -> CertificateDer<'static> {
        self.root.clone()
    }

    /// A certificate with these contents, and its key.
    #[must_use]
    pub fn issue(&self, params: &CertificateParams) -> Credential {
        let key = PrivateKey::generate().expect("randomness");
        let certificate = params.signed_by(&key, &self.issuer).expect("it can be signed");
        Credential { chain: vec![certificate.der().clone()], key }
    }
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct Credential {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKey,
}

impl Credential {
    /// A certificate that nobody else has signed.
    #[must_use]
    pub fn self_signed(params: &CertificateParams) -> Self {
        let key = PrivateKey::generate().expect("randomness");
        let certificate = params.self_signed(&key).expect("it can be signed");
        Self { chain: vec![certificate.der().clone()], key }
    }

    /// The same for a real sidecar.
    #[must_use]
    pub fn svid(&self) -> Svid {
        Svid::new(self.chain.clone(), self.key.clone()).expect("it has a SPIFFE ID")
    }

    fn resolver(&self) -> Arc<SingleCertAndKey> {
        let certified = CertifiedKey::new(self.chain.clone(), Arc::new(self.key.clone()));
        Arc::new(SingleCertAndKey::from(certified))
    }
}

/// What an SVID of this SPIFFE ID holds, for an hour.
#[must_use]
pub fn svid(spiffe_id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "leaf");
    params.subject_alt_names = vec![SanType::URI(spiffe_id.try_into().expect("ASCII"))];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = (SystemTime::now() - BACKDATED).into();
    params.not_after = (SystemTime::now() + Duration::from_secs(3600)).into();
    params
}

/// The SPIFFE ID of a service account in `shop`.
#[must_use]
pub fn id(account: &str) -> String {
    format!("spiffe://weft.local/ns/shop/sa/{account}")
}

/// How a client of the mesh calls.
#[derive(Debug)]
pub struct Caller<'a> {
    /// What it presents.
    pub credential: Option<&'a Credential>,
    /// The server name that it asks for.
    pub server_name: Option<&'a str>,
    /// The protocols that it offers.
    pub alpn: &'a [&'a [u8]],
}

impl Caller<'_> {
    /// Makes the handshake, whoever answers. A refusal of its certificate comes only with the first read.
    ///
    /// # Errors
    /// The server broke off the handshake.
    pub async fn call(&self, address: SocketAddr) -> io::Result<Raw> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("TLS 1.3 is there")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody::trusted()));
        let mut config = match self.credential {
            Some(credential) => builder.with_client_cert_resolver(credential.resolver()),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.iter().map(|alpn| alpn.to_vec()).collect();
        config.enable_sni = self.server_name.is_some();
        let name = self.server_name.unwrap_or("nameless.invalid").to_owned();
        let name = ServerName::try_from(name).expect("a DNS name");
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let connect = TlsConnector::from(Arc::new(config)).connect(name, stream);
        wait::soon("the handshake", connect).await.map(Raw::over)
    }
}

/// A server of the mesh with this certificate, for any client or (with an alert) for none.
#[must_use]
pub fn acceptor(credential: &Credential, alpn: &[&[u8]], clients: Clients) -> TlsAcceptor {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3 is there")
        .with_client_cert_verifier(Arc::new(Anybody { clients }))
        .with_cert_resolver(credential.resolver());
    config.alpn_protocols = alpn.iter().map(|alpn| alpn.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// Whom a server made by hand lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// Everybody.
    All,
    /// Nobody: each client's certificate is refused.
    None,
}

/// Judges nobody, or everybody alike.
#[derive(Debug)]
struct Anybody {
    clients: Clients,
}

impl Anybody {
    const fn trusted() -> Self {
        Self { clients: Clients::All }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn verify(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = provider().signature_verification_algorithms;
    verify_tls13_signature(message, certificate, signature, &algorithms)
}

fn schemes() -> Vec<SignatureScheme> {
    provider().signature_verification_algorithms.supported_schemes()
}

fn no_tls12() -> Error {
    Error::General("TLS 1.3 alone".to_owned())
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

impl ClientCertVerifier for Anybody {
    fn root_hint_subjects(&self) -> &[Subject] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.clients {
            Clients::All => Ok(ClientCertVerified::assertion()),
            Clients::None => Err(rustls::CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}
