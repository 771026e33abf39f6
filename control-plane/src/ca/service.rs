//! The gRPC Identity service: a proof goes in, an SVID comes out.
//!
//! Comes in: a signing request with a join token, with a pod's ServiceAccount token, or over a connection whose client
//! certificate is in force. Goes out: the chain and the roots. It must never issue for a workload whose object names
//! another service account, nor for another pod than the one that the token is bound to, nor take an identity from
//! anything but the proof.

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
    Authority, CaError, Holder, Issued, IssuedRecord, Tokens,
    csr::Csr,
    peer::{self, Peer},
    tokens::TokenRefusal,
};
use crate::{
    clock,
    metrics::Metrics,
    model::{InstanceKey, NamespacedName, Pod},
    secure::PeerChain,
};

/// What the operator's objects and the cluster say of a workload.
pub trait WorkloadAccounts: Send + Sync {
    /// The service account of a workload; `None` when no object names the workload.
    fn service_account(&self, workload: &WorkloadName) -> Option<Arc<str>>;
    /// A pod; `None` when there is none of this name, or it is not known yet.
    fn pod(&self, name: &NamespacedName) -> Option<Arc<Pod>>;
}

/// Whom a pod's token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodIdentity {
    /// The pod that the token is bound to.
    pub pod: NamespacedName,
    /// Tells it from another one of the same name.
    pub uid: Arc<str>,
    /// The service account, in the pod's namespace.
    pub service_account: Arc<str>,
}

/// Why a pod's token does not count.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It is not good.
    #[error("the ServiceAccount token is refused: {0}")]
    Refused(String),
    /// Whoever knows cannot be asked.
    #[error("the ServiceAccount token cannot be checked now: {0}")]
    Unavailable(String),
}

/// Checks the tokens of pods.
#[tonic::async_trait]
pub trait PodTokens: Send + Sync {
    /// Whom this token stands for.
    ///
    /// # Errors
    /// When it is not good, or that cannot be found out now.
    async fn check(&self, token: &str) -> Result<PodIdentity, TokenError>;
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
    /// Knows the tokens of pods; none outside Kubernetes.
    pub pod_tokens: Option<Arc<dyn PodTokens>>,
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
            Some(Proof::ServiceAccountToken(token)) => {
                let identity = self.check_token(&token).await?;
                self.enter(&identity, &workload, &csr, now)
            }
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
        let issued = self.authority.issue(csr, &Holder::of(&identity), now).map_err(failed)?;
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
        match &peer.instance {
            Some(instance) => self.check_bound(instance, workload, &peer.spiffe_id)?,
            None => self.check_workload(workload, &peer.spiffe_id)?,
        }
        let instance = peer.instance.as_ref();
        let holder = Holder { instance, ..Holder::of(&peer.spiffe_id) };
        let issued = self.authority.issue(csr, &holder, now).map_err(failed)?;
        self.authority.renewed(&peer.serial);
        tracing::debug!(%workload, identity = %peer.spiffe_id, "a certificate is renewed");
        Ok(self.respond(workload, issued))
    }

    async fn check_token(&self, token: &str) -> Result<PodIdentity, Status> {
        let Some(tokens) = &self.pod_tokens else {
            return Err(Status::unimplemented(
                "this control plane does not check Kubernetes tokens; use a join token",
            ));
        };
        tokens.check(token).await.map_err(|error| match error {
            TokenError::Refused(_) => Status::unauthenticated(error.to_string()),
            TokenError::Unavailable(_) => Status::unavailable(error.to_string()),
        })
    }

    /// The first certificate of a pod's sidecar.
    fn enter(
        &self,
        proved: &PodIdentity,
        workload: &WorkloadName,
        csr: &Csr,
        now: SystemTime,
    ) -> Result<IssueResponse, Status> {
        let PodIdentity { pod: name, uid, service_account } = proved;
        let Some(pod) = self.workloads.pod(name).filter(|pod| pod.uid == *uid) else {
            // The API knows the pod: word of it is on its way.
            let message = format!("the pod {name} is not known here yet; try again");
            return Err(Status::unavailable(message));
        };
        let domain = self.authority.trust_domain();
        let identity = SpiffeId::new(domain, &name.namespace, service_account).map_err(invalid)?;
        let instance = pod.instance();
        self.check_bound(&instance, workload, &identity)?;
        let holder = Holder { instance: Some(&instance), ..Holder::of(&identity) };
        let issued = self.authority.issue(csr, &holder, now).map_err(failed)?;
        tracing::info!(%instance, %identity, "a pod's sidecar joined");
        Ok(self.respond(workload, issued))
    }

    /// A certificate that names one instance is that pod's, for as long as the pod is there.
    fn check_bound(
        &self,
        instance: &InstanceKey,
        workload: &WorkloadName,
        identity: &SpiffeId,
    ) -> Result<(), Status> {
        let denied = |message: String| Err(Status::permission_denied(message));
        if instance.workload != *workload {
            let name = &instance.instance;
            let theirs = &instance.workload;
            return denied(format!(
                "the pod {name} is an instance of {theirs}, but {workload} was asked for"
            ));
        }
        let namespace = Arc::clone(&workload.namespace);
        let name = NamespacedName { namespace, name: Arc::clone(&instance.instance) };
        let Some(pod) = self.workloads.pod(&name).filter(|pod| pod.instance() == *instance) else {
            return denied(format!("there is no pod {name} of the workload {workload} any more"));
        };
        let fits = *pod.service_account == *identity.service_account()
            && *name.namespace == *identity.namespace();
        if !fits {
            let account = &pod.service_account;
            return denied(format!(
                "Pod {name}: spec.serviceAccountName is {account:?}, but {identity} was proved"
            ));
        }
        Ok(())
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
