//! The API's sockets. A unix socket is opened for its owner alone (0600) and removed at the end; one that a
//! dead control plane left is replaced, one that a live one serves is not. TCP is for loopback.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    net::{TcpListener, UnixListener},
    sync::oneshot,
};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::{Server, server::Router};
use weft_proto::api::api_server::{self, ApiServer};

use super::ApiService;

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another control plane answers there.
    #[error("{} is served by another control plane: stop it, or name another socket", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// TCP without authentication is for this machine alone.
    #[error(
        "{address} is not on loopback: the API has no authentication over TCP; use 127.0.0.1 or a unix socket"
    )]
    NotLoopback {
        /// What was asked for.
        address: SocketAddr,
    },
    /// The system refuses.
    #[error("cannot listen on {at}: {source}")]
    Listen {
        /// The socket's path or address.
        at: String,
        /// Why.
        source: io::Error,
    },
    /// The server ended.
    #[error("the API ended: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The descriptors are not what they should be.
    #[error("reflection cannot be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A bound socket of the API. Dropping it removes a unix socket's file.
#[derive(Debug)]
pub struct ApiListener(Socket);

#[derive(Debug)]
enum Socket {
    Unix(UnixListener, RemovedAtEnd),
    Tcp(TcpListener),
}

impl ApiListener {
    /// Binds a unix socket.
    ///
    /// # Errors
    /// [`ServeError::InUse`], [`ServeError::Listen`].
    pub async fn unix(path: &Path) -> Result<Self, ServeError> {
        let listen = |source| ServeError::Listen { at: path.display().to_string(), source };
        if path.exists() {
            if tokio::net::UnixStream::connect(path).await.is_ok() {
                return Err(ServeError::InUse { path: path.to_owned() });
            }
            remove_stale(path).map_err(listen)?;
        }
        // Bound under another name and moved into place when it is private: there is no moment in which
        // somebody else could open it.
        let private = path.with_extension(format!("{}.tmp", std::process::id()));
        let _ = std::fs::remove_file(&private);
        let socket = UnixListener::bind(&private).map_err(listen)?;
        std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o600))
            .and_then(|()| std::fs::rename(&private, path))
            .map_err(listen)?;
        Ok(Self(Socket::Unix(socket, RemovedAtEnd(path.to_owned()))))
    }

    /// Binds a TCP port on loopback.
    ///
    /// # Errors
    /// [`ServeError::NotLoopback`], [`ServeError::Listen`].
    pub async fn tcp(address: SocketAddr) -> Result<Self, ServeError> {
        if !address.ip().is_loopback() {
            return Err(ServeError::NotLoopback { address });
        }
        let socket = TcpListener::bind(address)
            .await
            .map_err(|source| ServeError::Listen { at: address.to_string(), source })?;
        Ok(Self(Socket::Tcp(socket)))
    }

    /// Where a TCP socket listens.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }
}

/// Removes a socket that nobody serves, and nothing that is no socket.
fn remove_stale(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is no socket is there",
        ));
    }
    std::fs::remove_file(path)
}

#[derive(Debug)]
struct RemovedAtEnd(PathBuf);

impl Drop for RemovedAtEnd {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// How long calls may go on after the end was asked for: a watch would never end by itself.
const GRACE: Duration = Duration::from_secs(1);

/// Serves the API until `stop` resolves; open calls then have a second to end.
///
/// # Errors
/// When the transport fails.
pub async fn serve(
    service: ApiService,
    listener: ApiListener,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let router = router(service).await?;
    let (stopping, stopped) = oneshot::channel();
    let stop = async move {
        stop.await;
        let _ = stopping.send(());
    };
    let served = async move {
        match listener.0 {
            Socket::Unix(socket, _removed) => {
                router.serve_with_incoming_shutdown(UnixListenerStream::new(socket), stop).await
            }
            Socket::Tcp(socket) => {
                router.serve_with_incoming_shutdown(TcpListenerStream::new(socket), stop).await
            }
        }
    };
    let grace_over = async move {
        match stopped.await {
            Ok(()) => tokio::time::sleep(GRACE).await,
            // The server ended by itself, which the other branch tells.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        result = served => result.map_err(ServeError::from),
        () = grace_over => Ok(()),
    }
}

/// A whole mesh may be applied in one call.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

async fn router(service: ApiService) -> Result<Router, ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status(api_server::SERVICE_NAME, tonic_health::ServingStatus::Serving).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(weft_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    Ok(Server::builder()
        .add_service(ApiServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(health_service)
        .add_service(reflection))
}
