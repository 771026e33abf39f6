//! Whether a pod already says all that it is to say. The API server fills in defaults and adds mounts of its own, so
//! that an injected pod that comes by again is never equal to what the injector would make: it holds it.

use serde_json::Value;

/// Whether `present` holds everything of `wanted`: maps may have more fields; lists more entries, in the same order.
pub(super) fn covers(present: &Value, wanted: &Value) -> bool {
    match (present, wanted) {
        (Value::Object(present), Value::Object(wanted)) => wanted
            .iter()
            .all(|(field, value)| present.get(field).is_some_and(|there| covers(there, value))),
        (Value::Array(present), Value::Array(wanted)) => {
            let mut there = present.iter();
            wanted.iter().all(|item| there.any(|candidate| covers(candidate, item)))
        }
        _ => present == wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::covers;

    #[test]
    fn what_others_added_does_not_matter_and_what_is_missing_does() {
        let wanted = json!({"a": 1, "list": [{"name": "x"}, {"name": "y", "env": []}]});
        for (present, is_covered) in [
            (json!({"a": 1, "list": [{"name": "x"}, {"name": "y", "env": []}]}), true),
            (
                json!({"a": 1, "b": 2, "list": [{"name": "w"}, {"name": "x", "p": 1}, {"name": "y", "env": [1]}]}),
                true,
            ),
            (json!({"a": 2, "list": [{"name": "x"}, {"name": "y", "env": []}]}), false),
            (json!({"a": 1, "list": [{"name": "y", "env": []}, {"name": "x"}]}), false),
            (json!({"a": 1, "list": [{"name": "x"}]}), false),
            (json!({"a": 1}), false),
            (json!(null), false),
        ] {
            assert_eq!(covers(&present, &wanted), is_covered, "{present}");
        }
    }
}
