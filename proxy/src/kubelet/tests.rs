//! Probes against applications over real sockets.

use std::{collections::VecDeque, time::Duration};

use clap::Parser;
use rustls::ServerConfig;
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{Notify, mpsc},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::TcpListenerStream;

use super::*;
use crate::net::TcpListener;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    config: Config,
}

/// A prober of one probe, `web/KIND`.
fn prober(kind: &str, probe: &str) -> Prober {
    let flags = [
        "weft-proxy".to_owned(),
        "--workload=shop/web".to_owned(),
        format!("--probes={{\"web/{kind}\": {probe}}}"),
    ];
    let command = Command::try_parse_from(flags).expect("good flags");
    Prober::new(&command.config, Resolver::from_system())
}

async fn liveness(probe: &str) -> Outcome {
    prober("liveness", probe).probe("web/liveness", None).await.expect("it is listed")
}

fn why(outcome: Outcome) -> String {
    match outcome {
        Outcome::Unhealthy(why) => why,
        other => panic!("{other:?}"),
    }
}

/// An application that gives each connection the next of these answers, and tells what it was asked.
struct App {
    port: u16,
    asked: mpsc::UnboundedReceiver<String>,
    _tasks: JoinSet<()>,
}

impl App {
    async fn new(answers: &[&str]) -> Self {
        Self::start(answers, None).await
    }

    async fn start(answers: &[&str], tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let mut answers: VecDeque<String> =
            answers.iter().map(|answer| answer.replace("PORT", &port.to_string())).collect();
        let (sender, asked) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Some(answer) = answers.pop_front() {
                let (stream, _) = listener.accept().await.expect("a connection");
                let request = match &tls {
                    None => exchange(stream, &answer).await,
                    Some(tls) => exchange(tls.accept(stream).await.expect("TLS"), &answer).await,
                };
                let _ = sender.send(request);
            }
        });
        Self { port, asked, _tasks: tasks }
    }

    async fn asked(&mut self) -> String {
        self.asked.recv().await.expect("a request")
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> String {
    let mut request = vec![0; 4096];
    let length = stream.read(&mut request).await.expect("a request");
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
    String::from_utf8_lossy(&request[..length]).into_owned()
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn the_status_counts_and_the_body_must_be_whole() {
    for (answer, expected) in [
        (OK, ""),
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", ""),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
        ("HTTP/1.0 200 OK\r\n\r\nuntil the end", ""),
        (
            "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
            "status 400, 200 to 399 is healthy",
        ),
        ("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "status 503, 200 to 399 is healthy"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok", "the answer's body breaks off"),
        ("SSH-2.0-OpenSSH\r\n", "GET 127.0.0.1:"),
        ("", "GET 127.0.0.1:"),
    ] {
        let app = App::new(&[answer]).await;
        let outcome = liveness(&format!(r#"{{"httpGet": {{"port": {}}}}}"#, app.port)).await;
        match expected {
            "" => assert_eq!(outcome, Outcome::Healthy, "{answer}"),
            expected => {
                let why = why(outcome);
                assert!(why.contains(expected) && !why.contains('\n'), "{answer}: {why}");
            }
        }
    }
}

#[tokio::test]
async fn a_body_without_end_is_not_read_to_it() {
    let endless =
        format!("HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n{}", "x".repeat(20_000));
    let app = App::new(&[&endless]).await;
    let probe = format!(r#"{{"httpGet": {{"port": {}}}}}"#, app.port);
    assert_eq!(liveness(&probe).await, Outcome::Healthy);
}

#[tokio::test]
async fn the_application_is_asked_as_the_kubelet_asks() {
    let mut app = App::new(&[OK, OK, OK]).await;
    let port = app.port;
    let plain =
        prober("liveness", &format!(r#"{{"httpGet": {{"port": {port}, "path": "/live?x=1"}}}}"#));
    let kubelet = HeaderValue::from_static("kube-probe/1.36");
    plain.probe("web/liveness", Some(&kubelet)).await;
    let asked = app.asked().await.to_ascii_lowercase();
    assert!(asked.starts_with("get /live?x=1 http/1.1\r\n"), "{asked}");
    for line in [
        &*format!("host: 127.0.0.1:{port}"),
        "user-agent: kube-probe/1.36",
        "accept: */*",
        "connection: close",
    ] {
        assert!(asked.contains(&format!("\r\n{line}\r\n")), "{asked}");
    }
    let stranger = HeaderValue::from_static("curl/8");
    plain.probe("web/liveness", Some(&stranger)).await;
    assert!(app.asked().await.to_ascii_lowercase().contains("user-agent: kube-probe/1\r\n"));

    let own = format!(
        r#"{{"httpGet": {{"port": {port}, "httpHeaders": [{{"name": "Host", "value": "shop.example"}},
            {{"name": "User-Agent", "value": "own"}}, {{"name": "Accept", "value": ""}},
            {{"name": "X-One", "value": "1"}}, {{"name": "X-One", "value": "2"}}]}}}}"#
    );
    assert_eq!(liveness(&own).await, Outcome::Healthy);
    let asked = app.asked().await.to_ascii_lowercase();
    for line in ["host: shop.example", "user-agent: own", "x-one: 1", "x-one: 2"] {
        assert!(asked.contains(&format!("\r\n{line}\r\n")), "{asked}");
    }
    assert!(!asked.contains("accept:"), "{asked}");
}

#[tokio::test]
async fn redirections_are_followed_on_the_same_host_only() {
    let to = |location: &str| {
        format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
    };
    let failing = "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n";
    for (answers, healthy) in [
        (vec![to("/next"), OK.to_owned()], true),
        (vec![to("/next"), failing.to_owned()], false),
        (vec![to("http://127.0.0.1:PORT/next"), failing.to_owned()], false),
        (vec![to("http://127.0.0.2:PORT/next"), failing.to_owned()], true),
        (vec![to("https://shop.example/"), failing.to_owned()], true),
        (vec!["HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n".to_owned()], true),
        (vec![to("/again"); 10], false),
    ] {
        let app = App::new(&answers.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let outcome = liveness(&format!(r#"{{"httpGet": {{"port": {}}}}}"#, app.port)).await;
        assert_eq!(outcome == Outcome::Healthy, healthy, "{answers:?}: {outcome:?}");
    }
}

/// TLS of an application, under a certificate that nobody vouches for.
fn tls(version: &'static rustls::SupportedProtocolVersion) -> TlsAcceptor {
    let certified =
        rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).expect("good");
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("there are cipher suites")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .expect("a key and its certificate");
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn https_is_asked_whatever_its_certificate_says() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut app = App::start(&[OK], Some(tls(version))).await;
        let probe = format!(r#"{{"httpGet": {{"port": {}, "scheme": "HTTPS"}}}}"#, app.port);
        assert_eq!(liveness(&probe).await, Outcome::Healthy);
        assert!(app.asked().await.starts_with("GET / HTTP/1.1\r\n"));
    }
    let plain = App::new(&[OK]).await;
    let probe = format!(r#"{{"httpGet": {{"port": {}, "scheme": "HTTPS"}}}}"#, plain.port);
    let why = why(liveness(&probe).await);
    assert!(why.contains("the TLS handshake failed"), "{why}");
}

#[tokio::test]
async fn a_socket_is_right_when_it_takes_a_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let probe = format!(r#"{{"tcpSocket": {{"port": {port}}}}}"#);
    assert_eq!(liveness(&probe).await, Outcome::Healthy);
    // A host that the probe names is dialled instead of the pod.
    let elsewhere = format!(r#"{{"tcpSocket": {{"port": {port}, "host": "127.0.0.3"}}}}"#);
    assert!(
        why(liveness(&elsewhere).await)
            .starts_with(&format!("cannot connect to 127.0.0.3:{port}: "))
    );
    drop(listener);
    assert!(
        why(liveness(&probe).await).starts_with(&format!("cannot connect to 127.0.0.1:{port}: "))
    );
}

#[tokio::test]
async fn grpc_is_right_when_the_service_says_that_it_serves() {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("shop.Cart", tonic_health::ServingStatus::Serving).await;
    reporter.set_service_status("shop.Down", tonic_health::ServingStatus::NotServing).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let server = tonic::transport::Server::builder().add_service(service);
    let mut tasks = JoinSet::new();
    tasks.spawn(
        async move { drop(server.serve_with_incoming(TcpListenerStream::new(listener)).await) },
    );
    let check = |service: &str| {
        let probe = format!(r#"{{"grpc": {{"port": {port}, "service": "{service}"}}}}"#);
        async move { liveness(&probe).await }
    };
    assert_eq!(check("shop.Cart").await, Outcome::Healthy);
    assert_eq!(check("").await, Outcome::Healthy);
    assert_eq!(why(check("shop.Down").await), "the service \"shop.Down\" is NOT_SERVING");
    assert!(
        why(check("shop.None").await)
            .contains("Check of \"shop.None\": Some requested entity was not found")
    );
    let http1 = App::new(&[OK]).await;
    let probe = format!(r#"{{"grpc": {{"port": {}}}}}"#, http1.port);
    assert!(!why(liveness(&probe).await).is_empty());
}

#[tokio::test]
async fn a_probe_has_its_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = silent.local_addr().expect("bound").port();
    for action in ["httpGet", "grpc"] {
        let why =
            why(liveness(&format!(r#"{{"timeoutSeconds": 1, "{action}": {{"port": {port}}}}}"#))
                .await);
        assert_eq!(why, "no answer within 1s (timeoutSeconds)", "{action}");
    }
}

#[tokio::test]
async fn who_asks_while_a_probe_is_under_way_shares_its_result() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let (arrived, may_answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (arrived.clone(), may_answer.clone());
    let mut app = JoinSet::new();
    app.spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let _ = stream.read(&mut [0; 4096]).await;
            tell.notify_one();
            wait.notified().await;
            let _ = stream.write_all(OK.as_bytes()).await;
            open.push(stream);
        }
    });
    let prober =
        prober("liveness", &format!(r#"{{"timeoutSeconds": 30, "httpGet": {{"port": {port}}}}}"#));
    let ask = || {
        let prober = prober.clone();
        async move { prober.probe("web/liveness", None).await }
    };
    let mut asking = JoinSet::new();
    let leader = asking.spawn(ask());
    arrived.notified().await;
    for _ in 0..100 {
        asking.spawn(ask());
    }
    tokio::task::yield_now().await;
    // Who led goes away: one of the others leads, and asks anew.
    leader.abort();
    may_answer.notify_one();
    arrived.notified().await;
    may_answer.notify_one();
    let mut answers = Vec::new();
    while let Some(answer) = asking.join_next().await {
        answers.extend(answer.ok());
    }
    assert_eq!(answers, vec![Some(Outcome::Healthy); 100]);
    // All of them came to one request: another would have been told.
    let another = tokio::time::timeout(Duration::from_millis(1), arrived.notified()).await;
    assert!(another.is_err());
}
