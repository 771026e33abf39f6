//! Which policies sidecars refuse. In come the resources that were refused, with the sidecars' reasons; out goes one
//! sentence for each policy that such a resource is made of.
//!
//! A sidecar refuses a resource as a whole and keeps the last good one. Where its reason names policies of the
//! resource, those are meant; where it names none, each of them may be.

use std::collections::BTreeMap;

use crate::{index::Index, push::proxies::Refusal};

/// What is said of each policy that is refused, by "KIND NAMESPACE/NAME".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refused {
    policies: BTreeMap<String, String>,
}

impl Refused {
    /// Finds the policies behind what was refused.
    #[must_use]
    pub fn new(refusals: &[Refusal], index: &Index) -> Self {
        let mut policies = BTreeMap::new();
        for refusal in refusals {
            for policy in meant(refusal, index) {
                // One sidecar that refuses is enough to say.
                policies.entry(policy).or_insert_with(|| {
                    format!(
                        "the sidecar of {} refuses it and goes on with what it had before ({} {}): {}",
                        refusal.key, refusal.kind, refusal.name, refusal.reason
                    )
                });
            }
        }
        Self { policies }
    }

    /// What is said of a policy, "KIND NAMESPACE/NAME"; `None` when nobody refuses it.
    #[must_use]
    pub fn of(&self, policy: &str) -> Option<&str> {
        self.policies.get(policy).map(String::as_str)
    }
}

/// The policies that a refused resource is refused for.
#[must_use]
pub fn meant(refusal: &Refusal, index: &Index) -> Vec<String> {
    let all = match (refusal.kind, refusal.name.parse()) {
        ("service", Ok(port)) => index.policies_of_service(&port),
        ("inbound", _) => index.policies_of_inbound(&refusal.key),
        _ => return Vec::new(),
    };
    let named: Vec<String> =
        all.iter().filter(|policy| is_named(&refusal.reason, policy)).cloned().collect();
    if named.is_empty() { all } else { named }
}

/// Whether the text has the name, and not only as a longer name's beginning.
fn is_named(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let next = text[at + name.len()..].chars().next();
        next.is_none_or(|next| !(next.is_ascii_alphanumeric() || next == '-'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_not_the_beginning_of_a_longer_one() {
        let name = "TrafficPolicy shop/cart";
        assert!(is_named("TrafficPolicy shop/cart rateLimits[0]: too many", name));
        assert!(is_named("refused: TrafficPolicy shop/cart", name));
        assert!(is_named("TrafficPolicy shop/cart: wrong", name));
        assert!(!is_named("TrafficPolicy shop/cart-slow: wrong", name));
    }
}
