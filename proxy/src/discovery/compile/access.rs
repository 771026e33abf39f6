//! Access policy: from the wire to what decides.
//!
//! Comes in: [`wire::Access`]. Goes out: [`Access`], or which rule cannot be used. A rule that cannot be read refuses
//! the whole update: without it, more or fewer would be let in than was said.

use std::{net::IpAddr, sync::Arc};

use weft_proto::discovery as wire;

use super::{Refused, name, operations::operations};
use crate::policy::authz::{Access, Caller, Effect, Fallback, IdentityMatch, Range, Rule};

/// Access policy at one port.
pub(super) fn access(message: &wire::Access) -> Result<Arc<Access>, Refused> {
    let each = message.rules.iter().enumerate().map(|(index, message)| {
        rule(message).map_err(|refused| refused.within(&format!("access.rules[{index}]")))
    });
    let rules = each.collect::<Result<_, _>>()?;
    let enforced = fallback(message.enforced.as_ref());
    // What nobody audits is as it is in force.
    let audited =
        message.audited.as_ref().map_or_else(|| enforced.clone(), |it| fallback(Some(it)));
    Ok(Arc::new(Access::new(rules, enforced, audited)))
}

fn fallback(message: Option<&wire::AccessDefault>) -> Fallback {
    let (deny, policy) = message.map_or((false, ""), |it| (it.deny, it.policy.as_str()));
    Fallback { deny, policy: policy.into() }
}

fn rule(message: &wire::AccessRule) -> Result<Rule, Refused> {
    Ok(Rule {
        policy: message.policy.as_str().into(),
        effect: if message.deny { Effect::Deny } else { Effect::Allow },
        audit: message.audit,
        callers: message.callers.iter().map(caller).collect::<Result<_, _>>()?,
        operations: operations(&message.operations)?,
    })
}

fn caller(message: &wire::Caller) -> Result<Caller, Refused> {
    let identity = |text: &String| match text.strip_suffix('*') {
        Some(prefix) => Ok(IdentityMatch::Prefix(prefix.into())),
        None => name("callers.identities", text).map(IdentityMatch::Exact),
    };
    Ok(Caller {
        identities: message.identities.iter().map(identity).collect::<Result<_, _>>()?,
        namespaces: message.namespaces.iter().map(|text| text.as_str().into()).collect(),
        ranges: message.cidrs.iter().map(|text| range(text)).collect::<Result<_, _>>()?,
    })
}

fn range(text: &str) -> Result<Range, Refused> {
    let parse = || {
        let (network, prefix) = text.split_once('/')?;
        Range::new(network.parse::<IpAddr>().ok()?, prefix.parse().ok()?)
    };
    parse().ok_or_else(|| {
        Refused::new("callers.cidrs", text, "use IP/PREFIX, for example 10.96.0.0/12")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(caller: wire::Caller) -> wire::Access {
        let rule = wire::AccessRule {
            policy: "AccessPolicy shop/cart rules[0]".to_owned(),
            callers: vec![caller],
            ..wire::AccessRule::default()
        };
        wire::Access {
            rules: vec![rule],
            enforced: Some(wire::AccessDefault {
                deny: true,
                policy: "MeshConfig mesh".to_owned(),
            }),
            audited: None,
        }
    }

    #[test]
    fn an_absent_audited_default_is_the_one_in_force() {
        let compiled = access(&message(wire::Caller::default())).expect("good");
        let deny = || Fallback { deny: true, policy: "MeshConfig mesh".into() };
        let rule = Rule {
            policy: "AccessPolicy shop/cart rules[0]".into(),
            effect: Effect::Allow,
            audit: false,
            callers: Box::new([Caller {
                identities: Box::new([]),
                namespaces: Box::new([]),
                ranges: Box::new([]),
            }]),
            operations: Box::new([]),
        };
        assert_eq!(*compiled, Access::new(vec![rule], deny(), deny()));
    }

    #[test]
    fn a_caller_that_cannot_be_read_is_refused_with_its_field() {
        let identities = |text: &str| wire::Caller {
            identities: vec![text.to_owned()],
            ..wire::Caller::default()
        };
        let cidrs =
            |text: &str| wire::Caller { cidrs: vec![text.to_owned()], ..wire::Caller::default() };
        for (caller, expected) in [
            (identities("web"), r#"access.rules[0].callers.identities: "web""#),
            (identities("spiffe://a*/b"), r#"access.rules[0].callers.identities: "spiffe://a*/b""#),
            (cidrs("10.0.0.0"), r#"access.rules[0].callers.cidrs: "10.0.0.0": use IP/PREFIX"#),
            (cidrs("10.0.0.0/33"), r#"access.rules[0].callers.cidrs: "10.0.0.0/33""#),
        ] {
            let error = access(&message(caller)).expect_err(expected).to_string();
            assert!(error.starts_with(expected), "{error} lacks {expected}");
        }
        assert!(access(&message(identities("spiffe://weft.local/ns/shop/*"))).is_ok());
    }
}
