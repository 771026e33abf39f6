//! The routes of a service port: from the message to the tables of [`crate::route`].
//!
//! Comes in: rules and matches, in the control plane's order of precedence. Goes out: tables in the same order, or an
//! error that names the field. It must never let through a match or a filter that would do something else than it
//! says: a rule that is not understood in full could send requests where they do not belong.

use std::sync::Arc;

use http::{HeaderName, Method};
use weft_proto::{
    Pattern,
    discovery::{self as wire, backend, path_match, value_match},
};

use super::{Refused, filters, name, requests};
use crate::route::{
    Backend, Filter, HttpTable, OpaqueRule, OpaqueRules, Routes, Rule, Target, Weighted,
    matcher::{HostMatch, Match, PathMatch, ValueMatch},
    rewrite::PathRewrite,
};

/// All routes of a service port.
pub(super) fn routes(message: &wire::Routes) -> Result<Routes, Refused> {
    let http = message.http.as_ref().map(http_table).transpose();
    let http = http.map_err(|refused| refused.within("http"))?;
    let opaque = each("opaque", &message.opaque, |rule| opaque_rule(rule).map(Arc::new))?;
    Ok(Routes { http, opaque: OpaqueRules::new(opaque) })
}

/// Compiles every message of a list; an error says which one it is in.
pub(super) fn each<M, T>(
    field: &str,
    messages: &[M],
    compile: impl Fn(&M) -> Result<T, Refused>,
) -> Result<Vec<T>, Refused> {
    let at = |index: usize, refused: Refused| refused.within(&format!("{field}[{index}]"));
    let compile = |(index, message)| compile(message).map_err(|refused| at(index, refused));
    messages.iter().enumerate().map(compile).collect()
}

fn http_table(message: &wire::HttpRoutes) -> Result<HttpTable, Refused> {
    let rules = each("rules", &message.rules, rule)?;
    let matches = each("matches", &message.matches, |message| one_match(message, &rules))?;
    Ok(HttpTable::new(rules.into_iter().map(Arc::new).collect(), matches))
}

fn rule(message: &wire::HttpRule) -> Result<Rule, Refused> {
    let requests = message.requests.as_ref().map(requests::requests);
    Ok(Rule {
        name: message.name.as_str().into(),
        filters: each("filters", &message.filters, filters::filter)?.into(),
        requests: requests.transpose().map_err(|refused| refused.within("requests"))?.map(Arc::new),
        backends: backends(&message.backends)?,
    })
}

fn opaque_rule(message: &wire::OpaqueRule) -> Result<OpaqueRule, Refused> {
    let server_name = |text: &String| match host("server_names", text)? {
        HostMatch::Any => Err(Refused::new("server_names", "", "leave it out for any bytes")),
        named => Ok(named),
    };
    if let Some(index) = message.backends.iter().position(|backend| !backend.filters.is_empty()) {
        let field = format!("backends[{index}].filters");
        return Err(Refused::new(field, "", "opaque bytes have nothing to filter"));
    }
    Ok(OpaqueRule {
        name: message.name.as_str().into(),
        server_names: message.server_names.iter().map(server_name).collect::<Result<_, _>>()?,
        backends: backends(&message.backends)?,
    })
}

fn backends(messages: &[wire::Backend]) -> Result<Weighted<Arc<Backend>>, Refused> {
    let compiled = each("backends", messages, |message| {
        let filters = each("filters", &message.filters, filters::filter)?;
        let backend = Backend::new(target(message)?, filters.into());
        Ok((message.weight, Arc::new(backend)))
    })?;
    Ok(Weighted::new(compiled))
}

/// Where a backend is found.
pub(super) fn target(message: &wire::Backend) -> Result<Target, Refused> {
    match &message.target {
        Some(backend::Target::Service(text)) => name("service", text).map(Target::Service),
        Some(backend::Target::Invalid(why)) => Ok(Target::Invalid(why.as_str().into())),
        None => Err(Refused::new("target", "", "name a service, or say why there is none")),
    }
}

fn one_match(message: &wire::HttpMatch, rules: &[Rule]) -> Result<Match, Refused> {
    let number = message.rule.to_string();
    let index = usize::try_from(message.rule).ok();
    let (index, rule) = index
        .and_then(|index| Some((index, rules.get(index)?)))
        .ok_or_else(|| Refused::new("rule", number, format!("there are {} rules", rules.len())))?;
    let path = message.path.as_ref().map_or(Ok(PathMatch::Any), path)?;
    if matches!(path, PathMatch::Exact(_) | PathMatch::Pattern(_)) && replaces_prefix(rule) {
        let why = "its rule replaces a prefix, and only a prefix match has one";
        return Err(Refused::new("path", &*rule.name, why));
    }
    Ok(Match {
        rule: index,
        host: host("host", &message.host)?,
        path,
        method: method(&message.method)?,
        headers: each("headers", &message.headers, |message| {
            Ok((field_name("name", &message.name)?, value(message)?))
        })?
        .into(),
        query: each("query", &message.query, |message| {
            Ok((message.name.as_str().into(), value(message)?))
        })?
        .into(),
        grpc: message.grpc,
    })
}

/// Whether a filter of the rule or of its backends replaces the prefix by which a match took the request.
fn replaces_prefix(rule: &Rule) -> bool {
    let of_backends = rule.backends.iter().flat_map(|(_, backend)| &backend.filters);
    rule.filters.iter().chain(of_backends).any(|filter| match filter {
        Filter::Redirect(redirect) => matches!(redirect.path, Some(PathRewrite::Prefix(_))),
        Filter::Rewrite(rewrite) => matches!(rewrite.path, Some(PathRewrite::Prefix(_))),
        Filter::RequestHeaders(_) | Filter::ResponseHeaders(_) | Filter::Mirror(_) => false,
    })
}

fn host(field: &str, text: &str) -> Result<HostMatch, Refused> {
    let (suffix, is_wildcard) = match text.strip_prefix("*.") {
        Some(suffix) => (suffix, true),
        None => (text, false),
    };
    let is_name = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
            && text.split('.').all(|label| !label.is_empty())
    };
    match (text, is_wildcard) {
        ("", _) => Ok(HostMatch::Any),
        _ if !is_name(suffix) => {
            let right = "use a name without port, \"shop.example.com\" or \"*.example.com\"";
            Err(Refused::new(field, text, right))
        }
        (_, true) => Ok(HostMatch::Below(format!(".{}", suffix.to_ascii_lowercase()).into())),
        (_, false) => Ok(HostMatch::Exact(text.to_ascii_lowercase().into())),
    }
}

/// Which paths.
fn path(message: &wire::PathMatch) -> Result<PathMatch, Refused> {
    let absolute = |field: &str, text: &str| match text.starts_with('/') {
        true => Ok(()),
        false => Err(Refused::new(field, text, "begin it with a slash")),
    };
    match &message.kind {
        Some(path_match::Kind::Exact(text)) => {
            absolute("path.exact", text).map(|()| PathMatch::Exact(text.as_str().into()))
        }
        Some(path_match::Kind::Prefix(text)) => {
            absolute("path.prefix", text)?;
            let trimmed = text.strip_suffix('/').unwrap_or(text);
            Ok(PathMatch::Prefix(trimmed.into()))
        }
        Some(path_match::Kind::Pattern(text)) => {
            pattern("path.pattern", text).map(PathMatch::Pattern)
        }
        None => Err(Refused::new("path", "", "a kind of match that this proxy does not know")),
    }
}

fn method(text: &str) -> Result<Option<Method>, Refused> {
    if text.is_empty() {
        return Ok(None);
    }
    Method::from_bytes(text.as_bytes())
        .map(Some)
        .map_err(|_| Refused::new("method", text, "use a method of HTTP, \"GET\""))
}

fn value(message: &wire::ValueMatch) -> Result<ValueMatch, Refused> {
    match &message.kind {
        Some(value_match::Kind::Exact(text)) => Ok(ValueMatch::Exact(text.as_str().into())),
        Some(value_match::Kind::Pattern(text)) => pattern("pattern", text).map(ValueMatch::Pattern),
        Some(value_match::Kind::Prefix(text)) => Ok(ValueMatch::Prefix(text.as_str().into())),
        Some(value_match::Kind::Present(true)) => Ok(ValueMatch::Present),
        Some(value_match::Kind::Present(false)) => {
            Err(Refused::new("present", "false", "absence cannot be matched; use true"))
        }
        None => {
            Err(Refused::new(&*message.name, "", "a kind of match that this proxy does not know"))
        }
    }
}

fn pattern(field: &str, text: &str) -> Result<Pattern, Refused> {
    Pattern::new(text).map_err(|error| Refused::new(field, text, error))
}

/// The name of a field of HTTP.
pub(super) fn field_name(field: &str, text: &str) -> Result<HeaderName, Refused> {
    HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| Refused::new(field, text, "not the name of a field of HTTP"))
}

#[cfg(test)]
mod tests;
