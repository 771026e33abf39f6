//! From httparse's fields to a list of our own: names and values checked, cases kept, hop-by-hop fields taken out.

use bytes::Bytes;
use http::{HeaderValue, header};

use super::{
    error::HeadError,
    framing::FramingFields,
    hop::{self, Hop},
    names::Names,
};
use crate::http::{Fields, fields::SpeltName};

/// Fields that are added to a head on its way: room for them is made at once.
const ROOM: usize = 4;

/// A head that was parsed in place, and the copy of it that names and values share.
pub(super) struct Source<'a> {
    raw: &'a [u8],
    shared: Bytes,
}

/// The fields of one head, and what those say that concern its connection and its body.
#[derive(Debug)]
pub(super) struct HeadFields {
    pub headers: Fields,
    pub hop: Hop,
    pub framing: FramingFields,
    pub hosts: usize,
}

impl<'a> Source<'a> {
    /// The head is copied once, so that the connection's large buffer is free for the next read.
    pub(super) fn new(raw: &'a [u8]) -> Self {
        Self { raw, shared: Bytes::copy_from_slice(raw) }
    }

    /// The shared form of a part of the head.
    pub(super) fn share(&self, part: &[u8]) -> Bytes {
        if part.is_empty() {
            return Bytes::new();
        }
        let start = offset(self.raw, part);
        self.shared.slice(start..start + part.len())
    }
}

impl HeadFields {
    /// Reads the fields of a request's or response's head.
    pub(super) fn read(
        source: &Source<'_>,
        raw: &[httparse::Header<'_>],
    ) -> Result<Self, HeadError> {
        let mut fields = Self {
            headers: Fields::with_capacity(raw.len() + ROOM),
            hop: Hop::default(),
            framing: FramingFields::default(),
            hosts: 0,
        };
        Names::with(|names| raw.iter().try_for_each(|field| fields.add(source, names, field)))?;
        fields.hop.remove_nominated(&mut fields.headers);
        Ok(fields)
    }

    fn add(
        &mut self,
        source: &Source<'_>,
        names: &mut Names,
        field: &httparse::Header<'_>,
    ) -> Result<(), HeadError> {
        let spelt = parse_name(names, field)?;
        let name = spelt.name();
        if *name == header::TRANSFER_ENCODING {
            return self.framing.transfer_encoding(field.value);
        }
        if self.hop.take(name, field.value)? {
            return Ok(());
        }
        if *name == header::CONTENT_LENGTH {
            self.framing.content_length(field.value)?;
        } else if *name == header::HOST {
            self.hosts += 1;
        }
        let value = parse_value(source.share(field.value))?;
        self.headers.append_spelt(spelt, value);
        Ok(())
    }
}

/// Reads trailers, leaving out what must not be one.
pub(super) fn read_trailers(
    source: &Source<'_>,
    raw: &[httparse::Header<'_>],
) -> Result<Fields, HeadError> {
    let mut trailers = Fields::with_capacity(raw.len());
    Names::with(|names| {
        for field in raw {
            let spelt = parse_name(names, field)?;
            if !hop::is_forbidden_in_trailers(spelt.name()) {
                trailers.append(spelt.name(), parse_value(source.share(field.value))?);
            }
        }
        Ok(trailers)
    })
}

/// Checks what httparse leaves open: every line ends with CRLF, none with a bare LF.
///
/// `head` ends with its empty line; each field's name stands at the start of a line.
pub(super) fn check_line_ends(head: &[u8], raw: &[httparse::Header<'_>]) -> Result<(), HeadError> {
    let ends_well = head.ends_with(b"\r\n\r\n") || head == b"\r\n";
    let lines_end_well = raw.iter().all(|field| {
        let start = offset(head, field.name.as_bytes());
        start == 0 || head[..start].ends_with(b"\r\n")
    });
    match ends_well && lines_end_well {
        true => Ok(()),
        false => Err(HeadError::Malformed("a line that ends with LF alone")),
    }
}

fn parse_name(names: &mut Names, field: &httparse::Header<'_>) -> Result<SpeltName, HeadError> {
    names.read(field.name.as_bytes()).ok_or(HeadError::Malformed("field name"))
}

fn parse_value(value: Bytes) -> Result<HeaderValue, HeadError> {
    HeaderValue::from_maybe_shared(value).map_err(|_| HeadError::Malformed("field value"))
}

/// Where `part`, which lies in `whole`, begins.
fn offset(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}
