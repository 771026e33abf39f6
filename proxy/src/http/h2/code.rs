//! Error codes: why a stream or a connection was ended (RFC 9113 section 7).

use std::fmt;

/// An error code, known or not.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u32);

macro_rules! codes {
    ($($name:ident = $code:literal, $meaning:literal;)*) => {
        impl ErrorCode {
            $(#[doc = $meaning] pub const $name: Self = Self($code);)*

            /// The code's name in the specification.
            const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    NO_ERROR = 0, "Nothing is wrong.";
    PROTOCOL_ERROR = 1, "The peer broke the protocol.";
    INTERNAL_ERROR = 2, "Something went wrong on this side.";
    FLOW_CONTROL_ERROR = 3, "More was sent than there was window for.";
    SETTINGS_TIMEOUT = 4, "Settings were not acknowledged.";
    STREAM_CLOSED = 5, "A frame for a stream that had ended.";
    FRAME_SIZE_ERROR = 6, "A frame of a size that it cannot have.";
    REFUSED_STREAM = 7, "The stream was not looked at.";
    CANCEL = 8, "The stream is wanted no longer.";
    COMPRESSION_ERROR = 9, "A header block cannot be decoded.";
    CONNECT_ERROR = 10, "The connection behind a CONNECT broke.";
    ENHANCE_YOUR_CALM = 11, "The peer does too much of something.";
    INADEQUATE_SECURITY = 12, "The connection is not safe enough.";
    HTTP_1_1_REQUIRED = 13, "To be asked again over HTTP/1.1.";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "error code {}", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
impl From<h2::Reason> for ErrorCode {
    fn from(reason: h2::Reason) -> Self {
        Self(reason.into())
    }
}

#[cfg(test)]
impl PartialEq<ErrorCode> for h2::Reason {
    fn eq(&self, code: &ErrorCode) -> bool {
        ErrorCode::from(*self) == *code
    }
}
