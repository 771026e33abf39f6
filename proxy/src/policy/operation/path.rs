//! In how many ways a path may be read.
//!
//! Comes in: a request's path as it was sent, without query. Goes out: every text that an application could make of
//! it. Applications differ in what they decode, and when: `%2e%2e` and `%2F`, `//`, `/./`, `\`, `;parameters`. A
//! proxy that settles on one of these readings has rules that the others dodge, and one that rewrites the path
//! breaks applications for which the spelling matters. So the path is passed on as it is, and rules see all readings.
//!
//! A reading is what any order of these steps leads to ([`STEPS`]), each taken or not: decoding once, cutting
//! parameters off segments, cutting at a decoded `?` or `#`, taking `\` for `/`, joining `/`s, resolving dot segments
//! (RFC 3986 5.2.4). What has not been decoded yet is none. Each step makes a path shorter or leaves it, or
//! has nothing left to do when it is taken again, so there is an end. A path without any of these characters, nearly
//! every one, has one reading and costs one look at its bytes.
//!
//! It must never give fewer readings than an application could have: what cannot be read safely, or in too many ways,
//! is [`Readings::Unreadable`].

#[cfg(any(test, fuzzing))]
pub mod properties;

use std::borrow::Cow;

/// Longer paths than this are not read in several ways: nobody honest sends them.
const MAX_BYTES: usize = 4 * 1024;

/// A path that can be read in more ways than this is meant to confuse.
const MAX_TEXTS: usize = 96;

/// A path's readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readings<'a> {
    /// One: as it was sent.
    Plain(&'a str),
    /// These, each once.
    Several(Vec<String>),
    /// Not safely: malformed `%`, control characters or bytes that are no UTF-8 when decoded, far too long, or in too
    /// many ways. To what refuses it fits; to what allows it does not.
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

/// What an application may do to a path, beside decoding it.
const STEPS: [fn(&str) -> String; 5] =
    [cut_parameters, cut_query, turn_backslashes, join_slashes, resolve_dots];

/// A path on its way to a reading.
#[derive(Debug, PartialEq, Eq)]
struct Text {
    path: String,
    is_decoded: bool,
}

fn several(path: &str) -> Option<Vec<String>> {
    let mut texts = vec![Text { path: path.to_owned(), is_decoded: false }];
    let mut at = 0;
    while let Some(Text { path, is_decoded }) = texts.get(at) {
        // Only at first a `%` that begins nothing is malformed: later an application may have meant it.
        let decoded = decode_with(path, is_decoded.then_some(b'%'))?.into_owned();
        let mut next = vec![Text { path: decoded, is_decoded: true }];
        let is_decoded = *is_decoded;
        next.extend(STEPS.iter().map(|step| Text { path: step(path), is_decoded }));
        for text in next {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        if texts.len() > MAX_TEXTS {
            return None;
        }
        at += 1;
    }
    Some(texts.into_iter().filter(|text| text.is_decoded).map(|text| text.path).collect())
}

fn cut_parameters(path: &str) -> String {
    let segments = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    segments.collect::<Vec<_>>().join("/")
}

fn cut_query(path: &str) -> String {
    path.split(['?', '#']).next().unwrap_or_default().to_owned()
}

fn turn_backslashes(path: &str) -> String {
    path.replace('\\', "/")
}

fn join_slashes(path: &str) -> String {
    let mut joined = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !joined.ends_with('/') {
            joined.push(character);
        }
    }
    joined
}

fn resolve_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_folder = false;
    for segment in path.split('/').skip(usize::from(path.starts_with('/'))) {
        ends_in_folder = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    if ends_in_folder {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

/// Percent-decodes once; `None` for what is malformed, or not to be read as text.
#[must_use]
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    decode_with(text, None)
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
