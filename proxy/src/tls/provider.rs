//! The cryptography between sidecars, and with the control plane: aws-lc-rs, TLS 1.3, hybrid post-quantum key
//! exchange first.

use std::sync::{Arc, LazyLock};

use rustls::{
    ClientConfig, ServerConfig,
    client::danger::ServerCertVerifier,
    crypto::{CryptoProvider, SupportedKxGroup, WebPkiSupportedAlgorithms, aws_lc_rs},
    server::danger::ClientCertVerifier,
    time_provider::TimeProvider,
    version::{TLS12, TLS13},
};
use rustls_pki_types::UnixTime;

use crate::{clock, config::KeyExchange};

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| offering(&[aws_lc_rs::kx_group::X25519MLKEM768]));
static CLASSICAL: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| offering(&[]));

/// With these key exchanges, and after them the classical ones.
fn offering(first: &[&'static dyn SupportedKxGroup]) -> Arc<CryptoProvider> {
    let classical = [aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
    let kx_groups = first.iter().copied().chain(classical).collect();
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}

fn provider(key_exchange: KeyExchange) -> Arc<CryptoProvider> {
    match key_exchange {
        KeyExchange::PostQuantum => Arc::clone(&PROVIDER),
        KeyExchange::Classical => Arc::clone(&CLASSICAL),
    }
}

/// The signature algorithms that certificates and handshakes may be signed with.
pub(crate) fn algorithms() -> &'static WebPkiSupportedAlgorithms {
    &PROVIDER.signature_verification_algorithms
}

/// A client's configuration with this verifier, before its certificate is chosen.
pub(crate) fn client(
    verifier: Arc<dyn ServerCertVerifier>,
    key_exchange: KeyExchange,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder_with_details(provider(key_exchange), Arc::new(WallClock))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has cipher suites for TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
}

/// A client's configuration towards a server that is not of the mesh, in whatever version of TLS it speaks.
pub(crate) fn client_of_any_version(
    verifier: Arc<dyn ServerCertVerifier>,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder_with_details(Arc::clone(&PROVIDER), Arc::new(WallClock))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the provider has cipher suites for both")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
}

/// A server's configuration with this verifier, before its certificate is chosen.
pub(crate) fn server(
    verifier: Arc<dyn ClientCertVerifier>,
    key_exchange: KeyExchange,
) -> rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert> {
    ServerConfig::builder_with_details(provider(key_exchange), Arc::new(WallClock))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has cipher suites for TLS 1.3")
        .with_client_cert_verifier(verifier)
}

/// rustls's clock is the proxy's.
#[derive(Debug)]
struct WallClock;

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(clock::since_epoch()))
    }
}
