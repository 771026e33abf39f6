//! docs/metrics.md and docs/reasons.md say what the proxy exports: each table is compared with the code.

use std::{collections::BTreeMap, fmt::Write as _, path::Path, sync::Arc, time::Duration};

use weft_proxy::{
    error::{Side, grpc_status, side, status},
    identity::Identity,
    policy::{breaker::Cause, retry::Withheld},
    reason::Reason,
    telemetry::{Direction, Metrics, Mirrored, PoolProtocol, RequestOutcome, Retried, TlsState},
};

/// The cells of the table rows that begin with a code in backquotes.
fn rows(document: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(document);
    let text = std::fs::read_to_string(path).expect("the document is there");
    text.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

/// Metrics of which every family has a sample.
fn every_metric() -> Metrics {
    let metrics = Metrics::new();
    let traffic = metrics.traffic(Direction::Outbound, "shop/cart:80");
    traffic.request(&RequestOutcome {
        status: 503,
        grpc_status: Some(14),
        reason: Some(Reason::NoEndpoints),
        duration: Duration::from_millis(1),
        tls: TlsState::Mutual,
    });
    traffic.retried(Retried::Failed(Reason::ConnectRefused));
    traffic.withheld(Withheld::Budget);
    traffic.ejected(Cause::Probe, &Arc::default());
    let mut connection = traffic.connection(TlsState::Mutual);
    connection.carried(1, 1);
    connection.failed(Reason::IdleTimeout);
    drop(connection);
    let discovery = metrics.discovery();
    discovery.connected(true);
    discovery.update("mesh", true);
    discovery.subscriptions(1, 1);
    let tls = metrics.tls();
    tls.handshake(Direction::Inbound, true, Err(Reason::PeerUnverified));
    metrics.follow_identity(Identity::default());
    let _open = metrics.listeners().accepted(Direction::Inbound);
    metrics.listeners().refused(Direction::Inbound, Reason::ConnectionLimit);
    let pool = metrics.pool(PoolProtocol::Http2);
    pool.opened();
    pool.reused();
    metrics.traces().left(1, true);
    let names = ["shop/cart:80", "HTTPRoute shop/split rules[0]", "shop/cart-v2:80"];
    let [service, route, backend] = names.map(Into::into);
    metrics.backend(&service, &route, &backend).request(&RequestOutcome {
        status: 200,
        grpc_status: Some(14),
        reason: None,
        duration: Duration::from_millis(1),
        tls: TlsState::Mutual,
    });
    metrics.mirrors().note(Mirrored::Answered);
    let admission = metrics.admission();
    let policy = "AccessPolicy shop/cart rules[0]".into();
    admission.refused(&policy, Reason::AuthzDenied);
    let _ = admission.audited(&policy, 0);
    admission.waiting(&policy).inc();
    metrics
}

#[derive(Default)]
struct Family {
    kind: String,
    help: String,
    labels: Vec<String>,
}

/// What is exported, by the name under which it is queried.
fn exported(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' ')) {
            families.entry(name.to_owned()).or_default().help = help.trim_matches('.').to_owned();
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
        {
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().expect("a name");
            let family = ["", "_total", "_info", "_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|suffix| name.strip_suffix(suffix))
                .find_map(|name| families.get_mut(name).map(|_| name.to_owned()))
                .expect("described before its samples");
            let labels = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
            families.get_mut(&family).expect("found above").labels =
                labels.map(|(labels, _)| label_names(labels)).unwrap_or_default();
        }
    }
    let queried = |(name, family): (String, Family)| match family.kind.as_str() {
        "counter" => (format!("{name}_total"), family),
        "info" => (format!("{name}_info"), family),
        _ => (name, family),
    };
    families.into_iter().map(queried).collect()
}

/// The names in `a="1",b="2"`, without the one that every histogram has.
fn label_names(labels: &str) -> Vec<String> {
    labels
        .split("\",")
        .filter_map(|label| label.split_once("=\"").map(|(name, _)| name.to_owned()))
        .filter(|name| name != "le")
        .collect()
}

#[test]
fn every_metric_is_documented_as_it_is_exported() {
    let mut expected = String::new();
    for (name, family) in exported(&every_metric().text()) {
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let (kind, help) = (&family.kind, &family.help);
        writeln!(expected, "| `{name}` | {kind} | {} | {help} |", labels.join(", ")).expect("text");
    }
    let mut documented: Vec<_> = rows("metrics.md");
    documented.sort_by_key(|row| row[0].trim_matches('`').to_owned());
    let mut actual = String::new();
    for row in documented {
        writeln!(actual, "| {} |", row.join(" | ")).expect("text");
    }
    assert!(actual == expected, "docs/metrics.md has\n{actual}\nand the proxy exports\n{expected}");
}

#[test]
fn every_reason_is_documented_as_it_is_answered() {
    let rows = rows("reasons.md");
    let mut expected = String::new();
    for reason in Reason::ALL {
        let side = match side(*reason) {
            Side::Client => "client",
            Side::Proxy => "proxy",
            Side::Server => "server",
        };
        let (status, grpc) = (status(*reason).as_u16(), grpc_status(*reason));
        let (code, meaning) = (reason.code(), reason.meaning());
        writeln!(expected, "| `{code}` | {status} | {grpc} | {side} | {meaning} |").expect("text");
    }
    let mut actual = String::new();
    for row in &rows {
        assert_eq!(row.len(), 6, "six cells, the last says what to do: {row:?}");
        assert!(!row[5].is_empty(), "what to do is missing: {row:?}");
        writeln!(actual, "| {} |", row[..5].join(" | ")).expect("text");
    }
    assert!(actual == expected, "docs/reasons.md has\n{actual}\nand the proxy answers\n{expected}");
}
