//! An object as people are shown it: as JSON, and where a part of it could not be read, so that it cannot be taken for
//! what was written. Such an object, applied again, would put what only stands for it in the place of what somebody
//! wrote: it is marked on the way out, and the mark is refused on the way in.

use serde_json::Value;

use super::{Metadata, Object, Route, object::FieldError, stand_in::unread};

/// The annotation that marks it; its value says what cannot be read.
const MARK: &str = "weft.dev/cannot-be-read";

/// The object as JSON, marked where it is not as it was written.
#[must_use]
pub fn shown(object: &Object) -> Value {
    let mut json = object.to_json();
    let problem = match unread(object) {
        Some(problem) => Some(problem),
        None if Route::of(object).is_some_and(|route| route.has_flawed_rules()) => {
            Some("rules of the route; its status names them")
        }
        None => None,
    };
    if let Some(problem) = problem {
        json["metadata"]["annotations"][MARK] = problem.into();
    }
    json
}

/// Refuses what is marked.
pub(super) fn refuse_marked(metadata: &Metadata) -> Result<(), FieldError> {
    let Some(problem) = metadata.annotations.get(MARK) else { return Ok(()) };
    let message = format!(
        "{MARK} {problem:?} marks what only stands for an object that cannot be read: correct the object as it was \
         written, and apply that"
    );
    Err(FieldError::new("metadata.annotations", message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{gateway::salvage::salvage, parse_object, stand_in::stand_in},
        *,
    };

    #[test]
    fn what_stands_for_an_object_cannot_be_applied_as_the_object() {
        let policy = json!({
            "apiVersion": "weft.dev/v1alpha1",
            "kind": "AccessPolicy",
            "metadata": {"name": "who", "namespace": "shop", "annotations": {"note": "kept"}},
            "spec": {"default": "Ask"},
        });
        let to_cart = json!([{"name": "cart", "port": 80}]);
        let route = json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "split", "namespace": "shop"},
            "spec": {
                "parentRefs": [{"group": "", "kind": "Service", "name": "cart"}],
                "rules": [
                    {"backendRefs": to_cart},
                    {"matches": [{"path": {"type": "RegularExpression", "value": "("}}], "backendRefs": to_cart},
                ],
            },
        });
        for made in [stand_in(&policy, "why"), salvage(&route)] {
            let made = made.expect("something stands for it");
            let error = parse_object(&shown(&made).to_string()).expect_err("it is marked");
            assert!(error.message.contains(MARK), "{error}");
            assert!(error.message.contains("as it was written"), "{error}");
        }
        let good = parse_object(&policy.to_string().replace("Ask", "Deny")).expect("valid");
        assert_eq!(shown(&good), good.to_json());
    }
}
