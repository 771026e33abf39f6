//! Which addresses Services get: the next free one of a range, of IPv4 and, where the Service wants both families, of
//! IPv6 too.
//!
//! In comes a Service, out goes the same with `clusterIPs`. What a client chose is kept if it is in the range and
//! free; `None` stays, and an ExternalName gets none. The first family is IPv4, as the cluster's is.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde_json::{Value, json};

use super::{
    failure::{Cause, Failure},
    kinds::Kind,
    store::Store,
};

/// The network of the cluster addresses of IPv6; hosts are numbered below it.
const IPV6: u128 = 0xfd00_0010_0096 << 80;
/// How many hosts of it are looked at: a test has few Services.
const IPV6_HOSTS: u128 = 0xffff;

/// An IPv4 range of cluster addresses.
#[derive(Debug, Clone, Copy)]
pub struct ServiceRange {
    first: u32,
    count: u32,
}

impl Default for ServiceRange {
    /// Kubernetes' usual one.
    fn default() -> Self {
        Self::new(Ipv4Addr::new(10, 96, 0, 0), 16)
    }
}

impl ServiceRange {
    /// A range by its network and prefix length.
    ///
    /// # Panics
    /// When the prefix is longer than 30 bits.
    #[must_use]
    pub fn new(network: Ipv4Addr, prefix: u32) -> Self {
        assert!(prefix <= 30, "a range of cluster addresses needs room");
        Self {
            first: u32::from(network),
            count: 1_u32.checked_shl(32 - prefix).unwrap_or(u32::MAX),
        }
    }

    /// Gives a Service its address.
    ///
    /// # Errors
    /// When it asks for one that it cannot have, or there is none left.
    pub fn allocate(self, store: &Store, kind: &Kind, service: &mut Value) -> Result<(), Failure> {
        if !kind.is("services") || service["spec"]["type"] == "ExternalName" {
            return Ok(());
        }
        let asked = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
        let taken: BTreeSet<String> =
            store.list("services", "").flat_map(|(_, service)| addresses(service)).collect();
        let is_dual = ["PreferDualStack", "RequireDualStack"]
            .iter()
            .any(|policy| service["spec"]["ipFamilyPolicy"] == *policy);
        let address = match asked.as_str() {
            "None" => asked,
            "" => self.next(&taken).ok_or_else(|| Failure::internal("range is full"))?,
            _ => {
                self.check(&asked, &taken, kind, service)?;
                asked
            }
        };
        let mut all = vec![address.clone()];
        if is_dual && address != "None" {
            all.push(next_ipv6(&taken).ok_or_else(|| Failure::internal("range is full"))?);
        }
        let spec = &mut service["spec"];
        spec["clusterIPs"] = json!(all);
        spec["clusterIP"] = json!(address);
        if spec["ipFamilies"].is_null() {
            spec["ipFamilies"] = if is_dual { json!(["IPv4", "IPv6"]) } else { json!(["IPv4"]) };
        }
        if spec["ipFamilyPolicy"].is_null() {
            spec["ipFamilyPolicy"] = json!("SingleStack");
        }
        Ok(())
    }

    /// The first address that nobody has; the network's own and the API server's are left out.
    fn next(self, taken: &BTreeSet<String>) -> Option<String> {
        (2..self.count.saturating_sub(1))
            .map(|offset| Ipv4Addr::from(self.first + offset).to_string())
            .find(|address| !taken.contains(address))
    }

    fn check(
        self,
        asked: &str,
        taken: &BTreeSet<String>,
        kind: &Kind,
        service: &Value,
    ) -> Result<(), Failure> {
        let name = service["metadata"]["name"].as_str().unwrap_or_default();
        let refuse = |why: &str| {
            let cause = Cause::invalid("spec.clusterIPs", &json!([asked]), why);
            Err(Failure::invalid(kind, name, &[cause]))
        };
        match asked.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) if u32::from(address).wrapping_sub(self.first) < self.count => {
            }
            // What is no address at all is refused by the validation.
            Err(_) => return Ok(()),
            Ok(_) => {
                return refuse(&format!(
                    "failed to allocate IP {asked}: the provided IP ({asked}) is not in the valid range"
                ));
            }
        }
        if taken.contains(asked) {
            return refuse(&format!(
                "failed to allocate IP {asked}: provided IP is already allocated"
            ));
        }
        Ok(())
    }
}

/// The cluster addresses that a Service has.
fn addresses(service: &Value) -> Vec<String> {
    let all = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
    all.filter_map(|address| address.as_str().map(str::to_owned)).collect()
}

/// The first address of IPv6 that nobody has.
fn next_ipv6(taken: &BTreeSet<String>) -> Option<String> {
    (2..IPV6_HOSTS)
        .map(|host| Ipv6Addr::from(IPV6 + host).to_string())
        .find(|address| !taken.contains(address))
}
