//! Redirects and rewrites: where a request is sent instead, and what it is made to say.

use serde::{Deserialize, Serialize};
use weft_proto::Port;

use super::{check, matching::is_path_text, other::Other};
use crate::model::FieldError;

/// Statuses that a redirect can have.
const STATUSES: [i64; 5] = [301, 302, 303, 307, 308];

/// Answers with where else to go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    /// "http" or "https"; by default the request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// By default the request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// By default the request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
    /// By default the scheme's, or the request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// By default 302.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status_code: Option<i64>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

impl Redirect {
    /// The answer's status.
    #[must_use]
    pub fn status(&self) -> u32 {
        self.status_code.and_then(|status| u32::try_from(status).ok()).unwrap_or(302)
    }

    pub(super) fn check(&self, at: &str) -> Result<(), FieldError> {
        if let Some(scheme) = &self.scheme
            && !matches!(scheme.as_str(), "http" | "https")
        {
            let message = format!("{scheme:?} is no scheme of HTTP: use \"http\" or \"https\"");
            return Err(FieldError::new(format!("{at}.scheme"), message));
        }
        if let Some(hostname) = &self.hostname {
            check::hostname(&format!("{at}.hostname"), hostname, false)?;
        }
        if let Some(status) = self.status_code
            && !STATUSES.contains(&status)
        {
            let message = format!("{status} is no redirect: use 301, 302, 303, 307 or 308");
            return Err(FieldError::new(format!("{at}.statusCode"), message));
        }
        self.path.as_ref().map_or(Ok(()), |path| path.check(&format!("{at}.path")))
    }

    pub(super) fn name_unsupported(&self, at: &str, found: &mut Vec<FieldError>) {
        self.other.name(at, found);
        if let Some(path) = &self.path {
            path.name_unsupported(&format!("{at}.path"), found);
        }
    }
}

/// Changes a request before it is sent on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    /// Instead of the request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// How the path is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

impl Rewrite {
    pub(super) fn check(&self, at: &str) -> Result<(), FieldError> {
        if let Some(hostname) = &self.hostname {
            check::hostname(&format!("{at}.hostname"), hostname, false)?;
        }
        self.path.as_ref().map_or(Ok(()), |path| path.check(&format!("{at}.path")))
    }

    pub(super) fn name_unsupported(&self, at: &str, found: &mut Vec<FieldError>) {
        self.other.name(at, found);
        if let Some(path) = &self.path {
            path.name_unsupported(&format!("{at}.path"), found);
        }
    }
}

/// How a path is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathModifier {
    /// Which of the two below.
    r#type: PathModifierType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replace_full_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replace_prefix_match: Option<String>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

/// What of a path is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathModifierType {
    /// All of it.
    ReplaceFullPath,
    /// The prefix by which the rule took the request.
    ReplacePrefixMatch,
}

impl PathModifier {
    /// What is replaced, and by what.
    #[must_use]
    pub fn kind(&self) -> (PathModifierType, &str) {
        let value = match self.r#type {
            PathModifierType::ReplaceFullPath => &self.replace_full_path,
            PathModifierType::ReplacePrefixMatch => &self.replace_prefix_match,
        };
        (self.r#type, value.as_deref().unwrap_or_default())
    }

    fn check(&self, at: &str) -> Result<(), FieldError> {
        let full = self.r#type == PathModifierType::ReplaceFullPath;
        let (right, wrong) = if full {
            ("replaceFullPath", "replacePrefixMatch")
        } else {
            ("replacePrefixMatch", "replaceFullPath")
        };
        let (given, stray) = if full {
            (&self.replace_full_path, &self.replace_prefix_match)
        } else {
            (&self.replace_prefix_match, &self.replace_full_path)
        };
        let kind = self.r#type;
        if stray.is_some() {
            let message = format!("does not go with type {kind:?}: use {right}");
            return Err(FieldError::new(format!("{at}.{wrong}"), message));
        }
        let field = format!("{at}.{right}");
        let Some(value) = given else {
            return Err(FieldError::new(field, format!("is missing: type {kind:?} needs it")));
        };
        check::length(&field, value, 0, 1024)
    }

    /// Names what of it has no support: the definition takes any text, but only a path can stand in a path's place.
    fn name_unsupported(&self, at: &str, found: &mut Vec<FieldError>) {
        self.other.name(at, found);
        let (kind, value) = self.kind();
        let field = match kind {
            PathModifierType::ReplaceFullPath => "replaceFullPath",
            // Nothing may stand in the place of a prefix.
            PathModifierType::ReplacePrefixMatch if value.is_empty() => return,
            PathModifierType::ReplacePrefixMatch => "replacePrefixMatch",
        };
        let wrong = if !value.starts_with('/') {
            "begin it with '/'"
        } else if value.contains(['?', '#']) {
            "leave out query and fragment, a request keeps its query"
        } else if !is_path_text(value) {
            "percent-encode what is not of a path (RFC 3986 section 3.3)"
        } else {
            return;
        };
        let message = format!("{value:?} is not supported, as it is no path: {wrong}");
        found.push(FieldError::new(format!("{at}.{field}"), message));
    }

    /// Whether it needs the rule's matches to be prefixes.
    #[must_use]
    pub fn needs_prefix(&self) -> bool {
        self.r#type == PathModifierType::ReplacePrefixMatch
    }
}
