//! Header blocks to fields.
//!
//! In come whole blocks, in the order in which they came; out go their fields, one by one. What a message must not
//! have (a capital in a name, a line break in a value) is told with the field, for the block goes on behind it;
//! a block that is no HPACK is an error, after which nothing more can be decoded on the connection.

use std::collections::VecDeque;

use http::HeaderValue;

use super::{DEFAULT_TABLE_SIZE, ENTRY_OVERHEAD, HpackError, Name, STATIC_TABLE, huffman};

/// A field of a head.
#[derive(Debug, Clone)]
pub(in crate::http::h2) struct Field {
    pub name: Name,
    /// `None` where it has a character that no value has.
    pub value: Option<HeaderValue>,
}

impl Field {
    /// Its bytes as HTTP/2 counts them (RFC 9113 section 6.5.2).
    pub(in crate::http::h2) fn size(&self) -> usize {
        let value = self.value.as_ref().map_or(0, HeaderValue::len);
        self.name.len() + value + ENTRY_OVERHEAD
    }
}

/// What a field is called: an entry of the tables, or spelt out.
enum Called {
    Entry(usize),
    Spelt(Name, usize),
}

/// The decoding side of a connection.
#[derive(Debug)]
pub(in crate::http::h2) struct Decoder {
    /// The newest first, each with what it counts.
    pub(super) table: VecDeque<(Field, usize)>,
    pub(super) size: usize,
    /// What the table may count, as the peer wants it: never above [`DEFAULT_TABLE_SIZE`].
    max_size: usize,
    /// Where strings are decoded.
    text: Vec<u8>,
}

impl Decoder {
    pub(in crate::http::h2) fn new() -> Self {
        let max_size = DEFAULT_TABLE_SIZE;
        Self { table: VecDeque::new(), size: 0, max_size, text: Vec::new() }
    }

    /// Decodes a whole block; each of its fields is given to `each`.
    ///
    /// # Errors
    /// It is no HPACK: the connection ends with COMPRESSION_ERROR.
    pub(in crate::http::h2) fn decode(
        &mut self,
        block: &[u8],
        mut each: impl FnMut(Field),
    ) -> Result<(), HpackError> {
        let mut input = Input(block);
        let mut begins = true;
        while let Some(first) = input.peek() {
            if first & 0xe0 == 0x20 {
                self.resize(&mut input, begins)?;
                continue;
            }
            begins = false;
            each(self.field(first, &mut input)?);
        }
        Ok(())
    }

    fn field(&mut self, first: u8, input: &mut Input<'_>) -> Result<Field, HpackError> {
        if first & 0x80 != 0 {
            let index = input.integer(7)?;
            return self.entry(index);
        }
        let is_kept = first & 0x40 != 0;
        let called = self.called(input.integer(if is_kept { 6 } else { 4 })?, input)?;
        let (value, value_len) = self.string(input, |text| HeaderValue::from_bytes(text).ok())?;
        let (name, name_len) = match called {
            Called::Spelt(name, len) => (name, len),
            Called::Entry(index) => {
                let name = self.entry(index)?.name;
                let len = name.len();
                (name, len)
            }
        };
        let mut field = Field { name, value };
        if is_kept {
            self.keep(field.clone(), name_len + value_len + ENTRY_OVERHEAD);
        } else if first & 0x10 != 0
            && let Some(value) = &mut field.value
        {
            // Not to be kept in any table on its way (section 6.2.3).
            value.set_sensitive(true);
        }
        Ok(field)
    }

    fn called(&mut self, index: usize, input: &mut Input<'_>) -> Result<Called, HpackError> {
        if index > 0 {
            return Ok(Called::Entry(index));
        }
        let (name, len) = self.string(input, Name::read)?;
        Ok(Called::Spelt(name, len))
    }

    /// The entry at an index of the static table, and the dynamic one behind it (section 2.3.3).
    fn entry(&self, index: usize) -> Result<Field, HpackError> {
        if let Some((name, value)) = index.checked_sub(1).and_then(|place| STATIC_TABLE.get(place))
        {
            return Ok(Field { name: name.clone(), value: Some(value.clone()) });
        }
        let entry =
            index.checked_sub(1 + STATIC_TABLE.len()).and_then(|place| self.table.get(place));
        entry.map(|(field, _)| field.clone()).ok_or(HpackError("an index that no table has"))
    }

    fn keep(&mut self, field: Field, size: usize) {
        self.evict(self.max_size.saturating_sub(size));
        // One that is larger than the table leaves it empty (section 4.4).
        if size <= self.max_size {
            self.size += size;
            self.table.push_front((field, size));
        }
    }

    /// Leaves no more than `room` in the table.
    fn evict(&mut self, room: usize) {
        while self.size > room {
            let Some((_, size)) = self.table.pop_back() else { break };
            self.size -= size;
        }
    }

    fn resize(&mut self, input: &mut Input<'_>, begins: bool) -> Result<(), HpackError> {
        let size = input.integer(5)?;
        if !begins {
            return Err(HpackError("a size of the table inside a block"));
        }
        if size > DEFAULT_TABLE_SIZE {
            return Err(HpackError("a table larger than it may be"));
        }
        self.max_size = size;
        self.evict(size);
        Ok(())
    }

    /// The next string as `read` takes it, and how many bytes it has.
    fn string<T>(
        &mut self,
        input: &mut Input<'_>,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<(T, usize), HpackError> {
        let is_coded = input.peek().is_some_and(|first| first & 0x80 != 0);
        let len = input.integer(7)?;
        let bytes = input.take(len)?;
        if !is_coded {
            return Ok((read(bytes), bytes.len()));
        }
        self.text.clear();
        huffman::decode(bytes, &mut self.text)?;
        Ok((read(&self.text), self.text.len()))
    }
}

/// What is left of a block.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], HpackError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(HpackError("a string cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// An integer whose first bits are the last `prefix` of the next byte (section 5.1).
    fn integer(&mut self, prefix: u32) -> Result<usize, HpackError> {
        const CUT_SHORT: HpackError = HpackError("an integer cut short");
        let most = (1_usize << prefix) - 1;
        let (first, mut rest) = self.0.split_first().ok_or(CUT_SHORT)?;
        let mut value = usize::from(*first) & most;
        if value == most {
            // Three more bytes say more than any block may have.
            let mut shift = 0;
            loop {
                let (byte, behind) = rest.split_first().ok_or(CUT_SHORT)?;
                rest = behind;
                value += usize::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
                shift += 7;
                if shift > 21 {
                    return Err(HpackError("an integer too large"));
                }
            }
        }
        self.0 = rest;
        Ok(value)
    }
}
