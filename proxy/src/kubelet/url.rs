//! Where a probe's request goes, and where an answer redirects it to (RFC 3986 5.2, as far as HTTP needs it).

use http::{Uri, uri::PathAndQuery};

use super::probes::HttpGet;

/// An absolute `http` or `https` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) tls: bool,
    /// A name or an address, IPv6 in brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) target: PathAndQuery,
}

impl Url {
    /// Of a probe; without a host it goes to `pod_ip`.
    pub(super) fn of(get: &HttpGet, pod_ip: std::net::IpAddr) -> Self {
        let host = get.host.clone().unwrap_or_else(|| pod_ip.to_string());
        let is_bare_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
        let host = if is_bare_v6 { format!("[{host}]") } else { host };
        Self { tls: get.tls, host, port: get.port.number(), target: get.path.clone() }
    }

    /// `HOST:PORT`, as the kubelet names an application.
    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Where `Location: location` in an answer leads; `None` for what is no URL of HTTP.
    pub(super) fn join(&self, location: &str) -> Option<Self> {
        let location = location.split('#').next().unwrap_or_default();
        let absolute = match location.strip_prefix("//") {
            Some(_) => format!("{}:{location}", if self.tls { "https" } else { "http" }),
            None => location.to_owned(),
        };
        if is_absolute(&absolute) {
            return Self::absolute(&absolute);
        }
        let (path, query) = (self.target.path(), self.target.query());
        let joined = match location.as_bytes() {
            [] => query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}")),
            [b'/', ..] => location.to_owned(),
            [b'?', ..] => format!("{path}{location}"),
            _ => format!("{}/{location}", path.rsplit_once('/').map_or("", |(folder, _)| folder)),
        };
        let (path, query) = joined.split_once('?').map_or((&*joined, None), |(p, q)| (p, Some(q)));
        let path = without_dots(path);
        let joined = query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
        Some(Self { target: target(&joined)?, ..self.clone() })
    }

    fn absolute(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let target = target(uri.path_and_query().map_or("/", PathAndQuery::as_str))?;
        Some(Self { tls, host: uri.host()?.to_owned(), port, target })
    }
}

/// Whether a location names a host.
pub(super) fn is_absolute(location: &str) -> bool {
    let scheme = location.split_once("://").map(|(scheme, _)| scheme);
    location.starts_with("//")
        || scheme.is_some_and(|scheme| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// A request's target from a path with a query, as people write them: what may not stand there is escaped.
pub(super) fn target(path: &str) -> Option<PathAndQuery> {
    let path = path.split('#').next().unwrap_or_default();
    let mut escaped = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        escaped.push('/');
    }
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped.parse().ok()
}

/// Takes `.` and `..` out of a path.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_folder = false;
    for part in path.split('/').skip(1) {
        ends_in_folder = matches!(part, "." | "..");
        match part {
            "." => {}
            ".." => drop(kept.pop()),
            part => kept.push(part),
        }
    }
    if ends_in_folder {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_are_resolved_against_where_they_came_from() {
        let url = Url {
            tls: false,
            host: "10.0.0.5".to_owned(),
            port: 8080,
            target: target("/a/b?q=1").expect("a path"),
        };
        for (location, expected) in [
            ("/live", Some("http 10.0.0.5:8080 /live")),
            ("live", Some("http 10.0.0.5:8080 /a/live")),
            ("?q=2", Some("http 10.0.0.5:8080 /a/b?q=2")),
            ("", Some("http 10.0.0.5:8080 /a/b?q=1")),
            ("../c/./d", Some("http 10.0.0.5:8080 /c/d")),
            ("..", Some("http 10.0.0.5:8080 /")),
            ("https://10.0.0.5/x#part", Some("https 10.0.0.5:443 /x")),
            ("http://10.0.0.5:9090", Some("http 10.0.0.5:9090 /")),
            ("//example.com/x", Some("http example.com:80 /x")),
            ("/x?back=http://a/", Some("http 10.0.0.5:8080 /x?back=http://a/")),
            ("http://[fd00::5]:1/x", Some("http [fd00::5]:1 /x")),
            ("ftp://10.0.0.5/", None),
            ("http://", None),
        ] {
            let joined = url.join(location).map(|url| {
                let scheme = if url.tls { "https" } else { "http" };
                format!("{scheme} {} {}", url.authority(), url.target)
            });
            assert_eq!(joined.as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn paths_are_escaped_as_far_as_they_need_it() {
        for (path, expected) in [
            ("", "/"),
            ("live", "/live"),
            ("/a b?c=d e", "/a%20b?c=d%20e"),
            ("/%41?x=%2F", "/%41?x=%2F"),
            ("/ä", "/%C3%A4"),
            ("/x#part", "/x"),
        ] {
            assert_eq!(target(path).expect("a path"), expected, "{path}");
        }
    }
}
