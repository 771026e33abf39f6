//! `weft proxies` and `weft endpoints`: what the control plane knows of the running mesh.

use serde::Serialize;
use weft_proto::api::{
    EjectionStatus, EndpointStatus, EndpointsRequest, HeldResource, ProxiesRequest, Proxy,
};

use crate::{
    client,
    command::{EndpointsArgs, Format, ProxiesArgs},
    commands::{ejections, in_namespace, time::Instant},
    output,
};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProxyView {
    #[serde(skip)]
    state: String,
    workload: String,
    instance: String,
    spiffe_id: String,
    version: String,
    admin_address: String,
    connected_since: i64,
    connected: bool,
    registered: bool,
    ready: bool,
    health_detail: String,
    resources: Vec<ResourceView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceView {
    kind: String,
    name: String,
    sent_version: String,
    acked_version: String,
    lag_ms: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    last_nack: String,
}

impl From<HeldResource> for ResourceView {
    fn from(held: HeldResource) -> Self {
        Self {
            kind: held.kind,
            name: held.name,
            sent_version: held.sent_version,
            acked_version: held.acked_version,
            lag_ms: held.lag_ms,
            last_nack: held.last_nack,
        }
    }
}

impl From<Proxy> for ProxyView {
    fn from(proxy: Proxy) -> Self {
        Self {
            state: state(&proxy),
            workload: proxy.workload,
            instance: proxy.instance,
            spiffe_id: proxy.spiffe_id,
            version: proxy.version,
            admin_address: proxy.admin_address,
            connected_since: proxy.connected_since,
            connected: proxy.connected,
            registered: proxy.registered,
            ready: proxy.ready,
            health_detail: proxy.health_detail,
            resources: proxy.resources.into_iter().map(ResourceView::from).collect(),
        }
    }
}

/// How it goes with a sidecar, in words.
pub(super) fn state(proxy: &Proxy) -> String {
    match (proxy.connected, proxy.ready, proxy.health_detail.as_str()) {
        (false, _, _) => "disconnected".into(),
        (true, true, _) => "ready".into(),
        // It serves nothing, and only calls others.
        (true, false, "") if !proxy.registered => "running".into(),
        (true, false, "") => "not ready".into(),
        (true, false, why) => format!("not ready: {why}"),
    }
}

impl ProxyView {
    /// "12 in force", with what is under way or was refused.
    fn configuration(&self) -> String {
        let refused = self.resources.iter().filter(|held| !held.last_nack.is_empty()).count();
        let behind: Vec<&ResourceView> =
            self.resources.iter().filter(|held| held.sent_version != held.acked_version).collect();
        let mut text = format!("{} in force", self.resources.len() - behind.len());
        if let Some(lag) = behind.iter().map(|held| held.lag_ms).max() {
            text.push_str(&format!(", {} behind by {lag} ms", behind.len()));
        }
        if refused > 0 {
            text.push_str(&format!(", {refused} refused"));
        }
        text
    }

    fn age(&self) -> String {
        output::span(Instant::of_millis(self.connected_since).age())
    }
}

pub(crate) async fn proxies(args: ProxiesArgs) -> anyhow::Result<()> {
    let mut client = client::connect(&args.api).await?;
    let answer = client.proxies(ProxiesRequest {}).await.map_err(client::refused)?.into_inner();
    let wanted = args.workload.as_deref();
    let mut proxies: Vec<ProxyView> = answer
        .proxies
        .into_iter()
        .filter(|proxy| wanted.is_none_or(|wanted| is_workload(&proxy.workload, wanted)))
        .map(ProxyView::from)
        .collect();
    proxies.sort_by(|a, b| (&a.workload, &a.instance).cmp(&(&b.workload, &b.instance)));
    if let Some(printed) = output::print_structured(args.format.output, &proxies) {
        return printed;
    }
    match args.format.output {
        Format::Wide => print_wide(&proxies),
        _ => print_proxies(&proxies),
    }?;
    report_refusals(&proxies);
    Ok(())
}

/// Whether a workload is the one that the user named, with or without its namespace.
fn is_workload(workload: &str, wanted: &str) -> bool {
    workload == wanted || workload.split_once('/').is_some_and(|(_, name)| name == wanted)
}

const NO_PROXIES: &str = "no sidecar is connected: `weft up FILE` starts one beside every service; in a cluster `weft check` says why";

fn print_proxies(proxies: &[ProxyView]) -> anyhow::Result<()> {
    let mut table =
        output::table(&["workload", "instance", "state", "connected", "configuration", "admin"]);
    for proxy in proxies {
        table.add_row([
            proxy.workload.clone(),
            proxy.instance.clone(),
            proxy.state.clone(),
            proxy.age(),
            proxy.configuration(),
            proxy.admin_address.clone(),
        ]);
    }
    output::print_table(&table, NO_PROXIES)
}

/// One line for every resource that a proxy holds.
fn print_wide(proxies: &[ProxyView]) -> anyhow::Result<()> {
    let mut table = output::table(&[
        "workload",
        "instance",
        "state",
        "kind",
        "name",
        "sent",
        "in force",
        "lag",
        "refused because",
    ]);
    for proxy in proxies {
        for held in &proxy.resources {
            let lag = if held.lag_ms == 0 { "-".into() } else { format!("{} ms", held.lag_ms) };
            table.add_row([
                proxy.workload.clone(),
                proxy.instance.clone(),
                proxy.state.clone(),
                held.kind.clone(),
                held.name.clone(),
                held.sent_version.clone(),
                held.acked_version.clone(),
                lag,
                held.last_nack.clone(),
            ]);
        }
    }
    output::print_table(&table, NO_PROXIES)
}

fn report_refusals(proxies: &[ProxyView]) {
    for proxy in proxies {
        for held in proxy.resources.iter().filter(|held| !held.last_nack.is_empty()) {
            eprintln!(
                "warning: {}/{} refused {} {}: {}",
                proxy.workload, proxy.instance, held.kind, held.name, held.last_nack
            );
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EndpointView {
    service_port: String,
    workload: String,
    instance: String,
    address: String,
    app_port: u32,
    meshed: bool,
    identities: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    zone: String,
    ready: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    /// How many callers have ejected it.
    ejected_by: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ejections: Vec<EjectionView>,
    #[serde(skip)]
    ejected: String,
}

/// What one caller's breaker says of an endpoint.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EjectionView {
    workload: String,
    instance: String,
    cause: String,
    /// Unix milliseconds.
    since: i64,
    left_ms: i64,
    half_open: bool,
}

impl From<EjectionStatus> for EjectionView {
    fn from(status: EjectionStatus) -> Self {
        Self {
            half_open: status.left_ms == 0,
            workload: status.workload,
            instance: status.instance,
            cause: status.cause,
            since: status.since,
            left_ms: status.left_ms,
        }
    }
}

impl From<EndpointStatus> for EndpointView {
    fn from(status: EndpointStatus) -> Self {
        Self {
            ejected: ejections::in_words(&status),
            ejected_by: status.ejected_by,
            ejections: status.ejections.into_iter().map(EjectionView::from).collect(),
            service_port: status.service_port,
            workload: status.workload,
            instance: status.instance,
            address: status.address,
            app_port: status.app_port,
            meshed: status.meshed,
            identities: status.identities,
            zone: status.zone,
            ready: status.ready,
            detail: status.detail,
        }
    }
}

pub(crate) async fn endpoints(args: EndpointsArgs) -> anyhow::Result<()> {
    let mut client = client::connect(&args.api).await?;
    let namespace = args.namespace.as_deref();
    let service = args.service.map(|name| in_namespace(&name, namespace)).unwrap_or_default();
    let request = EndpointsRequest { service: service.clone() };
    let mut answer = client.endpoints(request).await.map_err(client::refused)?.into_inner();
    if let (true, Some(namespace)) = (service.is_empty(), namespace) {
        let prefix = format!("{namespace}/");
        answer.endpoints.retain(|endpoint| endpoint.service_port.starts_with(&prefix));
        answer.service_ports.retain(|port| port.starts_with(&prefix));
    }
    let endpoints: Vec<EndpointView> =
        answer.endpoints.into_iter().map(EndpointView::from).collect();
    if let Some(printed) = output::print_structured(args.format.output, &endpoints) {
        return printed;
    }
    let wide = args.format.output == Format::Wide;
    let mut columns =
        vec!["port", "workload", "instance", "address", "app port", "state", "tls", "ejected by"];
    if wide {
        columns.extend(["identities", "zone"]);
    }
    let mut table = output::table(&columns);
    for port in &answer.service_ports {
        let mut rows =
            endpoints.iter().filter(|endpoint| endpoint.service_port == *port).peekable();
        if rows.peek().is_none() {
            table.add_row(empty_row(port, columns.len()));
        }
        rows.for_each(|endpoint| {
            table.add_row(endpoint_row(endpoint, wide));
        });
    }
    output::print_table(&table, &no_ports(&service, namespace))
}

/// A port that nothing serves yet.
fn empty_row(port: &str, columns: usize) -> Vec<String> {
    let mut row = vec!["-".to_owned(); columns];
    port.clone_into(&mut row[0]);
    "no instance".clone_into(&mut row[5]);
    row
}

fn no_ports(service: &str, namespace: Option<&str>) -> String {
    match (service, namespace) {
        ("", None) => "no services; a Workload with spec.service makes one".into(),
        ("", Some(namespace)) => {
            format!("no services in namespace {namespace}; without -n, all are shown")
        }
        (service, _) => {
            format!("{service} has no ports; `weft describe service {service}` says what it has")
        }
    }
}

fn endpoint_row(endpoint: &EndpointView, wide: bool) -> Vec<String> {
    let state = match (endpoint.ready, endpoint.detail.as_str()) {
        (true, _) => "ready".to_owned(),
        (false, "") => "not ready".to_owned(),
        (false, why) => format!("not ready: {why}"),
    };
    let mut row = vec![
        endpoint.service_port.clone(),
        endpoint.workload.clone(),
        endpoint.instance.clone(),
        endpoint.address.clone(),
        endpoint.app_port.to_string(),
        state,
        if endpoint.meshed { "mutual" } else { "none" }.to_owned(),
        if endpoint.ejected.is_empty() { "-" } else { &endpoint.ejected }.to_owned(),
    ];
    if wide {
        row.extend([endpoint.identities.join(" "), endpoint.zone.clone()]);
    }
    row
}
