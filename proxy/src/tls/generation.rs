//! The rustls configurations of one set of credentials, made once and shared by all workers.
//!
//! A changed SVID or bundle makes a new generation: new verifiers, no remembered sessions, new ticket keys. So
//! no session outlives the certificates and the roots that it was made under, on either side.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{ClientConfig, ServerConfig, client::Resumption, sign::SingleCertAndKey};
use weft_proto::SpiffeId;

use super::{Alpn, Role, fault::Expected, provider, sessions::Sessions, verifier::PeerVerifier};
use crate::{config::TlsSettings, identity::Credentials};

/// Endpoints whose sessions are remembered; beyond, the one that was unused for longest is forgotten. A session
/// has about 2 KiB, an endpoint at most 32 of them for a port.
const ENDPOINTS: usize = 512;

/// Everything that one set of credentials means to rustls.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) credentials: Arc<Credentials>,
    settings: TlsSettings,
    /// For connections from other sidecars.
    pub(crate) server: Arc<ServerConfig>,
    /// Checks who calls.
    pub(crate) callers: Arc<PeerVerifier>,
    certificate: Arc<SingleCertAndKey>,
    endpoints: Mutex<Endpoints>,
}

#[derive(Debug, Default)]
struct Endpoints {
    /// By session key; an endpoint has one set of expected identities nearly always.
    by_key: HashMap<Box<str>, Vec<Known>>,
    count: usize,
    /// Counts look-ups, to know which was unused for longest.
    clock: u64,
}

#[derive(Debug)]
struct Known {
    endpoint: ForEndpoint,
    expected: Arc<[SpiffeId]>,
    used: u64,
}

/// What a connection to one endpoint needs.
#[derive(Debug, Clone)]
pub(crate) struct ForEndpoint {
    pub(crate) config: Arc<ClientConfig>,
    /// Checks who answers.
    pub(crate) verifier: Arc<PeerVerifier>,
}

impl Generation {
    /// Builds what all connections share.
    ///
    /// # Errors
    /// There is no randomness for the ticket keys.
    pub(crate) fn new(
        credentials: Arc<Credentials>,
        settings: TlsSettings,
    ) -> Result<Self, rustls::Error> {
        let domain = credentials.svid.identity().trust_domain().into();
        let bundle = Arc::clone(&credentials.bundle);
        let callers = PeerVerifier::new(bundle, Role::Client, Expected::Anybody(domain));
        let certificate =
            Arc::new(SingleCertAndKey::from(Arc::clone(credentials.svid.certified())));
        let mut server = provider::server(Arc::clone(&callers) as _, settings.key_exchange)
            .with_cert_resolver(Arc::clone(&certificate) as _);
        server.alpn_protocols = Alpn::ALL.iter().map(|alpn| alpn.wire().to_vec()).collect();
        if settings.resumption {
            server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        } else {
            server.send_tls13_tickets = 0;
        }
        server.max_early_data_size = 0;
        Ok(Self {
            credentials,
            settings,
            server: Arc::new(server),
            callers,
            certificate,
            endpoints: Mutex::default(),
        })
    }

    /// The configuration for an endpoint where one of these identities is expected; made on first use.
    pub(crate) fn endpoint(&self, session_key: &str, expected: &Arc<[SpiffeId]>) -> ForEndpoint {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.clock += 1;
        let now = endpoints.clock;
        let known = endpoints.by_key.get_mut(session_key).and_then(|known| {
            known
                .iter_mut()
                .find(|known| Arc::ptr_eq(&known.expected, expected) || known.expected == *expected)
        });
        if let Some(known) = known {
            known.used = now;
            return known.endpoint.clone();
        }
        let endpoint = self.new_endpoint(expected);
        endpoints.insert(
            session_key,
            Known { endpoint: endpoint.clone(), expected: Arc::clone(expected), used: now },
        );
        endpoint
    }

    /// How many endpoints have their sessions remembered.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).count
    }

    fn new_endpoint(&self, expected: &Arc<[SpiffeId]>) -> ForEndpoint {
        let domain = self.credentials.svid.identity().trust_domain().into();
        let verifier = PeerVerifier::new(
            Arc::clone(&self.credentials.bundle),
            Role::Server,
            Expected::OneOf(domain, Arc::clone(expected)),
        );
        let config = client_config(&verifier, &self.certificate, self.settings);
        ForEndpoint { config: Arc::new(config), verifier }
    }
}

fn client_config(
    verifier: &Arc<PeerVerifier>,
    certificate: &Arc<SingleCertAndKey>,
    settings: TlsSettings,
) -> ClientConfig {
    let mut config = provider::client(Arc::clone(verifier) as _, settings.key_exchange)
        .with_client_cert_resolver(Arc::clone(certificate) as _);
    config.resumption = match settings.resumption {
        true => Resumption::store(Arc::new(Sessions::default())),
        false => Resumption::disabled(),
    };
    config.enable_early_data = false;
    config
}

impl Endpoints {
    fn insert(&mut self, session_key: &str, known: Known) {
        if self.count >= ENDPOINTS {
            self.forget_oldest();
        }
        match self.by_key.get_mut(session_key) {
            Some(others) => others.push(known),
            None => {
                self.by_key.insert(session_key.into(), vec![known]);
            }
        }
        self.count += 1;
    }

    /// A walk over all: only an endpoint new beyond the bound pays for it, and it pays for a handshake too.
    fn forget_oldest(&mut self) {
        let oldest = self.by_key.values().flatten().map(|known| known.used).min();
        self.by_key.retain(|_, known| {
            known.retain(|known| Some(known.used) != oldest);
            !known.is_empty()
        });
        self.count = self.by_key.values().map(Vec::len).sum();
    }
}
