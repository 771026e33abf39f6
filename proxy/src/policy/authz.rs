//! Who may do what at a port: access policy.
//!
//! Comes in: the rules of all policies on the port, flat, and the facts of one connection or request. Goes out: a
//! [`Decision`], with whose word it is. A request is refused when a deny rule takes it; else it passes when an
//! allow rule takes it; else the default decides. The order of rules plays no part.
//!
//! - A rule takes what one of its callers does and one of its operations says; no callers are everybody, no
//!   operations are everything.
//! - Bytes that are no HTTP have no operations. A deny rule with operations takes them, an allow rule with operations
//!   never does: who speaks another protocol gets around neither.
//! - Rules in audit mode decide nothing. The decision names the policy that would have refused what passes, were
//!   they and their default in force.
//!
//! It must never say yes where it cannot tell: an identity that was not verified is none, an address that is not
//! known lies in no range.

use std::{net::IpAddr, sync::Arc};

use weft_proto::SpiffeId;

use super::operation::{self, Operation, Reading, RequestFacts};

/// Access policy at one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    rules: Box<[Rule]>,
    enforced: Fallback,
    audited: Fallback,
    /// Some rule is in audit mode, or a default would be another.
    has_audit: bool,
    /// Some rule in force has operations.
    has_operations: bool,
}

/// What holds where no rule takes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// It is refused.
    pub deny: bool,
    /// Whose word it is; empty when nobody's.
    pub policy: Arc<str>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whose it is, for operators.
    pub policy: Arc<str>,
    /// Whether it refuses or allows.
    pub effect: Effect,
    /// It decides nothing, and counts where it would.
    pub audit: bool,
    /// Any of them; empty for everybody.
    pub callers: Box<[Caller]>,
    /// Any of them; empty for everything.
    pub operations: Box<[Operation]>,
}

/// What a rule does with what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Lets it pass, unless a deny rule takes it too.
    Allow,
    /// Refuses it.
    Deny,
}

/// A kind of caller: each of the fields that are not empty must hold, and of a list one entry must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Identities.
    pub identities: Box<[IdentityMatch]>,
    /// Namespaces of identities.
    pub namespaces: Box<[Box<str>]>,
    /// Where the connection comes from.
    pub ranges: Box<[Range]>,
}

/// An identity, or many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityMatch {
    /// This one.
    Exact(SpiffeId),
    /// All that begin so.
    Prefix(Box<str>),
}

/// Addresses that share their first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    network: IpAddr,
    prefix: u8,
}

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Verified by mutual TLS.
    pub identity: Option<&'a SpiffeId>,
    /// Where the connection comes from.
    pub address: Option<IpAddr>,
}

/// What the caller does.
#[derive(Debug, Clone, Copy)]
pub enum Deed<'a, 'head> {
    /// This request.
    Request(&'a RequestFacts<'head>),
    /// Opaque bytes.
    Bytes,
    /// Whatever request it may come up with: refused only when each would be.
    AnyRequest,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'a> {
    /// It passes.
    pub allowed: bool,
    /// Whose word that is; empty when nobody's.
    pub by: &'a Arc<str>,
    /// It passes, and this policy would have refused it, were the policies in audit mode in force.
    pub audited: Option<&'a Arc<str>>,
}

impl Access {
    /// Of these rules and defaults.
    #[must_use]
    pub fn new(rules: Vec<Rule>, enforced: Fallback, audited: Fallback) -> Self {
        let has_audit = rules.iter().any(|rule| rule.audit) || enforced.deny != audited.deny;
        let has_operations = rules.iter().any(|rule| !rule.audit && !rule.operations.is_empty());
        Self { rules: rules.into(), enforced, audited, has_audit, has_operations }
    }

    /// Whether rules in force speak of HTTP: then bytes must be HTTP, or be refused.
    #[must_use]
    pub const fn has_operations(&self) -> bool {
        self.has_operations
    }

    /// The rules, those in audit mode too.
    #[must_use]
    pub const fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Decides.
    #[must_use]
    pub fn decide(&self, source: Source<'_>, deed: Deed<'_, '_>) -> Decision<'_> {
        let (allowed, by) = self.judge(source, deed, false);
        let mut audited = None;
        if self.has_audit && allowed {
            let (allowed, by) = self.judge(source, deed, true);
            audited = (!allowed).then_some(by);
        }
        Decision { allowed, by, audited }
    }

    fn judge(&self, source: Source<'_>, deed: Deed<'_, '_>, with_audit: bool) -> (bool, &Arc<str>) {
        let mut allowing = None;
        for rule in &self.rules {
            if rule.audit && !with_audit || rule.effect == Effect::Allow && allowing.is_some() {
                continue;
            }
            if rule.takes(source, deed) {
                match rule.effect {
                    Effect::Deny => return (false, &rule.policy),
                    Effect::Allow => allowing = Some(&rule.policy),
                }
            }
        }
        let default = if with_audit { &self.audited } else { &self.enforced };
        match allowing {
            Some(policy) => (true, policy),
            None => (!default.deny, &default.policy),
        }
    }
}

impl Rule {
    fn takes(&self, source: Source<'_>, deed: Deed<'_, '_>) -> bool {
        let is_caller =
            self.callers.is_empty() || self.callers.iter().any(|caller| caller.is(source));
        is_caller && (self.operations.is_empty() || self.takes_deed(deed))
    }

    /// Of a rule with operations.
    fn takes_deed(&self, deed: Deed<'_, '_>) -> bool {
        match (deed, self.effect) {
            (Deed::Request(facts), Effect::Deny) => {
                operation::any_takes(&self.operations, facts, Reading::Any)
            }
            (Deed::Request(facts), Effect::Allow) => {
                operation::any_takes(&self.operations, facts, Reading::Every)
            }
            (Deed::Bytes, Effect::Deny) | (Deed::AnyRequest, Effect::Allow) => true,
            (Deed::Bytes, Effect::Allow) | (Deed::AnyRequest, Effect::Deny) => false,
        }
    }
}

impl Caller {
    fn is(&self, source: Source<'_>) -> bool {
        let identity = source.identity;
        let is_one = |wanted: &IdentityMatch| match (wanted, identity) {
            (_, None) => false,
            (IdentityMatch::Exact(wanted), Some(identity)) => wanted == identity,
            (IdentityMatch::Prefix(prefix), Some(identity)) => {
                identity.as_str().starts_with(&**prefix)
            }
        };
        let namespace = identity.map(SpiffeId::namespace);
        let is_in = |range: &Range| source.address.is_some_and(|address| range.contains(address));
        (self.identities.is_empty() || self.identities.iter().any(is_one))
            && (self.namespaces.is_empty()
                || self.namespaces.iter().any(|wanted| namespace == Some(&**wanted)))
            && (self.ranges.is_empty() || self.ranges.iter().any(is_in))
    }
}

impl Range {
    /// The addresses whose first `prefix` bits are those of `network`; `None` when it has not so many. What is said
    /// of an IPv4 address that is written as IPv6 (`::ffff:a.b.c.d/96+n`) is said of it as IPv4.
    #[must_use]
    pub fn new(network: IpAddr, prefix: u8) -> Option<Self> {
        let bits = if network.is_ipv4() { 32 } else { 128 };
        if prefix > bits {
            return None;
        }
        match network.to_canonical() {
            IpAddr::V4(mapped) if bits == 128 && prefix >= 96 => {
                Some(Self { network: IpAddr::V4(mapped), prefix: prefix - 96 })
            }
            _ => Some(Self { network, prefix }),
        }
    }

    fn contains(self, address: IpAddr) -> bool {
        let shared = match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros()
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros()
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        shared >= u32::from(self.prefix)
    }
}

#[cfg(test)]
mod tests;
