//! Fields of a route that Weft does not know: kept as they were written, and named wherever somebody asks what of an
//! object is not supported.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::model::FieldError;

/// The fields that Weft does not know, by name. `null` stands for an absent field, as in Kubernetes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Other(BTreeMap<String, Value>);

impl Other {
    /// Names each of them below the object at this path.
    pub(super) fn name(&self, at: &str, found: &mut Vec<FieldError>) {
        found.extend(self.0.keys().map(|field| unsupported(format!("{at}.{field}"))));
    }
}

impl<'de> Deserialize<'de> for Other {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = BTreeMap::<String, Value>::deserialize(deserializer)?;
        fields.retain(|_, value| !value.is_null());
        Ok(Self(fields))
    }
}

/// Says of a field that it has no support.
pub(super) fn unsupported(field: impl Into<String>) -> FieldError {
    FieldError::new(field, "is not supported: leave it out")
}
