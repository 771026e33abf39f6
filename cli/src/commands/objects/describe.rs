//! `weft describe`: an object for reading, with its conditions, what runs for it, and what holds at a service.

use serde_json::Value;
use weft_proto::api::{AppliedEntry, AppliedRequest, EndpointsRequest, ProxiesRequest};

use super::{columns, fetch, implied};
use crate::{
    client::{self, Client},
    command::DescribeArgs,
    commands::{ejections, mesh},
    output,
};

pub(crate) async fn describe(args: DescribeArgs) -> anyhow::Result<()> {
    let mut client = client::connect(&args.api).await?;
    let found = fetch(&mut client, &args.kind, &args.names, &args.namespace).await?;
    if !found.by_name && !found.implied.is_empty() {
        eprintln!("{}", implied::note(&found.implied));
    } else if found.objects.is_empty() && found.missing.is_empty() {
        eprintln!("no {} there; -A looks into every namespace", args.kind);
    }
    let mut texts = Vec::new();
    for object in &found.objects {
        let mut text = of_object(object)?;
        text.push_str(&running(&mut client, object).await);
        texts.push(text);
    }
    output::print(&texts.join("\n"))?;
    found.complete()
}

fn of_object(object: &Value) -> anyhow::Result<String> {
    let metadata = &object["metadata"];
    let mut text = String::new();
    for (name, value) in [
        ("Kind", columns::text(&object["kind"])),
        ("Name", columns::text(&metadata["name"])),
        ("Namespace", columns::text(&metadata["namespace"])),
        ("Labels", columns::pairs(&metadata["labels"])),
        ("Annotations", columns::pairs(&metadata["annotations"])),
        ("Generation", columns::text(&metadata["generation"])),
        ("Created", columns::text(&metadata["creationTimestamp"])),
    ] {
        text.push_str(&format!("{:<14}{value}\n", format!("{name}:")));
    }
    if object["spec"].is_object() {
        text.push_str("Spec:\n");
        text.push_str(&indented(&serde_norway::to_string(&object["spec"])?));
    }
    text.push_str("Conditions:\n");
    text.push_str(&conditions(object));
    Ok(text)
}

fn conditions(object: &Value) -> String {
    let line = |(parent, condition): (Option<String>, &Value)| {
        let part = |field: &str| columns::text(&condition[field]);
        let at = parent.map(|parent| format!("at {parent}: ")).unwrap_or_default();
        let (r#type, status) = (part("type"), part("status"));
        format!("  {at}{type}={status} {}: {}\n", part("reason"), part("message"))
    };
    let lines: String = columns::conditions(object).map(line).collect();
    if lines.is_empty() { "  none\n".into() } else { lines }
}

/// The endpoints of a service, the sidecars of a workload. What cannot be asked is left out.
async fn running(client: &mut Client, object: &Value) -> String {
    let metadata = &object["metadata"];
    let name =
        format!("{}/{}", columns::text(&metadata["namespace"]), columns::text(&metadata["name"]));
    let parts = match object["kind"].as_str() {
        Some("Service") => vec![
            ("Endpoints", endpoints(client, name.clone()).await),
            ("Routes and policies", applied(client, name).await),
        ],
        Some("Workload") => vec![("Sidecars", sidecars(client, &name).await)],
        _ => Vec::new(),
    };
    let part = |(title, lines): (&str, Vec<String>)| {
        let lines = if lines.is_empty() { "none".to_owned() } else { lines.join("\n") };
        format!("{title}:\n{}", indented(&lines))
    };
    parts.into_iter().map(part).collect()
}

/// What holds at each port, in the order in which it acts on a request.
async fn applied(client: &mut Client, service: String) -> Vec<String> {
    let Ok(answer) = client.applied(AppliedRequest { service }).await else {
        return Vec::new();
    };
    let ports = answer.into_inner().ports.into_iter();
    let lines = ports.flat_map(|port| {
        let number = port.service_port.rsplit(':').next().unwrap_or_default().to_owned();
        port.entries.into_iter().map(move |entry| format!("port {number} {}", entry_text(&entry)))
    });
    lines.collect()
}

/// `route HTTPRoute shop/split rules[0] to shop/cart:80 (1), under TrafficPolicy shop/cart`.
fn entry_text(entry: &AppliedEntry) -> String {
    let mut text = entry.part.clone();
    if !entry.rule.is_empty() {
        text.push_str(&format!(" {}", entry.rule));
    }
    if !entry.backends.is_empty() {
        text.push_str(&format!(" to {}", entry.backends.join(", ")));
    }
    if !entry.callers.is_empty() {
        text.push_str(&format!(", for callers in {}", entry.callers));
    }
    if !entry.policies.is_empty() {
        text.push_str(&format!(" under {}", entry.policies.join(", ")));
    }
    if !entry.also_behind.is_empty() {
        let others = entry.also_behind.join(" and ");
        text.push_str(&format!(", at the servers that stand behind {others} as well"));
    }
    text
}

async fn endpoints(client: &mut Client, service: String) -> Vec<String> {
    let Ok(answer) = client.endpoints(EndpointsRequest { service }).await else {
        return Vec::new();
    };
    let line = |e: weft_proto::api::EndpointStatus| {
        let state = if e.ready { "ready" } else { "not ready" };
        let ejected = match ejections::in_words(&e) {
            none if none.is_empty() => none,
            callers => format!(" ejected by {callers}"),
        };
        format!(
            "port {} {}/{} at {} {state} {}{ejected}",
            e.service_port, e.workload, e.instance, e.address, e.detail
        )
    };
    answer.into_inner().endpoints.into_iter().map(line).collect()
}

async fn sidecars(client: &mut Client, workload: &str) -> Vec<String> {
    let Ok(answer) = client.proxies(ProxiesRequest {}).await else { return Vec::new() };
    let of_workload = answer.into_inner().proxies.into_iter().filter(|p| p.workload == workload);
    of_workload.map(|p| format!("{} {} {}", p.instance, p.spiffe_id, mesh::state(&p))).collect()
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_at_a_service_is_one_line_each() {
        let strings = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
        let route = AppliedEntry {
            part: "route".into(),
            rule: "HTTPRoute shop/split rules[0]".into(),
            backends: strings(&["shop/cart:80 (9)", "invalid (1)"]),
            policies: strings(&["TrafficPolicy shop/cart", "MeshConfig mesh"]),
            callers: "bank".into(),
            also_behind: Vec::new(),
        };
        assert_eq!(
            entry_text(&route),
            "route HTTPRoute shop/split rules[0] to shop/cart:80 (9), invalid (1), for callers in bank \
             under TrafficPolicy shop/cart, MeshConfig mesh"
        );
        let requests = AppliedEntry {
            part: "requests".into(),
            policies: strings(&["TrafficPolicy shop/cart"]),
            ..AppliedEntry::default()
        };
        assert_eq!(entry_text(&requests), "requests under TrafficPolicy shop/cart");
        let access = AppliedEntry {
            part: "access".into(),
            rule: "AccessPolicy shop/v1 rules[0]".into(),
            also_behind: strings(&["shop/cart-v1:80"]),
            ..AppliedEntry::default()
        };
        assert_eq!(
            entry_text(&access),
            "access AccessPolicy shop/v1 rules[0], at the servers that stand behind shop/cart-v1:80 as well"
        );
    }
}
