//! EndpointSlices: addresses of one family that can be reached from elsewhere, and ports told apart.
//!
//! In comes a slice with its defaults, out go the causes to refuse it. Loopback, link-local, multicast and
//! unspecified addresses are refused: whoever could write them could lead proxies to the node itself.

use std::{collections::BTreeSet, net::IpAddr};

use serde_json::{Value, json};

use super::names::{is_label, is_subdomain, not_label, not_subdomain};
use crate::kubernetes::failure::Cause;

const MOST_ENDPOINTS: usize = 1000;
const MOST_ADDRESSES: usize = 100;
const MOST_PORTS: usize = 20_000;

/// Checks a slice.
pub(super) fn check(slice: &Value, causes: &mut Vec<Cause>) {
    const TYPES: &[&str] = &["FQDN", "IPv4", "IPv6"];
    let kind = slice["addressType"].as_str().unwrap_or_default();
    match kind {
        "" => causes.push(Cause::required("addressType", "")),
        kind if !TYPES.contains(&kind) => {
            causes.push(Cause::unsupported("addressType", &json!(kind), TYPES));
        }
        _ => {}
    }
    let endpoints = list(&slice["endpoints"]);
    if endpoints.len() > MOST_ENDPOINTS {
        causes.push(too_many("endpoints", endpoints.len(), MOST_ENDPOINTS));
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        check_endpoint(endpoint, kind, &format!("endpoints[{index}]"), causes);
    }
    check_ports(list(&slice["ports"]), causes);
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn too_many(field: &str, found: usize, most: usize) -> Cause {
    let mut cause = Cause::invalid(field, &json!(found), "");
    cause.reason = "FieldValueTooMany";
    cause.message = format!("Too many: {found}: must have at most {most} items");
    cause
}

fn check_endpoint(endpoint: &Value, kind: &str, path: &str, causes: &mut Vec<Cause>) {
    let addresses = list(&endpoint["addresses"]);
    let field = format!("{path}.addresses");
    if addresses.is_empty() {
        causes.push(Cause::required(field.clone(), "must contain at least 1 address"));
    } else if addresses.len() > MOST_ADDRESSES {
        causes.push(too_many(&field, addresses.len(), MOST_ADDRESSES));
    }
    for (index, address) in addresses.iter().enumerate() {
        check_address(address, kind, &format!("{field}[{index}]"), causes);
    }
    if let Some(name) = endpoint["hostname"].as_str()
        && !is_label(name)
    {
        causes.push(not_label(&format!("{path}.hostname"), name));
    }
    if let Some(name) = endpoint["nodeName"].as_str()
        && !is_subdomain(name)
    {
        causes.push(not_subdomain(&format!("{path}.nodeName"), name));
    }
}

fn check_address(value: &Value, kind: &str, field: &str, causes: &mut Vec<Cause>) {
    let text = value.as_str().unwrap_or_default();
    if kind == "FQDN" {
        if !is_subdomain(text) {
            causes.push(not_subdomain(field, text));
        }
        return;
    }
    let (is_family, family) = match (kind, text.parse::<IpAddr>()) {
        ("IPv4", address) => (matches!(address, Ok(IpAddr::V4(_))), "IPv4"),
        ("IPv6", address) => (matches!(address, Ok(IpAddr::V6(_))), "IPv6"),
        _ => return,
    };
    if !is_family {
        causes.push(Cause::invalid(field, value, &format!("must be an {family} address")));
        return;
    }
    let Ok(address) = text.parse::<IpAddr>() else { return };
    if let Some(why) = unreachable(address) {
        causes.push(Cause::invalid(field, value, why));
    }
}

/// Why an address is nobody's to be reached at from elsewhere.
fn unreachable(address: IpAddr) -> Option<&'static str> {
    let (link_local, link_local_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    if address.is_unspecified() {
        return Some("may not be unspecified (0.0.0.0 or ::)");
    }
    if address.is_loopback() {
        return Some("may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if link_local {
        return Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    link_local_multicast
        .then_some("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
}

fn check_ports(ports: &[Value], causes: &mut Vec<Cause>) {
    if ports.len() > MOST_PORTS {
        causes.push(too_many("ports", ports.len(), MOST_PORTS));
    }
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = format!("ports[{index}]");
        let name = port["name"].as_str().unwrap_or_default();
        if !name.is_empty() && !is_label(name) {
            causes.push(not_label(&format!("{path}.name"), name));
        }
        if !names.insert(name) {
            causes.push(Cause::duplicate(format!("{path}.name"), &json!(name)));
        }
        if !["TCP", "UDP", "SCTP"].iter().any(|one| port["protocol"] == *one) {
            let field = format!("{path}.protocol");
            causes.push(Cause::unsupported(field, &port["protocol"], &["SCTP", "TCP", "UDP"]));
        }
        if port["port"].as_i64().is_some_and(|number| !(1..=65535).contains(&number)) {
            let why = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(format!("{path}.port"), &port["port"], why));
        }
    }
}
