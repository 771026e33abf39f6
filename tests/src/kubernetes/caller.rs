//! Who makes a request, and the Status texts that name them.

use serde_json::{Map, Value, json};

/// Somebody whose credentials were believed.
#[derive(Debug, Clone, PartialEq)]
pub struct Caller {
    /// As `system:serviceaccount:shop:web`.
    pub name: String,
    /// The account's uid, if it has one.
    pub uid: String,
    /// As `system:authenticated`.
    pub groups: Vec<String>,
    /// What else is known, such as the pod that a token is bound to.
    pub extra: Map<String, Value>,
}

impl Caller {
    /// Who may do everything.
    #[must_use]
    pub fn admin() -> Self {
        Self {
            name: "kubernetes-admin".to_owned(),
            uid: String::new(),
            groups: vec!["system:masters".to_owned(), "system:authenticated".to_owned()],
            extra: Map::new(),
        }
    }

    /// Who showed nothing.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            uid: String::new(),
            groups: vec!["system:unauthenticated".to_owned()],
            extra: Map::new(),
        }
    }

    /// A service account.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            uid: uid.to_owned(),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
            extra: Map::new(),
        }
    }

    /// As reviews write it.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut user = json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            user["uid"] = json!(self.uid);
        }
        if !self.extra.is_empty() {
            user["extra"] = Value::Object(self.extra.clone());
        }
        user
    }
}
