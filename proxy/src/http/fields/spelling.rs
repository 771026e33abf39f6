//! How a field's name was written: its case, for a name itself is known in lower case alone.
//!
//! Nearly all names are written in lower case or with a capital at the beginning of each word, so these are known without a
//! copy; any other way is kept as it came. A spelling never changes what a name is, only the case of its letters.

use http::HeaderName;

/// A name, and how it was written.
#[derive(Clone, PartialEq, Eq)]
pub struct SpeltName {
    name: HeaderName,
    spelling: Spelling,
}

/// The case of a name's letters.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Spelling {
    Known(Case),
    /// In its own way.
    Own(Box<[u8]>),
}

/// A case that a name itself shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Lower,
    /// `Content-Type`: each letter at the beginning, or behind a hyphen, is a capital.
    Title,
}

impl SpeltName {
    /// The name that is written so; `None` where that is none.
    #[must_use]
    pub fn read(written: &[u8]) -> Option<Self> {
        Some(Self::of(HeaderName::from_bytes(written).ok()?, written))
    }

    /// The name as it is `written`; in lower case where that is another one.
    #[must_use]
    pub fn of(name: HeaderName, written: &[u8]) -> Self {
        Self { spelling: Spelling::of(&name, written), name }
    }

    /// The name itself.
    #[must_use]
    pub const fn name(&self) -> &HeaderName {
        &self.name
    }

    /// Whether it is written in lower case.
    #[must_use]
    pub const fn is_lower(&self) -> bool {
        matches!(self.spelling, Spelling::Known(Case::Lower))
    }

    /// Writes the name as it was written.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.spelling.write(self.name.as_str().as_bytes(), out);
    }
}

impl From<HeaderName> for SpeltName {
    /// In lower case.
    fn from(name: HeaderName) -> Self {
        Self { name, spelling: Spelling::LOWER }
    }
}

impl std::fmt::Debug for SpeltName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut written = Vec::new();
        self.write(&mut written);
        write!(f, "{}", written.escape_ascii())
    }
}

impl Spelling {
    const LOWER: Self = Self::Known(Case::Lower);

    /// The spelling of a name that is `written` so: the name itself in some case, else it is left in lower case.
    fn of(name: &HeaderName, written: &[u8]) -> Self {
        let (mut capitals, mut differs, mut begins) = (0, 0, FIRST);
        for word in Words(written) {
            let starts = begins | hyphens(word) << 8;
            let upper = between(word, b'A', b'Z');
            capitals |= upper;
            differs |= upper & !starts | between(word, b'a', b'z') & starts;
            begins = hyphens(word) >> 56;
        }
        match (capitals, differs) {
            (0, _) => Self::LOWER,
            (_, 0) => Self::Known(Case::Title),
            _ if is_written_as(name.as_str().as_bytes(), written) => Self::Own(written.into()),
            _ => Self::LOWER,
        }
    }

    /// Writes `name` (lower case) so.
    fn write(&self, name: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Known(Case::Lower) => out.extend_from_slice(name),
            Self::Known(Case::Title) => write_title(name, out),
            Self::Own(written) => out.extend_from_slice(written),
        }
    }
}

/// Whether `written` is `name` (lower case) in some case. Without a branch for each byte.
fn is_written_as(name: &[u8], written: &[u8]) -> bool {
    let bytes = name.iter().zip(written);
    name.len() == written.len()
        && bytes.fold(0, |differs, (byte, other)| differs | (byte ^ other.to_ascii_lowercase()))
            == 0
}

fn write_title(name: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    let mut begins = FIRST;
    for word in Words(name) {
        let starts = begins | hyphens(word) << 8;
        // A letter's fifth bit is its case.
        let capitals = between(word, b'a', b'z') & starts;
        out.extend_from_slice(&(word ^ capitals >> 2).to_le_bytes());
        begins = hyphens(word) >> 56;
    }
    // The last word was filled up.
    out.truncate(begin + name.len());
}

// Eight bytes at a step, the first in the lowest. A mask has the highest bit of each byte that is meant. All bytes are ASCII, as a
// name's are, so that nothing is carried from one byte into the next.

/// The mask of the first byte.
const FIRST: u64 = 0x80;
const ALL: u64 = 0x8080_8080_8080_8080;

/// The eight bytes at a time of a name, the last filled up with zeros.
struct Words<'a>(&'a [u8]);

impl Iterator for Words<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if let Some((word, rest)) = self.0.split_first_chunk() {
            self.0 = rest;
            return Some(u64::from_le_bytes(*word));
        }
        let last = std::mem::take(&mut self.0);
        let fill = |word, (place, byte): (usize, &u8)| word | u64::from(*byte) << (8 * place);
        (!last.is_empty()).then(|| last.iter().enumerate().fold(0, fill))
    }
}

const fn every(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

fn hyphens(word: u64) -> u64 {
    let differing = (word ^ every(b'-')) & !ALL;
    !(differing + every(0x7f)) & ALL
}

/// The bytes from `first` to `last`.
fn between(word: u64, first: u8, last: u8) -> u64 {
    let ascii = word & !ALL;
    let reached = ascii + every(0x80 - first);
    let passed = ascii + every(0x7f - last);
    reached & !passed & ALL & !word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(written: &str) -> (Spelling, String) {
        let name = HeaderName::from_bytes(written.as_bytes()).expect("a name");
        let spelling = Spelling::of(&name, written.as_bytes());
        let mut out = Vec::from(&b"before "[..]);
        spelling.write(name.as_str().as_bytes(), &mut out);
        (spelling, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn every_spelling_comes_back() {
        const TITLE: Spelling = Spelling::Known(Case::Title);
        let own = |text: &str| Spelling::Own(text.as_bytes().into());
        for (text, spelling) in [
            ("host", Spelling::LOWER),
            ("x-request-id", Spelling::LOWER),
            ("x-2-_a", Spelling::LOWER),
            ("Host", TITLE),
            ("A", TITLE),
            ("Content-Type", TITLE),
            ("X-B3-Traceid", TITLE),
            ("Aaaaaaa-Bbbbbbb", TITLE),
            ("Aaaaaaaa-Bbbbbbb-Cccccccc-9d", TITLE),
            ("--A-", TITLE),
            ("A!z`|~^_", TITLE),
            ("ETag", own("ETag")),
            ("DNT", own("DNT")),
            ("X-Request-ID", own("X-Request-ID")),
            ("x-Request-id", own("x-Request-id")),
            ("Aaaaaaaa-bbbbbbbb", own("Aaaaaaaa-bbbbbbbb")),
            ("Aaaaaaa-bbbbbbbb", own("Aaaaaaa-bbbbbbbb")),
            ("AaaaaaaA-Bbbbbbbb", own("AaaaaaaA-Bbbbbbbb")),
            ("A_B", own("A_B")),
        ] {
            assert_eq!(written(text), (spelling, format!("before {text}")));
        }
    }

    #[test]
    fn what_is_another_name_is_no_spelling() {
        let name = HeaderName::from_static("etag");
        assert_eq!(Spelling::of(&name, b"X-EVIL"), Spelling::LOWER);
    }

    #[test]
    fn a_name_is_known_in_every_case_and_no_other_is() {
        let name = b"content-type";
        for written in ["content-type", "Content-Type", "CONTENT-TYPE"] {
            assert!(is_written_as(name, written.as_bytes()), "{written}");
        }
        // The letters' bit alone makes no letter: \r is not `-`, nor `@` the same as a grave accent.
        for written in ["content-typ", "content-types", "content_type", "content\rtype", ""] {
            assert!(!is_written_as(name, written.as_bytes()), "{written:?}");
        }
        assert!(!is_written_as(b"`", b"@"));
    }

    proptest::proptest! {
        #[test]
        fn any_name_comes_back_as_it_was_written(text in "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,40}") {
            proptest::prop_assert_eq!(written(&text).1, format!("before {text}"));
        }
    }
}
