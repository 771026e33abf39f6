//! How long a message's body is: the table of RFC 9112 section 6.3, strictly.
//!
//! In come the framing fields of a head, out comes one [`BodyLength`]. Whatever two readers could understand
//! differently is refused, never repaired: no list or repetition of Content-Length even where all values
//! agree, no coding but exactly `chunked`, never both fields, no Transfer-Encoding in HTTP/1.0.

use http::{Method, StatusCode, Version};

use super::error::HeadError;

/// Where a message's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    Empty,
    /// After this many bytes.
    Exact(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection: responses only.
    UntilClose,
}

/// What a head says of its body's framing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FramingFields {
    content_length: Option<u64>,
    chunked: bool,
}

impl FramingFields {
    /// Notes a Content-Length line: digits only, once.
    ///
    /// # Errors
    /// A sign, a list, anything but digits, more than 64 bits, or a second line.
    pub fn content_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.content_length.is_some() {
            return Err(HeadError::Framing("several Content-Length fields"));
        }
        self.content_length = Some(parse_length(value)?);
        Ok(())
    }

    /// Notes a Transfer-Encoding line: exactly `chunked`, once.
    ///
    /// # Errors
    /// Another coding, a list, or a second line.
    pub fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.chunked {
            return Err(HeadError::Framing("several Transfer-Encoding fields"));
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
            return Ok(());
        }
        let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
        match last.trim_ascii().eq_ignore_ascii_case(b"chunked") {
            true => Err(HeadError::TransferCoding),
            false => Err(HeadError::Framing("Transfer-Encoding does not end with chunked")),
        }
    }

    /// What both fields say together; `None` when there is neither.
    fn declared(self, version: Version) -> Result<Option<BodyLength>, HeadError> {
        match (self.chunked, self.content_length) {
            (true, Some(_)) => Err(HeadError::Framing("both Content-Length and Transfer-Encoding")),
            (true, None) if version != Version::HTTP_11 => {
                Err(HeadError::Framing("Transfer-Encoding in HTTP/1.0"))
            }
            (true, None) => Ok(Some(BodyLength::Chunked)),
            (false, Some(0)) => Ok(Some(BodyLength::Empty)),
            (false, Some(length)) => Ok(Some(BodyLength::Exact(length))),
            (false, None) => Ok(None),
        }
    }
}

/// The length of a request's body.
///
/// # Errors
/// The framing is ambiguous, or a CONNECT has a body (what follows it is the tunnel, RFC 9110 section 9.3.6).
pub fn of_request(
    method: &Method,
    version: Version,
    fields: FramingFields,
) -> Result<BodyLength, HeadError> {
    let length = fields.declared(version)?.unwrap_or(BodyLength::Empty);
    if *method == Method::CONNECT && length != BodyLength::Empty {
        return Err(HeadError::Framing("CONNECT with a body"));
    }
    Ok(length)
}

/// The length of the body of a response to a request, which was a HEAD or not.
///
/// A Content-Length of zero with 204 is tolerated (many servers send it): it is not ambiguous.
///
/// # Errors
/// The framing is ambiguous, or a response that can have no body announces one.
pub fn of_response(
    status: StatusCode,
    to_head: bool,
    version: Version,
    fields: FramingFields,
) -> Result<BodyLength, HeadError> {
    let declared = fields.declared(version)?;
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        return match declared {
            None | Some(BodyLength::Empty) => Ok(BodyLength::Empty),
            Some(BodyLength::Exact(_) | BodyLength::Chunked | BodyLength::UntilClose) => {
                Err(HeadError::Framing("a 1xx or 204 response that announces a body"))
            }
        };
    }
    if to_head || status == StatusCode::NOT_MODIFIED {
        return Ok(BodyLength::Empty);
    }
    Ok(declared.unwrap_or(BodyLength::UntilClose))
}

/// One Content-Length: digits only (RFC 9110 section 8.6), at most 64 bits.
fn parse_length(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() {
        return Err(HeadError::Framing("Content-Length is empty"));
    }
    value.iter().try_fold(0_u64, |length, byte| {
        if !byte.is_ascii_digit() {
            return Err(HeadError::Framing("Content-Length is not a number"));
        }
        length
            .checked_mul(10)
            .and_then(|length| length.checked_add(u64::from(byte - b'0')))
            .ok_or(HeadError::Framing("Content-Length is too large"))
    })
}
