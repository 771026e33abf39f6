//! `AccessPolicy` (weft.dev/v1alpha1): who may do what, at the side of the server.
//!
//! Without `targetRefs` it holds for its namespace, and in [`ROOT_NAMESPACE`] for the whole mesh. All rules of all
//! policies that hold for a port are in force together, and deny wins; what no rule takes, the default of the most
//! specific level decides.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use weft_proto::{TrustDomain, discovery, names::is_label};

use super::{
    crd::{Column, fields},
    kinds::Kind,
    matching::{MOST, RequestMatch, check_length},
    mesh_config::Cidr,
    metadata::{Metadata, bad_name},
    object::{FieldError, Spec},
    target_ref::{self, MOST_TARGETS, TargetKind, TargetRef, validate_all},
    text,
};

/// The namespace whose policies without `targetRefs` hold for the whole mesh.
pub const ROOT_NAMESPACE: &str = "weft-system";

/// How many rules a policy may have.
const MOST_RULES: usize = 64;

/// How many entries the lists of a caller may have.
const MOST_CALLERS: usize = 64;

/// What an AccessPolicy says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = policy_rules()))]
pub struct AccessPolicySpec {
    /// What it holds for; without any: its namespace, and in `weft-system` the whole mesh.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_TARGETS), extend("x-kubernetes-validations" = target_ref::list_rules()))]
    pub target_refs: Vec<TargetRef>,
    /// Whether it decides, or is only counted and logged where it would; by default it decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<AccessMode>,
    /// What becomes of who is taken by no rule. A policy with an Allow rule that does not say it denies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<AccessAction>,
    /// Who may do what, and who may not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_RULES))]
    pub rules: Vec<AccessRule>,
    /// Why the object cannot be read, where this only stands for it; see `stand_in`.
    #[serde(skip)]
    pub unread: Option<String>,
}

/// Whether a policy decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessMode {
    /// It decides.
    #[default]
    Enforce,
    /// It is only counted and logged where it would deny.
    Audit,
}

/// What becomes of a request or a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessAction {
    /// It passes.
    Allow,
    /// It is refused.
    Deny,
}

/// A rule takes what comes from one of `from` and is one of `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessRule {
    /// What becomes of what it takes.
    pub action: AccessAction,
    /// Callers, any of these; by default everybody, also who shows no identity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST))]
    pub from: Vec<Caller>,
    /// Requests, any of these; by default everything, also what is not HTTP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST))]
    pub to: Vec<RequestMatch>,
}

/// A caller: each of the fields that are given must hold, and of a list one entry must.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = caller_rules()))]
pub struct Caller {
    /// Service accounts as `NAMESPACE/NAME`, or SPIFFE IDs; a last `*` stands for any end, and `*` alone for
    /// everybody who shows an identity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "identities")]
    pub identities: Vec<Identity>,
    /// Namespaces of identities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "namespaces")]
    pub namespaces: Vec<String>,
    /// Where the connection comes from, such as `10.0.0.0/8`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "cidrs")]
    pub cidrs: Vec<Cidr>,
}

/// An identity, or the beginning of some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity(String);

impl Identity {
    fn parse(text: &str) -> Result<Self, String> {
        let body = text.strip_suffix('*').unwrap_or(text);
        let is_part = |b: u8| b.is_ascii_alphanumeric() || b"-._/".contains(&b);
        let right = match body.strip_prefix("spiffe://") {
            Some(rest) => !rest.is_empty() && rest.bytes().all(is_part),
            None if body.is_empty() => text == "*",
            None => {
                body.matches('/').count() == 1
                    && !body.starts_with('/')
                    && body.bytes().all(is_part)
            }
        };
        // What ends in a '/' names nobody, unless any end is meant.
        if !right || text.ends_with('/') || text.len() > 2048 {
            return Err(format!(
                "{text:?} is no identity: use NAMESPACE/ACCOUNT, NAMESPACE/*, spiffe://… or *"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a SPIFFE ID, or the beginning of some with a last '*'.
    fn to_wire(&self, trust_domain: &TrustDomain) -> String {
        if self.0.starts_with("spiffe://") {
            return self.0.clone();
        }
        match self.0.split_once('/') {
            Some((namespace, account)) => {
                format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}")
            }
            None => "spiffe://*".to_owned(),
        }
    }
}

impl<'de> Deserialize<'de> for Identity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parsed(deserializer, Self::parse)
    }
}

impl AccessPolicySpec {
    /// Whether it is only counted.
    #[must_use]
    pub fn is_audit(&self) -> bool {
        self.mode == Some(AccessMode::Audit)
    }

    /// What becomes of who is taken by no rule: a policy with an Allow rule that does not say it means that nobody else
    /// may.
    #[must_use]
    pub fn stated_default(&self) -> Option<AccessAction> {
        let allows = self.rules.iter().any(|rule| rule.action == AccessAction::Allow);
        self.default.or(allows.then_some(AccessAction::Deny))
    }
}

impl AccessRule {
    /// As it travels; `policy` says whose it is.
    #[must_use]
    pub fn to_wire(
        &self,
        policy: String,
        audit: bool,
        trust_domain: &TrustDomain,
    ) -> discovery::AccessRule {
        let caller = |caller: &Caller| discovery::Caller {
            identities: caller.identities.iter().map(|id| id.to_wire(trust_domain)).collect(),
            namespaces: caller.namespaces.clone(),
            cidrs: caller.cidrs.iter().map(Cidr::to_string).collect(),
        };
        discovery::AccessRule {
            policy,
            deny: self.action == AccessAction::Deny,
            audit,
            callers: self.from.iter().map(caller).collect(),
            operations: self.to.iter().map(RequestMatch::to_wire).collect(),
        }
    }
}

impl Spec for AccessPolicySpec {
    const KIND: Kind = Kind::AccessPolicy;
    const COLUMNS: &'static [Column] = &[
        Column {
            name: "Target",
            r#type: "string",
            path: ".spec.targetRefs[*].name",
            description: "What it holds for.",
        },
        Column {
            name: "Mode",
            r#type: "string",
            path: ".spec.mode",
            description: "Whether it decides or is only counted.",
        },
        Column {
            name: "Programmed",
            r#type: "string",
            path: r#".status.conditions[?(@.type=="Programmed")].status"#,
            description: "Whether no sidecar refuses it.",
        },
    ];

    fn validate(&self, _: &Metadata) -> Result<(), FieldError> {
        validate_all(&self.target_refs, &[TargetKind::Service, TargetKind::Namespace])?;
        if self.rules.is_empty() && self.default.is_none() {
            return Err(FieldError::new("spec", "decides nothing: add rules or default"));
        }
        check_length("spec.rules", self.rules.len(), MOST_RULES)?;
        for (index, rule) in self.rules.iter().enumerate() {
            let field = format!("spec.rules[{index}]");
            check_length(&format!("{field}.from"), rule.from.len(), MOST)?;
            check_length(&format!("{field}.to"), rule.to.len(), MOST)?;
            for (index, caller) in rule.from.iter().enumerate() {
                caller.validate(&format!("{field}.from[{index}]"))?;
            }
            for (index, request) in rule.to.iter().enumerate() {
                request.validate(&format!("{field}.to[{index}]"))?;
            }
        }
        Ok(())
    }
}

impl Caller {
    fn validate(&self, field: &str) -> Result<(), FieldError> {
        if *self == Self::default() {
            let right = "name identities, namespaces or cidrs, or leave the list out for everybody";
            return Err(FieldError::new(field, format!("says nothing: {right}")));
        }
        for (name, length) in [
            ("identities", self.identities.len()),
            ("namespaces", self.namespaces.len()),
            ("cidrs", self.cidrs.len()),
        ] {
            check_length(&format!("{field}.{name}"), length, MOST_CALLERS)?;
        }
        let wrong = self.namespaces.iter().enumerate().find(|(_, name)| !is_label(name));
        match wrong {
            Some((index, name)) => Err(bad_name(&format!("{field}.namespaces[{index}]"), name)),
            None => Ok(()),
        }
    }
}

fn identities(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let pattern = "^([*]|[-A-Za-z0-9._]+/([-A-Za-z0-9._]+|[-A-Za-z0-9._]*[*])|\
                   spiffe://([-A-Za-z0-9._/]*[-A-Za-z0-9._]|[-A-Za-z0-9._/]+[*]))$";
    schemars::json_schema!({
        "type": "array",
        "maxItems": MOST_CALLERS,
        "items": {"type": "string", "maxLength": 2048, "pattern": pattern},
    })
}

fn namespaces(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let label = fields::label(generator);
    schemars::json_schema!({"type": "array", "maxItems": MOST_CALLERS, "items": label})
}

fn cidrs(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let mut ranges = fields::ranges(generator);
    ranges.insert("maxItems".into(), MOST_CALLERS.into());
    ranges
}

fn policy_rules() -> Value {
    json!([
        {
            "rule": "has(self.default) || (has(self.rules) && size(self.rules) > 0)",
            "message": "it decides nothing: add rules or default",
        },
        {
            "rule": "!has(self.targetRefs) || \
                     self.targetRefs.all(target, target.kind in ['Service', 'Namespace'])",
            "message": "a target cannot have this policy: use Service or Namespace",
        },
    ])
}

fn caller_rules() -> Value {
    json!([{
        "rule": "(has(self.identities) && size(self.identities) > 0) || \
                 (has(self.namespaces) && size(self.namespaces) > 0) || \
                 (has(self.cidrs) && size(self.cidrs) > 0)",
        "message": "it says nothing: name identities, namespaces or cidrs",
    }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parse_object;

    #[test]
    fn an_identity_is_an_account_a_beginning_or_a_spiffe_id() {
        let domain = TrustDomain::default();
        for (text, wire) in [
            ("shop/web", "spiffe://weft.local/ns/shop/sa/web"),
            ("shop/*", "spiffe://weft.local/ns/shop/sa/*"),
            ("shop/we*", "spiffe://weft.local/ns/shop/sa/we*"),
            ("*", "spiffe://*"),
            ("spiffe://other.org/ns/a/sa/b", "spiffe://other.org/ns/a/sa/b"),
            ("spiffe://other.org/*", "spiffe://other.org/*"),
        ] {
            let identity = Identity::parse(text).expect(text);
            assert_eq!(identity.to_wire(&domain), wire);
        }
        for text in ["", "web", "shop/", "/web", "a/b/c", "sh*/web", "spiffe://", "shop/we b", "**"]
        {
            let error = Identity::parse(text).expect_err(text);
            assert!(error.contains("use NAMESPACE/ACCOUNT"), "{error}");
        }
    }

    #[test]
    fn a_policy_that_allows_somebody_denies_the_others_unless_it_says_otherwise() {
        for (spec, expected) in [
            ("{rules: [{action: Allow}]}", Some(AccessAction::Deny)),
            ("{default: Allow, rules: [{action: Allow}]}", Some(AccessAction::Allow)),
            ("{rules: [{action: Deny}]}", None),
            ("{default: Deny}", Some(AccessAction::Deny)),
        ] {
            let spec: AccessPolicySpec = serde_norway::from_str(spec).expect("it is right");
            assert_eq!(spec.stated_default(), expected);
        }
    }

    #[test]
    fn a_refusal_names_the_object_the_field_the_value_and_what_would_be_right() {
        for (spec, said) in [
            ("{}", "spec: decides nothing: add rules or default"),
            ("{rules: [{from: []}]}", "missing field `action`"),
            ("{rules: [{action: Allow, from: [{}]}]}", "spec.rules[0].from[0]: says nothing"),
            ("{rules: [{action: Deny, to: [{}]}]}", "spec.rules[0].to[0]: says nothing"),
            (
                "{rules: [{action: Deny, from: [{cidrs: [10.0.0.1/8]}]}]}",
                "spec.rules[0].from[0].cidrs[0]: \"10.0.0.1/8\" is not a valid address range",
            ),
            (
                "{rules: [{action: Deny, from: [{identities: [web]}]}]}",
                "spec.rules[0].from[0].identities[0]: \"web\" is no identity",
            ),
            (
                "{rules: [{action: Deny, to: [{methods: [get]}]}]}",
                "spec.rules[0].to[0].methods[0]: \"get\" is no method: use capitals",
            ),
            (
                "{default: Deny, targetRefs: [{kind: HTTPRoute, name: a}]}",
                "spec.targetRefs[0].kind: HTTPRoute cannot have this policy: use one of Service, Namespace",
            ),
        ] {
            let text = format!(
                "apiVersion: weft.dev/v1alpha1\nkind: AccessPolicy\n\
                 metadata: {{name: who, namespace: shop}}\nspec: {spec}"
            );
            let error = parse_object(&text).expect_err(spec).to_string();
            assert!(error.contains("AccessPolicy shop/who: "), "{error}");
            assert!(error.contains(said), "{spec}: {error}");
        }
    }
}
