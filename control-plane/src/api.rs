//! The control plane's API for the command line and the dashboard: gRPC requests come in; objects go to
//! and from the store, everything else to the parts that run the mesh. It decides nothing itself.
//!
//! - [`objects`]: apply, get, delete, watch; `foresight`: what the statuses of applied objects will say.
//! - [`mod@serve`]: the sockets: a unix socket that only its owner may open, or TCP on loopback; with the
//!   standard health and reflection services.

mod foresight;
pub mod objects;
pub mod serve;

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};
use weft_proto::api;

use crate::store::Store;

pub use serve::{ApiListener, serve};

/// What the API asks of the parts that run the mesh. Errors are what the user gets to read.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// The build, the process and where sidecars connect.
    async fn version(&self) -> Result<api::VersionResponse, Status>;
    /// Every sidecar, what it holds and how far it lags.
    async fn proxies(&self) -> Result<api::ProxiesResponse, Status>;
    /// A service's endpoints, also the unready ones.
    async fn endpoints(
        &self,
        request: api::EndpointsRequest,
    ) -> Result<api::EndpointsResponse, Status>;
    /// Who may do what at a service's ports.
    async fn authz(&self, request: api::AuthzRequest) -> Result<api::AuthzResponse, Status>;
    /// What of the operator's objects holds at a service's ports.
    async fn applied(&self, request: api::AppliedRequest) -> Result<api::AppliedResponse, Status>;
    /// The certificates last issued to a workload's sidecars.
    async fn identities(
        &self,
        request: api::IdentitiesRequest,
    ) -> Result<api::IdentitiesResponse, Status>;
    /// Makes a join token.
    async fn create_token(
        &self,
        request: api::CreateTokenRequest,
    ) -> Result<api::CreateTokenResponse, Status>;
    /// Every join token, without its secret.
    async fn list_tokens(&self) -> Result<api::ListTokensResponse, Status>;
    /// Makes a join token useless.
    async fn revoke_token(
        &self,
        request: api::RevokeTokenRequest,
    ) -> Result<api::RevokeTokenResponse, Status>;
    /// Signs with a new root from now on.
    async fn rotate_root(
        &self,
        request: api::RotateRootRequest,
    ) -> Result<api::RotateRootResponse, Status>;
}

/// The API's service.
#[derive(Clone)]
pub struct ApiService {
    store: Arc<dyn Store>,
    runtime: Arc<dyn Runtime>,
}

impl ApiService {
    /// An API over a store and a running mesh.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, runtime: Arc<dyn Runtime>) -> Self {
        Self { store, runtime }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[async_trait]
impl api::api_server::Api for ApiService {
    type WatchStream = objects::WatchStream;

    async fn version(&self, _: Request<api::VersionRequest>) -> Answer<api::VersionResponse> {
        self.runtime.version().await.map(Response::new)
    }

    async fn apply(&self, request: Request<api::ApplyRequest>) -> Answer<api::ApplyResponse> {
        let request = request.into_inner();
        let results = objects::apply(&*self.store, &request.objects, request.dry_run).await;
        Ok(Response::new(api::ApplyResponse { results }))
    }

    async fn get(&self, request: Request<api::GetRequest>) -> Answer<api::GetResponse> {
        objects::get(&*self.store, request.into_inner()).await.map(Response::new)
    }

    async fn delete(&self, request: Request<api::DeleteRequest>) -> Answer<api::DeleteResponse> {
        let results = objects::delete(&*self.store, &request.into_inner().refs).await?;
        Ok(Response::new(api::DeleteResponse { results }))
    }

    async fn watch(&self, request: Request<api::GetRequest>) -> Answer<Self::WatchStream> {
        objects::watch(&*self.store, request.into_inner()).await.map(Response::new)
    }

    async fn proxies(&self, _: Request<api::ProxiesRequest>) -> Answer<api::ProxiesResponse> {
        self.runtime.proxies().await.map(Response::new)
    }

    async fn endpoints(
        &self,
        request: Request<api::EndpointsRequest>,
    ) -> Answer<api::EndpointsResponse> {
        self.runtime.endpoints(request.into_inner()).await.map(Response::new)
    }

    async fn authz(&self, request: Request<api::AuthzRequest>) -> Answer<api::AuthzResponse> {
        self.runtime.authz(request.into_inner()).await.map(Response::new)
    }

    async fn applied(&self, request: Request<api::AppliedRequest>) -> Answer<api::AppliedResponse> {
        self.runtime.applied(request.into_inner()).await.map(Response::new)
    }

    async fn identities(
        &self,
        request: Request<api::IdentitiesRequest>,
    ) -> Answer<api::IdentitiesResponse> {
        self.runtime.identities(request.into_inner()).await.map(Response::new)
    }

    async fn create_token(
        &self,
        request: Request<api::CreateTokenRequest>,
    ) -> Answer<api::CreateTokenResponse> {
        self.runtime.create_token(request.into_inner()).await.map(Response::new)
    }

    async fn list_tokens(
        &self,
        _: Request<api::ListTokensRequest>,
    ) -> Answer<api::ListTokensResponse> {
        self.runtime.list_tokens().await.map(Response::new)
    }

    async fn revoke_token(
        &self,
        request: Request<api::RevokeTokenRequest>,
    ) -> Answer<api::RevokeTokenResponse> {
        self.runtime.revoke_token(request.into_inner()).await.map(Response::new)
    }

    async fn rotate_root(
        &self,
        request: Request<api::RotateRootRequest>,
    ) -> Answer<api::RotateRootResponse> {
        self.runtime.rotate_root(request.into_inner()).await.map(Response::new)
    }
}

#[cfg(test)]
mod tests;
