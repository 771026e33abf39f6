//! `GRPCRoute` (gateway.networking.k8s.io/v1): where calls of gRPC to a service go.

use serde::{Deserialize, Serialize};

use super::{
    check,
    filter::{Filter, check_filters, name_filters},
    matching::{HEADER, MatchType, ValueMatch, check_values, name_values},
    other::Other,
    reference::{BackendRef, ParentRef, check_backends, check_parents},
    route::Fate,
};
use crate::model::{FieldError, Kind, Metadata, Spec};

/// The most matches of all rules together.
const MOST_MATCHES: usize = 128;

/// What a GRPCRoute says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRouteSpec {
    /// The services that it routes for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentRef>,
    /// The hosts that it is for; none: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// What is done with some calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<GrpcRule>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

/// What is done with some calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRule {
    /// Its name, for policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which calls, any of them; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<GrpcMatch>,
    /// What is done to them, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// Where they go, by weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<BackendRef>,
    /// What becomes of it where it could not be read as it stands; see `salvage`.
    #[serde(skip)]
    pub(super) flawed: Option<Box<Fate>>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

/// Which calls: all that it says must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrpcMatch {
    /// Any, by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<MethodMatch>,
    /// All of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<ValueMatch>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

/// A service of gRPC, a method of it, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodMatch {
    /// By default `Exact`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r#type: Option<MatchType>,
    /// "shop.Cart", or a pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    /// "Add", or a pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

/// The paths of the calls that a method match takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallPath {
    /// Every call's.
    Any,
    /// "/shop.Cart/Add".
    Exact(String),
    /// All methods of a service: "/shop.Cart".
    Service(String),
    /// A pattern of the whole path.
    Pattern(String),
}

/// Any service or method: no '/' stands in either.
const ANY_PART: &str = "[^/]+";

impl MethodMatch {
    /// How service and method are compared.
    #[must_use]
    pub fn kind(&self) -> MatchType {
        self.r#type.unwrap_or(MatchType::Exact)
    }

    /// The service, as written; an empty one is any.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.service.as_deref().filter(|text| !text.is_empty())
    }

    /// The method, as written; an empty one is any.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        self.method.as_deref().filter(|text| !text.is_empty())
    }

    /// The paths of the calls.
    #[must_use]
    pub fn path(&self) -> CallPath {
        match (self.kind(), self.service(), self.method()) {
            (_, None, None) => CallPath::Any,
            (MatchType::Exact, Some(service), Some(method)) => {
                CallPath::Exact(format!("/{service}/{method}"))
            }
            (MatchType::Exact, Some(service), None) => CallPath::Service(format!("/{service}")),
            // An exact method is letters, digits and '_': it means itself.
            (MatchType::Exact, None, Some(method)) => {
                CallPath::Pattern(format!("/{ANY_PART}/{method}"))
            }
            (MatchType::RegularExpression, service, method) => {
                let part = |pattern: Option<&str>| {
                    pattern.map_or_else(|| ANY_PART.to_owned(), |pattern| format!("(?:{pattern})"))
                };
                CallPath::Pattern(format!("/{}/{}", part(service), part(method)))
            }
        }
    }

    fn check(&self, at: &str) -> Result<(), FieldError> {
        let parts = [("service", &self.service), ("method", &self.method)];
        if parts.iter().all(|(_, part)| part.is_none()) {
            return Err(FieldError::new(at, "names neither: give service, method or both"));
        }
        for (field, part) in parts {
            let (field, Some(part)) = (format!("{at}.{field}"), part) else { continue };
            check::length(&field, part, 0, 1024)?;
            if part.is_empty() {
                continue;
            }
            match self.kind() {
                MatchType::RegularExpression => check::pattern(&field, part)?,
                MatchType::Exact if is_name(part, field.ends_with("service")) => {}
                MatchType::Exact => {
                    let right = "use letters, digits and '_', in a service's name also '.'";
                    let message = format!("{part:?} is no name of gRPC: {right}");
                    return Err(FieldError::new(field, message));
                }
            }
        }
        // Both as one pattern, as the sidecar compiles it.
        match self.path() {
            CallPath::Pattern(whole) => check::pattern(at, &whole),
            CallPath::Any | CallPath::Exact(_) | CallPath::Service(_) => Ok(()),
        }
    }
}

/// Whether a text is an identifier of protobuf; a dotted one of several for services.
fn is_name(text: &str, dotted: bool) -> bool {
    let is_word = |word: &str| {
        let first = word.as_bytes().first();
        first.is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if dotted { text.trim_start_matches('.').split('.').all(is_word) } else { is_word(text) }
}

impl GrpcRule {
    fn check(&self, at: &str) -> Result<(), FieldError> {
        check::at_most(&format!("{at}.matches"), self.matches.len(), 64)?;
        for (index, one) in self.matches.iter().enumerate() {
            let at = format!("{at}.matches[{index}]");
            one.method.as_ref().map_or(Ok(()), |method| method.check(&format!("{at}.method")))?;
            check_values(&format!("{at}.headers"), &one.headers, HEADER)?;
        }
        check_filters(&format!("{at}.filters"), &self.filters)?;
        check_backends(at, &self.backend_refs)?;
        for (index, backend) in self.backend_refs.iter().enumerate() {
            check_filters(&format!("{at}.backendRefs[{index}].filters"), &backend.filters)?;
        }
        Ok(())
    }

    /// What has no support in what the rule does to calls: it must not be skipped.
    pub(super) fn unsupported_filters(&self, at: &str) -> Vec<FieldError> {
        let mut found = Vec::new();
        name_filters(&format!("{at}.filters"), &self.filters, true, &mut found);
        for (index, backend) in self.backend_refs.iter().enumerate() {
            let at = format!("{at}.backendRefs[{index}].filters");
            name_filters(&at, &backend.filters, true, &mut found);
        }
        found
    }

    /// What else of the rule has no support.
    pub(super) fn unsupported(&self, at: &str) -> Vec<FieldError> {
        let mut found = Vec::new();
        self.other.name(at, &mut found);
        for (index, one) in self.matches.iter().enumerate() {
            let at = format!("{at}.matches[{index}]");
            one.other.name(&at, &mut found);
            if let Some(method) = &one.method {
                method.other.name(&format!("{at}.method"), &mut found);
            }
            name_values(&format!("{at}.headers"), &one.headers, &mut found);
        }
        for (index, backend) in self.backend_refs.iter().enumerate() {
            backend.name_unsupported(&format!("{at}.backendRefs[{index}]"), &mut found);
        }
        found
    }
}

impl GrpcRouteSpec {
    /// Its rules, to be marked.
    pub(super) fn written_mut(&mut self) -> &mut [GrpcRule] {
        &mut self.rules
    }
}

impl Spec for GrpcRouteSpec {
    const KIND: Kind = Kind::GRPCRoute;

    fn validate(&self, _: &Metadata) -> Result<(), FieldError> {
        check_parents(&self.parent_refs)?;
        check::hostnames(&self.hostnames)?;
        check::at_most("spec.rules", self.rules.len(), 16)?;
        check::rule_names(self.rules.iter().map(|rule| rule.name.as_deref()))?;
        for (index, rule) in self.rules.iter().enumerate() {
            rule.check(&format!("spec.rules[{index}]"))?;
        }
        let matches = self.rules.iter().map(|rule| rule.matches.len()).sum();
        check::at_most("spec.rules", matches, MOST_MATCHES).map_err(|error| {
            let message = format!("the matches of all rules together: {}", error.message);
            FieldError::new(error.field, message)
        })
    }
}
