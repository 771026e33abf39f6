//! Who may do what at an inbound port: all rules of all levels, and the default of the most specific level that
//! states one.
//!
//! Of two policies on one target the older one's default holds, whether it is written or implied by a list of who may.
//!
//! A port may stand behind several services. The rules of each of them hold, and of the defaults of two of them the one
//! that denies: nobody gets around a rule by another name of the same port.

use weft_proto::discovery;

use super::{Place, Target, age, levels, mesh_name, name};
use crate::{
    index::Index,
    model::{AccessAction, access_policy::AccessRule},
};

/// Said of what stands for an object that cannot be read.
const UNREAD: &str = "(cannot be read)";

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
        for target in levels.iter().flatten().flatten() {
            for policy in self.policies.access(target) {
                let of_policy = policy.spec.rules.iter().enumerate();
                rules.extend(of_policy.map(|(index, rule)| AppliedRule {
                    level: target.level(),
                    name: match &policy.spec.unread {
                        Some(_) => format!("{} {UNREAD}", name(policy)),
                        None => format!("{} rules[{index}]", name(policy)),
                    },
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
    fn access_default(&self, levels: &[Vec<Vec<Target>>], with_audit: bool) -> Default {
        for level in levels {
            let stated = level.iter().filter_map(|targets| self.default_at(targets, with_audit));
            // min_by_key takes the first of several that are equal.
            if let Some(default) = stated.min_by_key(|one| one.action != AccessAction::Deny) {
                return default;
            }
        }
        match self.config.access.default {
            Some(action) => {
                let unread = self.config.unread.as_ref().map(|_| format!(" {UNREAD}"));
                let policy = mesh_name() + &unread.unwrap_or_default();
                Default { action, policy, level: "mesh".into() }
            }
            None => {
                Default { action: AccessAction::Allow, policy: String::new(), level: String::new() }
            }
        }
    }

    /// The default that holds at one thing, which these targets mean: the oldest.
    pub(super) fn default_at(&self, targets: &[Target], with_audit: bool) -> Option<Default> {
        let policies = targets.iter().flat_map(|target| {
            self.policies.access(target).iter().map(move |policy| (policy, target))
        });
        let counts = policies.filter(|(policy, _)| with_audit || !policy.spec.is_audit());
        let stated = counts
            .filter_map(|(policy, target)| Some((policy, target, policy.spec.stated_default()?)));
        let (policy, target, action) = stated.min_by_key(|(policy, ..)| age(policy))?;
        Some(Default { action, policy: name(policy), level: target.level() })
    }
}
