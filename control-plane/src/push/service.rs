//! The gRPC Discovery service: whose stream it is, before it becomes one.
//!
//! Comes in: a stream with a client certificate, and its Hello. Goes out: an attached stream, or a status
//! that says what does not fit. A proxy speaks for a workload only when the operator's object names the
//! service account in the proxy's certificate.

use std::sync::Arc;

use tokio::{sync::mpsc, time::Duration};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weft_proto::discovery::{
    ControlMessage, Hello, Interception, ProxyMessage, Welcome, control_message,
    discovery_server::Discovery, proxy_message,
};

use super::{
    Push,
    proxies::Record,
    registry::instance_key,
    stream::{Ended, Outgoing, Stream},
    view::Asker,
};
use crate::{
    ca::{
        Issued,
        peer::{self, Peer},
    },
    clock,
    model::{InstanceKey, Pod},
    secure::PeerChain,
};

/// A proxy says Hello at once.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages between a stream and its socket: enough to keep the socket busy.
const QUEUE: usize = 16;
/// Longer names of incarnations, builds and zones are a mistake.
const MAX_FIELD_BYTES: usize = 256;

/// The service.
#[derive(Clone)]
pub struct DiscoveryService {
    /// What all streams share.
    pub push: Arc<Push>,
}

#[tonic::async_trait]
impl Discovery for DiscoveryService {
    type ConnectStream = ReceiverStream<Result<ControlMessage, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<ProxyMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let chain = request.extensions().get::<PeerChain>().cloned().unwrap_or_default();
        let push = self.push.clone();
        let peer = peer::verify(&chain, &push.authority.bundle(), clock::now())
            .map_err(|refusal| Status::unauthenticated(refusal.to_string()))?;
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let incoming = request.into_inner();
        self.push.tasks.spawn(serve(push, peer, chain, incoming, outgoing));
        Ok(Response::new(ReceiverStream::new(queue)))
    }
}

/// One stream from its Hello to its end.
async fn serve(
    push: Arc<Push>,
    peer: Peer,
    chain: PeerChain,
    mut incoming: Streaming<ProxyMessage>,
    outgoing: Outgoing,
) {
    let identity = peer.spiffe_id.clone();
    let ended = match begin(push, peer, chain, &mut incoming, &outgoing).await {
        Ok(stream) => Box::pin(stream.run(incoming, &outgoing)).await,
        Err(status) => Ended::Refused(status),
    };
    match ended {
        Ended::ByProxy => {}
        Ended::Goodbye(goodbye) => {
            let message = control_message::Kind::Goodbye(goodbye);
            // A proxy whose queue is full is told by the stream's end.
            let _ = outgoing.try_send(Ok(ControlMessage { kind: Some(message) }));
        }
        Ended::Refused(status) => {
            tracing::warn!(%identity, reason = status.message(), "a discovery stream is refused");
            let _ = outgoing.send(Err(status)).await;
        }
    }
}

/// Waits for the Hello, checks it against the certificate, and attaches the stream.
async fn begin(
    push: Arc<Push>,
    peer: Peer,
    chain: PeerChain,
    incoming: &mut Streaming<ProxyMessage>,
    outgoing: &Outgoing,
) -> Result<Stream, Status> {
    let hello = hello(incoming).await?;
    let key = check_hello(&push, &peer, &hello)?;
    remember(&push, &key, &peer, &chain);
    let welcome = Welcome {
        control_plane: push.instance.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let message = ControlMessage { kind: Some(control_message::Kind::Welcome(welcome)) };
    if outgoing.send(Ok(message)).await.is_err() {
        return Err(Status::cancelled("the proxy went away"));
    }
    let interception =
        Interception::try_from(hello.interception).unwrap_or(Interception::Unspecified);
    let record = Record::new(key.clone(), peer.spiffe_id.clone(), chain.from(), &hello);
    let record = Arc::new(record);
    tracing::info!(proxy = %key, identity = %peer.spiffe_id, "a proxy connected");
    Stream::attach(push, Asker { key, interception }, peer, chain, record, hello)
}

async fn hello(incoming: &mut Streaming<ProxyMessage>) -> Result<Hello, Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, incoming.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no Hello came within ten seconds"))??;
    match first.and_then(|message| message.kind) {
        Some(proxy_message::Kind::Hello(hello)) => Ok(hello),
        _ => Err(Status::invalid_argument("the first message of a stream is a Hello")),
    }
}

/// Whether this proxy may speak for the workload that it names.
fn check_hello(push: &Push, peer: &Peer, hello: &Hello) -> Result<InstanceKey, Status> {
    let key = instance_key(&hello.workload, &hello.instance)
        .map_err(|error| Status::invalid_argument(format!("Hello: {error}")))?;
    for (field, value) in [
        ("incarnation", &hello.incarnation),
        ("version", &hello.version),
        ("zone", &hello.zone),
        ("admin_address", &hello.admin_address),
    ] {
        if value.len() > MAX_FIELD_BYTES {
            let message = format!("Hello: {field} is longer than {MAX_FIELD_BYTES} bytes");
            return Err(Status::invalid_argument(message));
        }
    }
    let identity = &peer.spiffe_id;
    let workload = &key.workload;
    if let Some(bound) = &peer.instance
        && *bound != key
    {
        let message =
            format!("the proxy's certificate is for {bound}, but it says that it is {key}");
        return Err(Status::permission_denied(message));
    }
    if let Some(pod) = push.view.pod(&key) {
        return check_pod(&pod, peer).map(|()| key);
    }
    let Some(account) = push.view.service_account(workload) else {
        if peer.instance.is_some() {
            let message = format!("there is no pod of {workload} called {} any more", key.instance);
            return Err(Status::permission_denied(message));
        }
        return Err(Status::permission_denied(format!(
            "there is no Workload {workload}; apply one whose spec.serviceAccount is {:?}",
            identity.service_account()
        )));
    };
    if *workload.namespace != *identity.namespace() || *account != *identity.service_account() {
        return Err(Status::permission_denied(format!(
            "Workload {workload}: spec.serviceAccount is {account:?}, but the proxy's certificate \
             is {identity}'s"
        )));
    }
    Ok(key)
}

/// A pod's sidecar shows a certificate that was issued for this pod.
fn check_pod(pod: &Pod, peer: &Peer) -> Result<(), Status> {
    let identity = &peer.spiffe_id;
    if peer.instance.is_none() {
        let pod = &pod.key;
        return Err(Status::permission_denied(format!(
            "Pod {pod}: the proxy's certificate is for no pod; join with the pod's ServiceAccount token"
        )));
    }
    let account = &pod.service_account;
    if *pod.key.namespace != *identity.namespace() || **account != *identity.service_account() {
        let pod = &pod.key;
        return Err(Status::permission_denied(format!(
            "Pod {pod}: spec.serviceAccountName is {account:?}, but the proxy's certificate is {identity}'s"
        )));
    }
    Ok(())
}

/// After a restart the record of certificates fills from the streams that come back.
fn remember(push: &Push, key: &InstanceKey, peer: &Peer, chain: &PeerChain) {
    let issued = Issued {
        spiffe_id: peer.spiffe_id.clone(),
        chain: chain.to_vec(),
        issued_at: peer.issued_at(),
        not_after: peer.not_after,
    };
    push.issued.connected(key, issued);
}
