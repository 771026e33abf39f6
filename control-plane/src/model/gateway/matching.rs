//! What tells requests apart: paths, headers, query parameters, methods.

use serde::{Deserialize, Serialize};

use super::{check, other::Other};
use crate::model::FieldError;

/// A path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathMatch {
    /// By default `PathPrefix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r#type: Option<PathMatchType>,
    /// By default "/".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

/// How a path is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathMatchType {
    /// The whole path.
    Exact,
    /// Its first segments.
    PathPrefix,
    /// By a pattern of the whole path.
    RegularExpression,
}

impl PathMatch {
    /// How the path is compared, and with what.
    #[must_use]
    pub fn kind(&self) -> (PathMatchType, &str) {
        let kind = self.r#type.unwrap_or(PathMatchType::PathPrefix);
        (kind, self.value.as_deref().unwrap_or("/"))
    }

    pub(super) fn check(&self, at: &str) -> Result<(), FieldError> {
        let field = format!("{at}.value");
        let (kind, value) = self.kind();
        check::length(&field, value, 1, 1024)?;
        if kind == PathMatchType::RegularExpression {
            return check::pattern(&field, value);
        }
        if let Some(wrong) = wrong_in_path(value) {
            return Err(FieldError::new(field, format!("{value:?} is no path: {wrong}")));
        }
        Ok(())
    }
}

/// What keeps a text from being a path as the Gateway API wants it: absolute, in its plainest form.
fn wrong_in_path(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("begin it with '/'");
    }
    if path.contains("//") {
        return Some("leave out the empty segment");
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Some("leave out the segments . and ..");
    }
    let lower = path.to_ascii_lowercase();
    if lower.contains("%2f") {
        return Some("leave out the encoded '/'");
    }
    if !is_path_text(path) {
        return Some("percent-encode what is not of a path (RFC 3986 section 3.3)");
    }
    None
}

/// Whether a text has only what can stand in a path (RFC 3986 section 3.3): plain characters, slashes, and octets that
/// are written as '%' and two hexadecimal digits.
pub(super) fn is_path_text(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let escaped = byte == b'%'
            && bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit())
            && bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit());
        if !is_plain(byte) && !escaped {
            return false;
        }
    }
    true
}

/// A header or a query parameter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueMatch {
    /// By default `Exact`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r#type: Option<MatchType>,
    /// Its name.
    pub name: String,
    /// Its value, or a pattern of it.
    pub value: String,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MatchType {
    /// It is this one.
    Exact,
    /// By a pattern of the whole value.
    RegularExpression,
}

impl ValueMatch {
    /// How the value is compared.
    #[must_use]
    pub fn kind(&self) -> MatchType {
        self.r#type.unwrap_or(MatchType::Exact)
    }

    fn check(&self, at: &str, longest: usize) -> Result<(), FieldError> {
        // A query parameter's name is bound by the same rule as a header's.
        check::header_name(&format!("{at}.name"), &self.name)?;
        let field = format!("{at}.value");
        check::length(&field, &self.value, 1, longest)?;
        match self.kind() {
            MatchType::Exact => Ok(()),
            MatchType::RegularExpression => check::pattern(&field, &self.value),
        }
    }
}

/// The longest value of a header, and of a query parameter.
pub(super) const HEADER: usize = 4096;
pub(super) const QUERY: usize = 1024;

/// Checks matches of headers or query parameters, each with another name.
pub(super) fn check_values(
    at: &str,
    values: &[ValueMatch],
    longest: usize,
) -> Result<(), FieldError> {
    check::at_most(at, values.len(), 16)?;
    for (index, value) in values.iter().enumerate() {
        value.check(&format!("{at}[{index}]"), longest)?;
        if values[..index].iter().any(|earlier| earlier.name == value.name) {
            let message = format!("{:?} stands twice: use each name once", value.name);
            return Err(FieldError::new(format!("{at}[{index}].name"), message));
        }
    }
    Ok(())
}

/// Names what of matches has no support.
pub(super) fn name_values(at: &str, values: &[ValueMatch], found: &mut Vec<FieldError>) {
    for (index, value) in values.iter().enumerate() {
        value.other.name(&format!("{at}[{index}]"), found);
    }
}

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "they say it themselves")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

impl Method {
    /// "GET".
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
        }
    }
}
