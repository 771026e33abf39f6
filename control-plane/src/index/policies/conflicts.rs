//! Which of two policies that set the same section on the same target is in force: the older one (Gateway API's rule
//! for conflicts). The younger one is not in force at all, so that its status can say so in one sentence. A port by its
//! name and by its number is one target.

use std::{collections::BTreeMap, sync::Arc};

use super::{name, target::Target};
use crate::model::{ObjectKey, Resource, TrafficPolicySpec};

/// By which policies are ordered: the older first, then by name.
pub(super) type Age<'a> = (Option<&'a str>, &'a str, &'a str);

/// An object's age. Times of the store are RFC 3339 in UTC, whose order is that of their text.
pub(super) fn age<S>(policy: &Resource<S>) -> Age<'_> {
    let metadata = &policy.metadata;
    (metadata.creation_timestamp.as_deref(), &metadata.namespace, &metadata.name)
}

/// The verdict over all policies.
pub(super) struct Judged {
    /// The older first.
    pub(super) in_force: Vec<Arc<Resource<TrafficPolicySpec>>>,
    /// Those that are not, and why.
    pub(super) conflicts: BTreeMap<ObjectKey, String>,
}

/// Looks at all policies in the order of their age: each takes its sections of its targets, unless one of them is
/// taken.
/// `by_number` names a port by its number, where it is known.
pub(super) fn judge<'a>(
    policies: impl Iterator<Item = (&'a ObjectKey, &'a Arc<Resource<TrafficPolicySpec>>)>,
    by_number: impl Fn(&Target) -> Target,
) -> Judged {
    let mut policies: Vec<_> = policies.collect();
    policies.sort_by(|(_, one), (_, other)| age(one).cmp(&age(other)));
    let mut taken: BTreeMap<(Target, &'static str), String> = BTreeMap::new();
    let mut judged = Judged { in_force: Vec::new(), conflicts: BTreeMap::new() };
    for (key, policy) in policies {
        let sections = policy.spec.section_names();
        let claims: Vec<(Target, &'static str)> = Target::of_traffic(policy)
            .into_iter()
            .flat_map(|target| sections.iter().map(move |section| (target.clone(), *section)))
            .collect();
        let place = |(target, section): &(Target, &'static str)| (by_number(target), *section);
        if let Some((claim, owner)) =
            claims.iter().find_map(|claim| Some((claim, taken.get(&place(claim))?)))
        {
            let (target, section) = (claim.0.level(), claim.1);
            let message = format!(
                "spec.{section}: {owner}, which is older, sets it on {target} already: nothing of this policy \
                 is in force; change one of them"
            );
            judged.conflicts.insert(key.clone(), message);
            continue;
        }
        taken.extend(claims.iter().map(|claim| (place(claim), name(policy))));
        judged.in_force.push(Arc::clone(policy));
    }
    judged
}
