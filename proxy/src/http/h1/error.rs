//! Why a message's head is refused, and how a client is told.

use http::StatusCode;

use crate::reason::Reason;

/// Why a message's head is refused. The text names the rule that was broken, never the peer's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It breaks the grammar of RFC 9112.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// Two readers could disagree about where the message ends (RFC 9112 section 6.3 and 11.2).
    #[error("ambiguous framing: {0}")]
    Framing(&'static str),
    /// A transfer coding other than chunked.
    #[error("a transfer coding other than chunked")]
    TransferCoding,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    #[error("an HTTP version other than 1.1 and 1.0")]
    Version,
    /// More bytes than the limit.
    #[error("the head is larger than the limit")]
    TooLarge,
    /// More fields than the limit.
    #[error("the head has more fields than the limit")]
    TooManyFields,
}

impl HeadError {
    /// The documented code, for a request.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Malformed(_) | Self::Framing(_) | Self::TransferCoding => Reason::BadRequest,
            Self::Version => Reason::UnsupportedVersion,
            Self::TooLarge | Self::TooManyFields => Reason::HeadersTooLarge,
        }
    }

    /// The status that the client of a refused request gets: its reason's, but 501 for a transfer coding
    /// that is not implemented (RFC 9112 section 6.1).
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::Malformed(_)
            | Self::Framing(_)
            | Self::Version
            | Self::TooLarge
            | Self::TooManyFields => crate::error::status(self.reason()),
        }
    }
}

impl From<httparse::Error> for HeadError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::HeaderName => Self::Malformed("field name"),
            httparse::Error::HeaderValue => Self::Malformed("field value"),
            httparse::Error::NewLine => Self::Malformed("line end"),
            httparse::Error::Status => Self::Malformed("status"),
            httparse::Error::Token => Self::Malformed("request line"),
            httparse::Error::TooManyHeaders => Self::TooManyFields,
            httparse::Error::Version => Self::Version,
        }
    }
}
