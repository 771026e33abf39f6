//! Text to objects: YAML of several documents, or JSON. Every error names what a person needs to find and
//! right the mistake; nothing here reads a file or keeps anything.

use std::fmt::{self, Write as _};

use serde::{Deserialize, de::IgnoredAny};
use serde_norway::Deserializer;

use super::{
    kinds::{Fields, KINDS, Kind, KindInfo, Object},
    locate::{line_in, locate},
    metadata::Metadata,
    object::{FieldError, ObjectKey, Resource, Spec, Status},
    shown::refuse_marked,
};

/// An object that was refused, or text that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ParseError {
    /// The file's name, as the user knows it; empty for text that came by the API.
    pub file: String,
    /// From 1; 0 when unknown.
    pub line: usize,
    /// "KIND NAMESPACE/NAME", as far as known; may be empty.
    pub object: String,
    /// The field's path, the value, what would be right.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.is_empty(), self.line) {
            (true, _) => {}
            (false, 0) => write!(f, "{}: ", self.file)?,
            (false, line) => write!(f, "{}:{line}: ", self.file)?,
        }
        if !self.object.is_empty() {
            write!(f, "{}: ", self.object)?;
        }
        f.write_str(&self.message)
    }
}

/// An object and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The object, checked, its namespace filled in.
    pub object: Object,
    /// The line on which its document's `kind` stands, from 1; 0 when unknown.
    pub line: usize,
}

/// Nobody reads more mistakes of one file at once, and finding the place of each takes time.
const MOST_ERRORS: usize = 20;

/// Every object of a text, or what is wrong with it, document by document. Empty documents are skipped.
///
/// `file` is what errors call the text; it may be empty.
#[must_use]
pub fn parse_documents(file: &str, text: &str) -> Vec<Result<Parsed, ParseError>> {
    let text = plain_unicode(text.trim_start_matches('\u{feff}'));
    let mut results = Vec::new();
    let mut errors = 0;
    // Each document is read three times, for its kind, its place and itself: the readers walk through the
    // text in step.
    let reader = || Deserializer::from_str(&text);
    for (index, ((first, second), third)) in reader().zip(reader()).zip(reader()).enumerate() {
        let mut at = Place { file, text: &text, document: index, object: String::new() };
        if errors == MOST_ERRORS {
            let more = "there may be more mistakes from here on: right the others first";
            results.push(Err(at.error(locate(&text, index, ""), more.to_owned())));
            break;
        }
        match Option::<Header>::deserialize(first) {
            Ok(None) => continue,
            Ok(Some(header)) => {
                let object = parse_document(&mut at, &header, second);
                let line = line_in(third, &["kind"]).unwrap_or(0);
                results.push(object.map(|object| Parsed { object, line }));
            }
            Err(error) => match IgnoredAny::deserialize(second) {
                Ok(_) => results.push(Err(at.yaml_error(&error))),
                // No YAML: what stands behind it cannot be read either.
                Err(error) => {
                    results.push(Err(at.yaml_error(&error)));
                    break;
                }
            },
        }
        errors += usize::from(results.last().is_some_and(Result::is_err));
    }
    results
}

/// One document of a text without odd characters, by two readers at it, as strictly as [`parse_documents`].
///
/// # Errors
/// When it is no object.
pub(super) fn parse_nth(
    text: &str,
    document: usize,
    first: Deserializer<'_>,
    second: Deserializer<'_>,
) -> Result<Object, ParseError> {
    let mut at = Place { file: "", text, document, object: String::new() };
    let header = Header::deserialize(first).map_err(|error| at.yaml_error(&error))?;
    parse_document(&mut at, &header, second)
}

/// The one object of a text, as it comes by the API.
///
/// # Errors
/// When the text is no object, or more than one.
pub fn parse_object(text: &str) -> Result<Object, ParseError> {
    let mut documents = parse_documents("", text).into_iter();
    match (documents.next(), documents.next()) {
        (Some(parsed), None) => parsed.map(|parsed| parsed.object),
        (None, _) => Err(ParseError {
            file: String::new(),
            line: 0,
            object: String::new(),
            message: "the text is empty: give an object with apiVersion, kind and metadata".into(),
        }),
        (Some(_), Some(_)) => Err(ParseError {
            file: String::new(),
            line: 0,
            object: String::new(),
            message: "the text holds several objects: give one at a time".into(),
        }),
    }
}

/// An object's metadata and status, and of its spec what is given here: for one whose spec cannot be read.
///
/// # Errors
/// When even that is no object.
pub fn parse_outline(text: &str) -> Result<Object, ParseError> {
    let mut at = Place { file: "", text, document: 0, object: String::new() };
    let header = Header::deserialize(Deserializer::from_str(text));
    let header = header.map_err(|error| at.yaml_error(&error))?;
    at.object = header.object();
    let info = header.kind().map_err(|error| at.field_error(&error))?;
    let object = (info.parse)(Deserializer::from_str(text));
    let mut object = object.map_err(|error| at.yaml_error(&error))?;
    object.metadata_mut().complete(info).map_err(|error| at.field_error(&error))?;
    Ok(object)
}

/// How a kind's documents are read.
pub(super) type ParseFn = fn(Deserializer<'_>) -> Result<Object, serde_norway::Error>;

/// Reads a document as an object of one kind.
pub(super) fn parse_as<S: Spec>(document: Deserializer<'_>) -> Result<Object, serde_norway::Error>
where
    Object: From<Resource<S>>,
{
    let resource = match S::KIND.info().fields {
        Fields::Strict => StrictDocument::<S>::deserialize(document)?.into(),
        Fields::Lenient => LenientDocument::<S>::deserialize(document)?.into(),
    };
    Ok(Object::from(resource))
}

/// The two shapes of a document: they differ in what an unknown field means.
macro_rules! document {
    ($name:ident $(, #[$strictness:meta])?) => {
        #[derive(Deserialize)]
        #[serde(bound = "S: Spec")]
        $(#[$strictness])?
        struct $name<S: Spec> {
            #[serde(rename = "apiVersion")]
            _api_version: IgnoredAny,
            #[serde(rename = "kind")]
            _kind: IgnoredAny,
            metadata: Metadata,
            #[serde(default)]
            spec: Option<S>,
            #[serde(default)]
            status: Option<Status>,
        }

        impl<S: Spec> From<$name<S>> for Resource<S> {
            fn from(document: $name<S>) -> Self {
                Self {
                    metadata: document.metadata,
                    spec: document.spec.unwrap_or_default(),
                    status: document.status.unwrap_or_default(),
                }
            }
        }
    };
}
document!(StrictDocument, #[serde(deny_unknown_fields)]);
document!(LenientDocument);

/// What tells the kind of a document, and what to call it in an error.
#[derive(Deserialize)]
struct Header {
    #[serde(default, rename = "apiVersion")]
    api_version: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    metadata: Option<HeaderNames>,
}

#[derive(Default, Deserialize)]
struct HeaderNames {
    #[serde(default)]
    name: Option<serde_norway::Value>,
    #[serde(default)]
    namespace: Option<serde_norway::Value>,
}

impl Header {
    fn kind(&self) -> Result<&'static KindInfo, FieldError> {
        let kind = self.kind.as_deref().unwrap_or_default();
        let info = KINDS.iter().find(|info| info.name == kind).ok_or_else(|| {
            FieldError::new(
                "kind",
                format!("{kind:?} is no known kind: use one of {}", Kind::known()),
            )
        })?;
        let version = self.api_version.as_deref().unwrap_or_default();
        if info.versions().any(|known| known == version) {
            return Ok(info);
        }
        let right: Vec<String> = info.versions().map(|known| format!("{known:?}")).collect();
        let right = right.join(" or ");
        Err(FieldError::new("apiVersion", format!("{version:?} has no {kind}: use {right}")))
    }

    /// What an error calls the object.
    fn object(&self) -> String {
        let kind = self.kind.as_deref().unwrap_or("object");
        let text = |value: &Option<serde_norway::Value>| {
            value.as_ref().and_then(|value| value.as_str()).map(str::to_owned)
        };
        let names = self.metadata.as_ref();
        let name = names.and_then(|names| text(&names.name)).unwrap_or_else(|| "(unnamed)".into());
        match names.and_then(|names| text(&names.namespace)) {
            Some(namespace) => format!("{kind} {namespace}/{name}"),
            None => format!("{kind} {name}"),
        }
    }
}

/// Where in which text an object is being read.
struct Place<'a> {
    file: &'a str,
    text: &'a str,
    document: usize,
    object: String,
}

fn parse_document(
    at: &mut Place<'_>,
    header: &Header,
    document: Deserializer<'_>,
) -> Result<Object, ParseError> {
    at.object = header.object();
    let info = header.kind().map_err(|error| at.field_error(&error))?;
    let mut object = (info.parse)(document).map_err(|error| at.yaml_error(&error))?;
    object.metadata_mut().complete(info).map_err(|error| at.field_error(&error))?;
    let key: ObjectKey = object.key();
    at.object = key.to_string();
    refuse_marked(object.metadata()).map_err(|error| at.field_error(&error))?;
    object.validate().map_err(|error| at.field_error(&error))?;
    Ok(object)
}

impl Place<'_> {
    fn error(&self, line: usize, message: String) -> ParseError {
        ParseError { file: self.file.to_owned(), line, object: self.object.clone(), message }
    }

    fn field_error(&self, error: &FieldError) -> ParseError {
        self.error(locate(self.text, self.document, &error.field), error.to_string())
    }

    fn yaml_error(&self, error: &serde_norway::Error) -> ParseError {
        let message = error.to_string();
        let Some(location) = error.location() else { return self.error(0, message) };
        // The line goes before the message, not behind it.
        let tail = format!(" at line {} column {}", location.line(), location.column());
        let message = message.strip_suffix(&tail).unwrap_or(&message).to_owned();
        self.error(location.line(), message)
    }
}

/// JSON is YAML, but that YAML knows no `\uD83D\uDE00` pairs, and does not take every character as it stands:
/// some end a line, some are not allowed. In JSON the first are written out and the others escaped, in place, so
/// that every line stays where it is.
pub(super) fn plain_unicode(text: &str) -> std::borrow::Cow<'_, str> {
    let is_json = text.trim_start().starts_with('{')
        && (text.contains("\\u") || text.contains(|character| character > '~'))
        && serde_json::from_str::<IgnoredAny>(text).is_ok();
    if !is_json {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if let Some(written) = surrogate_pair(&text[at..]) {
            plain.push(written);
            characters.nth(PAIR - 2);
            continue;
        }
        match character {
            '\u{7f}'..='\u{ffff}' => {
                // Writing to a String cannot fail.
                let _ = write!(plain, "\\u{:04x}", u32::from(character));
            }
            '\\' => {
                // What is escaped begins no escape of its own.
                plain.push(character);
                plain.extend(characters.next().map(|(_, escaped)| escaped));
            }
            _ => plain.push(character),
        }
    }
    plain.into()
}

/// The characters of a pair, all of them ASCII.
const PAIR: usize = "\\uD83D\\uDE00".len();

/// The character that a text's first two escapes make together.
fn surrogate_pair(text: &str) -> Option<char> {
    let unit = |text: &str| u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok();
    let units = [unit(text)?, unit(text.get(PAIR / 2..)?)?];
    let mut characters = char::decode_utf16(units);
    let first = characters.next()?.ok()?;
    characters.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests;
