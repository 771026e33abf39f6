//! Fields to header blocks.
//!
//! In come fields, out go bytes that the peer's decoder understands after all earlier blocks. Text is sent as it
//! is, without Huffman's code: on a connection that lives, most fields are one byte, an index into the table.
//! A field whose value is another each time (an id, a timestamp) would push the lasting ones out of the table: it
//! is kept only until that has shown.

use std::{collections::VecDeque, sync::LazyLock};

use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use super::{DEFAULT_TABLE_SIZE, ENTRY_OVERHEAD, Name, STATIC_TABLE};

/// Literal fields: kept by the peer, not kept, and never to be kept by anybody (RFC 7541 section 6.2).
const KEPT: (u8, u32) = (0x40, 6);
const NOT_KEPT: (u8, u32) = (0x00, 4);
const NEVER_KEPT: (u8, u32) = (0x10, 4);

/// Names of pseudo-headers in the static table.
const AUTHORITY: usize = 1;
const AUTHORITY_NAME: &[u8] = b":authority";
const METHOD: usize = 2;
const PATH: usize = 4;
const STATUS: usize = 8;

/// How often a name may come with yet another value before its values are no longer kept.
const CHANGES: u8 = 3;

/// Slots of the places where fields are looked for; a power of two above the entries that a table can have.
const SLOTS: usize = 256;

/// A name of the static table.
#[derive(Debug, Clone)]
struct StaticName {
    name: HeaderName,
    index: usize,
    is_of_one_message: bool,
}

/// The names of the static table by their hash.
static STATIC_NAMES: LazyLock<Vec<Option<StaticName>>> = LazyLock::new(|| {
    let mut slots = vec![None; 2 * SLOTS];
    for (index, (name, _)) in (1..).zip(STATIC_TABLE.iter()) {
        let Name::Field(name) = name else { continue };
        let mut slot = hash(name.as_str().as_bytes()) as usize % slots.len();
        while slots[slot].is_some() {
            slot = (slot + 1) % slots.len();
        }
        let is_of_one_message = OF_ONE_MESSAGE.contains(name);
        slots[slot] = Some(StaticName { name: name.clone(), index, is_of_one_message });
    }
    slots
});

/// An entry of the peer's table, as this side knows it.
#[derive(Debug)]
struct Entry {
    /// Its name; `None` for `:authority`.
    name: Option<HeaderName>,
    value: HeaderValue,
    size: usize,
    /// How often the name has come with another value than the one before, without a pause.
    changes: u8,
}

/// The encoding side of a connection.
#[derive(Debug)]
pub(in crate::http::h2) struct Encoder {
    /// What the peer's table has, the oldest first.
    table: VecDeque<Entry>,
    /// How many entries have left the table: the number of the oldest that is there.
    evicted: u32,
    size: usize,
    max_size: usize,
    /// Sizes of the table to be said at the beginning of the next block: the smallest since the last, and the newest.
    resized: Option<(usize, usize)>,
    /// The numbers of entries by the hash of their field and by that of their name. A slot has the last one that fell
    /// there: what it does not find is sent once more, which costs bytes and no more.
    fields: Box<[u32; SLOTS]>,
    names: Box<[u32; SLOTS]>,
}

impl Encoder {
    pub(in crate::http::h2) fn new() -> Self {
        Self {
            table: VecDeque::new(),
            evicted: 1,
            size: 0,
            max_size: DEFAULT_TABLE_SIZE,
            resized: None,
            fields: Box::new([0; SLOTS]),
            names: Box::new([0; SLOTS]),
        }
    }

    /// What the peer allows its table (SETTINGS_HEADER_TABLE_SIZE); no more than the usual size is used.
    pub(in crate::http::h2) fn set_max_size(&mut self, allowed: u32) {
        let size = (allowed as usize).min(DEFAULT_TABLE_SIZE);
        let unsaid = self.resized.map(|(smallest, _)| smallest);
        if size == self.max_size && unsaid.is_none() {
            return;
        }
        self.resized = Some((unsaid.map_or(size, |smallest| smallest.min(size)), size));
        self.max_size = size;
        self.evict(size);
    }

    /// To be called before the fields of each block.
    pub(in crate::http::h2) fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some((smallest, newest)) = self.resized.take() {
            if smallest < newest {
                integer(out, 0x20, 5, smallest);
            }
            integer(out, 0x20, 5, newest);
        }
    }

    pub(in crate::http::h2) fn method(&self, method: &Method, out: &mut Vec<u8>) {
        match *method {
            Method::GET => out.push(0x80 | 2),
            Method::POST => out.push(0x80 | 3),
            _ => literal(out, NOT_KEPT, METHOD, method.as_str().as_bytes()),
        }
    }

    pub(in crate::http::h2) fn scheme(&self, scheme: &str, out: &mut Vec<u8>) {
        match scheme {
            "https" => out.push(0x80 | 7),
            "http" => out.push(0x80 | 6),
            _ => literal(out, NOT_KEPT, 6, scheme.as_bytes()),
        }
    }

    /// A path is mostly another one each time.
    pub(in crate::http::h2) fn path(&self, path: &str, out: &mut Vec<u8>) {
        match path {
            "/" => out.push(0x80 | 4),
            _ => literal(out, NOT_KEPT, PATH, path.as_bytes()),
        }
    }

    pub(in crate::http::h2) fn status(&self, status: StatusCode, out: &mut Vec<u8>) {
        let index = match status.as_u16() {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => return literal(out, NOT_KEPT, STATUS, status.as_str().as_bytes()),
        };
        out.push(0x80 | index);
    }

    pub(in crate::http::h2) fn authority(&mut self, authority: &str, out: &mut Vec<u8>) {
        let kept = || HeaderValue::from_str(authority).ok();
        self.keepable((None, hash(AUTHORITY_NAME)), authority.as_bytes(), kept, AUTHORITY, out);
    }

    /// `:protocol`, which the static table does not have (RFC 8441 section 4).
    pub(in crate::http::h2) fn protocol(&self, protocol: &str, out: &mut Vec<u8>) {
        literal_name(out, NOT_KEPT, b":protocol");
        string(out, protocol.as_bytes());
    }

    pub(in crate::http::h2) fn field(
        &mut self,
        name: &HeaderName,
        value: &HeaderValue,
        out: &mut Vec<u8>,
    ) {
        let by_name = hash(name.as_str().as_bytes());
        let known = static_name(name, by_name);
        let index = known.map_or(0, |known| known.index);
        if value.is_sensitive() {
            return self.named(name, value, index, NEVER_KEPT, out);
        }
        if known.is_some_and(|known| known.is_of_one_message) {
            return self.named(name, value, index, NOT_KEPT, out);
        }
        // A copy: the value may be a piece of a whole head, which is not to be kept with it.
        let kept = || HeaderValue::from_bytes(value.as_bytes()).ok();
        self.keepable((Some(name), by_name), value.as_bytes(), kept, index, out);
    }

    /// A field that may be in the table, or be kept there: then `kept` makes its value. It comes with its name's hash; `index`
    /// is that of its name in the static table, or 0.
    fn keepable(
        &mut self,
        (name, by_name): (Option<&HeaderName>, u32),
        value: &[u8],
        kept: impl FnOnce() -> Option<HeaderValue>,
        index: usize,
        out: &mut Vec<u8>,
    ) {
        let spelt = name.map_or(AUTHORITY_NAME, |name| name.as_str().as_bytes());
        let by_field = hash_on(by_name, value);
        let (name_slot, field_slot) = (by_name as usize % SLOTS, by_field as usize % SLOTS);
        if let Some(place) = self.place(self.fields[field_slot])
            && self.table[place].name.as_ref() == name
            && self.table[place].value == value
        {
            self.table[place].changes = 0;
            return integer(out, 0x80, 7, self.index(place));
        }
        let last = self.place(self.names[name_slot]);
        let last = last.filter(|place| self.table[*place].name.as_ref() == name);
        let changes = last.map_or(0, |place| self.table[place].changes);
        let index = match last {
            Some(place) if index == 0 => self.index(place),
            _ => index,
        };
        let size = spelt.len() + value.len() + ENTRY_OVERHEAD;
        let kept = if changes < CHANGES && size <= self.max_size / 4 { kept() } else { None };
        let kind = if kept.is_some() { KEPT } else { NOT_KEPT };
        match index {
            0 => literal_name(out, kind, spelt),
            _ => integer(out, kind.0, kind.1, index),
        }
        string(out, value);
        if let Some(value) = kept {
            let changes = if last.is_some() { changes + 1 } else { 0 };
            let number = self.keep(Entry { name: name.cloned(), value, size, changes });
            self.fields[field_slot] = number;
            self.names[name_slot] = number;
        }
    }

    /// A field whose value is in no table.
    fn named(
        &self,
        name: &HeaderName,
        value: &HeaderValue,
        index: usize,
        kind: (u8, u32),
        out: &mut Vec<u8>,
    ) {
        match index {
            0 => literal_name(out, kind, name.as_str().as_bytes()),
            _ => integer(out, kind.0, kind.1, index),
        }
        string(out, value.as_bytes());
    }

    /// Keeps an entry, as the peer does; returns its number.
    fn keep(&mut self, entry: Entry) -> u32 {
        self.evict(self.max_size - entry.size);
        self.size += entry.size;
        self.table.push_back(entry);
        self.evicted.wrapping_add(self.table.len() as u32 - 1)
    }

    fn evict(&mut self, room: usize) {
        while self.size > room {
            let Some(entry) = self.table.pop_front() else { break };
            self.size -= entry.size;
            self.evicted = self.evicted.wrapping_add(1);
        }
    }

    /// Where the entry of this number stands, if it is still there.
    fn place(&self, number: u32) -> Option<usize> {
        let place = number.wrapping_sub(self.evicted) as usize;
        (place < self.table.len()).then_some(place)
    }

    /// The index of the entry that stands there: the newest is the first behind the static table.
    fn index(&self, place: usize) -> usize {
        STATIC_TABLE.len() + self.table.len() - place
    }
}

/// Fields that say something of the one message that they are in, or of one user of many. The static table has them all.
const OF_ONE_MESSAGE: [HeaderName; 12] = [
    header::AGE,
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::COOKIE,
    header::ETAG,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::LAST_MODIFIED,
    header::LOCATION,
    header::RANGE,
    header::SET_COOKIE,
];

/// A name in the static table, by its hash.
fn static_name(name: &HeaderName, hash: u32) -> Option<&'static StaticName> {
    let slots = &*STATIC_NAMES;
    let mut slot = hash as usize % slots.len();
    while let Some(known) = &slots[slot] {
        if known.name == *name {
            return Some(known);
        }
        slot = (slot + 1) % slots.len();
    }
    None
}

/// A literal field whose name is an entry.
fn literal(out: &mut Vec<u8>, (pattern, prefix): (u8, u32), index: usize, value: &[u8]) {
    integer(out, pattern, prefix, index);
    string(out, value);
}

/// The name of a literal field that is in no table.
fn literal_name(out: &mut Vec<u8>, (pattern, _): (u8, u32), name: &[u8]) {
    out.push(pattern);
    string(out, name);
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    integer(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

/// An integer in the last `prefix` bits of a byte and as many more as it needs (section 5.1).
fn integer(out: &mut Vec<u8>, pattern: u8, prefix: u32, value: usize) {
    let most = (1_usize << prefix) - 1;
    if value < most {
        return out.push(pattern | value as u8);
    }
    out.push(pattern | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn hash(bytes: &[u8]) -> u32 {
    hash_on(0x9e37_79b9, bytes)
}

/// Spreads short strings over slots, eight bytes at a step. Who makes collisions makes its own blocks longer.
fn hash_on(seed: u32, bytes: &[u8]) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = u64::from(seed) ^ bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = (state ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
        state ^= state >> 29;
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    state = (state ^ u64::from_le_bytes(last)).wrapping_mul(FACTOR);
    (state >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_one_message_are_known_by_their_names() {
        let known = |name: &HeaderName| static_name(name, hash(name.as_str().as_bytes()));
        for name in &OF_ONE_MESSAGE {
            assert!(known(name).is_some_and(|known| known.is_of_one_message), "{name}");
        }
        assert!(known(&header::DATE).is_some_and(|known| !known.is_of_one_message));
        assert!(known(&header::DNT).is_none());
    }
}
