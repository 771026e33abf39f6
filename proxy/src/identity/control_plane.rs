//! gRPC channels to the control plane: TLS 1.3 with its certificate verified, ours shown where it is wanted.
//!
//! Comes in: the control plane's address, the live identity, and before the first SVID the hash of a root from
//! the join token, or a pod's roots. Goes out: tonic channels that read the live identity anew at each connection, so that one
//! channel lives through renewals and rotated roots. It must never speak to anybody but the control plane of
//! this mesh: a chain under the bundle (or to the root that came with the proof) with the control plane's own SPIFFE ID.

use std::{io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, client::Resumption, sign::SingleCertAndKey};
use rustls_pki_types::ServerName;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

use super::{
    Credentials, Identity,
    pinned::{Anchor, ControlPlaneVerifier},
};
use crate::{
    clock,
    config::KeyExchange,
    dns::Resolver,
    net::{self, TcpStream},
    tls::{Refused, provider},
};

/// Making the connection: TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that says nothing for so long is asked whether it lives, and given up on after as much again.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The TLS server name. It only routes; the certificate is verified by its SPIFFE ID.
const SERVER_NAME: &str = "control-plane.weft.internal";

/// How to reach the control plane. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    address: Arc<str>,
    endpoint: Endpoint,
    identity: Identity,
    resolver: Resolver,
}

/// Why there is no connection to the control plane.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is no `HOST:PORT`.
    #[error(
        "{0:?} is not the address of a control plane: use HOST:PORT, for example 127.0.0.1:4480"
    )]
    Address(Arc<str>),
    /// No TCP connection.
    #[error("cannot connect to the control plane at {address}: {error}")]
    Dial {
        /// Where.
        address: Arc<str>,
        /// Why.
        error: io::Error,
    },
    /// It did not answer in time.
    #[error("the control plane at {0} did not answer in {CONNECT_TIMEOUT:?}")]
    Timeout(Arc<str>),
    /// TLS failed, or it is not the control plane of this mesh.
    #[error("{address} is not taken for the control plane: {refused}")]
    Refused {
        /// Where.
        address: Arc<str>,
        /// Why.
        refused: Refused,
    },
    /// We have nothing to present.
    #[error("{0}")]
    NoIdentity(String),
}

/// Whether to present our certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Present {
    /// The SVID in force; without one there is no connection.
    Svid,
    /// Nothing: the proof is a token.
    Nothing,
}

impl ControlPlane {
    /// At `HOST:PORT`; a name is resolved at each connection.
    ///
    /// # Errors
    /// The address is no `HOST:PORT`.
    pub fn new(address: &str, identity: Identity) -> Result<Self, ConnectError> {
        let address: Arc<str> = address.into();
        let is_valid = address.parse::<http::uri::Authority>().is_ok_and(|authority| {
            let has_port = authority.port_u16().is_some_and(|port| port != 0);
            has_port && !authority.host().is_empty() && !address.contains('@')
        });
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .ok()
            .filter(|_| is_valid)
            .ok_or_else(|| ConnectError::Address(Arc::clone(&address)))?
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        Ok(Self { address, endpoint, identity, resolver: Resolver::from_system() })
    }

    /// Where it is, `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A channel for discovery and renewal: our certificate is the SVID in force, theirs is verified by the
    /// bundle in force, each at the time of connecting. It connects on first use, and again when it has lost the
    /// connection; without an SVID that holds, a call fails at once. To leave a connection that was made under
    /// an older bundle or SVID, take a new channel.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel_with(Present::Svid, None)
    }

    /// A channel for the first SVID: we present nothing, theirs is verified by the bundle if there is one, or by
    /// what came with the proof.
    pub(super) fn joining_channel(&self, anchor: Anchor) -> Channel {
        self.channel_with(Present::Nothing, Some(anchor))
    }

    fn channel_with(&self, present: Present, anchor: Option<Anchor>) -> Channel {
        let control_plane = self.clone();
        let connector = tower::service_fn(move |_: http::Uri| {
            let (control_plane, anchor) = (control_plane.clone(), anchor.clone());
            async move { control_plane.connect(present, anchor).await.map(TokioIo::new) }
        });
        self.endpoint.connect_with_connector_lazy(connector)
    }

    async fn connect(
        self,
        present: Present,
        anchor: Option<Anchor>,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let credentials = self.identity.credentials();
        let (config, verifier) = client_config(credentials.as_deref(), present, anchor)?;
        match clock::timeout(CONNECT_TIMEOUT, self.dial(config, &verifier)).await {
            Ok(connected) => connected,
            Err(_) => Err(ConnectError::Timeout(self.address)),
        }
    }

    async fn dial(
        &self,
        config: ClientConfig,
        verifier: &ControlPlaneVerifier,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let address = || Arc::clone(&self.address);
        let name = ServerName::try_from(SERVER_NAME).expect("a constant that is a DNS name");
        let dialled = net::connect_by_name(&self.address, &self.resolver).await;
        let stream = dialled.map_err(|error| ConnectError::Dial { address: address(), error })?;
        // Small messages that are waited for. Failing to set it costs time, no more.
        let _ = stream.set_nodelay(true);
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| {
            ConnectError::Refused { address: address(), refused: verifier.explain(&error) }
        })
    }
}

/// The configuration of one connection, from the identity as it is now.
fn client_config(
    credentials: Option<&Credentials>,
    present: Present,
    anchor: Option<Anchor>,
) -> Result<(ClientConfig, Arc<ControlPlaneVerifier>), ConnectError> {
    let verifier = Arc::new(ControlPlaneVerifier::new(credentials, anchor));
    let builder = provider::client(Arc::clone(&verifier) as _, KeyExchange::PostQuantum);
    let mut config = match present {
        Present::Nothing => builder.with_no_client_auth(),
        Present::Svid => {
            let certified = Arc::clone(holding(credentials)?.svid.certified());
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok((config, verifier))
}

/// Credentials whose SVID holds now.
fn holding(credentials: Option<&Credentials>) -> Result<&Credentials, ConnectError> {
    match credentials {
        None => Err(ConnectError::NoIdentity("this proxy has no SVID yet".to_owned())),
        Some(credentials) if !credentials.svid.holds_at(clock::since_epoch()) => {
            let detail = format!("our own SVID does not hold now: {}", credentials.svid.describe());
            Err(ConnectError::NoIdentity(detail))
        }
        Some(credentials) => Ok(credentials),
    }
}

/// A failed call in words: what the control plane said, or why there was no connection to say it on.
#[must_use]
pub fn explain(status: &tonic::Status) -> String {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<ConnectError>() {
            return error.to_string();
        }
        source = error.source();
    }
    format!("{}: {}", status.code().description(), status.message())
}

#[cfg(test)]
mod tests;
