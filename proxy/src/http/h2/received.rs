//! A head as it is received: fields collected one by one, and what they make (RFC 9113 sections 8.1 to 8.3).
//!
//! In come decoded fields, out go a request's, a response's or a trailer's parts, or why they make none. What is over
//! the limit is not kept, only counted.

use http::{
    HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, Parts, PathAndQuery, Scheme},
};

use super::{
    head::{KEEP_ALIVE, PROXY_CONNECTION},
    hpack::{Field, Name},
};
use crate::http::Fields;

/// Room for what most heads have, and for what is added to them on their way.
const USUAL: usize = 16;

/// What stands before the fields.
#[derive(Debug, Default)]
struct Pseudo {
    authority: Option<HeaderValue>,
    method: Option<HeaderValue>,
    path: Option<HeaderValue>,
    protocol: Option<HeaderValue>,
    scheme: Option<HeaderValue>,
    status: Option<HeaderValue>,
}

/// The fields of a block, as far as they were within the limit.
#[derive(Debug, Default)]
pub(super) struct ReceivedHead {
    pseudo: Pseudo,
    fields: Fields,
    /// Bytes of all of them, kept or not, as HTTP/2 counts them.
    pub size: usize,
    fault: Option<&'static str>,
}

/// A request's parts.
#[derive(Debug)]
pub(super) struct RequestParts {
    pub method: Method,
    pub target: Uri,
    /// What an extended CONNECT asks for.
    pub protocol: Option<HeaderValue>,
    pub fields: Fields,
    /// Bytes of the whole head.
    pub size: usize,
}

/// Why a head makes no message: its stream is reset with PROTOCOL_ERROR.
type Fault = &'static str;

impl ReceivedHead {
    /// Takes a field; above `limit` bytes in all it is only counted.
    pub(super) fn add(&mut self, field: Field, limit: usize) {
        self.size += field.size();
        let Field { name, value } = field;
        let Some(value) = value else {
            return self.fail("a character that no value has");
        };
        let slot = match name {
            Name::Field(name) => return self.add_field(name, value, limit),
            Name::Authority => &mut self.pseudo.authority,
            Name::Method => &mut self.pseudo.method,
            Name::Path => &mut self.pseudo.path,
            Name::Protocol => &mut self.pseudo.protocol,
            Name::Scheme => &mut self.pseudo.scheme,
            Name::Status => &mut self.pseudo.status,
            Name::Invalid(_) => return self.fail("a name that no field has"),
        };
        if slot.replace(value).is_some() {
            return self.fail("a pseudo-header twice");
        }
        if !self.fields.is_empty() {
            self.fail("a pseudo-header behind a field");
        }
    }

    fn add_field(&mut self, name: HeaderName, value: HeaderValue, limit: usize) {
        if is_of_the_connection(&name) || name == TE && value != "trailers" {
            return self.fail("a field that speaks about a connection");
        }
        if self.size > limit {
            return;
        }
        if self.fields.is_empty() {
            self.fields = Fields::with_capacity(USUAL);
        }
        self.fields.append(name, value);
    }

    fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// What it says of how long the body is.
    ///
    /// # Errors
    /// It is no number, or says different ones.
    pub(super) fn content_length(&self) -> Result<Option<u64>, Fault> {
        let mut length = None;
        for value in self.fields.get_all(CONTENT_LENGTH) {
            let said = decimal(value.as_bytes()).ok_or("content-length is no number")?;
            if length.replace(said).is_some_and(|other| other != said) {
                return Err("content-length is said twice, and not the same");
            }
        }
        Ok(length)
    }

    /// # Errors
    /// It makes no request.
    pub(super) fn into_request(self) -> Result<RequestParts, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let Pseudo { authority, method, path, protocol, scheme, status } = self.pseudo;
        if status.is_some() {
            return Err(":status in a request");
        }
        let method = method.ok_or("no :method")?;
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| ":method is no method")?;
        let mut parts = Parts::default();
        if let Some(authority) = authority {
            let authority = Authority::try_from(authority.as_bytes());
            parts.authority = Some(authority.map_err(|_| ":authority is no authority")?);
        }
        if protocol.is_some() && method != Method::CONNECT {
            return Err(":protocol without CONNECT");
        }
        if method == Method::CONNECT && protocol.is_none() {
            if scheme.is_some() || path.is_some() || parts.authority.is_none() {
                return Err("CONNECT has an :authority, no :scheme and no :path");
            }
        } else {
            let scheme = scheme.ok_or("no :scheme")?;
            let scheme = Scheme::try_from(scheme.as_bytes()).map_err(|_| ":scheme is no scheme")?;
            let path = path.ok_or("no :path")?;
            if path.is_empty() {
                return Err(":path is empty");
            }
            let path = PathAndQuery::try_from(path.as_bytes()).map_err(|_| ":path is no path")?;
            parts.path_and_query = Some(path);
            // A target without an authority has no scheme either.
            parts.scheme = parts.authority.is_some().then_some(scheme);
        }
        let target = Uri::from_parts(parts).map_err(|_| "the target is no URI")?;
        Ok(RequestParts { method, target, protocol, fields: self.fields, size: self.size })
    }

    /// # Errors
    /// It makes no response.
    pub(super) fn into_response(self) -> Result<(StatusCode, Fields), Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let Pseudo { authority, method, path, protocol, scheme, status } = self.pseudo;
        if [authority, method, path, protocol, scheme].iter().any(Option::is_some) {
            return Err("a request's pseudo-header in a response");
        }
        let status = status.ok_or("no :status")?;
        let status =
            StatusCode::from_bytes(status.as_bytes()).map_err(|_| ":status is no status")?;
        Ok((status, self.fields))
    }

    /// # Errors
    /// They are no trailers.
    pub(super) fn into_trailers(self) -> Result<Fields, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let Pseudo { authority, method, path, protocol, scheme, status } = self.pseudo;
        if [authority, method, path, protocol, scheme, status].iter().any(Option::is_some) {
            return Err("a pseudo-header in trailers");
        }
        Ok(self.fields)
    }
}

/// RFC 9113 section 8.2.2.
fn is_of_the_connection(name: &HeaderName) -> bool {
    [CONNECTION, TRANSFER_ENCODING, UPGRADE, KEEP_ALIVE, PROXY_CONNECTION].contains(name)
}

/// A number of digits alone, of which there is at least one.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}
