//! The application is asked whether it is ready.

use tokio::net::TcpListener;

use super::*;
use crate::discovery::{InboundPorts, MeshScope, OutsideScope};

fn ok() -> Result<(), String> {
    Ok(())
}

fn failed() -> Result<(), String> {
    Err("refused".to_owned())
}

#[test]
fn one_success_makes_ready_and_two_failures_in_a_row_end_it() {
    let mut state = State::default();
    let steps = [
        (failed(), Some(false), STARTING_INTERVAL),
        (failed(), None, STARTING_INTERVAL),
        (ok(), Some(true), READY_INTERVAL),
        (failed(), None, STARTING_INTERVAL),
        (ok(), None, READY_INTERVAL),
        (failed(), None, STARTING_INTERVAL),
        (failed(), Some(false), DOWN_INTERVAL),
        (failed(), None, DOWN_INTERVAL),
        (ok(), Some(true), READY_INTERVAL),
    ];
    for (number, (result, reported, interval)) in steps.into_iter().enumerate() {
        let change = state.judge(result).map(|health| health.ready);
        assert_eq!((change, state.interval()), (reported, interval), "step {number}");
    }
}

#[test]
fn a_new_cause_is_reported_while_not_ready() {
    let mut state = State::default();
    assert!(state.judge(failed()).is_some());
    let health = state.judge(Err("status 500".to_owned())).expect("the cause changed");
    assert_eq!(health, AppHealth { ready: false, detail: "status 500".to_owned() });
}

#[test]
fn only_a_status_line_of_http_1_is_a_status() {
    for (answer, status) in [
        (&b"HTTP/1.1 200 OK\r\n"[..], Some(200)),
        (b"HTTP/1.0 503\r\n", Some(503)),
        (b"HTTP/1.1 99 Low\r\n", None),
        (b"HTTP/2 200\r\n", None),
        (b"SSH-2.0-OpenSSH\r\n", None),
        (b"HTTP/1.1 2", None),
        (b"", None),
    ] {
        assert_eq!(status_of(answer), status, "{}", String::from_utf8_lossy(answer));
    }
}

async fn listener() -> (TcpListener, AppPort) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let port = address.port().to_string().parse().expect("not 0");
    (listener, AppPort { name: String::new(), port, address })
}

#[tokio::test]
async fn http_probes_judge_the_status() {
    let (listener, port) = listener().await;
    let server = tokio::spawn(async move {
        for status in ["204 No Content", "302 Found", "404 Not Found", "500 Oops"] {
            let (mut stream, _) = listener.accept().await.expect("a probe");
            let mut request = vec![0; 1024];
            let read = stream.read(&mut request).await.expect("a request");
            assert!(request[..read].starts_with(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:"));
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.expect("written");
        }
    });
    let probe = AppProbe::Http("/healthz".to_owned());
    let ports = [port];
    assert_eq!(check(&probe, &ports).await, Ok(()));
    assert_eq!(check(&probe, &ports).await, Ok(()));
    for expected in ["status 404", "status 500"] {
        let error = check(&probe, &ports).await.expect_err("not healthy");
        assert!(error.contains(expected), "{error}");
    }
    server.await.expect("the server saw what it expected");
}

#[tokio::test]
async fn tcp_probes_need_every_port() {
    let (open, open_port) = listener().await;
    let (closed, closed_port) = listener().await;
    drop(closed);
    assert_eq!(check(&AppProbe::Tcp, std::slice::from_ref(&open_port)).await, Ok(()));
    let error = check(&AppProbe::Tcp, &[open_port, closed_port.clone()]).await;
    let error = error.expect_err("one port is closed");
    assert!(error.contains(&closed_port.address.to_string()), "{error}");
    drop(open);
}

#[tokio::test]
async fn a_hint_brings_the_news_of_a_dead_application_before_the_next_interval() {
    let (app, port) = listener().await;
    let mesh = MeshScope {
        trust_domain: "weft.local".parse().expect("valid"),
        ranges: Vec::new(),
        suffixes: Vec::new(),
        namespaces: Vec::new(),
        outside: OutsideScope::default(),
    };
    let directory = Directory::fixed(mesh, InboundPorts::default());
    let mut health = directory.app_health();
    let probing = tokio::spawn(run(directory.clone(), AppProbe::Tcp, vec![port]));
    health.wait_for(|health| health.ready).await.expect("probing goes on");
    drop(app);
    let asked = clock::now();
    directory.app_refused();
    health.wait_for(|health| !health.ready).await.expect("probing goes on");
    assert!(asked.elapsed() < READY_INTERVAL, "{:?}", asked.elapsed());
    probing.abort();
}
