//! The client of the control plane's API, over its unix socket.
//!
//! Comes in: where the socket is, a call. Goes out: the answer, or a failure that says what to do next.

use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;
use weft_proto::api::api_client::ApiClient;

use crate::{command::ApiArgs, failure::Failure, runs};

/// The API's client.
pub(crate) type Client = ApiClient<Channel>;

/// Objects of this many bytes in one answer are still taken.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// Connects to the control plane that the user named, or to the one that runs here.
pub(crate) async fn connect(args: &ApiArgs) -> anyhow::Result<Client> {
    let socket = runs::api_socket(args.api.as_deref())?;
    connect_to(&socket).await.map_err(|error| {
        let what = format!("no control plane answers at {}: {error}", socket.display());
        Failure::new(
            what,
            "start one with `weft demo` or `weft up FILE`; `--api` names another socket",
        )
        .into()
    })
}

/// Connects to a socket.
pub(crate) async fn connect_to(socket: &Path) -> Result<Client, std::io::Error> {
    // Tried by hand first: the transport's own error does not say what failed.
    UnixStream::connect(socket).await?;
    Ok(lazy(socket.to_owned()))
}

/// A client that connects, and connects again, when it is used.
pub(crate) fn lazy(socket: PathBuf) -> Client {
    // The URI is never dialled; it is what `:authority` says.
    let endpoint = Endpoint::from(Uri::from_static("http://localhost"));
    let channel = endpoint.connect_with_connector_lazy(service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    }));
    ApiClient::new(channel).max_decoding_message_size(MAX_MESSAGE)
}

/// A refused call as a user reads it.
pub(crate) fn refused(status: Status) -> anyhow::Error {
    let next = match status.code() {
        Code::Unavailable => "is the control plane still running? `weft version` asks it",
        Code::NotFound => "`weft endpoints` and `weft get workloads -A` list what is there",
        Code::PermissionDenied | Code::Unauthenticated => {
            "run the command as the user who runs the control plane"
        }
        Code::Unimplemented => "this control plane is older than this command: see `weft version`",
        _ => "the control plane's log says more",
    };
    Failure::new(status.message(), next).into()
}
