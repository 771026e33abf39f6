//! One issue of an SVID: a signing request and a proof go to the control plane, a chain and roots come back.

use std::{sync::Arc, time::Duration};

use rustls_pki_types::CertificateDer;
use tonic::{Request, transport::Channel};
use weft_proto::{
    JoinToken, WorkloadName,
    identity::{
        IssueRequest, IssueResponse, Renewal, identity_client::IdentityClient,
        issue_request::Proof as WireProof,
    },
};

use super::{
    ConnectError, ControlPlane, KeyError, ServiceAccountToken, SvidError, TokenError,
    control_plane::explain, pinned::Anchor,
};
use crate::{
    clock,
    tls::{Bundle, BundleError},
};

/// An answer may take so long: the control plane writes a token's use to its disk first.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What proves who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A join token.
    Token(JoinToken),
    /// A pod's ServiceAccount token.
    ServiceAccount {
        /// What is sent.
        token: ServiceAccountToken,
        /// What whoever gets it must be verified by.
        roots: Vec<CertificateDer<'static>>,
    },
    /// The SVID in force, on the connection itself.
    Svid,
}

/// What the control plane issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// DER, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The trust domain's roots, DER, the one that signs first.
    pub roots: Vec<CertificateDer<'static>>,
}

/// Why no SVID was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// There is nothing that proves who we are.
    #[error(
        "there is nothing to prove who this proxy is; set WEFT_TOKEN_FILE (or --token-file) to a file that \
         holds a join token, or in Kubernetes WEFT_SERVICE_ACCOUNT_TOKEN_FILE and WEFT_ROOTS_FILE"
    )]
    NoToken,
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The control plane cannot be reached, or is not the one.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The control plane did not issue.
    #[error("{0}")]
    Refused(String),
    /// The control plane did not answer.
    #[error("the control plane did not answer in {TIMEOUT:?}")]
    Timeout,
    /// The key failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What was issued is no SVID of ours.
    #[error(transparent)]
    Svid(#[from] SvidError),
    /// The roots that came with it cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// What was issued would not be believed by anybody.
    #[error("the issued certificate cannot be used: {0}")]
    Unusable(String),
}

/// Issues SVIDs: the control plane, or a test.
pub trait Issuer: Send + Sync {
    /// Issues for a signing request (PKCS#10, DER).
    fn issue(
        &self,
        request: Vec<u8>,
        proof: Proof,
    ) -> impl Future<Output = Result<Issued, IssueError>> + Send;
}

/// The control plane, over gRPC. Each issue has a connection of its own, with the proof of the moment.
#[derive(Debug, Clone)]
pub struct GrpcIssuer {
    control_plane: ControlPlane,
    workload: WorkloadName,
}

impl GrpcIssuer {
    /// Issues for the workload of this proxy.
    #[must_use]
    pub const fn new(control_plane: ControlPlane, workload: WorkloadName) -> Self {
        Self { control_plane, workload }
    }

    fn channel(&self, proof: &Proof) -> Result<Channel, BundleError> {
        Ok(match proof {
            Proof::Token(token) => {
                self.control_plane.joining_channel(Anchor::Hash(token.root_sha256))
            }
            Proof::ServiceAccount { roots, .. } => {
                let bundle = Bundle::new(roots.clone())?;
                self.control_plane.joining_channel(Anchor::Roots(Arc::new(bundle)))
            }
            Proof::Svid => self.control_plane.channel(),
        })
    }
}

impl Issuer for GrpcIssuer {
    async fn issue(&self, request: Vec<u8>, proof: Proof) -> Result<Issued, IssueError> {
        let mut client = IdentityClient::new(self.channel(&proof)?);
        let message = IssueRequest {
            csr: request,
            proof: Some(match proof {
                Proof::Token(token) => WireProof::JoinToken(token.to_string()),
                Proof::ServiceAccount { token, .. } => {
                    WireProof::ServiceAccountToken(token.into_secret())
                }
                Proof::Svid => WireProof::Renewal(Renewal {}),
            }),
            workload: self.workload.to_string(),
        };
        match clock::timeout(TIMEOUT, client.issue(Request::new(message))).await {
            Ok(Ok(response)) => Ok(response.into_inner().into()),
            Ok(Err(status)) => Err(IssueError::Refused(explain(&status))),
            Err(_) => Err(IssueError::Timeout),
        }
    }
}

impl From<IssueResponse> for Issued {
    fn from(response: IssueResponse) -> Self {
        let certificates = |der: Vec<Vec<u8>>| der.into_iter().map(CertificateDer::from).collect();
        Self { chain: certificates(response.chain), roots: certificates(response.roots) }
    }
}
