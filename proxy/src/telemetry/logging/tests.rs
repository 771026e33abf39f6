//! Lines of the log and of the access log: their switches, their bounds, and what a client cannot do to them.

use std::net::SocketAddr;

use super::*;
use crate::{
    reason::Reason,
    telemetry::{AccessRecord, Direction, TlsState, access::AccessLog},
};

/// A place that the log is written to and the test reads.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is logged by `work` under these settings.
fn logged(filter: &str, format: LogFormat, work: impl FnOnce(&LogHandle)) -> String {
    let settings = TelemetrySettings {
        log: filter.to_owned(),
        log_format: format,
        access_log: false,
        otlp_endpoint: None,
        trace_ratio: 0.0,
    };
    let sink = Sink::default();
    let (subscriber, handle) = build(&settings, sink.clone()).expect("good settings");
    tracing::subscriber::with_default(subscriber, || work(&handle));
    handle.flush();
    let bytes = sink.0.lock().expect("nobody panicked").clone();
    String::from_utf8(bytes).expect("text")
}

fn record() -> AccessRecord<'static> {
    AccessRecord {
        method: Some("GET"),
        path: Some("/items?token=secret"),
        status: Some(503),
        reason: Some(Reason::NoEndpoints),
        duration: Duration::from_micros(1_500),
        endpoint: Some(SocketAddr::from(([10, 0, 0, 1], 4143))),
        tls: TlsState::Mutual,
        ..AccessRecord::new(Direction::Outbound, "h2", "shop/cart:80")
    }
}

#[test]
fn the_level_can_be_changed_and_a_bad_filter_leaves_it() {
    let text = logged("info", LogFormat::Text, |handle| {
        tracing::debug!("hidden");
        handle.set("debug").expect("a good filter");
        tracing::debug!("shown");
        let error = handle.set("weft_proxy=loud").expect_err("no level").to_string();
        assert!(error.starts_with("log filter \"weft_proxy=loud\""), "{error}");
        tracing::debug!("still shown");
        assert!(handle.filter().contains("debug"), "{}", handle.filter());
        handle.set("off").expect("a good filter");
        tracing::error!("hidden");
    });
    assert!(!text.contains("hidden"), "{text}");
    assert!(text.contains(" shown") && text.contains("still shown"), "{text}");
}

#[test]
fn the_access_log_has_its_own_switch_whatever_the_level() {
    let text = logged("error", LogFormat::Json, |_| {
        let access = AccessLog::new(false);
        access.write(&record());
        access.set(true);
        access.write(&record());
    });
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let [line] = &lines[..] else { panic!("one line: {text}") };
    for (field, value) in [
        ("target", serde_json::json!("weft::access")),
        ("direction", serde_json::json!("outbound")),
        ("service", serde_json::json!("shop/cart:80")),
        ("path", serde_json::json!("/items")),
        ("status", serde_json::json!(503)),
        ("reason", serde_json::json!("no-endpoints")),
        ("duration_ms", serde_json::json!(1.5)),
        ("endpoint", serde_json::json!("10.0.0.1:4143")),
        ("tls", serde_json::json!("mutual")),
    ] {
        assert_eq!(line[field], value, "{field} in {text}");
    }
    assert!(line.get("client").is_none(), "what is not known is left out: {text}");
}

#[test]
fn an_access_line_cannot_be_broken_by_what_a_client_sends() {
    let text = logged("info", LogFormat::Text, |_| {
        let access = AccessLog::new(true);
        access.write(&AccessRecord { path: Some("/\n2026 ERROR forged \u{1b}[31m"), ..record() });
    });
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn lines_beyond_the_bound_are_dropped_and_counted() {
    struct Stuck(mpsc::Receiver<()>, Sink);
    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            self.1.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (release, stuck) = mpsc::channel();
    let sink = Sink::default();
    let lines = Lines::start(Stuck(stuck, sink.clone())).expect("a thread");
    for _ in 0..QUEUE + 100 {
        let mut line = lines.make_writer();
        line.write_all(b"line\n").expect("never fails");
    }
    assert!(lines.dropped.load(Relaxed) >= 99);
    drop(release);
    let (done, written) = mpsc::sync_channel(1);
    lines.sender.send(Line::Flush(done)).expect("the thread runs");
    written.recv_timeout(Duration::from_secs(30)).expect("written");
    let text = String::from_utf8(sink.0.lock().expect("nobody panicked").clone()).expect("text");
    assert!(text.contains("lines were dropped"), "{text}");
}
