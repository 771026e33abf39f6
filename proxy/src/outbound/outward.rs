//! A connection of the application to where nobody is registered by this name: most often an address outside the mesh.
//!
//! Comes in: a socket and where it was going. Goes out: the same bytes, to there, at once, where the mesh lets traffic
//! out; or to the service of a host outside that somebody registers, and that the first bytes name (HTTP by `Host`,
//! request by request; TLS by its server name). Connections are looked at on the ports of registered hosts only, and
//! who waits for the server to speak waits a few milliseconds once, as with any undeclared port: what the address
//! turned out to be is remembered. On those ports HTTP goes through the exchange whomever it is for.

use std::{rc::Rc, time::Duration};

use weft_proto::discovery::Protocol;

use super::{LAST_WORD, Requests, decline, dial, opaque, refuse};
use crate::{
    clock, destination::Service, detect::Detected, error::ProxyError, exchange::Outbound,
    io::Socket, outside, peek::Peek, reason::Reason, shared::Shared, telemetry::TlsState,
    undeclared,
};

/// What the first bytes of a connection to an address outside are.
enum Seen {
    /// HTTP requests, in this version.
    Http(Detected),
    /// TLS to this server name.
    Tls(String),
    /// Anything else, with the address dialled where that was needed to find out.
    Other(Option<Socket>),
    /// The client ended without a byte.
    Nothing,
}

/// A server dialled at the address that the application chose.
struct AtAddress(Socket);

impl AsRef<Socket> for AtAddress {
    fn as_ref(&self) -> &Socket {
        &self.0
    }
}

/// Serves a connection that was going to `name` outside, unless it carries requests.
pub(super) async fn serve(shared: &Rc<Shared>, client: &Socket, name: &str) -> Option<Requests> {
    if !outside::may_be_registered(shared, name) {
        pass(shared, client, name, None).await;
        return None;
    }
    match look(shared, client, name).await {
        Ok(Seen::Http(version)) => {
            return Some(Requests::new(shared, client, &version, Outbound::to_address(name)));
        }
        Ok(Seen::Tls(host)) => match outside::registered(shared, &host, name).await {
            Ok(Some(service)) => to_host(shared, client, &service, &host).await,
            Ok(None) => pass(shared, client, name, None).await,
            Err(error) => decline(shared, client.clone(), error).await,
        },
        Ok(Seen::Other(server)) => pass(shared, client, name, server).await,
        Ok(Seen::Nothing) => {}
        Err(error) => decline(shared, client.clone(), error).await,
    }
    None
}

/// Completes, with why, when opaque bytes may go on no longer to a host outside: nobody registers it any more, and only
/// who is registered may be reached. Never for what is in the mesh.
pub(super) async fn forbidden(shared: &Shared, service: &Service) -> Reason {
    if service.snapshot().destination.external.is_none() {
        return std::future::pending().await;
    }
    service.ceased().await;
    shared.destinations.directory().until_registered_only().await;
    Reason::EgressDenied
}

/// TLS of the application's own to a registered host.
async fn to_host(shared: &Rc<Shared>, client: &Socket, service: &Rc<Service>, host: &str) {
    match service.snapshot().destination.protocol {
        Protocol::Unspecified | Protocol::Tcp | Protocol::Tls => {
            let dialled = dial(shared, service, client, Some(host)).await;
            opaque(shared, client, service, dialled).await;
        }
        Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => {
            let detail = format!("{} declares HTTP; these bytes are TLS", service.label);
            let error = ProxyError::new(Reason::ProtocolMismatch, detail);
            decline(shared, client.clone(), error).await;
        }
    }
}

/// Passes the bytes through, to where the application wants them.
async fn pass(shared: &Rc<Shared>, client: &Socket, name: &str, dialled: Option<Socket>) {
    let server = match dialled {
        Some(server) => Ok(server),
        None => outside::connect(shared, name).await,
    };
    match server {
        Ok(server) => {
            let mut record = shared.outside.connection(TlsState::Plain);
            outside::splice(shared, client, &server).await.note(&mut record);
        }
        Err(error) if error.reason == Reason::EgressDenied => {
            shared.outside.connection(TlsState::Plain).failed(error.reason);
            decline(shared, client.clone(), error).await;
        }
        Err(error) => {
            refuse(shared, error.reason, &error.detail);
            client.abort();
        }
    }
}

/// Looks at what the client says first, or sees the server speak.
async fn look(shared: &Rc<Shared>, client: &Socket, name: &str) -> Result<Seen, ProxyError> {
    if shared.destinations.directory().registered_only() {
        // The server may not be dialled to find out. Who waits for it waits in vain, but not for long.
        let mut peek = Peek::new(client);
        let decided = clock::timeout(LAST_WORD, peek.decide(LAST_WORD)).await;
        return Ok(match decided {
            Ok(Ok(Some(version @ (Detected::Http1 | Detected::Http2)))) => Seen::Http(version),
            Ok(Ok(Some(Detected::Tls(hello)))) => {
                hello.server_name.map_or(Seen::Other(None), Seen::Tls)
            }
            Ok(Ok(Some(Detected::Opaque | Detected::NeedMore))) | Err(_) => Seen::Other(None),
            Ok(Ok(None) | Err(_)) => Seen::Nothing,
        });
    }
    let address = outside::service(shared, name).await?;
    let asked = undeclared::Client {
        socket: client,
        learned: address.what_is_learned(),
        wait: undeclared::Wait::Gap(undeclared::GAP),
        ahead: shared.config.timeouts.client_idle,
        drain: None,
    };
    let idle = shared.config.timeouts.tcp_idle;
    let dial = async { outside::connect(shared, name).await.map(AtAddress) };
    Ok(match undeclared::find_out(asked, idle, dial).await? {
        undeclared::Found::Http(version) => Seen::Http(version),
        undeclared::Found::Nothing => Seen::Nothing,
        undeclared::Found::Opaque(server) => match server_name(client).await {
            Some(host) if outside::registers(shared, &host) => Seen::Tls(host),
            _ => Seen::Other(server.map(|server| server.0)),
        },
    })
}

/// The server name of a TLS hello that is there already.
async fn server_name(client: &Socket) -> Option<String> {
    let mut peek = Peek::new(client);
    match clock::timeout(Duration::ZERO, peek.decide(Duration::ZERO)).await {
        Ok(Ok(Some(Detected::Tls(hello)))) => hello.server_name,
        _ => None,
    }
}
