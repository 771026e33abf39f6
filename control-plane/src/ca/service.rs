//! The gRPC Identity service: a proof goes in, an SVID comes out.
//!
//! Comes in: a signing request with a join token, or over a connection whose client certificate is in force.
//! Goes out: the chain and the roots. It must never issue for a workload whose object names another service
//! account, nor take an identity from anything but the proof.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use tonic::{Request, Response, Status};
use weft_proto::{
    JoinToken, SpiffeId, WorkloadName,
    identity::{IssueRequest, IssueResponse, identity_server::Identity, issue_request::Proof},
};

use super::{
    Authority, CaError, Issued, IssuedRecord, Tokens,
    csr::Csr,
    peer::{self, Peer},
    tokens::TokenRefusal,
};
use crate::{clock, metrics::Metrics, secure::PeerChain};

/// What the operator's objects say of a workload.
pub trait WorkloadAccounts: Send + Sync {
    /// The service account of a workload; `None` when there is no such workload.
    fn service_account(&self, workload: &WorkloadName) -> Option<Arc<str>>;
}

/// The service.
#[derive(Clone)]
pub struct IdentityService {
    /// Signs.
    pub authority: Arc<Authority>,
    /// Knows the join tokens.
    pub tokens: Arc<Tokens>,
    /// Remembers what was issued.
    pub issued: Arc<IssuedRecord>,
    /// Knows the workloads.
    pub workloads: Arc<dyn WorkloadAccounts>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn issue(
        &self,
        request: Request<IssueRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        let chain = request.extensions().get::<PeerChain>().cloned().unwrap_or_default();
        let request = request.into_inner();
        let proof = proof_name(request.proof.as_ref());
        let answer = self.clone().answer(request, chain).await;
        self.metrics.issued(proof, answer.is_ok());
        match answer {
            Ok(response) => Ok(Response::new(response)),
            Err(status) => {
                tracing::warn!(proof, reason = status.message(), "no certificate is issued");
                Err(status)
            }
        }
    }
}

impl IdentityService {
    async fn answer(
        self,
        request: IssueRequest,
        chain: PeerChain,
    ) -> Result<IssueResponse, Status> {
        let now = clock::now();
        let workload: WorkloadName = request.workload.parse().map_err(invalid)?;
        let csr = Csr::parse(&request.csr).map_err(invalid)?;
        match request.proof {
            Some(Proof::JoinToken(text)) => {
                // A token's use is written to the disk before it is answered.
                tokio::task::spawn_blocking(move || self.join(&text, &workload, &csr, now))
                    .await
                    .map_err(|_| Status::internal("the issue was interrupted"))?
            }
            Some(Proof::Renewal(_)) => {
                let peer = peer::verify(&chain, &self.authority.bundle(), now)
                    .map_err(|refusal| Status::unauthenticated(refusal.to_string()))?;
                self.renew(&peer, &workload, &csr, now)
            }
            Some(Proof::ServiceAccountToken(_)) => Err(Status::unimplemented(
                "this control plane does not check Kubernetes tokens; use a join token",
            )),
            None => Err(Status::invalid_argument(
                "no proof was given; send a join token, or renew over a connection with a client certificate",
            )),
        }
    }

    fn join(
        &self,
        text: &str,
        workload: &WorkloadName,
        csr: &Csr,
        now: SystemTime,
    ) -> Result<IssueResponse, Status> {
        let token: JoinToken = text.parse().map_err(|error| refused(TokenRefusal::Form(error)))?;
        let status = self.tokens.check(&token, now).map_err(refused)?;
        let identity = SpiffeId::new(
            self.authority.trust_domain(),
            &status.namespace,
            &status.service_account,
        )
        .map_err(invalid)?;
        self.check_workload(workload, &identity)?;
        self.tokens.consume(&token, now).map_err(refused)?;
        let issued = self.authority.issue(csr, &identity, now).map_err(failed)?;
        tracing::info!(%workload, %identity, token = token.id, "a sidecar joined");
        Ok(self.respond(workload, issued))
    }

    fn renew(
        &self,
        peer: &Peer,
        workload: &WorkloadName,
        csr: &Csr,
        now: SystemTime,
    ) -> Result<IssueResponse, Status> {
        self.check_workload(workload, &peer.spiffe_id)?;
        let issued = self.authority.issue(csr, &peer.spiffe_id, now).map_err(failed)?;
        self.authority.renewed(&peer.serial);
        tracing::debug!(%workload, identity = %peer.spiffe_id, "a certificate is renewed");
        Ok(self.respond(workload, issued))
    }

    /// The operator's object decides which service account a workload runs as.
    fn check_workload(&self, workload: &WorkloadName, identity: &SpiffeId) -> Result<(), Status> {
        let account = identity.service_account();
        let Some(allowed) = self.workloads.service_account(workload) else {
            return Err(Status::permission_denied(format!(
                "there is no Workload {workload}; apply one whose spec.serviceAccount is {account:?}, \
                 the service account that was proved"
            )));
        };
        if *workload.namespace != *identity.namespace() || *allowed != *account {
            return Err(Status::permission_denied(format!(
                "Workload {workload}: spec.serviceAccount is {allowed:?}, but {identity} was proved; \
                 use a token of {}/{allowed}",
                workload.namespace
            )));
        }
        Ok(())
    }

    fn respond(&self, workload: &WorkloadName, issued: Issued) -> IssueResponse {
        self.issued.record(workload, issued.clone());
        let not_after = issued.not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
        let der = |certificates: &[rustls_pki_types::CertificateDer<'_>]| {
            certificates.iter().map(|certificate| certificate.to_vec()).collect()
        };
        IssueResponse {
            chain: der(&issued.chain),
            roots: der(&self.authority.bundle().roots),
            spiffe_id: issued.spiffe_id.to_string(),
            not_after: i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX),
        }
    }
}

fn proof_name(proof: Option<&Proof>) -> &'static str {
    match proof {
        Some(Proof::JoinToken(_)) => "join_token",
        Some(Proof::ServiceAccountToken(_)) => "service_account_token",
        Some(Proof::Renewal(_)) => "renewal",
        None => "none",
    }
}

fn invalid(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

fn refused(refusal: TokenRefusal) -> Status {
    match refusal {
        TokenRefusal::Record(error) => failed(error),
        refusal => Status::unauthenticated(refusal.to_string()),
    }
}

fn failed(error: CaError) -> Status {
    tracing::error!(%error, "the certificate authority failed");
    Status::unavailable("the certificate authority cannot sign now; its log says why")
}
