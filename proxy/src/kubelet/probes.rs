//! The probes of a pod, as the injector hands them over: `WEFT_PROBES`, JSON, by `CONTAINER/KIND`.
//!
//! Comes in: text. Goes out: checked [`Probes`], or an error that names the entry, the field, its value and what
//! would be right. Header values may be secrets, so they are not shown.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use http::{HeaderName, HeaderValue, uri::PathAndQuery};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use weft_proto::Port;

use super::url;

const KINDS: [&str; 3] = ["startup", "readiness", "liveness"];
const HOOKS: [&str; 2] = ["post-start", "pre-stop"];
/// Kubernetes's default.
const TIMEOUT: Duration = Duration::from_secs(1);

/// All probes of a pod, by `CONTAINER/KIND`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probes(pub BTreeMap<String, Probe>);

/// One probe or hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// A hook: any answer of HTTP is right.
    pub is_hook: bool,
    /// From the connection to the end; a hook has as long as its caller waits, unless one is set.
    pub timeout: Option<Duration>,
    /// What is done.
    pub action: Action,
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A request, whose status counts.
    HttpGet(HttpGet),
    /// A connection can be made.
    TcpSocket {
        /// The pod's own address without one.
        host: Option<String>,
        /// Where.
        port: Port,
    },
    /// `grpc.health.v1.Health/Check` says `SERVING`.
    Grpc {
        /// Where.
        port: Port,
        /// Which service is asked for; empty for the server as a whole.
        service: String,
    },
}

/// A request of HTTP.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpGet {
    /// The pod's own address without one.
    pub host: Option<String>,
    /// Where.
    pub port: Port,
    /// HTTPS, without a look at the certificate.
    pub tls: bool,
    /// The path with the query.
    pub path: PathAndQuery,
    /// As the pod's definition lists them.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl fmt::Debug for HttpGet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("HttpGet")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .field("path", &self.path)
            .field("headers", &headers)
            .finish()
    }
}

impl FromStr for Probes {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let entries: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| format!("{error}: use a JSON object of probes by CONTAINER/KIND"))?;
        let parsed = entries.iter().map(|(name, value)| Ok((name.clone(), probe(name, value)?)));
        parsed.collect::<Result<_, String>>().map(Self)
    }
}

impl Serialize for Probes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(name, probe)| (name, format!("{:?}", probe.action))))
    }
}

fn probe(name: &str, value: &Value) -> Result<Probe, String> {
    let kind = name.rsplit_once('/').filter(|(container, _)| !container.is_empty());
    let kind = kind.map_or("", |(_, kind)| kind);
    let is_hook = HOOKS.contains(&kind);
    if !is_hook && !KINDS.contains(&kind) {
        return Err(format!(
            "{name:?}: use CONTAINER/KIND with a KIND of {}, {}",
            KINDS.join(", "),
            HOOKS.join(", ")
        ));
    }
    let known = ["timeoutSeconds", "httpGet", "tcpSocket", "grpc"];
    let fields = Fields::new(name.to_owned(), value, &known)?;
    let timeout = fields.number("timeoutSeconds", 1..=u64::from(u32::MAX))?;
    let timeout = timeout.map(Duration::from_secs).or((!is_hook).then_some(TIMEOUT));
    let mut actions = Vec::new();
    if let Some(value) = fields.value("httpGet") {
        actions.push(http_get(&fields.below("httpGet"), value)?);
    }
    if let Some(value) = fields.value("tcpSocket") {
        let fields = Fields::new(fields.below("tcpSocket"), value, &["host", "port"])?;
        actions.push(Action::TcpSocket { host: fields.host()?, port: fields.port()? });
    }
    if let Some(value) = fields.value("grpc") {
        let fields = Fields::new(fields.below("grpc"), value, &["port", "service"])?;
        let service = fields.text("service")?.unwrap_or_default().to_owned();
        actions.push(Action::Grpc { port: fields.port()?, service });
    }
    match (actions.pop(), actions.pop()) {
        (Some(action), None) => Ok(Probe { is_hook, timeout, action }),
        _ => Err(format!("{name}: use one of httpGet, tcpSocket and grpc")),
    }
}

fn http_get(at: &str, value: &Value) -> Result<Action, String> {
    let known = ["host", "port", "scheme", "path", "httpHeaders"];
    let fields = Fields::new(at.to_owned(), value, &known)?;
    let tls = match fields.text("scheme")?.unwrap_or("HTTP") {
        "HTTP" => false,
        "HTTPS" => true,
        other => return Err(format!("{at}.scheme: {other:?}: use HTTP or HTTPS")),
    };
    let path = fields.text("path")?.unwrap_or("/");
    let path = url::target(path).ok_or_else(|| format!("{at}.path: {path:?}: use /PATH?QUERY"))?;
    let headers = match fields.value("httpHeaders") {
        None => Vec::new(),
        Some(Value::Array(headers)) => headers
            .iter()
            .enumerate()
            .map(|(index, value)| header(format!("{at}.httpHeaders[{index}]"), value))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(format!("{at}.httpHeaders: use a list of name and value")),
    };
    let (host, port) = (fields.host()?, fields.port()?);
    Ok(Action::HttpGet(HttpGet { host, port, tls, path, headers }))
}

fn header(at: String, value: &Value) -> Result<(HeaderName, HeaderValue), String> {
    let fields = Fields::new(at, value, &["name", "value"])?;
    let at = &fields.at;
    let name = fields.text("name")?.unwrap_or_default();
    let parsed =
        name.parse().map_err(|_| format!("{at}.name: {name:?}: use the name of a header"))?;
    let value = HeaderValue::from_str(fields.text("value")?.unwrap_or_default());
    let value = value.map_err(|_| format!("{at}.value: it is no header's value"))?;
    Ok((parsed, value))
}

/// An object's fields, and where it stands.
struct Fields<'a> {
    at: String,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn new(at: String, value: &'a Value, known: &[&str]) -> Result<Self, String> {
        let Value::Object(object) = value else {
            return Err(format!("{at}: use an object with {}", known.join(", ")));
        };
        match object.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(format!("{at}.{key}: not known; use {}", known.join(", "))),
            None => Ok(Self { at, object }),
        }
    }

    fn below(&self, field: &str) -> String {
        format!("{}.{field}", self.at)
    }

    /// A field that is there; to Kubernetes `null` is not.
    fn value(&self, field: &str) -> Option<&'a Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    fn text(&self, field: &str) -> Result<Option<&'a str>, String> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(format!("{}.{field}: {other}: use text", self.at)),
        }
    }

    fn number(
        &self,
        field: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, String> {
        let Some(value) = self.value(field) else { return Ok(None) };
        let number = value.as_u64().filter(|number| range.contains(number));
        let (least, most) = (range.start(), range.end());
        number.map(Some).ok_or_else(|| {
            format!("{}.{field}: {value}: use a number from {least} to {most}", self.at)
        })
    }

    fn port(&self) -> Result<Port, String> {
        let number = self.number("port", 1..=u64::from(u16::MAX))?;
        let port = number.and_then(|number| Port::new(u16::try_from(number).ok()?));
        port.ok_or_else(|| format!("{}.port: missing; use a port's number", self.at))
    }

    fn host(&self) -> Result<Option<String>, String> {
        Ok(self.text("host")?.filter(|host| !host.is_empty()).map(str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_read_as_the_injector_writes_them() {
        let text = r#"{
            "web/liveness": {"timeoutSeconds": 3, "httpGet": {"path": "/live?full=1", "port": 8080,
                "scheme": "HTTPS", "host": "10.0.0.1",
                "httpHeaders": [{"name": "Authorization", "value": "secret"}]}},
            "web/startup": {"tcpSocket": {"port": 8080, "host": null}, "grpc": null},
            "api/readiness": {"grpc": {"port": 9000, "service": "shop.Cart"}},
            "web/pre-stop": {"httpGet": {"port": 8080}}
        }"#;
        let probes: Probes = text.parse().expect("good");
        let port = Port::new(8080).expect("a port");
        let live = &probes.0["web/liveness"];
        assert_eq!(live.timeout, Some(Duration::from_secs(3)));
        let Action::HttpGet(get) = &live.action else { panic!("{live:?}") };
        assert_eq!(
            (get.host.as_deref(), get.tls, get.path.as_str()),
            (Some("10.0.0.1"), true, "/live?full=1")
        );
        assert_eq!(get.headers.len(), 1);
        let startup = &probes.0["web/startup"];
        assert_eq!((startup.is_hook, startup.timeout), (false, Some(TIMEOUT)));
        assert_eq!(startup.action, Action::TcpSocket { host: None, port });
        let hook = &probes.0["web/pre-stop"];
        assert_eq!((hook.is_hook, hook.timeout), (true, None));
        assert_eq!("".parse(), Ok(Probes::default()));
        let shown = serde_json::to_string(&probes).expect("JSON") + &format!("{probes:?}");
        assert!(shown.contains("/live") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_entry_and_field() {
        for (text, error) in [
            (
                "[]",
                "invalid type: sequence, expected a map at line 1 column 0: use a JSON object of probes by CONTAINER/KIND",
            ),
            (
                r#"{"web": {}}"#,
                "\"web\": use CONTAINER/KIND with a KIND of startup, readiness, liveness, post-start, pre-stop",
            ),
            (
                r#"{"web/alive": {}}"#,
                "\"web/alive\": use CONTAINER/KIND with a KIND of startup, readiness, liveness, post-start, pre-stop",
            ),
            (r#"{"web/liveness": {}}"#, "web/liveness: use one of httpGet, tcpSocket and grpc"),
            (
                r#"{"web/liveness": {"grpc": {"port": 1}, "tcpSocket": {"port": 1}}}"#,
                "web/liveness: use one of httpGet, tcpSocket and grpc",
            ),
            (
                r#"{"web/liveness": {"exec": {}}}"#,
                "web/liveness.exec: not known; use timeoutSeconds, httpGet, tcpSocket, grpc",
            ),
            (
                r#"{"web/liveness": {"timeoutSeconds": 0, "grpc": {"port": 1}}}"#,
                "web/liveness.timeoutSeconds: 0: use a number from 1 to 4294967295",
            ),
            (
                r#"{"web/liveness": {"tcpSocket": {}}}"#,
                "web/liveness.tcpSocket.port: missing; use a port's number",
            ),
            (
                r#"{"web/liveness": {"tcpSocket": {"port": "http"}}}"#,
                "web/liveness.tcpSocket.port: \"http\": use a number from 1 to 65535",
            ),
            (
                r#"{"web/liveness": {"httpGet": {"port": 1, "scheme": "http"}}}"#,
                "web/liveness.httpGet.scheme: \"http\": use HTTP or HTTPS",
            ),
            (
                r#"{"web/liveness": {"httpGet": {"port": 1, "path": 7}}}"#,
                "web/liveness.httpGet.path: 7: use text",
            ),
            (
                r#"{"web/liveness": {"httpGet": {"port": 1, "httpHeaders": [{"name": "a b"}]}}}"#,
                "web/liveness.httpGet.httpHeaders[0].name: \"a b\": use the name of a header",
            ),
        ] {
            assert_eq!(text.parse::<Probes>(), Err(error.to_owned()), "{text}");
        }
    }
}
