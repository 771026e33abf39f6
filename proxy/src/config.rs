//! The proxy's settings: typed, each from a flag or an environment variable, checked before anything starts.
//!
//! Defaults suit a laptop. `docs/` lists them; `/config` on the admin port shows the effective ones.

mod pod;
mod tls;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum, builder::BoolishValueParser};
use serde::Serialize;
use weft_proto::{Port, WorkloadName};

pub use pod::{PodIps, PodSettings};
pub use tls::{KeyExchange, TlsSettings};

/// All settings of one proxy.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Config {
    /// The workload that this proxy serves, NAMESPACE/NAME
    #[arg(long, env = "WEFT_WORKLOAD")]
    pub workload: WorkloadName,
    /// Which instance of the workload: unique among its replicas
    #[arg(long, env = "WEFT_INSTANCE", default_value = "0")]
    pub instance: String,
    /// The zone that the workload runs in, for locality
    #[arg(long, env = "WEFT_ZONE", default_value = "")]
    pub zone: String,
    /// How traffic reaches the proxy
    #[arg(long, env = "WEFT_INTERCEPTION", value_enum, default_value_t = Interception::Explicit)]
    pub interception: Interception,
    /// Data workers, each a thread with its own accept and its own pools
    #[arg(long, env = "WEFT_WORKERS", default_value_t = 1, value_parser = at_least::<1>)]
    pub workers: usize,

    /// The control plane's discovery port, HOST:PORT
    #[arg(long, env = "WEFT_CONTROL_PLANE", default_value = "127.0.0.1:4480")]
    pub control_plane: String,
    /// File that holds the join token (mode 0600)
    #[arg(long, env = "WEFT_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Inherited descriptor to read the join token from, instead of a file
    #[arg(long, env = "WEFT_TOKEN_FD", conflicts_with = "token_file")]
    pub token_fd: Option<i32>,

    /// Outbound: where the local application's traffic to others arrives
    /// [default: 127.0.0.1:4140; with transparent interception `[::]:4140`]
    #[arg(
        long,
        env = "WEFT_OUTBOUND_LISTEN",
        default_value = "127.0.0.1:4140",
        default_value_if("interception", "transparent", "[::]:4140"),
        hide_default_value = true
    )]
    pub outbound_listen: SocketAddr,
    /// Inbound: where others' traffic to the local application arrives
    /// [default: 0.0.0.0:4143; with transparent interception `[::]:4143`]
    #[arg(
        long,
        env = "WEFT_INBOUND_LISTEN",
        default_value = "0.0.0.0:4143",
        default_value_if("interception", "transparent", "[::]:4143"),
        hide_default_value = true
    )]
    pub inbound_listen: SocketAddr,
    /// The address that others dial for inbound, when it is not the listening one (0.0.0.0, NAT)
    #[arg(long, env = "WEFT_INBOUND_ADVERTISE")]
    pub inbound_advertise: Option<SocketAddr>,
    /// Admin: readiness, metrics, configuration, drain
    #[arg(long, env = "WEFT_ADMIN_LISTEN", default_value = "127.0.0.1:4191")]
    pub admin_listen: SocketAddr,

    /// A port that the application serves, `[NAME=]PORT[@ADDRESS]`; registered with the control plane
    #[arg(long = "app-port", env = "WEFT_APP_PORTS", value_delimiter = ',')]
    pub app_ports: Vec<AppPort>,
    /// A local port bound for one destination: LISTEN=HOST:PORT
    #[arg(long = "upstream", env = "WEFT_UPSTREAMS", value_delimiter = ',')]
    pub upstreams: Vec<Upstream>,
    /// How the application's health is probed: `tcp`, `http:PATH` or `none`
    #[arg(long, env = "WEFT_APP_PROBE", default_value = "tcp")]
    pub app_probe: AppProbe,

    /// File to write the bound addresses to, as one JSON object, once all are bound
    #[arg(long, env = "WEFT_PORTS_FILE")]
    pub ports_file: Option<PathBuf>,

    /// In a pod of Kubernetes
    #[command(flatten)]
    pub pod: PodSettings,
    /// Limits against hostile and broken peers
    #[command(flatten)]
    pub limits: Limits,
    /// Timeouts
    #[command(flatten)]
    pub timeouts: Timeouts,
    /// Kept connections
    #[command(flatten)]
    pub pool: PoolSettings,
    /// Handshakes between sidecars
    #[command(flatten)]
    pub tls: TlsSettings,
    /// Logs and traces
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
}

/// How traffic reaches the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Interception {
    /// The application names its destination: HTTP proxy, or a bound port per upstream.
    Explicit,
    /// nftables redirects the application's connections; the original destination is asked of the kernel.
    Transparent,
}

/// A port of the local application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AppPort {
    /// The port's name in the `Workload` object; empty for the only one.
    pub name: String,
    /// The port that callers name, and that the application listens on.
    pub port: Port,
    /// Where to dial the application.
    pub address: SocketAddr,
}

impl std::str::FromStr for AppPort {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str =
            "use [NAME=]PORT[@ADDRESS], for example http=8080 or 8080@127.0.0.1:9000";
        let (name, rest) = text.split_once('=').unwrap_or(("", text));
        let (port, address) = match rest.split_once('@') {
            Some((port, address)) => (port, Some(address)),
            None => (rest, None),
        };
        let port: Port = port.parse().map_err(|error| format!("{error}; {FORM}"))?;
        let address = match address {
            Some(address) => address.parse().map_err(|_| format!("{address:?}: {FORM}"))?,
            None => SocketAddr::from(([127, 0, 0, 1], port.number())),
        };
        Ok(Self { name: name.to_owned(), port, address })
    }
}

/// A local port bound for one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Upstream {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The destination as an application would name it, HOST:PORT.
    pub destination: String,
}

impl std::str::FromStr for Upstream {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "use LISTEN=HOST:PORT, for example 127.0.0.1:9001=inventory.shop:50051";
        let (listen, destination) = text.split_once('=').ok_or(FORM)?;
        let listen = listen.parse().map_err(|_| format!("{listen:?}: {FORM}"))?;
        Ok(Self { listen, destination: destination.to_owned() })
    }
}

/// How the application's health is probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AppProbe {
    /// A connection can be made to every port.
    Tcp,
    /// `GET` of this path on the first port answers 200 to 399.
    Http(String),
    /// Ready as soon as the proxy is.
    None,
}

impl std::str::FromStr for AppProbe {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "none" => Ok(Self::None),
            _ => match text.strip_prefix("http:") {
                Some(path) if path.starts_with('/') => Ok(Self::Http(path.to_owned())),
                _ => Err("use tcp, none or http:/PATH".to_owned()),
            },
        }
    }
}

/// Limits against hostile and broken peers. Each worker's share of process-wide ones is an equal part.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Limits {
    /// Accepted connections open at once, in the whole process
    #[arg(long, env = "WEFT_MAX_CONNECTIONS", default_value_t = 10_000, value_parser = at_least::<1>)]
    pub max_connections: usize,
    /// Bytes of a message's head
    #[arg(long, env = "WEFT_MAX_HEADER_BYTES", default_value_t = 64 * 1024, value_parser = at_least::<LEAST_HEAD>)]
    pub max_header_bytes: usize,
    /// Header fields of a message
    #[arg(long, env = "WEFT_MAX_HEADERS", default_value_t = 128, value_parser = at_least::<1>)]
    pub max_headers: usize,
    /// Concurrent HTTP/2 streams that one client connection may open
    #[arg(long, env = "WEFT_MAX_STREAMS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_streams: u32,
    /// Streams that one client connection may reset in a second before it is closed
    #[arg(long, env = "WEFT_MAX_RESETS_PER_SECOND", default_value_t = 200)]
    pub max_resets_per_second: u32,
    /// Bytes of a request body kept for another attempt
    #[arg(long, env = "WEFT_REPLAY_BYTES", default_value_t = 64 * 1024)]
    pub replay_bytes: usize,
}

/// Timeouts. All are durations such as `5s` or `250ms`.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Timeouts {
    /// Making a TCP connection; the system repeats a lost SYN after 1 and 3 seconds
    #[arg(id = "connect-timeout", long, value_name = "DURATION", env = "WEFT_CONNECT_TIMEOUT", default_value = "5s", value_parser = parse_duration)]
    #[serde(serialize_with = "duration_text")]
    pub connect: Duration,
    /// A TLS handshake, from accept or connect to done
    #[arg(id = "tls-timeout", long, value_name = "DURATION", env = "WEFT_TLS_TIMEOUT", default_value = "5s", value_parser = parse_duration)]
    #[serde(serialize_with = "duration_text")]
    pub tls: Duration,
    /// From the request's end of head to the response's head, where no policy has a request timeout; 0 for none
    #[arg(id = "request-timeout", long, value_name = "DURATION", env = "WEFT_REQUEST_TIMEOUT", default_value = "0s", value_parser = parse_duration)]
    #[serde(serialize_with = "duration_text")]
    pub request: Duration,
    /// A request's head, from its first byte
    #[arg(id = "header-timeout", long, value_name = "DURATION", env = "WEFT_HEADER_TIMEOUT", default_value = "10s", value_parser = parse_duration)]
    #[serde(serialize_with = "duration_text")]
    pub header: Duration,
    /// A client connection between requests
    #[arg(id = "client-idle-timeout", long, value_name = "DURATION", env = "WEFT_CLIENT_IDLE_TIMEOUT", default_value = "10m", value_parser = parse_duration)]
    #[serde(serialize_with = "duration_text")]
    pub client_idle: Duration,
    /// An opaque connection with nothing sent either way
    #[arg(id = "tcp-idle-timeout", long, value_name = "DURATION", env = "WEFT_TCP_IDLE_TIMEOUT", default_value = "1h", value_parser = parse_duration)]
    #[serde(serialize_with = "duration_text")]
    pub tcp_idle: Duration,
    /// Waiting for the control plane's first answer about a destination
    #[arg(id = "discovery-timeout", long, value_name = "DURATION", env = "WEFT_DISCOVERY_TIMEOUT", default_value = "5s", value_parser = parse_duration)]
    #[serde(serialize_with = "duration_text")]
    pub discovery: Duration,
    /// Open requests and connections get this long after SIGTERM
    #[arg(id = "drain-timeout", long, value_name = "DURATION", env = "WEFT_DRAIN_TIMEOUT", default_value = "30s", value_parser = parse_duration)]
    #[serde(serialize_with = "duration_text")]
    pub drain: Duration,
}

/// Kept connections to endpoints.
#[derive(Debug, Clone, Args, Serialize)]
pub struct PoolSettings {
    /// A kept connection that is not used for this long is closed
    #[arg(id = "pool-idle-timeout", long, value_name = "DURATION", env = "WEFT_POOL_IDLE_TIMEOUT", default_value = "90s", value_parser = parse_duration)]
    #[serde(serialize_with = "duration_text")]
    pub idle_timeout: Duration,
    /// A connection this old takes no new requests
    #[arg(id = "pool-max-age", long, value_name = "DURATION", env = "WEFT_POOL_MAX_AGE", default_value = "1h", value_parser = age)]
    #[serde(serialize_with = "duration_text")]
    pub max_age: Duration,
    /// Idle HTTP/1 connections kept per endpoint and worker; more are closed when unused for 5 to 10 s
    #[arg(
        id = "pool-max-idle",
        long,
        value_name = "NUMBER",
        env = "WEFT_POOL_MAX_IDLE",
        default_value_t = 32
    )]
    pub max_idle: usize,
    /// Connections per endpoint and worker
    #[arg(
        id = "pool-max-connections",
        long,
        value_name = "NUMBER",
        env = "WEFT_POOL_MAX_CONNECTIONS",
        default_value_t = 1024
    )]
    pub max_connections: usize,
    /// An endpoint that refused a connection is skipped for this long, doubling up to 30 s
    #[arg(long, env = "WEFT_CONNECT_BACKOFF", default_value = "500ms", value_parser = parse_duration)]
    #[serde(serialize_with = "duration_text")]
    pub connect_backoff: Duration,
}

/// Logs and traces.
#[derive(Debug, Clone, Args, Serialize)]
pub struct TelemetrySettings {
    /// Log filter, such as `info` or `weft_proxy=debug,warn`
    #[arg(long, env = "WEFT_LOG", default_value = "info")]
    pub log: String,
    /// How log lines look
    #[arg(long, env = "WEFT_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Write one line for every request and connection
    #[arg(long, env = "WEFT_ACCESS_LOG", value_parser = BoolishValueParser::new())]
    pub access_log: bool,
    /// Where spans go by OTLP over gRPC, http://HOST:PORT; none without
    #[arg(long, env = "WEFT_OTLP_ENDPOINT", value_parser = otlp_endpoint)]
    pub otlp_endpoint: Option<String>,
    /// Share of traces begun here that are sampled, 0 to 1; a parent's choice comes first
    #[arg(long, env = "WEFT_TRACE_RATIO", default_value_t = 0.01, value_parser = share)]
    pub trace_ratio: f64,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A duration: a number with a unit, `250ms`, `5s`, `10m`, `24h`.
///
/// # Errors
/// When the number or the unit is missing or unknown; the text says what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const FORM: &str = "use a number with a unit: 250ms, 5s, 10m or 24h";
    let split =
        text.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| format!("{text:?}: {FORM}"))?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| format!("{text:?}: {FORM}"))?;
    let millis = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    millis
        .and_then(|millis| number.checked_mul(millis))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?}: {FORM}"))
}

/// A connection that is too old as soon as it is made would serve nobody.
fn age(text: &str) -> Result<Duration, String> {
    const LEAST: Duration = Duration::from_secs(1);
    let age = parse_duration(text)?;
    if age < LEAST { Err(format!("{text:?}: use a duration from 1s up")) } else { Ok(age) }
}

/// A head that holds less than this is no request that anybody sends.
const LEAST_HEAD: usize = 1024;

fn at_least<const LEAST: usize>(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number >= LEAST);
    number.ok_or_else(|| format!("{text:?}: use a number from {LEAST} up"))
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{text:?}: use a number from 0 (none) to 1 (all), such as 0.01"))
}

fn otlp_endpoint(text: &str) -> Result<String, String> {
    let uri: Option<http::Uri> = text.parse().ok();
    let is_right = uri.is_some_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some());
    if is_right {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?}: use http://HOST:PORT, such as http://127.0.0.1:4317"))
}

/// The form that [`parse_duration`] reads.
fn duration_text<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    match duration.as_millis() {
        millis if millis % 1_000 == 0 => to.collect_str(&format_args!("{}s", millis / 1_000)),
        millis => to.collect_str(&format_args!("{millis}ms")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, millis) in [("250ms", 250), ("5s", 5_000), ("10m", 600_000), ("24h", 86_400_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)));
        }
        for text in
            ["", "5", "s", "5 s", "-5s", "5d", "99999999999999999999h", "18446744073709551615h"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    fn parsed(arguments: &[&str]) -> Result<Config, clap::Error> {
        use clap::{Command, FromArgMatches};
        let command = Config::augment_args(Command::new("test"));
        let first = ["test", "--workload=shop/cart"];
        let matches = command.try_get_matches_from(first.iter().chain(arguments))?;
        Config::from_arg_matches(&matches)
    }

    #[test]
    fn what_could_not_work_is_refused_with_what_would() {
        for (argument, right) in [
            ("--workers=2", ""),
            ("--workers=0", "from 1 up"),
            ("--max-header-bytes=1024", ""),
            ("--max-header-bytes=0", "from 1024 up"),
            ("--max-headers=0", "from 1 up"),
            ("--max-connections=0", "from 1 up"),
            ("--max-streams=0", "1.."),
            ("--pool-max-age=1s", ""),
            ("--pool-max-age=0s", "from 1s up"),
            ("--trace-ratio=1", ""),
            ("--trace-ratio=2", "from 0 (none) to 1 (all)"),
            ("--trace-ratio=-1", "from 0 (none) to 1 (all)"),
            ("--trace-ratio=NaN", "from 0 (none) to 1 (all)"),
            ("--otlp-endpoint=http://[::1]:4317", ""),
            ("--otlp-endpoint=ftp://x", "http://HOST:PORT"),
            ("--otlp-endpoint=collector:4317", "http://HOST:PORT"),
        ] {
            let error = parsed(&[argument]).err().map(|error| error.to_string());
            let error = error.unwrap_or_default();
            assert_eq!(error.is_empty(), right.is_empty(), "{argument}: {error}");
            assert!(error.contains(right), "{argument}: {error}");
        }
    }

    #[test]
    fn a_switch_in_the_environment_takes_every_usual_word() {
        let command = Config::augment_args(clap::Command::new("test"));
        let switch = command.get_arguments().find(|argument| argument.get_id() == "access_log");
        let switch = switch.expect("there");
        assert_eq!(switch.get_env(), Some("WEFT_ACCESS_LOG".as_ref()));
        let words: Vec<_> =
            switch.get_value_parser().possible_values().into_iter().flatten().collect();
        for word in ["1", "yes", "true", "0", "no", "false"] {
            assert!(words.iter().any(|known| known.matches(word, false)), "{word}");
        }
        assert!(parsed(&["--access-log"]).expect("valid").telemetry.access_log);
    }

    #[test]
    fn redirected_traffic_needs_listeners_of_both_families() {
        use clap::{Command, FromArgMatches};
        for (interception, outbound, inbound) in [
            ("explicit", "127.0.0.1:4140", "0.0.0.0:4143"),
            ("transparent", "[::]:4140", "[::]:4143"),
        ] {
            let command = Config::augment_args(Command::new("test"));
            let arguments = ["test", "--workload=shop/cart", "--interception", interception];
            let matches = command.try_get_matches_from(arguments).expect("valid");
            let config = Config::from_arg_matches(&matches).expect("valid");
            assert_eq!(config.outbound_listen.to_string(), outbound);
            assert_eq!(config.inbound_listen.to_string(), inbound);
        }
    }

    #[test]
    fn app_ports_default_to_loopback_and_no_name() {
        let port: AppPort = "8080".parse().expect("valid");
        assert_eq!(port.address, SocketAddr::from(([127, 0, 0, 1], 8080)));
        let port: AppPort = "grpc=50051@127.0.0.2:9000".parse().expect("valid");
        assert_eq!((port.name.as_str(), port.port.number()), ("grpc", 50051));
        assert_eq!(port.address, SocketAddr::from(([127, 0, 0, 2], 9000)));
        for text in ["", "http=", "0", "80@nowhere"] {
            assert!(text.parse::<AppPort>().is_err(), "{text}");
        }
    }
}
