//! `targetRefs`: what a policy holds for, in the form of the Gateway API's policy attachment.
//!
//! A reference names an object of the policy's own namespace. Comes in: what an operator wrote; goes out: checked
//! references. Whether the object exists is not asked here: it may come later.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weft_proto::{
    Port,
    names::{is_label, is_subdomain},
};

use super::{crd::fields, matching::check_length, metadata::bad_name, object::FieldError};

/// How many a policy may have.
pub(super) const MOST_TARGETS: usize = 16;

/// The kinds that a policy can hold for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum TargetKind {
    /// A service, or with a section name one port of it.
    Service,
    /// A service outside the mesh, or one port of it.
    ExternalService,
    /// A route, or with a section name one rule of it.
    HTTPRoute,
    /// A route of gRPC, or one rule of it.
    GRPCRoute,
    /// All services of the namespace.
    Namespace,
}

impl TargetKind {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::ExternalService => "ExternalService",
            Self::HTTPRoute => "HTTPRoute",
            Self::GRPCRoute => "GRPCRoute",
            Self::Namespace => "Namespace",
        }
    }

    /// The API group that the kind is of.
    #[must_use]
    pub const fn group(self) -> &'static str {
        match self {
            Self::Service | Self::Namespace => "",
            Self::ExternalService => "weft.dev",
            Self::HTTPRoute | Self::GRPCRoute => "gateway.networking.k8s.io",
        }
    }
}

/// What a policy holds for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules()))]
pub struct TargetRef {
    /// The API group of the kind; it may be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    group: Option<String>,
    /// The kind.
    pub kind: TargetKind,
    /// The name of the object, in the policy's namespace.
    #[schemars(schema_with = "fields::subdomain")]
    pub name: String,
    /// A part of it alone: of a service a port, by its name or number; of a route a rule, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "section")]
    pub section_name: Option<String>,
}

fn section(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    fields::subdomain(generator)
}

impl TargetRef {
    fn validate(&self, field: &str, allowed: &[TargetKind]) -> Result<(), FieldError> {
        let error =
            |part: &str, message: String| Err(FieldError::new(format!("{field}.{part}"), message));
        if !allowed.contains(&self.kind) {
            let kinds: Vec<&str> = allowed.iter().map(|kind| kind.name()).collect();
            let right = format!("use one of {}", kinds.join(", "));
            return error("kind", format!("{} cannot have this policy: {right}", self.kind.name()));
        }
        let group = self.kind.group();
        if let Some(given) = self.group.as_deref().filter(|given| *given != group) {
            let kind = self.kind.name();
            return error("group", format!("{given:?} has no {kind}: use {group:?}"));
        }
        if !is_subdomain(&self.name) {
            return Err(bad_name(&format!("{field}.name"), &self.name));
        }
        match (&self.section_name, self.kind) {
            (None, _) => Ok(()),
            (Some(_), TargetKind::Namespace) => {
                error("sectionName", "a namespace has no sections: leave it out".into())
            }
            (Some(section), TargetKind::Service | TargetKind::ExternalService) => {
                if is_label(section) || section.parse::<Port>().is_ok() {
                    return Ok(());
                }
                error("sectionName", format!("{section:?} is no port: use its name or its number"))
            }
            (Some(section), TargetKind::HTTPRoute | TargetKind::GRPCRoute) => {
                if is_subdomain(section) {
                    return Ok(());
                }
                Err(bad_name(&format!("{field}.sectionName"), section))
            }
        }
    }
}

/// Checks all of them: each by itself, and that none stands twice.
pub(super) fn validate_all(refs: &[TargetRef], allowed: &[TargetKind]) -> Result<(), FieldError> {
    check_length("spec.targetRefs", refs.len(), MOST_TARGETS)?;
    for (index, target) in refs.iter().enumerate() {
        let field = format!("spec.targetRefs[{index}]");
        target.validate(&field, allowed)?;
        let same = |other: &TargetRef| {
            (other.kind, &other.name, &other.section_name)
                == (target.kind, &target.name, &target.section_name)
        };
        if refs[..index].iter().any(same) {
            return Err(FieldError::new(field, "stands twice: leave one of them out"));
        }
    }
    Ok(())
}

/// Rules about one reference.
fn rules() -> Value {
    json!([
        {
            "rule": "!has(self.group) || self.group == (self.kind in ['Service', 'Namespace'] ? '' : \
                     self.kind == 'ExternalService' ? 'weft.dev' : 'gateway.networking.k8s.io')",
            "message": "the group is not the one of the kind: leave it out",
        },
        {
            "rule": "!has(self.sectionName) || self.kind != 'Namespace'",
            "message": "a namespace has no sections: leave sectionName out",
        },
        {
            "rule": "!has(self.sectionName) || !(self.kind in ['Service', 'ExternalService']) || \
                     (size(self.sectionName) <= 63 && !self.sectionName.contains('.'))",
            "message": "sectionName is no port: use its name or its number",
        },
    ])
}

/// Rules about the list.
pub(super) fn list_rules() -> Value {
    json!([{
        "rule": "self.all(one, self.exists_one(two, two.kind == one.kind && two.name == one.name && \
                 (has(two.sectionName) ? two.sectionName : '') == (has(one.sectionName) ? one.sectionName : '')))",
        "message": "a target stands twice: leave one of them out",
    }])
}
