//! Which HTTP requests a rule is about: methods, paths, headers, hosts, as access rules, rate limits and faults
//! name them.
//!
//! Text comes in, checked values go out, and messages for proxies. A rule that says nothing is refused: it would mean
//! every request, which is said by leaving the list out.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use weft_proto::{Pattern, discovery, names::is_subdomain, pattern::PatternError};

use super::{object::FieldError, text};

/// How long the lists may be: an API server refuses rules over lists without a bound.
pub(super) const MOST: usize = 16;

/// A kind of HTTP request: each of the fields that are given must hold, and of a list one entry must, but of
/// `headers` all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = says_something()))]
pub struct RequestMatch {
    /// Methods, such as `GET`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "methods")]
    pub methods: Vec<Method>,
    /// Paths, without the query.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST))]
    pub paths: Vec<PathMatch>,
    /// Headers, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST))]
    pub headers: Vec<HeaderMatch>,
    /// Hosts without port, such as `shop.example.com` or `*.example.com`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "hosts")]
    pub hosts: Vec<Host>,
}

/// A path: exactly one field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = one_of_path()))]
pub struct PathMatch {
    /// The whole path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "path")]
    pub exact: Option<Path>,
    /// Whole segments of it: `/a` takes `/a` and `/a/b`, not `/ab`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "path")]
    pub prefix: Option<Path>,
    /// A regular expression (RE2) for the whole path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "pattern")]
    pub pattern: Option<PathExpression>,
}

/// A header: its name, and at most one of the other fields. Without, it must be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = at_most_one_of_header()))]
pub struct HeaderMatch {
    /// Its name, in any case.
    #[schemars(schema_with = "header_name")]
    pub name: HeaderName,
    /// The whole value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// How the value begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// A regular expression (RE2) for the whole value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "pattern")]
    pub pattern: Option<Expression>,
}

impl RequestMatch {
    /// Checks what no single field's type can.
    pub(super) fn validate(&self, field: &str) -> Result<(), FieldError> {
        if *self == Self::default() {
            let right =
                "name methods, paths, headers or hosts, or leave the list out for every request";
            return Err(FieldError::new(field, format!("says nothing: {right}")));
        }
        for (name, length) in [
            ("methods", self.methods.len()),
            ("paths", self.paths.len()),
            ("headers", self.headers.len()),
            ("hosts", self.hosts.len()),
        ] {
            check_length(&format!("{field}.{name}"), length, MOST)?;
        }
        for (index, path) in self.paths.iter().enumerate() {
            let given = [path.exact.is_some(), path.prefix.is_some(), path.pattern.is_some()];
            if given.iter().filter(|given| **given).count() != 1 {
                let field = format!("{field}.paths[{index}]");
                return Err(FieldError::new(field, "use exactly one of exact, prefix and pattern"));
            }
        }
        for (index, header) in self.headers.iter().enumerate() {
            let given = [header.exact.is_some(), header.prefix.is_some(), header.pattern.is_some()];
            if given.iter().filter(|given| **given).count() > 1 {
                let field = format!("{field}.headers[{index}]");
                return Err(FieldError::new(field, "use one of exact, prefix and pattern"));
            }
        }
        Ok(())
    }

    /// As it travels.
    #[must_use]
    pub fn to_wire(&self) -> discovery::Operation {
        discovery::Operation {
            methods: self.methods.iter().map(|method| method.0.clone()).collect(),
            paths: self.paths.iter().map(PathMatch::to_wire).collect(),
            headers: self.headers.iter().map(HeaderMatch::to_wire).collect(),
            hosts: self.hosts.iter().map(|host| host.0.clone()).collect(),
        }
    }
}

impl PathMatch {
    fn to_wire(&self) -> discovery::PathMatch {
        use discovery::path_match::Kind;
        let exact = self.exact.as_ref().map(|path| Kind::Exact(path.0.clone()));
        let prefix = self.prefix.as_ref().map(|path| Kind::Prefix(path.0.clone()));
        let pattern = self.pattern.as_ref().map(|pattern| Kind::Pattern(pattern.to_string()));
        discovery::PathMatch { kind: exact.or(prefix).or(pattern) }
    }
}

impl HeaderMatch {
    fn to_wire(&self) -> discovery::ValueMatch {
        use discovery::value_match::Kind;
        let exact = self.exact.clone().map(Kind::Exact);
        let prefix = self.prefix.clone().map(Kind::Prefix);
        let pattern = self.pattern.as_ref().map(|pattern| Kind::Pattern(pattern.to_string()));
        let kind = exact.or(prefix).or(pattern).unwrap_or(Kind::Present(true));
        discovery::ValueMatch { name: self.name.lower(), kind: Some(kind) }
    }
}

/// For people: "/items", "/items/*" for a prefix, "~/items/[0-9]+" for an expression.
impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.exact, &self.prefix, &self.pattern) {
            (Some(path), ..) => f.write_str(&path.0),
            (_, Some(path), _) => write!(f, "{}/*", path.0.trim_end_matches('/')),
            (.., Some(pattern)) => write!(f, "~{pattern}"),
            (None, None, None) => Ok(()),
        }
    }
}

/// For people: `x-tenant`, `x-tenant=a`, `x-tenant=a*`, `x-tenant~[ab]`.
impl fmt::Display for HeaderMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name.0)?;
        match (&self.exact, &self.prefix, &self.pattern) {
            (Some(value), ..) => write!(f, "={value}"),
            (_, Some(value), _) => write!(f, "={value}*"),
            (.., Some(pattern)) => write!(f, "~{pattern}"),
            (None, None, None) => Ok(()),
        }
    }
}

/// Refuses a list with too many entries.
pub(super) fn check_length(field: &str, length: usize, most: usize) -> Result<(), FieldError> {
    if length <= most {
        return Ok(());
    }
    let message = format!("{length} entries are too many: use at most {most}");
    Err(FieldError::new(field, message))
}

/// A text that is checked when it is read.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $check:expr, $right:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        pub struct $name(String);

        impl $name {
            /// As it was written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub(super) fn parse(text: &str) -> Result<Self, String> {
                let is_right: fn(&str) -> bool = $check;
                if is_right(text) { Ok(Self(text.to_owned())) } else { Err(format!("{text:?} {}", $right)) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                text::parsed(deserializer, Self::parse)
            }
        }
    };
}

checked_text!(
    /// An HTTP method.
    Method,
    |text| {
        let is_part = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b"-_".contains(&b);
        text.starts_with(|c: char| c.is_ascii_uppercase()) && text.len() <= 32 && text.bytes().all(is_part)
    },
    "is no method: use capitals, such as GET"
);
checked_text!(
    /// An absolute path. Sidecars compare it decoded.
    Path,
    |text| text.starts_with('/') && text.len() <= 2048 && is_decodable(text),
    "is no path: begin it with '/', and write two hexadecimal digits after each '%', of text in UTF-8 without control characters"
);
checked_text!(
    /// A header's name.
    HeaderName,
    |text| {
        let is_part = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        !text.is_empty() && text.len() <= 256 && text.bytes().all(is_part)
    },
    "is no header's name: use letters, digits and '-'"
);
checked_text!(
    /// A host without port, or all below one: "*.example.com".
    Host,
    |text| {
        let name = text.strip_prefix("*.").unwrap_or(text);
        is_subdomain(name) && !name.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    },
    "is no host: use a lower-case name such as shop.example.com or *.example.com, without a port"
);

impl HeaderName {
    /// In lower case, as it travels.
    #[must_use]
    pub fn lower(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

/// Whether every '%' of a path stands for an octet, and all octets together for text without control characters.
fn is_decodable(path: &str) -> bool {
    let mut octets = Vec::with_capacity(path.len());
    let mut parts = path.split('%');
    octets.extend(parts.next().unwrap_or_default().bytes());
    for part in parts {
        let digits = part.get(..2).filter(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(octet) if !octet.is_ascii_control() => octets.push(octet),
            _ => return false,
        }
        octets.extend(part.bytes().skip(2));
    }
    std::str::from_utf8(&octets).is_ok()
}

/// A regular expression that was compiled once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression(Pattern);

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl Serialize for Expression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Expression {
    /// Compiles a text in every form in which a sidecar does.
    fn parse(
        text: &str,
        forms: fn(Pattern) -> Result<Pattern, PatternError>,
    ) -> Result<Self, String> {
        Pattern::new(text).and_then(forms).map(Self).map_err(|error| {
            // What is too long is not repeated.
            let shown: String = text.chars().take(80).collect();
            format!("{shown:?} {error}")
        })
    }
}

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parsed(deserializer, |text| Self::parse(text, Ok))
    }
}

/// A regular expression for paths: rules that deny take them in upper and in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PathExpression(Expression);

impl fmt::Display for PathExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for PathExpression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parsed(deserializer, |text| {
            Expression::parse(text, |exact| exact.ignoring_case().map(|_| exact)).map(Self)
        })
    }
}

fn methods(_: &mut SchemaGenerator) -> Schema {
    let method = json!({"type": "string", "maxLength": 32, "pattern": "^[A-Z][A-Z0-9_-]*$"});
    json_schema!({"type": "array", "maxItems": MOST, "items": method})
}

fn hosts(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": MOST, "items": host(generator)})
}

/// A host, as a schema.
pub(super) fn host(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 255,
        "pattern": "^([*][.])?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        "x-kubernetes-validations": [{
            "rule": "!self.matches('^([*][.])?[0-9.]+$')",
            "message": "an address is no host: use a name",
        }],
    })
}

/// A header's name, as a schema.
pub(super) fn header_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 256,
        "pattern": "^[-A-Za-z0-9!#$%&'*+.^_`|~]+$",
    })
}

/// A path, as a schema: whether its octets are UTF-8 cannot be said there.
fn path(_: &mut SchemaGenerator) -> Schema {
    let octet = "%([2-6][0-9A-Fa-f]|7[0-9A-Ea-e]|[89A-Fa-f][0-9A-Fa-f])";
    json_schema!({"type": "string", "maxLength": 2048, "pattern": format!("^/([^%]|{octet})*$")})
}

fn pattern(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": weft_proto::pattern::MAX_BYTES})
}

fn says_something() -> Value {
    json!([{
        "rule": "(has(self.methods) && size(self.methods) > 0) || (has(self.paths) && size(self.paths) > 0) || \
                 (has(self.headers) && size(self.headers) > 0) || (has(self.hosts) && size(self.hosts) > 0)",
        "message": "it says nothing: name methods, paths, headers or hosts",
    }])
}

fn one_of_path() -> Value {
    json!([{
        "rule": "(has(self.exact) ? 1 : 0) + (has(self.prefix) ? 1 : 0) + (has(self.pattern) ? 1 : 0) == 1",
        "message": "use exactly one of exact, prefix and pattern",
    }])
}

fn at_most_one_of_header() -> Value {
    json!([{
        "rule": "(has(self.exact) ? 1 : 0) + (has(self.prefix) ? 1 : 0) + (has(self.pattern) ? 1 : 0) <= 1",
        "message": "use at most one of exact, prefix and pattern",
    }])
}
