//! A route of which some rules cannot be read: a pattern that does not compile, a value of a newer Gateway API. It comes
//! in as JSON, as a cluster's API hands it out, which knows less than we do of what is right. Out goes the route with
//! its other rules as they are.
//!
//! A rule that cannot be read keeps the matches that can, and answers what they take with an error (the Gateway API's
//! "drop the rule"); where no match is left, it takes nothing. It must never take what it did not name, and never let
//! what it named go to another rule for want of a backend.

use serde_json::{Value, json};

use super::route::Fate;
use crate::model::{FieldError, Object, parse_object};

/// The route, its unreadable rules marked. `None`: it is none of HTTP, or more than rules is wrong with it.
#[must_use]
pub fn salvage(route: &Value) -> Option<Object> {
    if !matches!(route["kind"].as_str(), Some("HTTPRoute" | "GRPCRoute")) {
        return None;
    }
    let rules = route["spec"]["rules"].as_array()?;
    let mut kept = Vec::with_capacity(rules.len());
    let mut flawed = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        match wrong(route, rule) {
            None => kept.push(rule.clone()),
            Some(error) => {
                let (remains, takes_something) = remains(route, rule);
                let errors = vec![at_rule(&error, index)];
                let refusing = if takes_something { Fate::Refusing } else { Fate::Dropped };
                flawed.push((index, refusing(errors)));
                kept.push(remains);
            }
        }
    }
    let mut object = parse_object(&with_rules(route, kept).to_string()).ok()?;
    for (index, fate) in flawed {
        mark(&mut object, index, fate);
    }
    Some(object)
}

/// What is wrong with a rule, as the only one of its route.
fn wrong(route: &Value, rule: &Value) -> Option<String> {
    let alone = with_rules(route, vec![rule.clone()]);
    parse_object(&alone.to_string()).err().map(|error| error.message)
}

/// The name and the matches of a rule that can be read, and whether they take anything.
fn remains(route: &Value, rule: &Value) -> (Value, bool) {
    let mut remains = json!({});
    let name = json!({ "name": rule["name"] });
    if rule["name"].is_string() && wrong(route, &name).is_none() {
        remains = name;
    }
    if rule["matches"].is_null() || rule["matches"].as_array().is_some_and(Vec::is_empty) {
        // It takes everything.
        return (remains, rule.is_object());
    }
    let matches = rule["matches"].as_array().into_iter().flatten();
    let sound = matches.filter(|one| wrong(route, &json!({ "matches": [one] })).is_none());
    let sound: Vec<Value> = sound.cloned().collect();
    let takes_something = !sound.is_empty();
    remains["matches"] = sound.into();
    (remains, takes_something)
}

fn with_rules(route: &Value, rules: Vec<Value>) -> Value {
    let mut route = route.clone();
    route["spec"]["rules"] = rules.into();
    route
}

/// The error of a rule that was read alone, at its place among the others.
fn at_rule(message: &str, index: usize) -> FieldError {
    let at = format!("spec.rules[{index}]");
    let rest = message.strip_prefix("spec.rules[0]").and_then(|rest| rest.split_once(": "));
    match rest {
        Some((field, message)) => FieldError::new(format!("{at}{field}"), message),
        None => FieldError::new(at, message),
    }
}

fn mark(object: &mut Object, index: usize, fate: Fate) {
    // Not a match: of the other kinds none comes here.
    let flawed = if let Object::HTTPRoute(route) = object {
        route.spec.written_mut().get_mut(index).map(|rule| &mut rule.flawed)
    } else if let Object::GRPCRoute(route) = object {
        route.spec.written_mut().get_mut(index).map(|rule| &mut rule.flawed)
    } else {
        None
    };
    if let Some(flawed) = flawed {
        *flawed = Some(Box::new(fate));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Route;

    fn salvaged(kind: &str, spec: Value) -> Option<Object> {
        let route = json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": "split", "namespace": "shop"},
            "spec": spec,
        });
        assert!(parse_object(&route.to_string()).is_err(), "{route}");
        salvage(&route)
    }

    fn fates(object: &Object) -> Vec<String> {
        let fates = Route::of(object).expect("a route").fates().into_iter();
        let said = fates.map(|fate| match fate {
            Fate::Whole => "whole".to_owned(),
            Fate::Refusing(errors) => format!("500 {}", errors[0]),
            Fate::Dropped(errors) => format!("none {}", errors[0]),
        });
        said.collect()
    }

    #[test]
    fn a_rule_that_cannot_be_read_takes_no_other_with_it() {
        let to = json!([{"name": "cart", "port": 80}]);
        let bad = json!({"path": {"type": "RegularExpression", "value": "("}});
        let good = json!({"path": {"value": "/b"}});
        let object = salvaged(
            "HTTPRoute",
            json!({"rules": [
                {"backendRefs": to},
                {"name": "both", "matches": [bad, good], "backendRefs": to},
                {"matches": [bad], "backendRefs": to},
                {"retry": {"attempts": -1}, "backendRefs": to},
                {"matches": [{"method": "NEW"}], "backendRefs": to},
            ]}),
        );
        let object = object.expect("its other rules are right");
        let fates = fates(&object);
        assert_eq!(fates[0], "whole");
        let said = "500 spec.rules[1].matches[0].path.value: \"(\" is no regular expression";
        assert!(fates[1].starts_with(said), "{fates:?}");
        assert!(fates[2].starts_with("none spec.rules[2].matches[0].path.value"), "{fates:?}");
        assert!(fates[3].starts_with("500 spec.rules[3].retry.attempts: -1 is"), "{fates:?}");
        assert!(fates[4].starts_with("none spec.rules[4].matches[0].method: unknown"), "{fates:?}");
        let Object::HTTPRoute(route) = object else { panic!() };
        let rules = route.spec.rules();
        let matches: Vec<usize> = rules.iter().map(|rule| rule.matches.len()).collect();
        assert_eq!(matches, [0, 1, 0, 0, 0]);
        assert_eq!(rules[1].name.as_deref(), Some("both"));
    }

    #[test]
    fn calls_of_grpc_are_treated_alike_and_what_is_wrong_elsewhere_is_wrong() {
        let bad = json!({"matches": [{"method": {"type": "RegularExpression", "service": "("}}]});
        let object = salvaged("GRPCRoute", json!({"rules": [bad, {}]})).expect("one is right");
        assert!(fates(&object)[0].starts_with("none spec.rules[0].matches[0].method"));
        assert_eq!(fates(&object)[1], "whole");
        let elsewhere = json!({"hostnames": ["a:80"], "rules": [bad]});
        assert_eq!(salvaged("GRPCRoute", elsewhere), None);
    }
}
