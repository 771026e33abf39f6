//! The filters of a rule or a backend, from the message to what [`crate::route::filter`] does.
//!
//! Comes in: one message. Goes out: the filter, or an error that names the field. It must never let through a filter
//! that writes what belongs to a connection, to a message's framing or to the mesh.

use std::sync::Arc;

use http::{
    HeaderName, HeaderValue, StatusCode,
    uri::{Authority, PathAndQuery},
};
use weft_proto::{
    discovery::{self as wire, filter, path_rewrite},
    untouchable::why_untouchable,
};

use super::{
    Refused, port,
    routes::{each, field_name, target},
};
use crate::{
    http::fields::SpeltName,
    route::{
        Backend, Filter,
        filter::{Field, HeaderModifier},
        mirror::Mirror,
        redirect::{Redirect, Scheme},
        rewrite::{NewHost, PathRewrite, Rewrite},
    },
};

/// One filter.
pub(super) fn filter(message: &wire::Filter) -> Result<Filter, Refused> {
    let (kind, compiled) = match &message.kind {
        Some(filter::Kind::RequestHeaders(message)) => {
            ("request_headers", modifier(message).map(Filter::RequestHeaders))
        }
        Some(filter::Kind::ResponseHeaders(message)) => {
            ("response_headers", modifier(message).map(Filter::ResponseHeaders))
        }
        Some(filter::Kind::Redirect(message)) => {
            ("redirect", redirect(message).map(Filter::Redirect))
        }
        Some(filter::Kind::Rewrite(message)) => ("rewrite", rewrite(message).map(Filter::Rewrite)),
        Some(filter::Kind::Mirror(message)) => ("mirror", mirror(message).map(Filter::Mirror)),
        None => return Err(Refused::new("kind", "", "a filter that this proxy does not know")),
    };
    compiled.map_err(|refused| refused.within(kind))
}

fn modifier(message: &wire::HeaderModifier) -> Result<HeaderModifier, Refused> {
    Ok(HeaderModifier {
        set: each("set", &message.set, field)?.into(),
        add: each("add", &message.add, field)?.into(),
        remove: each("remove", &message.remove, |name| touchable("name", name))?.into(),
    })
}

fn field(message: &wire::HeaderValue) -> Result<Field, Refused> {
    let name = touchable("name", &message.name)?;
    let value = HeaderValue::from_bytes(message.value.as_bytes())
        .map_err(|_| Refused::new("value", &*message.value, "not a value of a field of HTTP"))?;
    Ok(Field { name: SpeltName::of(name, message.name.as_bytes()), value })
}

fn touchable(field: &str, text: &str) -> Result<HeaderName, Refused> {
    let name = field_name(field, text)?;
    match why_untouchable(name.as_str()) {
        Some(why) => Err(Refused::new(field, text, why)),
        None => Ok(name),
    }
}

fn redirect(message: &wire::Redirect) -> Result<Redirect, Refused> {
    let scheme = match message.scheme.as_deref() {
        None => None,
        Some("http") => Some(Scheme::Http),
        Some("https") => Some(Scheme::Https),
        Some(other) => return Err(Refused::new("scheme", other, "use http or https")),
    };
    let status = match message.status {
        301 => StatusCode::MOVED_PERMANENTLY,
        302 => StatusCode::FOUND,
        303 => StatusCode::SEE_OTHER,
        307 => StatusCode::TEMPORARY_REDIRECT,
        308 => StatusCode::PERMANENT_REDIRECT,
        other => {
            let right = "use 301, 302, 303, 307 or 308";
            return Err(Refused::new("status", other.to_string(), right));
        }
    };
    let host = message.host.as_deref().map(host).transpose()?;
    Ok(Redirect {
        scheme,
        host: host.map(|host| host.as_str().into()),
        path: message.path.as_ref().map(path).transpose()?,
        port: message.port.map(|number| port("port", number)).transpose()?,
        status,
    })
}

fn rewrite(message: &wire::Rewrite) -> Result<Rewrite, Refused> {
    let new_host = |text: &str| {
        let authority = host(text)?;
        let field = HeaderValue::from_str(text)
            .map_err(|_| Refused::new("host", text, "not a value of a field of HTTP"))?;
        Ok(NewHost { authority, field })
    };
    Ok(Rewrite {
        host: message.host.as_deref().map(new_host).transpose()?,
        path: message.path.as_ref().map(path).transpose()?,
    })
}

/// A host's name; a port is said elsewhere.
fn host(text: &str) -> Result<Authority, Refused> {
    text.parse::<Authority>()
        .ok()
        .filter(|authority| authority.host() == text && !text.is_empty())
        .ok_or_else(|| Refused::new("host", text, "use a name without port, \"shop.example.com\""))
}

fn path(message: &wire::PathRewrite) -> Result<PathRewrite, Refused> {
    let checked = |field: &str, text: &str| -> Result<Box<str>, Refused> {
        let is_path = text.starts_with('/')
            && !text.contains(['?', '#'])
            && PathAndQuery::try_from(text).is_ok_and(|path| path.as_str() == text);
        if is_path {
            Ok(text.into())
        } else {
            Err(Refused::new(field, text, "use a path that begins with a slash, without a query"))
        }
    };
    match &message.kind {
        Some(path_rewrite::Kind::Full(text)) => checked("path.full", text).map(PathRewrite::Full),
        // Nothing may stand in the place of a prefix.
        Some(path_rewrite::Kind::Prefix(text)) if text.is_empty() => {
            Ok(PathRewrite::Prefix("".into()))
        }
        Some(path_rewrite::Kind::Prefix(text)) => {
            checked("path.prefix", text).map(PathRewrite::Prefix)
        }
        None => Err(Refused::new("path", "", "a rewrite that this proxy does not know")),
    }
}

fn mirror(message: &wire::Mirror) -> Result<Mirror, Refused> {
    let Some(backend) = &message.backend else {
        return Err(Refused::new("backend", "", "name who gets the copies"));
    };
    let (numerator, denominator) = match message.denominator {
        0 => (1, 1),
        denominator => (message.numerator, denominator),
    };
    if numerator > denominator {
        let right = format!("use at most {denominator}, the denominator");
        return Err(Refused::new("numerator", numerator.to_string(), right));
    }
    let target = target(backend).map_err(|refused| refused.within("backend"))?;
    let backend = Arc::new(Backend::new(target, Box::default()));
    Ok(Mirror { backend, numerator, denominator })
}
