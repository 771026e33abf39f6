//! Who may do what at an inbound port: all rules of all levels, and the default of the most specific level that
//! states one.
//!
//! A port may stand behind several services. The rules of each of them hold, and of two defaults of one level the one
//! that denies: nobody gets around a rule by another name of the same port.

use weft_proto::discovery;

use super::{Place, Target, mesh_name, name};
use crate::{
    index::Index,
    model::{AccessAction, AccessPolicySpec, Resource, access_policy::AccessRule},
};

/// Everything that holds for a port.
pub(in crate::index) struct Applied<'a> {
    /// The rules of the most specific level first.
    pub(in crate::index) rules: Vec<AppliedRule<'a>>,
    /// What becomes of who is taken by no rule.
    pub(in crate::index) enforced: Default,
    /// The same, if the policies in Audit mode were enforced.
    pub(in crate::index) audited: Default,
}

/// A rule, and whose it is.
pub(in crate::index) struct AppliedRule<'a> {
    /// "Service shop/cart", "namespace shop", "mesh".
    pub(in crate::index) level: String,
    /// "AccessPolicy shop/cart rules[0]".
    pub(in crate::index) name: String,
    pub(in crate::index) audit: bool,
    pub(in crate::index) rule: &'a AccessRule,
}

/// A default, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::index) struct Default {
    pub(in crate::index) action: AccessAction,
    /// "AccessPolicy shop/cart"; empty when nobody says it.
    pub(in crate::index) policy: String,
    /// Where it is said; empty when nobody does.
    pub(in crate::index) level: String,
}

impl Index {
    /// What holds for a port behind these services, in this namespace.
    pub(in crate::index) fn applied_access(
        &self,
        places: &[Place<'_>],
        namespace: &str,
    ) -> Applied<'_> {
        let levels = levels(places, namespace);
        let mut rules = Vec::new();
        for target in levels.iter().flatten() {
            for policy in self.policies.access(target) {
                let of_policy = policy.spec.rules.iter().enumerate();
                rules.extend(of_policy.map(|(index, rule)| AppliedRule {
                    level: target.level(),
                    name: format!("{} rules[{index}]", name(policy)),
                    audit: policy.spec.is_audit(),
                    rule,
                }));
            }
        }
        Applied {
            rules,
            enforced: self.access_default(&levels, false),
            audited: self.access_default(&levels, true),
        }
    }

    /// The same, as it travels. `None`: everybody may do everything.
    pub(in crate::index) fn access(
        &self,
        places: &[Place<'_>],
        namespace: &str,
    ) -> Option<discovery::Access> {
        let applied = self.applied_access(places, namespace);
        let denies = |default: &Default| default.action == AccessAction::Deny;
        if applied.rules.is_empty() && !denies(&applied.enforced) && !denies(&applied.audited) {
            return None;
        }
        let default = |default: Default| discovery::AccessDefault {
            deny: denies(&default),
            policy: default.policy,
        };
        let domain = &self.trust_domain;
        let rules = applied.rules.into_iter();
        Some(discovery::Access {
            rules: rules.map(|one| one.rule.to_wire(one.name, one.audit, domain)).collect(),
            enforced: Some(default(applied.enforced)),
            audited: Some(default(applied.audited)),
        })
    }

    /// The default of the most specific level that states one.
    fn access_default(&self, levels: &[Vec<Target>], with_audit: bool) -> Default {
        for level in levels {
            let stated = level.iter().filter_map(|target| self.default_at(target, with_audit));
            // min_by_key takes the first of several that are equal.
            if let Some(default) = stated.min_by_key(|one| one.action != AccessAction::Deny) {
                return default;
            }
        }
        match self.config.access.default {
            Some(action) => Default { action, policy: mesh_name(), level: "mesh".into() },
            None => {
                Default { action: AccessAction::Allow, policy: String::new(), level: String::new() }
            }
        }
    }

    /// The default that holds at one target: one that is written goes before one that is only implied, then the
    /// older one.
    pub(super) fn default_at(&self, target: &Target, with_audit: bool) -> Option<Default> {
        let counts = |policy: &&std::sync::Arc<Resource<AccessPolicySpec>>| {
            with_audit || !policy.spec.is_audit()
        };
        let policies = self.policies.access(target).iter().filter(counts);
        let stated: Vec<(String, AccessAction, bool)> = policies
            .filter_map(|policy| {
                let (action, is_written) = policy.spec.stated_default()?;
                Some((name(policy), action, is_written))
            })
            .collect();
        let first = stated.iter().find(|(_, _, is_written)| *is_written).or(stated.first())?;
        Some(Default { action: first.1, policy: first.0.clone(), level: target.level() })
    }
}

/// What an AccessPolicy can hold for, of this port: the most specific level first.
fn levels(places: &[Place<'_>], namespace: &str) -> Vec<Vec<Target>> {
    let (mut ports, mut services) = (Vec::new(), Vec::new());
    for place in places {
        let mut targets = place.targets();
        services.extend(targets.pop());
        ports.extend(targets);
    }
    for level in [&mut ports, &mut services] {
        level.sort();
        level.dedup();
    }
    vec![ports, services, vec![Target::Namespace(namespace.into())], vec![Target::Mesh]]
}
