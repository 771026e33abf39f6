//! Why a connection is broken, kept so that every later call can be told.

use std::io;

/// A broken connection. `io::Error` cannot be cloned, so this is what stays.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// The system's error number.
    System(i32),
    /// An error that has no number.
    Other(io::ErrorKind),
    /// TLS refused what came; its alert is still sent.
    Tls(rustls::Error),
    /// TCP ended without TLS having ended.
    Truncated,
    /// This side gave the connection up.
    Aborted,
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Self {
        error.raw_os_error().map_or_else(|| Self::Other(error.kind()), Self::System)
    }
}

impl Failure {
    /// The error to return.
    pub(super) fn to_error(&self) -> io::Error {
        match self {
            Self::System(number) => io::Error::from_raw_os_error(*number),
            Self::Other(kind) => (*kind).into(),
            Self::Tls(error) => io::Error::new(io::ErrorKind::InvalidData, error.clone()),
            Self::Truncated => {
                io::Error::new(io::ErrorKind::UnexpectedEof, "closed without TLS close_notify")
            }
            Self::Aborted => io::Error::new(io::ErrorKind::ConnectionAborted, "connection aborted"),
        }
    }
}
