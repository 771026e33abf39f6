//! `HTTPRoute` (gateway.networking.k8s.io/v1): where HTTP requests to a service go.

use serde::{Deserialize, Serialize};

use super::{
    check,
    filter::{Filter, FilterType, check_filters, name_filters},
    matching::{
        HEADER, Method, PathMatch, PathMatchType, QUERY, ValueMatch, check_values, name_values,
    },
    other::Other,
    reference::{BackendRef, ParentRef, check_backends, check_parents},
    route::Fate,
    time::{Retry, Timeouts},
};
use crate::model::{FieldError, Kind, Metadata, Spec};

/// The most matches of all rules together.
const MOST_MATCHES: usize = 128;

/// What an HTTPRoute says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// The services that it routes for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentRef>,
    /// The hosts that it is for; none: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// Absent: one that takes everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rules: Option<Vec<HttpRule>>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

/// What is done with some requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRule {
    /// Its name, for policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which requests, any of them; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpMatch>,
    /// What is done to them, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// Where they go, by weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<BackendRef>,
    /// How long they may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// When they are tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// What becomes of it where it could not be read as it stands; see `salvage`.
    #[serde(skip)]
    pub(super) flawed: Option<Box<Fate>>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

/// Which requests: all that it says must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpMatch {
    /// By default the prefix "/".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<PathMatch>,
    /// All of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<ValueMatch>,
    /// All of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query_params: Vec<ValueMatch>,
    /// Any, by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

impl HttpMatch {
    /// How the path is compared, and with what.
    #[must_use]
    pub fn path(&self) -> (PathMatchType, &str) {
        self.path.as_ref().map_or((PathMatchType::PathPrefix, "/"), PathMatch::kind)
    }

    fn check(&self, at: &str) -> Result<(), FieldError> {
        self.path.as_ref().map_or(Ok(()), |path| path.check(&format!("{at}.path")))?;
        check_values(&format!("{at}.headers"), &self.headers, HEADER)?;
        check_values(&format!("{at}.queryParams"), &self.query_params, QUERY)
    }

    fn name_unsupported(&self, at: &str, found: &mut Vec<FieldError>) {
        self.other.name(at, found);
        if let Some(path) = &self.path {
            path.other.name(&format!("{at}.path"), found);
        }
        name_values(&format!("{at}.headers"), &self.headers, found);
        name_values(&format!("{at}.queryParams"), &self.query_params, found);
    }
}

impl HttpRule {
    fn check(&self, at: &str) -> Result<(), FieldError> {
        check::at_most(&format!("{at}.matches"), self.matches.len(), 64)?;
        for (index, one) in self.matches.iter().enumerate() {
            one.check(&format!("{at}.matches[{index}]"))?;
        }
        check_filters(&format!("{at}.filters"), &self.filters)?;
        check_backends(at, &self.backend_refs)?;
        for (index, backend) in self.backend_refs.iter().enumerate() {
            check_filters(&format!("{at}.backendRefs[{index}].filters"), &backend.filters)?;
        }
        self.timeouts.as_ref().map_or(Ok(()), |it| it.check(&format!("{at}.timeouts")))?;
        self.retry.as_ref().map_or(Ok(()), |it| it.check(&format!("{at}.retry")))?;
        self.check_together(at)
    }

    /// What the parts of a rule demand of each other.
    fn check_together(&self, at: &str) -> Result<(), FieldError> {
        let redirects =
            self.filters.iter().any(|filter| filter.r#type == FilterType::RequestRedirect);
        if redirects && !self.backend_refs.is_empty() {
            let message =
                "a redirected request goes nowhere: leave them out, or the RequestRedirect filter";
            return Err(FieldError::new(format!("{at}.backendRefs"), message));
        }
        let of_backends = self.backend_refs.iter().flat_map(|backend| &backend.filters);
        let needs_prefix = self.filters.iter().chain(of_backends).any(Filter::needs_prefix);
        let by_prefix = |one: &HttpMatch| one.path().0 == PathMatchType::PathPrefix;
        let only_prefixes = self.matches.len() <= 1 && self.matches.iter().all(by_prefix);
        if needs_prefix && !only_prefixes {
            let message =
                "replacePrefixMatch needs exactly one match, with a path of type PathPrefix";
            return Err(FieldError::new(format!("{at}.matches"), message));
        }
        Ok(())
    }

    /// What has no support in what the rule does to requests: it must not be skipped.
    pub(super) fn unsupported_filters(&self, at: &str) -> Vec<FieldError> {
        let mut found = Vec::new();
        name_filters(&format!("{at}.filters"), &self.filters, false, &mut found);
        for (index, backend) in self.backend_refs.iter().enumerate() {
            let at = format!("{at}.backendRefs[{index}].filters");
            name_filters(&at, &backend.filters, false, &mut found);
        }
        found
    }

    /// What else of the rule has no support.
    pub(super) fn unsupported(&self, at: &str) -> Vec<FieldError> {
        let mut found = Vec::new();
        self.other.name(at, &mut found);
        for (index, one) in self.matches.iter().enumerate() {
            one.name_unsupported(&format!("{at}.matches[{index}]"), &mut found);
        }
        for (index, backend) in self.backend_refs.iter().enumerate() {
            backend.name_unsupported(&format!("{at}.backendRefs[{index}]"), &mut found);
        }
        if let Some(timeouts) = &self.timeouts {
            timeouts.other.name(&format!("{at}.timeouts"), &mut found);
        }
        if let Some(retry) = &self.retry {
            retry.other.name(&format!("{at}.retry"), &mut found);
        }
        found
    }
}

impl HttpRouteSpec {
    /// Its rules, as written or by default.
    #[must_use]
    pub fn rules(&self) -> std::borrow::Cow<'_, [HttpRule]> {
        match &self.rules {
            Some(rules) => rules.as_slice().into(),
            None => vec![HttpRule::default()].into(),
        }
    }

    /// Those that are written, to be marked.
    pub(super) fn written_mut(&mut self) -> &mut [HttpRule] {
        self.rules.as_deref_mut().unwrap_or_default()
    }
}

impl Spec for HttpRouteSpec {
    const KIND: Kind = Kind::HTTPRoute;

    fn validate(&self, _: &Metadata) -> Result<(), FieldError> {
        check_parents(&self.parent_refs)?;
        check::hostnames(&self.hostnames)?;
        let rules = self.rules();
        check::at_most("spec.rules", rules.len(), 16)?;
        check::rule_names(rules.iter().map(|rule| rule.name.as_deref()))?;
        for (index, rule) in rules.iter().enumerate() {
            rule.check(&format!("spec.rules[{index}]"))?;
        }
        let matches = rules.iter().map(|rule| rule.matches.len()).sum();
        check::at_most("spec.rules", matches, MOST_MATCHES).map_err(|error| {
            let message = format!("the matches of all rules together: {}", error.message);
            FieldError::new(error.field, message)
        })
    }
}
