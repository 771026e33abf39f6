//! The routes of opaque bytes: TCPRoutes for any, TLSRoutes by the server name that the client's TLS asks for.
//!
//! Comes in: the server name, if there is one. Goes out: the first rule that takes the connection. Where no rule asks
//! for a name, nobody has to wait for the client to say one.

use std::sync::Arc;

use super::{Backend, Weighted, matcher::HostMatch};

/// What becomes of the connections that a rule takes.
#[derive(Debug)]
pub struct OpaqueRule {
    /// For operators: "TLSRoute shop/db rules\[0\]".
    pub name: Arc<str>,
    /// The server names that it takes; none: any bytes.
    pub server_names: Box<[HostMatch]>,
    /// Who gets them, by weight.
    pub backends: Weighted<Arc<Backend>>,
}

/// The rules for opaque bytes, in the order of precedence.
#[derive(Debug, Default)]
pub struct OpaqueRules {
    rules: Box<[Arc<OpaqueRule>]>,
    by_name: bool,
}

impl OpaqueRules {
    /// These rules, in the order of precedence.
    #[must_use]
    pub fn new(rules: Vec<Arc<OpaqueRule>>) -> Self {
        let by_name = rules.iter().any(|rule| !rule.server_names.is_empty());
        Self { rules: rules.into(), by_name }
    }

    /// Whether there is none: opaque bytes go to the service's own endpoints.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules, in the order of precedence.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<OpaqueRule>> {
        self.rules.iter()
    }

    /// Whether what the client says first decides: it must be waited for.
    #[must_use]
    pub const fn by_name(&self) -> bool {
        self.by_name
    }

    /// The rule that takes a connection with this server name (in lower case), or without one.
    #[must_use]
    pub fn decide(&self, server_name: Option<&str>) -> Option<&Arc<OpaqueRule>> {
        self.rules.iter().find(|rule| {
            rule.server_names.is_empty()
                || server_name.is_some_and(|name| rule.server_names.iter().any(|n| n.takes(name)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, server_names: Vec<HostMatch>) -> Arc<OpaqueRule> {
        let backends = Weighted::new([]);
        Arc::new(OpaqueRule { name: name.into(), server_names: server_names.into(), backends })
    }

    #[test]
    fn the_first_rule_that_takes_the_server_name_wins() {
        let rules = OpaqueRules::new(vec![
            rule("exact", vec![HostMatch::Exact("db.example.com".into())]),
            rule("below", vec![HostMatch::Below(".example.com".into())]),
        ]);
        assert!(rules.by_name());
        for (server_name, expected) in [
            (Some("db.example.com"), Some("exact")),
            (Some("a.b.example.com"), Some("below")),
            (Some("example.com"), None),
            (Some("db.example.org"), None),
            (None, None),
        ] {
            let taken = rules.decide(server_name).map(|rule| &*rule.name);
            assert_eq!(taken, expected, "{server_name:?}");
        }
    }

    #[test]
    fn a_rule_without_names_takes_all_bytes_and_needs_none() {
        let rules = OpaqueRules::new(vec![rule("any", Vec::new())]);
        assert!(!rules.by_name() && !rules.is_empty());
        assert!(rules.decide(None).is_some() && rules.decide(Some("x")).is_some());
        assert!(OpaqueRules::default().is_empty());
    }
}
