//! In how many ways a path may be read.
//!
//! Comes in: a request's path as it was sent, without query. Goes out: every text that an application could make of
//! it. Applications differ in what they decode, and when: `%2e%2e` and `%2F`, `//`, `/./`, `\`, `;parameters`. A
//! proxy that settles on one of these readings has rules that the others dodge, and one that rewrites the path
//! breaks applications for which the spelling matters. So the path is passed on as it is, and rules see all readings.
//!
//! Each reading decodes nothing, once, or until nothing is left to decode; then it does or does not each of: cutting
//! parameters off segments, joining `/`s, resolving dot segments (RFC 3986 5.2.4); and then what was not decoded is.
//! A path without any of these characters, nearly every one, has one reading and costs one look at its bytes.
//!
//! It must never give fewer readings than an application could have: what cannot be read safely is
//! [`Readings::Unreadable`].

use std::borrow::Cow;

/// Longer paths than this are not read in several ways: nobody honest sends them.
const MAX_BYTES: usize = 8 * 1024;

/// Decoding more often than this finds nothing new in what honest clients send.
const MAX_ROUNDS: usize = 4;

/// A path's readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readings<'a> {
    /// One: as it was sent.
    Plain(&'a str),
    /// These, each once.
    Several(Vec<String>),
    /// Not safely: malformed `%`, control characters or bytes that are no UTF-8 when decoded, or far too long. To
    /// what refuses it fits; to what allows it does not.
    Unreadable,
}

impl<'a> Readings<'a> {
    /// Of this path.
    #[must_use]
    pub fn of(path: &'a str) -> Self {
        if !needs_care(path.as_bytes()) {
            return Self::Plain(path);
        }
        if path.len() > MAX_BYTES {
            return Self::Unreadable;
        }
        several(path).map_or(Self::Unreadable, Self::Several)
    }
}

/// Whether more than one reading is possible.
fn needs_care(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().any(|&byte| {
        let slash_before = std::mem::replace(&mut before, byte) == b'/';
        matches!(byte, b'%' | b'\\' | b';') || slash_before && matches!(byte, b'/' | b'.')
    })
}

fn several(path: &str) -> Option<Vec<String>> {
    let once = decode(path)?;
    let whole = decode_whole(&once)?;
    let mut readings: Vec<String> = Vec::new();
    for (text, is_encoded) in [(path, true), (&*once, false), (&*whole, false)] {
        for choice in 0..8 {
            let structure =
                Structure { cut: choice & 1 != 0, join: choice & 2 != 0, resolve: choice & 4 != 0 };
            let mut reading = structure.read(text);
            if is_encoded {
                reading = decode(&reading)?.into_owned();
            }
            if !readings.contains(&reading) {
                readings.push(reading);
            }
        }
    }
    Some(readings)
}

/// What is done to a path beside decoding.
#[derive(Debug, Clone, Copy)]
struct Structure {
    /// Parameters are cut off segments, and everything behind a decoded `?` or `#`.
    cut: bool,
    /// Several `/` count as one, and `\` as one.
    join: bool,
    /// `.` and `..` are resolved.
    resolve: bool,
}

impl Structure {
    fn read(self, path: &str) -> String {
        let path = if self.cut { path.split(['?', '#']).next().unwrap_or_default() } else { path };
        let separators: &[char] = if self.join { &['/', '\\'] } else { &['/'] };
        let mut kept: Vec<&str> = Vec::new();
        let mut ends_in_folder = false;
        for segment in path.split(separators).skip(usize::from(path.starts_with(separators))) {
            let segment =
                if self.cut { segment.split(';').next().unwrap_or_default() } else { segment };
            ends_in_folder = segment.is_empty();
            match segment {
                "" if self.join => {}
                "." if self.resolve => ends_in_folder = true,
                ".." if self.resolve => {
                    kept.pop();
                    ends_in_folder = true;
                }
                segment => kept.push(segment),
            }
        }
        // A `/` at the end is an empty last segment, kept above where they are not joined.
        if ends_in_folder && kept.last().is_some_and(|last| !last.is_empty()) {
            kept.push("");
        }
        format!("/{}", kept.join("/"))
    }
}

/// Percent-decodes once; `None` for what is malformed, or not to be read as text.
#[must_use]
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    decode_with(text, None)
}

/// Decodes until a round changes nothing. Behind the first round a `%` that begins nothing means itself.
fn decode_whole(once: &str) -> Option<Cow<'_, str>> {
    let mut text = Cow::Borrowed(once);
    for _ in 0..MAX_ROUNDS {
        let next = decode_with(&text, Some(b'%'))?;
        if next == text {
            return Some(text);
        }
        text = Cow::Owned(next.into_owned());
    }
    None
}

/// Decodes; `instead` stands for a `%` that begins nothing, `None` refuses the text.
fn decode_with(text: &str, instead: Option<u8>) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        match bytes.get(at..at + 2).and_then(hexadecimal) {
            Some(value) if value.is_ascii_control() => return None,
            Some(value) => {
                decoded.push(value);
                at += 2;
            }
            None => decoded.push(instead?),
        }
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn hexadecimal(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (high, low) = (digit(digits[0])?, digit(digits[1])?);
    u8::try_from(high * 16 + low).ok()
}
