//! What guards access in a text with something in it that cannot be read: the text comes in; out go its AccessPolicies
//! and its MeshConfig, each as it is or as what stands for it. It must never take as good what `parse` refuses, and
//! says whether it could read all there is.

use serde::{Deserialize as _, de::IgnoredAny};
use serde_norway::Deserializer;

use super::{
    kinds::Object,
    loose::Loose,
    parse::{parse_nth, plain_unicode},
    stand_in::stand_in,
};

/// What was found.
#[derive(Debug)]
pub struct Guards {
    /// The objects, each as it is or as what stands for it.
    pub objects: Vec<Object>,
    /// Every document was read. If not, there may be more that guards access.
    pub whole: bool,
}

/// Finds what guards access. What stands behind a place that is no YAML is not found.
#[must_use]
pub fn guarding(text: &str) -> Guards {
    let text = plain_unicode(text.trim_start_matches('\u{feff}'));
    let mut found = Guards { objects: Vec::new(), whole: true };
    // Each document is read three times; the readers walk through the text in step.
    let reader = || Deserializer::from_str(&text);
    for (index, ((first, second), third)) in reader().zip(reader()).zip(reader()).enumerate() {
        let Ok(Loose(value)) = Loose::deserialize(first) else {
            found.whole = false;
            if IgnoredAny::deserialize(second).is_err() {
                break;
            }
            continue;
        };
        if !matches!(value["kind"].as_str(), Some("AccessPolicy" | "MeshConfig")) {
            continue;
        }
        found.objects.extend(match parse_nth(&text, index, second, third) {
            Ok(object) => Some(object),
            Err(error) => stand_in(&value, &error.message),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::stand_in::unread, *};

    fn policy(namespace: &str, spec: &Value) -> String {
        let object = json!({
            "apiVersion": "weft.dev/v1alpha1",
            "kind": "AccessPolicy",
            "metadata": {"name": "who", "namespace": namespace},
            "spec": spec,
        });
        object.to_string()
    }

    /// Each by its name, and whether it only stands for what cannot be read.
    fn names(found: &Guards) -> Vec<(String, bool)> {
        let objects = found.objects.iter();
        objects.map(|object| (object.key().to_string(), unread(object).is_some())).collect()
    }

    #[test]
    fn of_a_broken_text_the_policies_are_found_up_to_where_it_is_no_yaml() {
        let good = policy("shop", &json!({"default": "Allow"}));
        let bad = policy("bank", &json!({"default": "Ask"}));
        let other = "kind: Service\nspec: {1: !x a, [b]: c}";
        let text = format!("{good}\n---\n{other}\n---\n---\n{bad}\n---\n{{\n---\n{good}\n");
        let found = guarding(&text);
        assert!(!found.whole);
        let expected = [("AccessPolicy shop/who", false), ("AccessPolicy bank/who", true)];
        assert_eq!(names(&found), expected.map(|(name, stands_in)| (name.to_owned(), stands_in)));
        let read = format!("{good}\n---\n{other}\n---\n---\n{bad}\n");
        assert!(guarding(&read).whole);
    }

    #[test]
    fn a_policy_with_a_tag_is_not_overlooked() {
        let tagged = "apiVersion: weft.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: tagged, namespace: shop}\nspec: {later: !x 1}";
        let found =
            guarding(&format!("{tagged}\n---\n{}", policy("shop", &json!({"default": "Deny"}))));
        let expected = [("AccessPolicy shop/tagged", true), ("AccessPolicy shop/who", false)];
        assert_eq!(names(&found), expected.map(|(name, stands_in)| (name.to_owned(), stands_in)));
    }

    #[test]
    fn what_is_given_twice_is_not_taken_as_good_and_closes() {
        let head = "apiVersion: weft.dev/v1alpha1\nmetadata: {name: mesh, namespace: shop}";
        let deny = json!([{"action": "Deny"}]);
        for (text, expected) in [
            ("kind: AccessPolicy\nspec: {default: Deny, default: Allow}", json!({"rules": deny})),
            ("kind: AccessPolicy\nspec: {mode: Enforce, mode: Audit}", json!({"rules": deny})),
            (
                "kind: AccessPolicy\nspec:\n  targetRefs: [{kind: Service, name: a}]\n  targetRefs: [{kind: Service, name: b}]",
                json!({"rules": deny}),
            ),
            (
                "kind: MeshConfig\nspec: {egress: RegisteredOnly, egress: Allow}",
                json!({"egress": "RegisteredOnly"}),
            ),
        ] {
            let found = guarding(&format!("{head}\n{text}\n"));
            let [object] = &found.objects[..] else { panic!("{text}: {found:?}") };
            assert!(unread(object).is_some(), "{text}");
            assert_eq!(object.to_json()["spec"], expected, "{text}");
        }
    }
}
