//! Heads of requests and responses: bytes in, a checked head with its framing out.
//!
//! httparse finds lines, names and values; what it lets pass and RFC 9112 does not (bare LF, several hosts,
//! targets of the wrong form, ambiguous framing) is refused here. A head may arrive in any pieces: the same
//! bytes give the same result. Nothing is repaired.

use std::{mem::MaybeUninit, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode, Uri, Version, header};
use httparse::{Header, ParserConfig, Status};

use super::{
    authority,
    error::HeadError,
    fields::{HeadFields, Source, check_line_ends},
    framing::{self, BodyLength},
};
use crate::http::{RequestHead, ResponseHead};

/// Fields that are parsed without an allocation of their own.
const FIELDS_ON_STACK: usize = 128;
/// Empty lines tolerated in front of a request (RFC 9112 section 2.2 asks for at least one).
const MAX_EMPTY_LINES: usize = 4;

/// Limits of a head, and of a trailer section.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Bytes, line ends included.
    pub bytes: usize,
    /// Fields.
    pub fields: usize,
}

/// A request's head with what concerns this connection only.
#[derive(Debug, PartialEq, Eq)]
pub struct ParsedRequest {
    /// The head for the exchange.
    pub head: RequestHead,
    /// Where the body ends.
    pub length: BodyLength,
    /// The client wants the connection to go on.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// A response's head with what concerns this connection only.
#[derive(Debug, PartialEq, Eq)]
pub struct ParsedResponse {
    /// The head for the exchange.
    pub head: Box<ResponseHead>,
    /// Where the body ends.
    pub length: BodyLength,
    /// The server lets the connection go on.
    pub keep_alive: bool,
    /// After how long without a request the server says that it ends the connection (`Keep-Alive: timeout=5`).
    pub idle_timeout: Option<Duration>,
}

/// What is known of a head that has not arrived whole: keeps 1-byte pieces from being parsed anew each time.
#[derive(Debug, Default)]
pub struct Progress {
    searched: usize,
    empty_lines: usize,
}

/// Takes a request's head off the front of `buffer`; `None` until it is whole.
///
/// # Errors
/// The head is refused; the connection can carry nothing more.
pub fn request(
    buffer: &mut BytesMut,
    progress: &mut Progress,
    limits: HeadLimits,
) -> Result<Option<ParsedRequest>, HeadError> {
    progress.skip_empty_lines(buffer)?;
    if !progress.may_be_whole(buffer) {
        return progress.wait(buffer, limits);
    }
    let mut stack = [const { MaybeUninit::uninit() }; FIELDS_ON_STACK];
    let mut heap = Vec::new();
    let mut raw = httparse::Request::new(&mut []);
    let slots = slots(&mut stack, &mut heap, limits.fields);
    let parsed =
        ParserConfig::default().parse_request_with_uninit_headers(&mut raw, buffer, slots)?;
    let Status::Complete(size) = parsed else { return progress.wait(buffer, limits) };
    check(&buffer[..size], raw.headers, limits)?;
    let request = build_request(&Source::new(&buffer[..size]), &raw)?;
    progress.finish(buffer, size);
    Ok(Some(request))
}

/// Takes a response's head off the front of `buffer`; `None` until it is whole. `to_head`: the request was a
/// HEAD.
///
/// # Errors
/// The head is refused; the connection can carry nothing more.
pub fn response(
    buffer: &mut BytesMut,
    progress: &mut Progress,
    limits: HeadLimits,
    to_head: bool,
) -> Result<Option<ParsedResponse>, HeadError> {
    if matches!(buffer.first(), Some(b'\r' | b'\n')) {
        return Err(HeadError::Malformed("an empty line where a status line must be"));
    }
    if !progress.may_be_whole(buffer) {
        return progress.wait(buffer, limits);
    }
    let mut stack = [const { MaybeUninit::uninit() }; FIELDS_ON_STACK];
    let mut heap = Vec::new();
    let mut raw = httparse::Response::new(&mut []);
    let slots = slots(&mut stack, &mut heap, limits.fields);
    let parsed =
        ParserConfig::default().parse_response_with_uninit_headers(&mut raw, buffer, slots)?;
    let Status::Complete(size) = parsed else { return progress.wait(buffer, limits) };
    check(&buffer[..size], raw.headers, limits)?;
    let response = build_response(&Source::new(&buffer[..size]), &buffer[..size], &raw, to_head)?;
    progress.finish(buffer, size);
    Ok(Some(response))
}

impl Progress {
    /// Whether an attempt to parse is worth it: the first bytes (so that what is no HTTP is refused early),
    /// or bytes with an end of a head among the new ones.
    pub(super) fn may_be_whole(&self, buffer: &[u8]) -> bool {
        let from = self.searched.saturating_sub(3);
        self.searched == 0
            || buffer[from..].windows(3).any(|end| end == b"\n\r\n" || end.starts_with(b"\n\n"))
            || buffer.ends_with(b"\n\n")
    }

    /// Notes that `buffer` holds no whole head.
    pub(super) fn wait<T>(
        &mut self,
        buffer: &[u8],
        limits: HeadLimits,
    ) -> Result<Option<T>, HeadError> {
        self.searched = buffer.len();
        match buffer.len() >= limits.bytes {
            true => Err(HeadError::TooLarge),
            false => Ok(None),
        }
    }

    fn finish(&mut self, buffer: &mut BytesMut, size: usize) {
        *self = Self::default();
        buffer.advance(size);
    }

    /// Takes off empty lines in front of a request. A lone LF is no empty line.
    fn skip_empty_lines(&mut self, buffer: &mut BytesMut) -> Result<(), HeadError> {
        while buffer.starts_with(b"\r\n") {
            self.empty_lines += 1;
            if self.empty_lines > MAX_EMPTY_LINES {
                return Err(HeadError::Malformed("too many empty lines before the request"));
            }
            self.searched = 0;
            buffer.advance(2);
        }
        match buffer.first() {
            Some(b'\n') => Err(HeadError::Malformed("a line that ends with LF alone")),
            _ => Ok(()),
        }
    }
}

/// Room for the fields: on the stack, unless the limit is larger.
fn slots<'s, 'b>(
    stack: &'s mut [MaybeUninit<Header<'b>>; FIELDS_ON_STACK],
    heap: &'s mut Vec<MaybeUninit<Header<'b>>>,
    fields: usize,
) -> &'s mut [MaybeUninit<Header<'b>>] {
    if fields <= FIELDS_ON_STACK {
        return &mut stack[..fields];
    }
    heap.resize_with(fields, MaybeUninit::uninit);
    heap
}

fn check(head: &[u8], raw: &[Header<'_>], limits: HeadLimits) -> Result<(), HeadError> {
    if head.len() > limits.bytes {
        return Err(HeadError::TooLarge);
    }
    check_line_ends(head, raw)
}

fn build_request(
    source: &Source<'_>,
    raw: &httparse::Request<'_, '_>,
) -> Result<ParsedRequest, HeadError> {
    let method = raw.method.ok_or(HeadError::Malformed("request line"))?;
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_| HeadError::Malformed("request method"))?;
    let version = version(raw.version)?;
    let path = raw.path.ok_or(HeadError::Malformed("request line"))?;
    let target = parse_target(source, &method, path)?;
    let mut fields = HeadFields::read(source, raw.headers)?;
    check_host(&fields, version)?;
    let length = framing::of_request(&method, version, fields.framing)?;
    let is_absolute = target.scheme().is_some();
    if is_absolute {
        replace_host(&mut fields, &target)?;
    }
    let upgrade = fields
        .hop
        .upgrade_offer()
        .filter(|_| version == Version::HTTP_11 && length == BodyLength::Empty);
    Ok(ParsedRequest {
        length,
        keep_alive: keeps_alive(&fields, version) && !(is_absolute && version != Version::HTTP_11),
        expects_continue: expects_continue(&mut fields, version, length),
        head: RequestHead {
            method,
            target,
            version,
            headers: fields.headers,
            upgrade,
            accepts_trailers: fields.hop.accepts_trailers,
        },
    })
}

fn build_response(
    source: &Source<'_>,
    head: &[u8],
    raw: &httparse::Response<'_, '_>,
    to_head: bool,
) -> Result<ParsedResponse, HeadError> {
    let version = version(raw.version)?;
    let status = StatusCode::from_u16(raw.code.ok_or(HeadError::Malformed("status"))?)
        .map_err(|_| HeadError::Malformed("status"))?;
    let mut fields = HeadFields::read(source, raw.headers)?;
    let length = framing::of_response(status, to_head, version, fields.framing)?;
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        fields.headers.remove(header::CONTENT_LENGTH);
    }
    let tells_protocols =
        matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED);
    let upgrade = fields.hop.upgrade_offer().filter(|_| tells_protocols);
    let phrase = reason_phrase(head);
    let is_usual = status.canonical_reason().is_some_and(|usual| usual.as_bytes() == phrase);
    Ok(ParsedResponse {
        length,
        keep_alive: keeps_alive(&fields, version) && length != BodyLength::UntilClose,
        idle_timeout: fields.hop.idle_timeout,
        head: Box::new(ResponseHead {
            status,
            reason_phrase: (!is_usual).then(|| source.share(phrase)),
            headers: fields.headers,
            upgrade,
        }),
    })
}

fn version(minor: Option<u8>) -> Result<Version, HeadError> {
    match minor {
        Some(1) => Ok(Version::HTTP_11),
        Some(0) => Ok(Version::HTTP_10),
        _ => Err(HeadError::Version),
    }
}

/// What stands behind the status; httparse shows none where it has bytes beyond ASCII.
fn reason_phrase(head: &[u8]) -> &[u8] {
    const BEFORE: usize = "HTTP/1.1 200".len();
    let rest = head.get(BEFORE..).unwrap_or_default();
    let line = rest.split(|byte| *byte == b'\r').next().unwrap_or_default();
    line.strip_prefix(b" ").unwrap_or(line)
}

/// The target in the form that its method asks for (RFC 9112 section 3.2).
fn parse_target(source: &Source<'_>, method: &Method, raw: &str) -> Result<Uri, HeadError> {
    const MALFORMED: HeadError = HeadError::Malformed("request target");
    if raw.contains('#') {
        return Err(MALFORMED);
    }
    let encoded = encode_excluded(raw);
    let shared = encoded.map_or_else(|| source.share(raw.as_bytes()), Bytes::from);
    let target = Uri::from_maybe_shared(shared).map_err(|_| MALFORMED)?;
    if *method == Method::CONNECT {
        let is_authority = authority::is_valid(raw.as_bytes())
            && authority::has_port(raw.as_bytes())
            && target.scheme().is_none()
            && target.authority().is_some();
        return if is_authority { Ok(target) } else { Err(MALFORMED) };
    }
    match (target.scheme_str(), target.authority()) {
        (None, None) if raw.starts_with('/') => Ok(target),
        (None, None) if raw == "*" && *method == Method::OPTIONS => Ok(target),
        (Some("http" | "https"), Some(host)) if authority::is_valid(host.as_str().as_bytes()) => {
            match *method == Method::OPTIONS && has_no_path(raw) {
                true => asterisk_of(target),
                false => Ok(target),
            }
        }
        _ => Err(MALFORMED),
    }
}

/// Percent-encodes what RFC 3986 excludes, and yet some clients send as it is: an encoded byte means the same, and
/// a request that works without a sidecar works with one. `None` where there is nothing to do.
fn encode_excluded(raw: &str) -> Option<String> {
    let is_excluded = |byte: u8| matches!(byte, b'"' | b'<' | b'>' | b'`');
    if !raw.bytes().any(is_excluded) {
        return None;
    }
    let mut encoded = String::with_capacity(raw.len() + 8);
    for character in raw.chars() {
        match u8::try_from(character) {
            Ok(byte) if is_excluded(byte) => encoded.push_str(&format!("%{byte:02X}")),
            _ => encoded.push(character),
        }
    }
    Some(encoded)
}

/// Whether an absolute-form target ends with its authority.
fn has_no_path(absolute: &str) -> bool {
    absolute.split_once("://").is_some_and(|(_, rest)| !rest.contains(['/', '?']))
}

/// `OPTIONS http://host` asks about the server as a whole: `*` (RFC 9112 section 3.2.4).
fn asterisk_of(target: Uri) -> Result<Uri, HeadError> {
    let mut parts = target.into_parts();
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static("*"));
    Uri::from_parts(parts).map_err(|_| HeadError::Malformed("request target"))
}

/// Exactly one Host in HTTP/1.1, at most one in 1.0, and a valid one (RFC 9112 section 3.2). An empty one
/// means that the target has no authority.
fn check_host(fields: &HeadFields, version: Version) -> Result<(), HeadError> {
    match fields.hosts {
        0 if version == Version::HTTP_11 => Err(HeadError::Malformed("no Host")),
        0 => Ok(()),
        1 => match fields.headers.get(header::HOST).map(HeaderValue::as_bytes) {
            Some(host) if host.is_empty() || authority::is_valid(host) => Ok(()),
            _ => Err(HeadError::Malformed("Host")),
        },
        _ => Err(HeadError::Malformed("several Host fields")),
    }
}

/// A target in absolute-form overrides Host (RFC 9112 section 3.2.2).
fn replace_host(fields: &mut HeadFields, target: &Uri) -> Result<(), HeadError> {
    let host = target.authority().map_or("", http::uri::Authority::as_str);
    let host = HeaderValue::from_str(host).map_err(|_| HeadError::Malformed("request target"))?;
    fields.headers.insert(header::HOST, host);
    Ok(())
}

/// Whether the peer wants the connection to go on after this message (RFC 9112 section 9.3).
fn keeps_alive(fields: &HeadFields, version: Version) -> bool {
    !fields.hop.close && (version == Version::HTTP_11 || fields.hop.keep_alive)
}

/// Whether the client waits for 100. In HTTP/1.0 the expectation must be ignored (RFC 9110 section 10.1.1).
fn expects_continue(fields: &mut HeadFields, version: Version, length: BodyLength) -> bool {
    if version != Version::HTTP_11 {
        fields.headers.remove(header::EXPECT);
        return false;
    }
    length != BodyLength::Empty
        && fields
            .headers
            .get(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
