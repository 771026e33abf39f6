//! TLS of port 4480 and of the webhook: the control plane's own certificate, renewed by itself; on 4480 the
//! client's is asked for.
//!
//! Comes in: the authority. Goes out: a rustls configuration that always presents a certificate in force.
//! The chain sent ends with the roots, so that a sidecar that holds nothing but a root's hash (in its join
//! token) finds that root in the chain. The key lives in memory only.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{
    ServerConfig,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    time_provider::TimeProvider,
};
use rustls_pki_types::{PrivatePkcs8KeyDer, UnixTime};
use weft_proto::SpiffeId;

use super::{Authority, CaError, peer::LiveVerifier, svid::HostNames};
use crate::clock;

/// The service account and the namespace of the control plane's identity.
pub const SERVICE_ACCOUNT: &str = "control-plane";
/// See [`SERVICE_ACCOUNT`].
pub const NAMESPACE: &str = "weft-system";
/// A failed renewal is tried again after this.
const RETRY: Duration = Duration::from_secs(5);

/// The certificate that the control plane presents.
pub struct Serving {
    authority: Arc<Authority>,
    identity: SpiffeId,
    hosts: HostNames,
    current: Arc<Current>,
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Serving {
    /// Issues the first certificate, for the names that the control plane is reached at.
    ///
    /// # Errors
    /// When a name fits no certificate or the authority cannot sign.
    pub fn new(authority: Arc<Authority>, names: &[String]) -> Result<Self, CaError> {
        let identity = SpiffeId::new(authority.trust_domain(), NAMESPACE, SERVICE_ACCOUNT)?;
        let mut hosts = HostNames::default();
        for name in names {
            match name.parse::<IpAddr>() {
                Ok(address) => hosts.addresses.push(address),
                Err(_) => hosts.dns.push(name.clone()),
            }
        }
        let (key, _) = certify(&authority, &identity, &hosts, clock::now())?;
        let current = Arc::new(Current(ArcSwap::from_pointee(key)));
        Ok(Self { authority, identity, hosts, current })
    }

    /// The configuration of the listener: TLS 1.3, HTTP/2, no resumption (every handshake verifies anew).
    ///
    /// # Errors
    /// When the crypto provider lacks TLS 1.3.
    pub fn tls_config(&self) -> Result<Arc<ServerConfig>, CaError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = LiveVerifier::new(self.authority.watch(), provider.clone());
        let mut config = ServerConfig::builder_with_details(provider, Arc::new(WallClock))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(self.current.clone());
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// The configuration of the webhook's listener: TLS 1.3, HTTP/1, no certificate asked of the API server, which
    /// has none unless somebody gave it one.
    ///
    /// # Errors
    /// When the crypto provider lacks TLS 1.3.
    pub fn webhook_config(&self) -> Result<Arc<ServerConfig>, CaError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_details(provider, Arc::new(WallClock))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(self.current.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Renews at two thirds of the certificate's life and when the roots change. Ends when it is dropped.
    pub async fn keep_current(self) {
        let mut bundle = self.authority.watch();
        let mut wait = self.authority.svid_ttl() * 2 / 3;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                changed = bundle.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
            let now = clock::now();
            wait = match certify(&self.authority, &self.identity, &self.hosts, now) {
                Ok((key, not_after)) => {
                    self.current.0.store(Arc::new(key));
                    let life = not_after.duration_since(now).unwrap_or_default();
                    (life * 2 / 3).max(Duration::from_millis(100))
                }
                Err(error) => {
                    tracing::error!(%error, "the control plane's own certificate is not renewed");
                    RETRY
                }
            };
        }
    }
}

/// rustls's clock is ours.
#[derive(Debug)]
struct WallClock;

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        clock::now().duration_since(UNIX_EPOCH).ok().map(UnixTime::since_unix_epoch)
    }
}

/// A new key and a certificate for it, with the roots at the chain's end.
fn certify(
    authority: &Authority,
    identity: &SpiffeId,
    hosts: &HostNames,
    now: SystemTime,
) -> Result<(CertifiedKey, SystemTime), CaError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let issued = authority.issue_own(&key, identity, hosts, now)?;
    let mut chain = issued.chain;
    chain.extend(authority.bundle().roots.iter().cloned());
    let der = PrivatePkcs8KeyDer::from(key.serialize_der());
    let signing = rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&der.into())?;
    Ok((CertifiedKey::new(chain, signing), issued.not_after))
}
