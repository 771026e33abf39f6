//! What operators ask of the running mesh: the parts' answers, as the API's messages.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;
use tonic::{Status, async_trait};
use weft_proto::{Port, ServiceName, ServicePort, WorkloadName, api};

use crate::{
    api::Runtime,
    ca::{Authority, CaError, IssuedRecord, NewToken, Tokens, tokens},
    catalog::Catalog,
    clock,
    index::Index,
    model::DEFAULT_NAMESPACE,
    push::{
        ejections,
        proxies::{Proxies, Record},
        registry::Registry,
    },
    status::refused,
};

/// The parts that answer.
pub struct Parts {
    /// The mesh as it is now.
    pub catalog: Arc<Catalog>,
    /// The certificate authority.
    pub authority: Arc<Authority>,
    /// The join tokens.
    pub tokens: Arc<Tokens>,
    /// The certificates last issued.
    pub issued: Arc<IssuedRecord>,
    /// Who is connected.
    pub proxies: Arc<Proxies>,
    /// Who is registered.
    pub registry: Arc<Registry>,
    /// Names this process.
    pub instance: String,
    /// Where sidecars connect.
    pub discovery_address: String,
}

#[async_trait]
impl Runtime for Parts {
    async fn version(&self) -> Result<api::VersionResponse, Status> {
        Ok(api::VersionResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            trust_domain: self.authority.trust_domain().to_string(),
            instance: self.instance.clone(),
            discovery_address: self.discovery_address.clone(),
        })
    }

    async fn proxies(&self) -> Result<api::ProxiesResponse, Status> {
        let all = self.proxies.all();
        let proxies = all.iter().map(|(record, connected)| self.proxy(record, *connected));
        Ok(api::ProxiesResponse { proxies: proxies.collect() })
    }

    async fn endpoints(
        &self,
        request: api::EndpointsRequest,
    ) -> Result<api::EndpointsResponse, Status> {
        let mut answer = {
            let index = self.catalog.read();
            let ports = match request.service.as_str() {
                "" => index.service_ports(),
                service => wanted_ports(&index, service)?,
            };
            endpoints_of(&index, &ports)
        };
        ejections::note(&mut answer.endpoints, &self.proxies.live(), clock::now());
        Ok(answer)
    }

    async fn authz(&self, request: api::AuthzRequest) -> Result<api::AuthzResponse, Status> {
        let index = self.catalog.read();
        let ports = wanted_ports(&index, &request.service)?;
        Ok(api::AuthzResponse { ports: ports.iter().flat_map(|port| index.authz(port)).collect() })
    }

    async fn applied(&self, request: api::AppliedRequest) -> Result<api::AppliedResponse, Status> {
        let index = self.catalog.read();
        let ports = wanted_ports(&index, &request.service)?;
        Ok(api::AppliedResponse {
            ports: ports.iter().filter_map(|port| index.applied(port)).collect(),
        })
    }

    async fn identities(
        &self,
        request: api::IdentitiesRequest,
    ) -> Result<api::IdentitiesResponse, Status> {
        let text = namespaced(&request.workload);
        let workload: WorkloadName =
            text.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
        let issued = self.issued.of(&workload, clock::now());
        if issued.is_empty() && self.catalog.read().workload(&workload).is_none() {
            let message =
                format!("there is no workload {workload}: `weft get workloads -A` lists them");
            return Err(Status::not_found(message));
        }
        let identities = issued.into_iter().map(|(issued, instance)| api::IssuedIdentity {
            workload: workload.to_string(),
            spiffe_id: issued.spiffe_id.to_string(),
            chain: issued.chain.iter().map(|certificate| certificate.to_vec()).collect(),
            issued_at: seconds(issued.issued_at),
            instance: instance.map(|name| name.to_string()).unwrap_or_default(),
        });
        Ok(api::IdentitiesResponse { identities: identities.collect() })
    }

    async fn create_token(
        &self,
        request: api::CreateTokenRequest,
    ) -> Result<api::CreateTokenResponse, Status> {
        let ttl = match u64::try_from(request.ttl_seconds) {
            Ok(0) => tokens::DEFAULT_TTL,
            Ok(seconds) if seconds <= tokens::MAX_TTL.as_secs() => Duration::from_secs(seconds),
            _ => {
                let (given, longest) = (request.ttl_seconds, tokens::MAX_TTL.as_secs());
                let message =
                    format!("a token's life of {given} s is out of range: use 1 to {longest} s");
                return Err(Status::invalid_argument(message));
            }
        };
        let wanted = NewToken {
            namespace: request.namespace,
            service_account: request.service_account,
            ttl,
            uses: (request.uses > 0).then_some(request.uses),
        };
        let (authority, tokens) = (self.authority.clone(), self.tokens.clone());
        let now = clock::now();
        let (token, status) = blocking(move || tokens.create(wanted, authority.pin(), now)).await?;
        Ok(api::CreateTokenResponse {
            id: status.id,
            token: token.to_string(),
            expires_at: seconds(status.expires_at),
        })
    }

    async fn list_tokens(&self) -> Result<api::ListTokensResponse, Status> {
        let tokens = self.tokens.list().into_iter().map(|token| api::Token {
            id: token.id,
            namespace: token.namespace,
            service_account: token.service_account,
            expires_at: seconds(token.expires_at),
            uses_left: token.uses_left.unwrap_or(u32::MAX),
            revoked: token.revoked,
        });
        Ok(api::ListTokensResponse { tokens: tokens.collect() })
    }

    async fn revoke_token(
        &self,
        request: api::RevokeTokenRequest,
    ) -> Result<api::RevokeTokenResponse, Status> {
        let tokens = self.tokens.clone();
        let existed = blocking(move || tokens.revoke(&request.id)).await?;
        Ok(api::RevokeTokenResponse { existed })
    }

    async fn rotate_root(
        &self,
        request: api::RotateRootRequest,
    ) -> Result<api::RotateRootResponse, Status> {
        let (authority, now) = (self.authority.clone(), clock::now());
        blocking(move || {
            if request.retire_old { authority.retire_old(now) } else { authority.rotate_root(now) }
        })
        .await?;
        let roots = self.authority.roots().into_iter().map(|root| api::RootStatus {
            sha256: root.sha256,
            signing: root.signing,
            not_after: seconds(root.not_after),
            detail: root.detail,
        });
        Ok(api::RotateRootResponse { roots: roots.collect() })
    }
}

impl Parts {
    fn proxy(&self, record: &Record, connected: bool) -> api::Proxy {
        let registration = self.registry.of(&record.key);
        api::Proxy {
            workload: record.key.workload.to_string(),
            instance: record.key.instance.to_string(),
            spiffe_id: record.spiffe_id.to_string(),
            version: record.version.clone(),
            admin_address: record.admin_address.clone(),
            connected_since: milliseconds(record.connected_since),
            connected,
            registered: registration.is_some(),
            ready: registration.as_ref().is_some_and(|registration| registration.ready),
            health_detail: registration.map(|registration| registration.detail).unwrap_or_default(),
            resources: self.resources(record),
        }
    }

    /// What a proxy holds. A reason for which it refuses a resource names the policies that are meant.
    fn resources(&self, record: &Record) -> Vec<api::HeldResource> {
        let mut resources = record.resources(Instant::now());
        let refusals = self.proxies.refusals();
        for refusal in refusals.iter().filter(|refusal| refusal.key == record.key) {
            let is_meant = |held: &&mut api::HeldResource| {
                held.kind == refusal.kind && held.name == refusal.name
            };
            let policies = refused::meant(refusal, &self.catalog.read());
            let named = policies.iter().all(|policy| refusal.reason.contains(policy.as_str()));
            if let Some(held) = resources.iter_mut().find(is_meant).filter(|_| !named) {
                held.last_nack = format!("{} (made of {})", refusal.reason, policies.join(", "));
            }
        }
        resources
    }
}

/// These ports, with their endpoints.
fn endpoints_of(index: &Index, ports: &[ServicePort]) -> api::EndpointsResponse {
    api::EndpointsResponse {
        endpoints: ports.iter().flat_map(|port| index.endpoint_statuses(port)).collect(),
        service_ports: ports.iter().map(ToString::to_string).collect(),
    }
}

/// The ports that a user means by a service's name, perhaps with a port.
fn wanted_ports(index: &Index, text: &str) -> Result<Vec<ServicePort>, Status> {
    let (service, port) = wanted(text)?;
    let mut ports = index.ports_of(&service);
    if !index.has_service(&service) {
        let message = format!("there is no service {service}: `weft endpoints` lists them");
        return Err(Status::not_found(message));
    }
    if let Some(port) = port {
        if !ports.contains(&port) {
            let known: Vec<String> = ports.iter().map(ToString::to_string).collect();
            let known = known.join(", ");
            let message = format!("service {service} has no port {port}: it has {known}");
            return Err(Status::not_found(message));
        }
        ports = vec![port];
    }
    Ok(ports.into_iter().map(|port| ServicePort { service: service.clone(), port }).collect())
}

/// The service that "NAME", "NAMESPACE/NAME" or either with ":PORT" means, and the port.
fn wanted(text: &str) -> Result<(ServiceName, Option<Port>), Status> {
    let text = namespaced(text);
    let invalid = |error: weft_proto::NameError| Status::invalid_argument(error.to_string());
    if text.contains(':') {
        let port: ServicePort = text.parse().map_err(invalid)?;
        return Ok((port.service, Some(port.port)));
    }
    Ok((text.parse().map_err(invalid)?, None))
}

/// A name without a namespace is of the default one.
fn namespaced(text: &str) -> String {
    if text.contains('/') { text.to_owned() } else { format!("{DEFAULT_NAMESPACE}/{text}") }
}

/// Runs what waits for the disk off the runtime's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CaError> + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Status::internal("the work was interrupted"))?
        .map_err(|error| match error {
            CaError::State(message) => Status::failed_precondition(message),
            CaError::Name(error) => Status::invalid_argument(error.to_string()),
            error => {
                tracing::error!(%error, "the certificate authority failed");
                Status::internal(error.to_string())
            }
        })
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
