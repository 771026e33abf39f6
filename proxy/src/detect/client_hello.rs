//! A TLS ClientHello, parsed by hand as far as routing needs it: the server name and the protocols offered.
//!
//! Comes in: a stream that begins with a TLS handshake record. Goes out: the [`ClientHello`], or `Opaque` for
//! what is none. The message may be spread over many records, and be longer than a packet (a post-quantum
//! key share alone has 1,216 bytes). Every length is checked against what is there.
//!
//! Bounds: the message may have [`MAX_HELLO_BYTES`], its records [`MAX_RECORDS_BYTES`] with their headers;
//! beyond, the stream is opaque.

use super::Detected;

/// The most bytes of a ClientHello message. Real ones have 200 to 2,000.
pub const MAX_HELLO_BYTES: usize = 16 * 1024;

/// The most bytes that the records of a ClientHello may have: half as many again for their headers.
pub const MAX_RECORDS_BYTES: usize = MAX_HELLO_BYTES + MAX_HELLO_BYTES / 2;

/// The content type of a handshake record (RFC 8446 5.1).
pub const HANDSHAKE_RECORD: u8 = 22;

const RECORD_HEADER: usize = 5;
const MAX_RECORD: usize = 16 * 1024;
const CLIENT_HELLO: u8 = 1;
const MESSAGE_HEADER: usize = 4;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
const ALPN: u16 = 16;

/// What a client says when it opens TLS, as far as routing needs it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientHello {
    /// The server name (SNI, RFC 6066 3), in lower case.
    pub server_name: Option<String>,
    /// The protocols offered (ALPN, RFC 7301), best first; empty without the extension.
    pub alpn: Vec<Vec<u8>>,
}

/// Decides for a stream that begins with [`HANDSHAKE_RECORD`].
pub(super) fn detect(bytes: &[u8]) -> Detected {
    match reassemble(bytes) {
        Progress::Done(message) => match parse(&message) {
            Some(hello) => Detected::Tls(hello),
            None => Detected::Opaque,
        },
        Progress::NeedMore => Detected::NeedMore,
        Progress::NoHello => Detected::Opaque,
    }
}

enum Progress {
    /// The message's body.
    Done(Vec<u8>),
    NeedMore,
    NoHello,
}

/// Joins the handshake message's pieces from as many records as it spans.
fn reassemble(bytes: &[u8]) -> Progress {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        let (fragment, whole, after) = match first_record(rest) {
            Ok(Some(record)) => record,
            Ok(None) => return need_more(bytes),
            Err(()) => return Progress::NoHello,
        };
        message.extend_from_slice(fragment);
        match message_length(&message) {
            Err(()) => return Progress::NoHello,
            Ok(Some(length)) if message.len() - MESSAGE_HEADER >= length => {
                message.truncate(MESSAGE_HEADER + length);
                message.drain(..MESSAGE_HEADER);
                return Progress::Done(message);
            }
            Ok(_) if !whole => return need_more(bytes),
            Ok(_) => rest = after,
        }
    }
}

/// More bytes may still make it a ClientHello, within the bound.
fn need_more(bytes: &[u8]) -> Progress {
    if bytes.len() < MAX_RECORDS_BYTES { Progress::NeedMore } else { Progress::NoHello }
}

/// A record's fragment as far as it is there, whether it is whole, and what follows; `None` when the header
/// is not whole, `Err` when it is none of a handshake. A wrong header is seen at its first wrong byte.
#[allow(clippy::type_complexity, reason = "three parts, named above, used once")]
fn first_record(bytes: &[u8]) -> Result<Option<(&[u8], bool, &[u8])>, ()> {
    // The version is 3.x, in practice 3.1 or 3.3, whatever the TLS version (RFC 8446 5.1).
    let kind_is_wrong = bytes.first().is_some_and(|&kind| kind != HANDSHAKE_RECORD);
    let major_is_wrong = bytes.get(1).is_some_and(|&major| major != 3);
    let minor_is_wrong = bytes.get(2).is_some_and(|&minor| minor > 4);
    if kind_is_wrong || major_is_wrong || minor_is_wrong {
        return Err(());
    }
    let Some((header, rest)) = bytes.split_at_checked(RECORD_HEADER) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if length == 0 || length > MAX_RECORD {
        return Err(());
    }
    Ok(Some(match rest.split_at_checked(length) {
        Some((fragment, after)) => (fragment, true, after),
        None => (rest, false, &[]),
    }))
}

/// The length of the message's body; `None` when its header is not whole, `Err` when it is no ClientHello or
/// too long. A wrong header is seen at its first wrong byte.
fn message_length(message: &[u8]) -> Result<Option<usize>, ()> {
    let kind_is_wrong = message.first().is_some_and(|&kind| kind != CLIENT_HELLO);
    let high_is_wrong = message.get(1).is_some_and(|&high| high != 0);
    if kind_is_wrong || high_is_wrong {
        return Err(());
    }
    let &[_, _, middle, low, ..] = message else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([middle, low]));
    if length > MAX_HELLO_BYTES { Err(()) } else { Ok(Some(length)) }
}

/// Parses the message's body (RFC 8446 4.1.2); `None` when it is malformed.
fn parse(body: &[u8]) -> Option<ClientHello> {
    let mut body = Reader(body);
    body.take(2 + 32)?; // legacy_version, random
    let session = body.block8()?;
    let suites = body.block16()?;
    let compressions = body.block8()?;
    if session.0.len() > 32
        || suites.0.is_empty()
        || suites.0.len() % 2 != 0
        || compressions.0.is_empty()
    {
        return None;
    }
    let mut hello = ClientHello::default();
    if body.0.is_empty() {
        return Some(hello); // extensions are optional before TLS 1.3
    }
    let mut extensions = body.block16()?;
    if !body.0.is_empty() {
        return None;
    }
    let (mut named, mut offered) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let content = extensions.block16()?;
        match kind {
            // An extension stands once at most (RFC 8446 4.2).
            SERVER_NAME if named => return None,
            ALPN if offered => return None,
            SERVER_NAME => {
                named = true;
                hello.server_name = parse_server_name(content)?;
            }
            ALPN => {
                offered = true;
                hello.alpn = parse_alpn(content)?;
            }
            _ => {}
        }
    }
    Some(hello)
}

/// The host name in the extension's list. Other kinds of names do not exist in practice and are passed over.
#[allow(clippy::option_option, reason = "malformed, no host name, a host name")]
fn parse_server_name(mut content: Reader<'_>) -> Option<Option<String>> {
    let mut names = content.block16()?;
    if !content.0.is_empty() || names.0.is_empty() {
        return None;
    }
    let mut host = None;
    while !names.0.is_empty() {
        let kind = names.u8()?;
        let name = names.block16()?.0;
        if kind != HOST_NAME {
            continue;
        }
        let visible = name.iter().all(u8::is_ascii_graphic);
        if host.is_some() || name.is_empty() || name.len() > 255 || !visible {
            return None;
        }
        host = Some(std::str::from_utf8(name).ok()?.to_ascii_lowercase());
    }
    Some(host)
}

fn parse_alpn(mut content: Reader<'_>) -> Option<Vec<Vec<u8>>> {
    let mut list = content.block16()?;
    if !content.0.is_empty() || list.0.is_empty() {
        return None;
    }
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let protocol = list.block8()?.0;
        if protocol.is_empty() {
            return None;
        }
        protocols.push(protocol.to_vec());
    }
    Some(protocols)
}

/// Bytes read from the front, each step checked.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// A block that begins with its length in one byte.
    fn block8(&mut self) -> Option<Self> {
        let length = self.u8()?;
        self.take(length.into()).map(Self)
    }

    /// A block that begins with its length in two bytes.
    fn block16(&mut self) -> Option<Self> {
        let length = self.u16()?;
        self.take(length.into()).map(Self)
    }
}
