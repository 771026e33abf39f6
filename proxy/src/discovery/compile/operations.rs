//! Operations, as access rules, rate limits and faults have them: from the wire to what matches requests.
//!
//! Comes in: [`wire::Operation`]s. Goes out: [`Operation`]s, or which field cannot be used. A condition that cannot be
//! read refuses the whole update: left out, it would widen what is allowed.

use http::{HeaderName, Method};
use weft_proto::{
    Pattern, PatternError,
    discovery::{self as wire, path_match, value_match},
};

use super::Refused;
use crate::policy::operation::{
    HeaderMatch, HostMatch, Operation, PathMatch, Patterns, ValueMatch, path,
};

/// All operations of a list.
pub(in crate::discovery) fn operations(
    messages: &[wire::Operation],
) -> Result<Box<[Operation]>, Refused> {
    let each = messages.iter().enumerate().map(|(index, message)| {
        operation(message).map_err(|refused| refused.within(&format!("operations[{index}]")))
    });
    each.collect()
}

fn operation(message: &wire::Operation) -> Result<Operation, Refused> {
    let method = |text: &String| {
        Method::from_bytes(text.as_bytes())
            .map_err(|_| Refused::new("methods", text, "use a method's name, for example GET"))
    };
    Ok(Operation {
        methods: message.methods.iter().map(method).collect::<Result<_, _>>()?,
        paths: message.paths.iter().map(path_of).collect::<Result<_, _>>()?,
        headers: message.headers.iter().map(header).collect::<Result<_, _>>()?,
        hosts: message.hosts.iter().map(|text| host(text)).collect::<Result<_, _>>()?,
    })
}

fn path_of(message: &wire::PathMatch) -> Result<PathMatch, Refused> {
    // Requests' paths are compared decoded, so rules' are too.
    let decoded = |field: &str, text: &str| {
        path::decode(text)
            .map(|text| text.into_owned())
            .ok_or_else(|| Refused::new(field, text, "a % stands before two hexadecimal digits"))
    };
    match &message.kind {
        Some(path_match::Kind::Exact(text)) => {
            Ok(PathMatch::Exact(decoded("paths.exact", text)?.into()))
        }
        Some(path_match::Kind::Prefix(text)) => {
            Ok(PathMatch::Prefix(decoded("paths.prefix", text)?.trim_end_matches('/').into()))
        }
        Some(path_match::Kind::Pattern(text)) => Pattern::new(text)
            .and_then(Patterns::new)
            .map(PathMatch::Pattern)
            .map_err(|error| bad_pattern("paths.pattern", text, &error)),
        None => Err(Refused::new("paths", "", "use exact, prefix or pattern")),
    }
}

fn header(message: &wire::ValueMatch) -> Result<HeaderMatch, Refused> {
    let name = HeaderName::from_bytes(message.name.as_bytes())
        .map_err(|_| Refused::new("headers.name", &message.name, "use a header's name"))?;
    let value = match &message.kind {
        Some(value_match::Kind::Exact(text)) => ValueMatch::Exact(text.as_str().into()),
        Some(value_match::Kind::Prefix(text)) => ValueMatch::Prefix(text.as_str().into()),
        Some(value_match::Kind::Pattern(text)) => ValueMatch::Pattern(
            Pattern::new(text).map_err(|error| bad_pattern("headers.pattern", text, &error))?,
        ),
        Some(value_match::Kind::Present(true)) => ValueMatch::Present,
        Some(value_match::Kind::Present(false)) | None => {
            let why = "use exact, prefix, pattern or present: true";
            return Err(Refused::new("headers", &message.name, why));
        }
    };
    Ok(HeaderMatch { name, value })
}

fn host(text: &str) -> Result<HostMatch, Refused> {
    let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let (name, is_wildcard) = match lower.strip_prefix("*.") {
        Some(rest) => (rest, true),
        None => (lower.as_str(), false),
    };
    if name.is_empty() || name.contains(['*', '/', '@']) {
        let why = "use a host without port, for example shop.example.com or *.example.com";
        return Err(Refused::new("hosts", text, why));
    }
    Ok(if is_wildcard {
        HostMatch::Below(format!(".{name}").into())
    } else {
        HostMatch::Exact(name.into())
    })
}

fn bad_pattern(field: &str, text: &str, error: &PatternError) -> Refused {
    Refused::new(field, text, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_path(kind: path_match::Kind) -> wire::Operation {
        let paths = vec![wire::PathMatch { kind: Some(kind) }];
        wire::Operation { paths, ..wire::Operation::default() }
    }

    fn of_header(name: &str, kind: Option<value_match::Kind>) -> wire::Operation {
        let headers = vec![wire::ValueMatch { name: name.to_owned(), kind }];
        wire::Operation { headers, ..wire::Operation::default() }
    }

    #[test]
    fn rules_paths_and_hosts_take_the_form_that_requests_are_compared_in() {
        let mut message = of_path(path_match::Kind::Prefix("/a%20b/".to_owned()));
        message.hosts = vec!["*.Example.com.".to_owned(), "SHOP".to_owned()];
        let compiled = &operations(&[message]).expect("good")[0];
        assert_eq!(*compiled.paths, [PathMatch::Prefix("/a b".into())]);
        let hosts = [HostMatch::Below(".example.com".into()), HostMatch::Exact("shop".into())];
        assert_eq!(*compiled.hosts, hosts);
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_field() {
        let host = |text: &str| wire::Operation {
            hosts: vec![text.to_owned()],
            ..wire::Operation::default()
        };
        let nothing = vec![wire::PathMatch { kind: None }];
        for (message, expected) in [
            (
                of_path(path_match::Kind::Pattern("(".to_owned())),
                r#"operations[0].paths.pattern: "(""#,
            ),
            (
                of_path(path_match::Kind::Exact("/%zz".to_owned())),
                r#"operations[0].paths.exact: "/%zz""#,
            ),
            (wire::Operation { paths: nothing, ..Default::default() }, "operations[0].paths: "),
            (
                wire::Operation { methods: vec![String::new()], ..Default::default() },
                "operations[0].methods: ",
            ),
            (
                of_header("a b", Some(value_match::Kind::Present(true))),
                r#"operations[0].headers.name: "a b""#,
            ),
            (
                of_header("a", Some(value_match::Kind::Present(false))),
                r#"operations[0].headers: "a""#,
            ),
            (of_header("a", None), r#"operations[0].headers: "a""#),
            (host(""), r#"operations[0].hosts: """#),
            (host("*"), r#"operations[0].hosts: "*""#),
            (host("a.*.b"), r#"operations[0].hosts: "a.*.b""#),
        ] {
            let error = operations(&[message]).expect_err(expected).to_string();
            assert!(error.starts_with(expected), "{error} lacks {expected}");
        }
    }
}
