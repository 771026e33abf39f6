//! Filters, as they travel.

use weft_proto::discovery::{self, filter::Kind, path_rewrite};

use super::{
    backend::{Referrer, to_wire},
    http::At,
};
use crate::model::gateway::{
    filter::{Action, Filter, HeaderFilter, HeaderValue, Mirror},
    rewrite::{PathModifier, PathModifierType, Redirect, Rewrite},
};

impl At<'_> {
    /// All filters of a list; one without support is nobody's who asks here.
    pub(super) fn filters(
        &self,
        referrer: Referrer<'_>,
        filters: &[Filter],
    ) -> Vec<discovery::Filter> {
        let actions = filters.iter().filter_map(Filter::action);
        let kinds = actions.map(|action| match action {
            Action::RequestHeaders(it) => Kind::RequestHeaders(headers(it)),
            Action::ResponseHeaders(it) => Kind::ResponseHeaders(headers(it)),
            Action::Redirect(it) => Kind::Redirect(redirect(it)),
            Action::Rewrite(it) => Kind::Rewrite(rewrite(it)),
            Action::Mirror(it) => Kind::Mirror(self.mirror(referrer, it)),
        });
        kinds.map(|kind| discovery::Filter { kind: Some(kind) }).collect()
    }

    fn mirror(&self, referrer: Referrer<'_>, mirror: &Mirror) -> discovery::Mirror {
        let (numerator, denominator) = mirror.share().unwrap_or_default();
        let found = self.backend(referrer, &mirror.backend_ref);
        discovery::Mirror { backend: Some(to_wire(1, found)), numerator, denominator }
    }
}

fn headers(filter: &HeaderFilter) -> discovery::HeaderModifier {
    let values = |headers: &[HeaderValue]| {
        let one = |header: &HeaderValue| discovery::HeaderValue {
            name: header.name.clone(),
            value: header.value.clone(),
        };
        headers.iter().map(one).collect()
    };
    discovery::HeaderModifier {
        set: values(&filter.set),
        add: values(&filter.add),
        remove: filter.remove.clone(),
    }
}

fn redirect(redirect: &Redirect) -> discovery::Redirect {
    discovery::Redirect {
        scheme: redirect.scheme.clone(),
        host: redirect.hostname.clone(),
        path: redirect.path.as_ref().map(path),
        port: redirect.port.map(Into::into),
        status: redirect.status(),
    }
}

fn rewrite(rewrite: &Rewrite) -> discovery::Rewrite {
    discovery::Rewrite { host: rewrite.hostname.clone(), path: rewrite.path.as_ref().map(path) }
}

fn path(path: &PathModifier) -> discovery::PathRewrite {
    let kind = match path.kind() {
        (PathModifierType::ReplaceFullPath, path) => path_rewrite::Kind::Full(path.to_owned()),
        (PathModifierType::ReplacePrefixMatch, path) => path_rewrite::Kind::Prefix(path.to_owned()),
    };
    discovery::PathRewrite { kind: Some(kind) }
}
