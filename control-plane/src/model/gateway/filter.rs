//! What is done to a request on its way, and to its response.

use serde::{Deserialize, Serialize};
use weft_proto::untouchable::why_untouchable;

use super::{
    check,
    other::{Other, unsupported},
    reference::BackendRef,
    rewrite::{Redirect, Rewrite},
};
use crate::model::FieldError;

/// One step. The field that its type names is there, and no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// What it does.
    pub r#type: FilterType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_header_modifier: Option<HeaderFilter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    response_header_modifier: Option<HeaderFilter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_mirror: Option<Mirror>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_redirect: Option<Redirect>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url_rewrite: Option<Rewrite>,
    /// What Weft does not know; with the types that it does not support, what they mean.
    #[serde(flatten)]
    pub other: Other,
}

/// What a filter does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "they say it themselves")]
pub enum FilterType {
    RequestHeaderModifier,
    ResponseHeaderModifier,
    RequestMirror,
    RequestRedirect,
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
    /// Known, but without support.
    ExtensionRef,
    /// Known, but without support.
    #[serde(rename = "CORS")]
    Cors,
    /// Known, but without support.
    ExternalAuth,
}

/// What a filter does, with all that it needs for it.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "they say it themselves")]
pub enum Action<'a> {
    RequestHeaders(&'a HeaderFilter),
    ResponseHeaders(&'a HeaderFilter),
    Mirror(&'a Mirror),
    Redirect(&'a Redirect),
    Rewrite(&'a Rewrite),
}

impl Filter {
    /// What it does; `None` where that has no support.
    #[must_use]
    pub fn action(&self) -> Option<Action<'_>> {
        match self.r#type {
            FilterType::RequestHeaderModifier => {
                self.request_header_modifier.as_ref().map(Action::RequestHeaders)
            }
            FilterType::ResponseHeaderModifier => {
                self.response_header_modifier.as_ref().map(Action::ResponseHeaders)
            }
            FilterType::RequestMirror => self.request_mirror.as_ref().map(Action::Mirror),
            FilterType::RequestRedirect => self.request_redirect.as_ref().map(Action::Redirect),
            FilterType::UrlRewrite => self.url_rewrite.as_ref().map(Action::Rewrite),
            FilterType::ExtensionRef | FilterType::Cors | FilterType::ExternalAuth => None,
        }
    }

    /// Whether it changes a path by the prefix that its rule's match took it by.
    pub(super) fn needs_prefix(&self) -> bool {
        let path = match self.action() {
            Some(Action::Redirect(redirect)) => redirect.path.as_ref(),
            Some(Action::Rewrite(rewrite)) => rewrite.path.as_ref(),
            Some(Action::RequestHeaders(_) | Action::ResponseHeaders(_) | Action::Mirror(_))
            | None => None,
        };
        path.is_some_and(super::rewrite::PathModifier::needs_prefix)
    }

    /// Checks the filter by itself.
    fn check(&self, at: &str) -> Result<(), FieldError> {
        let kind = self.r#type;
        let fields = [
            (
                "requestHeaderModifier",
                FilterType::RequestHeaderModifier,
                self.request_header_modifier.is_some(),
            ),
            (
                "responseHeaderModifier",
                FilterType::ResponseHeaderModifier,
                self.response_header_modifier.is_some(),
            ),
            ("requestMirror", FilterType::RequestMirror, self.request_mirror.is_some()),
            ("requestRedirect", FilterType::RequestRedirect, self.request_redirect.is_some()),
            ("urlRewrite", FilterType::UrlRewrite, self.url_rewrite.is_some()),
        ];
        for (field, of, given) in fields {
            let message = match (of == kind, given) {
                (true, false) => format!("is missing: type {kind:?} needs it"),
                (false, true) => format!("does not go with type {kind:?}: leave it out"),
                (true, true) | (false, false) => continue,
            };
            return Err(FieldError::new(format!("{at}.{field}"), message));
        }
        match self.action() {
            Some(Action::RequestHeaders(it)) => it.check(&format!("{at}.requestHeaderModifier")),
            Some(Action::ResponseHeaders(it)) => it.check(&format!("{at}.responseHeaderModifier")),
            Some(Action::Mirror(it)) => it.check(&format!("{at}.requestMirror")),
            Some(Action::Redirect(it)) => it.check(&format!("{at}.requestRedirect")),
            Some(Action::Rewrite(it)) => it.check(&format!("{at}.urlRewrite")),
            None => Ok(()),
        }
    }

    /// Names what of the filter has no support.
    fn name_unsupported(&self, at: &str, of_grpc: bool, found: &mut Vec<FieldError>) {
        let action = self.action();
        let turned = matches!(action, Some(Action::Redirect(_) | Action::Rewrite(_)));
        if action.is_none() || (of_grpc && turned) {
            found.push(unsupported(format!("{at}.type {:?}", self.r#type)));
            return;
        }
        self.other.name(at, found);
        match action {
            Some(Action::RequestHeaders(it)) => {
                it.name_unsupported(&format!("{at}.requestHeaderModifier"), found);
            }
            Some(Action::ResponseHeaders(it)) => {
                it.name_unsupported(&format!("{at}.responseHeaderModifier"), found);
            }
            Some(Action::Mirror(it)) => it.name_unsupported(&format!("{at}.requestMirror"), found),
            Some(Action::Redirect(it)) => {
                it.name_unsupported(&format!("{at}.requestRedirect"), found);
            }
            Some(Action::Rewrite(it)) => it.name_unsupported(&format!("{at}.urlRewrite"), found),
            None => {}
        }
    }
}

/// Checks a list of filters.
pub(super) fn check_filters(at: &str, filters: &[Filter]) -> Result<(), FieldError> {
    check::at_most(at, filters.len(), 16)?;
    for (index, filter) in filters.iter().enumerate() {
        filter.check(&format!("{at}[{index}]"))?;
        let repeats = matches!(filter.r#type, FilterType::RequestMirror | FilterType::ExtensionRef);
        if !repeats && filters[..index].iter().any(|earlier| earlier.r#type == filter.r#type) {
            let message = format!("{:?} stands twice: use it once in a list", filter.r#type);
            return Err(FieldError::new(format!("{at}[{index}].type"), message));
        }
    }
    let has = |kind| filters.iter().any(|filter| filter.r#type == kind);
    if has(FilterType::RequestRedirect) && has(FilterType::UrlRewrite) {
        let message = "RequestRedirect and URLRewrite exclude each other: use one of them";
        return Err(FieldError::new(at, message));
    }
    Ok(())
}

/// Names what of a list of filters has no support.
pub(super) fn name_filters(
    at: &str,
    filters: &[Filter],
    of_grpc: bool,
    found: &mut Vec<FieldError>,
) {
    for (index, filter) in filters.iter().enumerate() {
        filter.name_unsupported(&format!("{at}[{index}]"), of_grpc, found);
    }
}

/// Changes headers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderFilter {
    /// Instead of what is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<HeaderValue>,
    /// Beside what is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<HeaderValue>,
    /// Names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

/// A header.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderValue {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl HeaderFilter {
    fn check(&self, at: &str) -> Result<(), FieldError> {
        for (list, values) in [("set", &self.set), ("add", &self.add)] {
            let list = format!("{at}.{list}");
            check::at_most(&list, values.len(), 16)?;
            for (index, header) in values.iter().enumerate() {
                let field = format!("{list}[{index}]");
                check::header_name(&format!("{field}.name"), &header.name)?;
                let value = format!("{field}.value");
                check::length(&value, &header.value, 1, 4096)?;
                if header.value.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
                    let message = format!(
                        "{:?} is no header's value: leave out control characters",
                        header.value
                    );
                    return Err(FieldError::new(value, message));
                }
                if values[..index].iter().any(|earlier| earlier.name == header.name) {
                    let message = format!("{:?} stands twice: use each name once", header.name);
                    return Err(FieldError::new(format!("{field}.name"), message));
                }
            }
        }
        check::at_most(&format!("{at}.remove"), self.remove.len(), 16)?;
        for (index, name) in self.remove.iter().enumerate() {
            check::header_name(&format!("{at}.remove[{index}]"), name)?;
        }
        Ok(())
    }

    fn name_unsupported(&self, at: &str, found: &mut Vec<FieldError>) {
        self.other.name(at, found);
        let named = |list, values: &[HeaderValue]| -> Vec<(String, String)> {
            let values = values.iter().enumerate();
            values.map(|(i, it)| (format!("{at}.{list}[{i}].name"), it.name.clone())).collect()
        };
        let removed = self.remove.iter().enumerate();
        let removed = removed.map(|(i, name)| (format!("{at}.remove[{i}]"), name.clone()));
        let all = named("set", &self.set).into_iter().chain(named("add", &self.add)).chain(removed);
        found.extend(all.filter_map(|(field, name)| {
            let why = why_untouchable(&name)?;
            Some(FieldError::new(field, format!("{name:?} is not supported: {why}")))
        }));
    }
}

/// Sends a copy of requests elsewhere, and throws the answers away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    /// Where to.
    pub backend_ref: BackendRef,
    /// Of how many requests in a hundred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    percent: Option<i64>,
    /// Of how many requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fraction: Option<Fraction>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

/// So many of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fraction {
    numerator: i64,
    /// By default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    denominator: Option<i64>,
}

impl Mirror {
    /// Of how many requests, `(numerator, denominator)`; `None`: of all.
    #[must_use]
    pub fn share(&self) -> Option<(u32, u32)> {
        let number = |value: i64| u32::try_from(value).unwrap_or(u32::MAX);
        let fraction =
            self.fraction.map(|of| (number(of.numerator), number(of.denominator.unwrap_or(100))));
        fraction.or_else(|| self.percent.map(|percent| (number(percent), 100)))
    }

    fn check(&self, at: &str) -> Result<(), FieldError> {
        self.backend_ref.check(&format!("{at}.backendRef"))?;
        if self.percent.is_some() && self.fraction.is_some() {
            return Err(FieldError::new(
                at,
                "percent and fraction exclude each other: use one of them",
            ));
        }
        if let Some(percent) = self.percent {
            check::within(&format!("{at}.percent"), percent, 0, 100)?;
        }
        let Some(Fraction { numerator, denominator }) = self.fraction else { return Ok(()) };
        let (field, most) = (format!("{at}.fraction"), i64::from(i32::MAX));
        let denominator = denominator.unwrap_or(100);
        check::within(&format!("{field}.denominator"), denominator, 1, most)?;
        check::within(&format!("{field}.numerator"), numerator, 0, denominator)
    }

    fn name_unsupported(&self, at: &str, found: &mut Vec<FieldError>) {
        self.other.name(at, found);
        self.backend_ref.name_unsupported_bare(&format!("{at}.backendRef"), found);
    }
}
